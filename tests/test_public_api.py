"""`import widthlab`: its names, and what it does not load."""

import subprocess
import sys

import widthlab


def test_names():
    assert sorted(widthlab.__all__) == list(widthlab.__all__)
    assert set(widthlab.__all__) == {
        *("Check", "Claim", "DataSpec", "Experiment", "Parametrization", "Record"),
        *("Prediction", "Role", "by_seed", "frame", "grid", "paired", "run", "select"),
        "sweep",
    }
    for name in widthlab.__all__:
        assert getattr(widthlab, name).__doc__


def test_import_leaves_heavy_packages_alone():
    """And starts no JAX backend, so that the number of devices can still be chosen."""
    heavy = (
        *("matplotlib", "seaborn", "sklearn", "pooch", "mlxtend", "nbclient"),
        *("pandas", "scipy.optimize", "scipy.stats", "tqdm", "jupyter_book"),
    )
    code = f"""
import sys
import widthlab
print([name for name in {heavy!r} if name in sys.modules])
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
