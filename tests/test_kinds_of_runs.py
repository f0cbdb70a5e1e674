"""Flows and computations of one's own are runs like training: stored and resumed."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from widthlab import flow
from widthlab.runs import (
    Archive,
    Computed,
    FlowRun,
    Processes,
    Store,
    frame,
    run,
    solve,
    sweep,
)

TIMES = np.linspace(0, 4, 9)
SOURCES = Path(__file__).parents[1] / "lib"


def network(seed, width=6, scale=1.0):
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((8, 3)), rng.standard_normal((width, 3))
    y = scale * np.abs(x[:, 0])
    return flow.two_layer(z, np.sign(rng.standard_normal(width)), x, y)


def outputs(one, state):
    x = jnp.eye(3)
    return {
        "loss": one.loss(state),
        "outputs": flow.two_layer_outputs(state, x, "relu"),
    }


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def same(one, other):
    for name in ("times", "reached", "status", "steps"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("observed", "last", "final"):
        first, second = getattr(one, name), getattr(other, name)
        assert list(first) == list(second)
        for key in first:
            assert np.asarray(first[key]).dtype == np.asarray(second[key]).dtype
            np.testing.assert_array_equal(first[key], second[key])


# --- flows -------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stop_below": 0.5},
        {"method": flow.Descent(0.05)},
        {"method": flow.Descent([0.05, 0.1]), "dtype": "float32"},
        {"method": flow.Adaptive(max_steps=3)},  # fails
    ],
)
def test_a_flow_comes_back_from_the_store_to_the_last_bit(store, settings):
    flows = [network(0), network(1)]
    solved = flow.solve(flows, TIMES, observe=outputs, **settings)
    for again in range(2):
        kept = solve(flows, TIMES, observe=outputs, store=store, **settings)
        assert len(store.keys()) == 2, again
        for one, other in zip(solved, kept, strict=True):
            same(one, other)


def test_nothing_is_solved_twice(store, monkeypatch):
    flows = [network(seed) for seed in range(3)]
    solve(flows[:2], TIMES, store=store)
    from widthlab.runs import flows as module

    solved = []
    original = module.solve_flows
    monkeypatch.setattr(
        module,
        "solve_flows",
        lambda flows, *args, **kw: (
            solved.append(len(flows)) or original(flows, *args, **kw)
        ),
    )
    solve(flows, TIMES, store=store)
    assert solved == [1]


def observing(scale):
    return lambda one, state: {"loss": scale * one.loss(state)}


def test_whatever_decides_the_numbers_is_in_the_key():
    spec = FlowRun(network(0), tuple(TIMES), observe=outputs)
    others = [
        FlowRun(network(1), tuple(TIMES), observe=outputs),
        FlowRun(network(0, scale=1.1), tuple(TIMES), observe=outputs),
        FlowRun(network(0), tuple(TIMES[:-1]), observe=outputs),
        FlowRun(network(0), tuple(TIMES), flow.Adaptive(rtol=1e-9), outputs),
        FlowRun(network(0), tuple(TIMES), flow.Descent(0.1), outputs),
        FlowRun(network(0), tuple(TIMES), flow.Descent(0.2), outputs),
        FlowRun(network(0), tuple(TIMES), observe=outputs, stop_below=0.1),
        FlowRun(network(0), tuple(TIMES), observe=outputs, dtype="float32"),
        FlowRun(network(0), tuple(TIMES)),
        FlowRun(network(0), tuple(TIMES), observe=observing(2.0)),
        FlowRun(network(0), tuple(TIMES), observe=observing(3.0)),
    ]
    keys = {one.key for one in (spec, *others)}
    assert len(keys) == 1 + len(others) and len({spec, *others}) == len(keys)
    again = FlowRun(network(0), tuple(TIMES), observe=outputs)
    assert again == spec and again.key == spec.key
    # What an observation computes counts, not which function object it is.
    assert others[-1] == FlowRun(network(0), tuple(TIMES), observe=observing(3.0))


def test_a_flow_has_one_key_in_notebooks_and_elsewhere(monkeypatch):
    def key():  # of a function made anew, whose hash is not remembered
        seen = {"one": jnp.ones(1)}
        return FlowRun(network(0), tuple(TIMES), observe=lambda *_: seen).key

    plain = key()
    # As in a notebook or a terminal, where JAX colours its text.
    monkeypatch.setattr("jax._src.pretty_printer.CAN_USE_COLOR", True)
    assert key() == plain


def test_a_flow_that_fails_is_marked_and_others_go_on(store):
    flows = [network(0), network(1, scale=1e200)]
    records = sweep(
        [FlowRun(one, tuple(TIMES), flow.Descent(0.5)) for one in flows], store
    )
    assert records[0].diverged_at is None
    assert records[1].diverged_at is not None
    assert set(frame(records, "loss")["diverged_at"].dropna()) == {
        records[1].diverged_at
    }


def test_numbers_around_a_flow_decide_what_is_solved(store, monkeypatch):
    """The same function object computes something else once a global has changed."""
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    first = flow.solve([network(0)], TIMES[:2], method=STEPS, observe=scaled)
    solve([network(0)], TIMES[:2], method=STEPS, observe=scaled, store=store)
    monkeypatch.setitem(globals(), "SCALE", 6.0)
    for _ in range(2):  # solved, then read
        (again,) = solve(
            [network(0)], TIMES[:2], method=STEPS, observe=scaled, store=store
        )
        np.testing.assert_allclose(
            again.observed["loss"], 3 * first[0].observed["loss"]
        )


SCALE = 1.0
STEPS = flow.Descent(0.1)


def scaled(one, state):
    return {"loss": SCALE * one.loss(state)}


def test_what_cannot_be_solved_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="must increase"):
        FlowRun(network(0), (0.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"step is \(0.1, 0.2\); one flow has one"):
        FlowRun(network(0), tuple(TIMES), flow.Descent([0.1, 0.2]))


def test_a_dense_solution_is_refused():
    with pytest.raises(ValueError, match="observe at more times"):
        FlowRun(network(0), tuple(TIMES), flow.Adaptive(dense=True))


def test_a_flow_goes_through_workers(store):
    specs = [FlowRun(network(seed), tuple(TIMES), observe=outputs) for seed in (0, 1)]
    here = solve([network(0), network(1)], TIMES, observe=outputs, store=store)
    other = Store(store.path.parent / "other")
    with Processes(1) as pool:
        records = sweep(specs, other, executor=pool, together=1)
    for one, spec, record in zip(here, specs, records, strict=True):
        same(one, spec.trajectory(record))


IN_MAIN = """
import dataclasses, functools, sys
import jax, jax.numpy as jnp
from widthlab.flow import Descent
from widthlab.runs import FlowRun, Processes, Store, sweep

@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["start"], meta_fields=["rate"]
)
@dataclasses.dataclass(frozen=True)
class Decay:
    start: float
    rate: int
    def initial(self):
        return jnp.ones(2) * self.start
    def velocity(self, state):
        return -self.rate * state
    def loss(self, state):
        return jnp.sum(state**2)

if __name__ == "__main__":
    specs = [FlowRun(Decay(1.0, rate), (0.0, 1.0), Descent(0.5)) for rate in (1, 2)]
    with Processes(1) as pool:
        records = sweep(specs, Store(sys.argv[1]), executor=pool)
    print([record.columns["value"] for record in records])
"""


def test_workers_know_the_flows_of_main(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(IN_MAIN)
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.check_output(
        [sys.executable, script, tmp_path / "store"],
        env=os.environ | {"PYTHONPATH": path},
        text=True,
    )
    assert done.strip() == "[[2.0, 0.125], [2.0, 0.0]]"


# --- computations of one's own -----------------------------------------------


@dataclasses.dataclass(frozen=True)
class Powers(Computed):
    base: float
    count: int = 3

    def run(self):
        return [{"power": k, "value": self.base**k} for k in range(self.count)]


def test_a_computation_is_kept_and_joins_the_table(store):
    records = sweep([Powers(2.0), Powers(3.0, 2), Powers(2.0)], store)
    assert len(store.keys()) == 2
    assert [len(r.table) for r in records] == [3, 2, 3]
    table = frame(records[:2])
    assert list(table.columns)[:4] == ["power", "value", "base", "count"]
    assert table.groupby("base")["value"].max().to_dict() == {2.0: 4.0, 3.0: 3.0}


def defined(body):
    space = {"Computed": Computed, "dataclasses": dataclasses}
    source = textwrap.dedent(body)
    name = f"<source {hash(source)}>"
    import linecache

    linecache.cache[name] = len(source), None, source.splitlines(True), name
    exec(compile(source, name, "exec"), space)
    return space["Mine"]


def test_the_source_of_a_computation_is_in_its_key():
    text = """
        @dataclasses.dataclass(frozen=True)
        class Mine(Computed):
            base: float

            def run(self):
                return [{{"value": {0} * self.base}}]
    """
    one, same, other = (defined(text.format(factor)) for factor in (1, 1, 2))
    assert one(2.0).key == same(2.0).key != other(2.0).key


@pytest.mark.parametrize(
    ("returned", "reason"),
    [([], "at least one row"), (3, "not iterable"), ([1], "as a mapping")],
)
def test_rows_that_are_none_are_refused(store, returned, reason):
    @dataclasses.dataclass(frozen=True)
    class Odd(Computed):
        def run(self):
            return returned

    with pytest.raises(TypeError, match=reason):
        run(Odd(), store)


def test_a_computation_that_can_change_is_refused(store):
    @dataclasses.dataclass
    class Loose(Computed):
        def run(self):
            return [{"value": 1}]

    with pytest.raises(TypeError, match="frozen=True"):
        Loose().to_json()


# --- all kinds ---------------------------------------------------------------


def test_an_archive_keeps_every_kind(tmp_path, store):
    specs = [
        FlowRun(network(0), tuple(TIMES), observe=outputs),
        Powers(2.0),
        FlowRun(network(1), tuple(TIMES), observe=outputs),
    ]
    archive = Archive(tmp_path / "archive")
    assert archive.run(specs) == 3 and archive.run(specs) == 0
    found = archive.select(specs)
    for record, again in zip(found, sweep(specs, store), strict=True):
        assert record.spec == again.spec and record.columns == again.columns
        for name, array in again.arrays.items():
            np.testing.assert_array_equal(record.arrays[name], array)
    assert len(archive.records()) == 3


@dataclasses.dataclass(frozen=True)
class Rows(Computed):
    which: str

    def run(self):
        return ROWS[self.which]


ROWS = {
    "numbers": [{"value": 1.5, "run": 1}, {"value": np.nan, "run": 2}],
    "integers": [{"value": 1}, {"value": None}],
    "both": [{"value": 1}, {"value": 2.5}, {"value": "many"}, {"value": 2**70}],
    "none": pd.DataFrame({"value": [], "other": []}),
    "nested": [{"value": {"a": [1]}, "other": True}, {"value": {}, "other": 1}],
}


@pytest.mark.parametrize("whiches", [*([name] for name in ROWS), list(ROWS)])
def test_an_archive_keeps_whatever_rows_there_are(tmp_path, whiches):
    specs = [Rows(which) for which in whiches]
    archive = Archive(tmp_path / "archive")
    for spec in specs:
        archive.add(run(spec, Store(tmp_path / "store")))
    for record, spec in zip(Archive(archive.path).select(specs), specs, strict=True):
        kept = run(spec, Store(tmp_path / "store"))
        assert repr(dict(record.columns)) == repr(dict(kept.columns))


def test_a_table_has_a_name_for_each_column(store, monkeypatch):
    table = pd.DataFrame([[1, 2]], columns=["value", "value"])
    monkeypatch.setitem(ROWS, "numbers", table)
    with pytest.raises(ValueError, match="each has a name of its own"):
        run(Rows("numbers"), store)


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
import test_kinds_of_runs as t
from widthlab.runs import Store, solve
for number in range(4):  # of one program
    one = t.network(0, scale=1 + number / 4)
    solve([one], t.TIMES, observe=t.outputs, store=Store(sys.argv[1]))
    if number == 1 and len(sys.argv) > 2:
        print("waiting", flush=True)
        import time; time.sleep(60)
"""


def test_a_killed_run_repeats_nothing(tmp_path):
    """Kill -9 between two flows, then run again: the first are read, not solved."""
    code = KILLED.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(tmp_path)]
    first = subprocess.Popen([*command, "wait"], stdout=subprocess.PIPE, text=True)
    for line in first.stdout:
        if line.strip() == "waiting":
            break
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    first.stdout.close()
    store = Store(tmp_path)
    kept = {key: store._file(key).stat().st_mtime_ns for key in store.keys()}
    assert len(kept) == 2
    time.sleep(0.01)
    subprocess.run(command, check=True, capture_output=True)
    assert len(store.keys()) == 4
    for key, stamp in kept.items():
        assert store._file(key).stat().st_mtime_ns == stamp


def test_what_is_drawn_while_it_is_traced_is_refused(store):
    """Its record would have another key each time, and never be found."""

    def drawn(one, state):
        return {"loss": np.random.default_rng().standard_normal() * one.loss(state)}

    with pytest.raises(ValueError, match="something else each time it is traced"):
        solve([network(0)], TIMES, observe=drawn, store=store)
    assert store.keys() == []
