"""What a chapter defines itself: found by name, in the key, in workers, in streams."""

import dataclasses
import functools
import itertools
import json
import linecache
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from test_experiment import assert_same_runs
from widthlab import DataSpec, Experiment, activations, data, probes, sweep
from widthlab.data import Stream, Synthetic
from widthlab.data.raw import DataError
from widthlab.data.spec import PREPROCESS
from widthlab.probes import Features, Performance
from widthlab.probes.registry import PROBES
from widthlab.registry import REGISTRIES
from widthlab.runs.store import Store
from widthlab.source import source_sha256
from widthlab.training import losses
from widthlab.training.calibration import Calibration
from widthlab.training.losses import LOSSES

HERE = Path(__file__).parent
STUDY = HERE / "own_study.py"
FACTOR = 2.0
COUNT = itertools.count()


def spec(**changes):
    default = {
        "data": DataSpec("digits", n_train=32, n_test=8),
        "loss": "mse",
        "parametrization": "mup",
        "width": 16,
        "depth": 2,
        "lr": 0.1,
        "steps": 3,
        "probes": (Performance(),),
    }
    return Experiment(**(default | changes))


def helper(x):
    return FACTOR * x


def with_helper(x):
    return jnp.tanh(helper(x))


# --- one registry for all kinds -----------------------------------------------


def test_there_is_a_registry_of_each_kind():
    kinds = {"probe", "activation", "loss", "data set", "task", "stream"}
    assert kinds == set(REGISTRIES)
    assert all(r.source(n) is None for r in REGISTRIES.values() for n in r.builtin)


@pytest.mark.parametrize("kind", sorted(REGISTRIES))
def test_an_unknown_name_says_what_there_is_and_how_to_register(kind):
    registry = REGISTRIES[kind]
    with pytest.raises(ValueError, match=f"no {kind} is called 'nothing'") as error:
        registry.find("nothing")
    for said in (*registry.builtin, registry.how):
        assert said in str(error.value)


@pytest.mark.parametrize("kind", sorted(REGISTRIES))
def test_a_name_means_one_thing(kind):
    registry = REGISTRIES[kind]
    taken = next(iter(registry))
    with pytest.raises(ValueError, match=f"the library has a {kind} called '{taken}'"):
        registry.register(taken, registry[taken])
    for _ in range(2):  # as a cell that is executed again
        registry.register("mine", functools.partial(helper, 1))
    with pytest.raises(ValueError, match=f"another {kind} is registered as 'mine'"):
        registry.register("mine", functools.partial(helper, 2))


def test_registering_decorates():
    @activations.register("double", good=True)
    def double(x):
        return 2 * x

    @losses.register("zero", targets="labels")
    def zero(outputs, targets):
        return 0.0

    assert double(3) == 6 and activations.get("double").good
    assert activations.get("double").function is double
    assert activations.get("double").second_moment == pytest.approx(4)
    assert LOSSES["zero"](1, 2) == 0.0 and LOSSES["zero"].targets == "labels"


def test_what_cannot_be_a_plugin_is_refused():
    with pytest.raises(ValueError, match="labels' or 'values'"):
        losses.register("mine", helper, targets="numbers")
    with pytest.raises(ValueError, match=r"name of an \(a, b\)-ReLU"):
        activations.register("abrelu(1,2)", helper)
    with pytest.raises(ValueError, match="the probe Bare lacks name, measure, rows"):
        probes.register(type("Bare", (), {}))
    with pytest.raises(ValueError, match="at least one output"):
        data.register_stream("mine", helper, outputs=0)


# --- sources ------------------------------------------------------------------


def test_a_source_is_what_a_function_refers_to(monkeypatch):
    before = source_sha256(with_helper)
    assert source_sha256(with_helper) == before
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert source_sha256(with_helper) != before
    monkeypatch.setitem(globals(), "FACTOR", np.array([2.0]))
    assert source_sha256(with_helper) != before


def test_sources_see_closures_defaults_arrays_and_methods():
    def made(held, default=1, constant=2):
        class Kind:
            size = constant

            def measure(self, x, power=default):
                return held * x**power

        return Kind

    arrays = jnp.arange(3.0), jnp.arange(3.0) + 1
    kinds = [made(1), made(2), made(1, 2), made(1, 1, 3), *map(made, arrays)]
    assert len({source_sha256(kind) for kind in kinds}) == len(kinds)
    assert source_sha256(made(np.arange(3.0))) == source_sha256(made(np.arange(3.0)))
    jitted = [source_sha256(jax.jit(kind.measure)) for kind in kinds[:2]]
    assert jitted[0] != jitted[1]


def test_a_source_without_a_text_is_what_it_does(monkeypatch):
    other = ["def f(x): return x\n"]  # as from Python 3.13 on below `python -c`
    monkeypatch.setitem(linecache.cache, "<string>", (20, None, other, "<string>"))
    found = []
    for text in ("x + 1", "x + 1", "x + 2"):
        scope = {}
        exec(f"def f(x): return {text}", scope)
        found.append(source_sha256(scope["f"]))
    assert found[0] == found[1] != found[2]


def wrapped(function, by):
    if by == 2:

        @functools.wraps(function)
        def wrapper(x):
            return 2 * function(x)
    else:

        @functools.wraps(function)
        def wrapper(x):
            return 3 * function(x)

    return wrapper


def with_slope(slope):
    @jax.custom_jvp
    def step(x):
        return jnp.sign(x)

    @step.defjvp
    def rule(primals, tangents):
        return step(*primals), slope * tangents[0]

    return step


class Holder:
    def __init__(self, held):
        self.held = held

    def apply(self, x):
        return self.held * x


@dataclasses.dataclass(frozen=True)
class Scaled:
    func: Any
    scale: float


def long_table(middle):
    return pd.DataFrame({"x": [*range(100), middle, *range(100)]})


# fmt: off
SQUARE, CUBE = lambda x: x**2, lambda x: x**3
# fmt: on


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (wrapped(helper, 2), wrapped(helper, 3)),
        (SQUARE, CUBE),
        (with_slope(1.0), with_slope(2.0)),
        (Holder(1), Holder(2)),
        (Scaled(helper, 1.0), Scaled(helper, 2.0)),
        (Holder(1).apply, Holder(2).apply),
        (Holder(np.arange(9999)), Holder(np.arange(9999) % 9998)),
        (long_table(0.0), long_table(1.0)),
    ],
)
def test_a_source_sees_what_a_text_does_not_show(one, other):
    assert source_sha256(one) != source_sha256(other)


HASHED = """
import pandas as pd
from widthlab.source import source_sha256
def second(x): return x
def first(x): return second(x)
def third(x): return second(x)
text = {}
exec("def f(x): return x in {'a', 'b', 'c', 'd'}", text)
held = {first, second, third}, pd.DataFrame({"x": [1.5], "y": ["a"]}), object()
print(source_sha256([held, text["f"]]))
"""


def test_a_source_is_the_same_in_every_process(tmp_path):
    script = tmp_path / "hashed.py"
    script.write_text(HASHED)
    path = os.pathsep.join(p for p in sys.path if p)
    found = {
        subprocess.check_output(
            [sys.executable, script],
            env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": seed},
        )
        for seed in "123"
    }
    assert len(found) == 1


def test_a_plugin_cannot_change_under_its_name(monkeypatch):
    activations.register("mine", with_helper)
    assert spec(activation="mine").plugins
    monkeypatch.setitem(globals(), "FACTOR", 7.0)
    with pytest.raises(ValueError, match="'mine' is not what it was"):
        spec(activation="mine", width=32).to_json()


# --- in the key ---------------------------------------------------------------


def test_the_librarys_own_leave_no_trace_in_the_json():
    assert "plugins" not in spec().to_json()
    assert spec().plugins == {}


def test_other_code_is_another_key(monkeypatch):
    activations.register("mine", with_helper)
    first = spec(activation="mine")
    (what,) = first.plugins
    assert what == "activation mine"
    assert Experiment.from_json(json.loads(json.dumps(first.to_json()))) == first
    before, key = first.to_json(), first.key
    registry = REGISTRIES["activation"]
    monkeypatch.setattr(registry, "_own", {})
    monkeypatch.setattr(registry, "_sources", {})
    with pytest.raises(ValueError, match="no activation is called 'mine'"):
        Experiment.from_json(before)
    activations.register("mine", helper)
    assert spec(activation="mine").key != key
    with pytest.raises(ValueError, match="other source of the activation mine"):
        Experiment.from_json(before)


def test_a_probe_must_be_found_again():
    @dataclasses.dataclass(frozen=True)
    class Odd(Performance):
        name: ClassVar[str] = "odd"

    with pytest.raises(ValueError, match=r"'odd', which is unknown; put @widthlab"):
        spec(probes=(Odd(),))
    probes.register(Odd)
    assert spec(probes=(Odd(),)).plugins.keys() == {"probe odd"}

    class Features2(Features):
        pass

    with pytest.raises(ValueError, match="stands for another class, Features"):
        spec(probes=(Features2(inputs=2),))
    assert PROBES["features"] is Features


def test_a_probe_checks_the_experiment_itself():
    @probes.register
    @dataclasses.dataclass(frozen=True)
    class Picky(Performance):
        name: ClassVar[str] = "picky"

        def check(self, experiment):
            raise ValueError(f"not at width {experiment.width}")

    with pytest.raises(ValueError, match="not at width 16"):
        spec(probes=(Picky(),))


def test_a_loss_says_which_targets_it_takes():
    losses.register("mine", helper, targets="labels")
    with pytest.raises(ValueError, match="'mine' does not go with targets"):
        spec(loss="mine")


# --- data of one's own --------------------------------------------------------


def registered(x, classes=("a", "b"), **sizes):
    name = f"own-{next(COUNT)}"  # loaded arrays are cached by name
    y = np.arange(len(x)) % 2
    sizes = {"n_train": len(x) - 4, "n_test": 4, "dim": x.shape[1]} | sizes
    arrays = x[:-4], y[:-4], x[-4:], y[-4:]
    data.register(name, lambda: arrays, classes=classes, **sizes)
    return name


@pytest.mark.parametrize("preprocess", PREPROCESS)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_own_arrays_are_prepared_as_others_are(preprocess, kind):
    x = (100 * np.random.default_rng(0).standard_normal((24, 3))).astype(kind)
    found = DataSpec(registered(x), n_train=10, preprocess=preprocess).load()
    assert found.x_train.shape == (10, 3) and found.x_train.dtype == np.float32
    assert np.bincount(np.argmax(found.y_train, 1)).tolist() == [5, 5]
    rows = np.float64(found.x_train)
    if preprocess == "unit-norm":
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    elif preprocess == "raw01":
        assert all(row in np.float32(x[:-4]).tolist() for row in rows.tolist())
    else:
        np.testing.assert_allclose(rows.mean(), 0, atol=1e-6)
        np.testing.assert_allclose(np.mean(rows**2), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "changes", "said"),
    [
        (np.ones((9, 3)), {"dim": 4}, "registered with 5 rows of 4 numbers"),
        (np.ones((9, 3)), {"n_train": 6}, "registered with 6 rows"),
        (np.full((9, 3), np.nan), {}, "not finite"),
        (np.ones((9, 3)), {"classes": ("a",)}, "beyond the 1"),
    ],
)
def test_arrays_that_are_not_what_was_said(x, changes, said):
    wanted = registered(x, **changes)
    with pytest.raises(DataError, match=said):
        DataSpec(wanted, preprocess="raw01").load()


# --- through a sweep, in fresh processes --------------------------------------


def study(store, workers=0, script=STUDY, check=True):
    done = subprocess.run(
        [sys.executable, script, str(store), str(workers)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    store = tmp_path_factory.mktemp("own")
    return store, study(store)


def test_a_study_of_ones_own_comes_back_in_a_fresh_process(stored):
    store, first = stored
    assert len(first["records"]) == 6 and first["traced"] > 0
    assert study(store) == {"records": first["records"], "traced": 0}


def test_a_process_that_does_not_register_says_so(stored):
    store, _ = stored
    kinds = ("activation 'kinked'", "loss 'absolute'", "probe 'last-layer'")
    for _, payload in Store(store).items():
        with pytest.raises(ValueError, match=r"no .* is called .* registers") as error:
            Experiment.from_json(payload["spec"])
        names = (*kinds, "'two-clouds'", "'sum'", "'single-index'")
        assert any(name.split()[-1] in str(error.value) for name in names)


def test_workers_know_what_main_has_defined(stored, tmp_path):
    assert study(tmp_path, workers=2)["records"] == stored[1]["records"]


def test_changed_code_is_run_again(stored, tmp_path):
    changed = tmp_path / "own_study.py"
    text = STUDY.read_text().replace("SLOPE = 0.1", "SLOPE = 0.2")
    changed.write_text(text)
    found = study(stored[0], script=changed)
    assert found["traced"] > 0
    assert not found["records"].keys() & stored[1]["records"].keys()


def test_kill_in_the_middle_and_resume(stored, tmp_path):
    command = [sys.executable, STUDY, str(tmp_path), "2"]
    path = os.pathsep.join(p for p in sys.path if p)
    running = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    store = Store(tmp_path)
    while len(store.keys()) < 2 and running.poll() is None:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    left = store.keys()
    stamps = {key: store._file(key).stat().st_mtime_ns for key in left}
    assert study(tmp_path)["records"] == stored[1]["records"]
    assert {key: store._file(key).stat().st_mtime_ns for key in left} == stamps


# --- streams ------------------------------------------------------------------

STREAM = Stream(task="relu-neuron", dim=8, n_sample=32, n_test=512, target_scale=4.0)


def streamed(**changes):
    return spec(**({"data": STREAM, "batch_size": 16, "steps": 4} | changes))


def losses_of(record):
    table = record.table
    return table[table["quantity"] == "loss"]["value"].to_numpy()


@pytest.mark.parametrize("task", REGISTRIES["stream"].builtin)
def test_streams_have_the_law_of_their_task(task):
    x, y = Stream(task=task, dim=5).draw(jax.random.key(0), 4000)
    drawn = Synthetic(task=task, n_train=4000, dim=5).load()
    assert x.shape == (4000, 5) and y.shape == (4000, 1)
    for ours, theirs in ((x, drawn.x_train), (y[:, 0], drawn.y_train)):
        for moment in (lambda v: v, np.square, np.abs):
            a, b = (moment(np.float64(v)) for v in (ours, theirs))
            spread = 5 * np.sqrt((a.var(0) + b.var(0)) / 4000) + 1e-6
            assert np.all(np.abs(a.mean(0) - b.mean(0)) < spread)


def test_examples_are_fresh_at_every_step_and_for_every_seed(tmp_path):
    # At a learning rate near zero, losses differ only by what they are measured on.
    found = sweep(
        [streamed(lr=1e-12, seed=s) for s in (0, 1)], Store(tmp_path), progress=False
    )
    values = np.concatenate([losses_of(record) for record in found])
    assert len(set(values.tolist())) == 8


def test_the_same_seed_has_the_same_bits(tmp_path):
    one = sweep([streamed(seed=1)], Store(tmp_path / "one"))
    together = sweep([streamed(seed=s) for s in range(3)], Store(tmp_path / "three"))
    assert_same_runs(one, together[1:2])


def test_the_population_loss_falls(tmp_path):
    run = streamed(lr=0.1, activation="relu", width=64, steps=200, batch_size=32)
    (record,) = sweep([run], Store(tmp_path))
    table = record.table
    test = table[table["quantity"] == "test_loss"]["value"].to_numpy()
    assert test[-1] < test[0] / 4
    # No example comes twice: what it is trained on says what it would be on others.
    late = losses_of(record)[-50:]
    error = late.std() / np.sqrt(50) + 0.05 * test[0]
    assert abs(late.mean() - test[-1]) < 5 * error
    assert test[-1] < 3 * late.mean()


def test_streams_take_schedules_precisions_and_calibrations(tmp_path):
    runs = [
        streamed(precision="float64"),
        streamed(parametrization="ip-llr", depth=3, first_lr=Calibration()),
        streamed(track=("gauss-newton",)),
    ]
    found = sweep(runs, Store(tmp_path))
    assert all(np.isfinite(losses_of(record)).all() for record in found)
    assert_same_runs(sweep(runs, Store(tmp_path)), found)
    for run in runs:
        assert Experiment.from_json(json.loads(json.dumps(run.to_json()))) == run


def test_a_stream_of_classes(tmp_path):
    @data.register_stream("sign", outputs=2, targets="labels")
    def sign(key, n, d):
        x = jax.random.normal(key, (n, d))
        return x, (x[:, 0] > 0).astype(int)

    run = streamed(data=Stream(task="sign", dim=4), loss="cross-entropy")
    (record,) = sweep([run], Store(tmp_path))
    assert "test_accuracy" in set(record.table["quantity"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "nothing"}, "no stream is called 'nothing'"),
        ({"dim": 0}, "dim is 0"),
        ({"n_sample": 0}, "n_sample is 0"),
        ({"n_test": True}, "n_test is True"),
        ({"target_scale": float("nan")}, "finite number"),
    ],
)
def test_streams_that_cannot_be_drawn(changes, said):
    with pytest.raises(ValueError, match=said):
        Stream(**({"task": "noise", "dim": 3} | changes))


def test_a_stream_wants_a_batch_size():
    with pytest.raises(ValueError, match="a stream has no end"):
        streamed(batch_size=None)
    assert streamed(batch_size=1000).plan.train_size == 32
