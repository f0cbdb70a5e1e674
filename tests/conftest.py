"""What tests run under: checked array annotations, strict dtypes, no real store."""

import gc
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

# Compiled programs are kept, for the other workers, for the processes that tests start
# and for the next run: a program is found by all that decides what it computes. There
# is no bound, as the bounded kind breaks for good when a process is killed writing.
PROGRAMS = Path(__file__).resolve().parents[1] / ".cache" / "xla-tests"
PROGRAMS_BYTES = 2**30

# Before anything imports matplotlib or JAX.
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": str(PROGRAMS),
    "JAX_COMPILATION_CACHE_MAX_SIZE": "-1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    # Programs that call the host are not kept, and equinox's checks in a flow call it.
    # So it is in chapters (`richregime.start`); doctests run as equinox does by itself.
    "EQX_ON_ERROR": "nan",
}
# Programs of tests are small and run a few times: compiling them is most of what a test
# takes. XLA's older code, not optimised, is compiled in an eighth of the time, and what
# a test looks at does not depend on it. Processes that tests start have the same flags;
# doctests and chapters, which other stages run, have the library's own.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
QUICK += " --xla_cpu_parallel_codegen_split_count=1"
if metadata.version("jaxlib").startswith("0.10."):  # later ones have no older code
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK)
# Nothing of what is imported and collected is garbage: see pytest_collection_finish.
gc.disable()
_SCRATCH = tempfile.TemporaryDirectory(prefix="widthlab-tests-")
os.environ["WIDTHLAB_STORE"] = os.path.join(_SCRATCH.name, "store")
os.environ.pop("WIDTHLAB_CLAIMS", None)

import checked  # noqa: E402

# From here on, importing a module of widthlab checks its annotations at run time.
checked.install("widthlab")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402
import threadpoolctl  # noqa: E402
from widthlab.registry import REGISTRIES  # noqa: E402

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("untimed")

# NumPy's threads wait for each other by spinning, while each worker of the tests has
# about one core: with one thread, what multiplies matrices takes a quarter of the time.
# Processes that tests start have as many threads as ever.
threadpoolctl.threadpool_limits(1, user_api="blas")

# A silent float64 or integer promotion inside the library is an error in tests.
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="module")
def _own_store(tmp_path_factory):
    """Give each module of tests a store that no other has written to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WIDTHLAB_STORE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(autouse=True, scope="module")
def _forgotten_programs():
    """Let go of a module's compiled programs, which no other asks for again."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch):
    """Give each test registries of its own: a name is meant to last a process."""
    for registry in REGISTRIES.values():
        monkeypatch.setattr(registry, "_own", dict(registry._own))
        monkeypatch.setattr(registry, "_sources", dict(registry._sources))


@pytest.fixture(scope="module")
def as_users_do():
    """What users write runs under JAX's own rules of promotion, and so does optax."""
    # Not for this thread alone: runs have threads of their own.
    before = jax.config.jax_numpy_dtype_promotion
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", before)


# Modules that take longest by themselves: begun last, they would leave a worker idle.
LONG = ("executors", "scaling_check", "template", "kinds_of_runs", "book", "scaling")
LONG += (
    "plugins",
    "scale",
    "same_bits",
    "training",
    "reference",
    "curvature",
    "sweeps",
)
LONG += ("schedules", "scaling_depth", "limit", "kernels", "cli", "probes", "faults")


def pytest_collection_modifyitems(items):
    """Begin with the modules that take longest, the longest first."""
    rank = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def pytest_collection_finish():
    """Refuse modules that register as they are imported.

    What they register would go to every worker of every sweep, in other modules too.
    What is there by now stays: Python need not look through it for garbage again, nor
    so often, which takes an eighth of the time in what JAX traces.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
    left = {kind: [*one.own()] for kind, one in REGISTRIES.items() if one.own()}
    assert not left, f"registered at import; do it in the test: {left}"


def pytest_sessionstart(session):
    """Begin with no programs where the folder has grown too large."""
    if hasattr(session.config, "workerinput") or not PROGRAMS.is_dir():
        return
    if sum(file.stat().st_size for file in PROGRAMS.iterdir()) > PROGRAMS_BYTES:
        shutil.rmtree(PROGRAMS)


def pytest_unconfigure():
    _SCRATCH.cleanup()
