"""Runs and sweeps: what a record says, what is skipped, retried and resumed."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction as F
from pathlib import Path

import attrs
import numpy as np
import pandas as pd
import pytest
from reference import slope_and_error
from test_experiment import DATA, ONE_HOT, assert_same_runs, spec
from widthlab.parametrization import Role, get
from widthlab.probes import Features, Performance
from widthlab.runs import ensembles
from widthlab.runs.record import Record, frame
from widthlab.runs.store import Store
from widthlab.runs.sweep import run, sweep
from widthlab.training.ensemble import trace_counts

PATH = os.pathsep.join([str(Path(__file__).parent), *sys.path])


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "records")


@pytest.fixture
def trained(monkeypatch):
    """Numbers of members that were trained, ensemble by ensemble."""
    sizes = []

    def spy(plan, members, *rest):
        sizes.append(len(members.real))
        return original(plan, members, *rest)

    original = ensembles.train_ensemble
    monkeypatch.setattr(ensembles, "train_ensemble", spy)
    return sizes


# --- runs and records ------------------------------------------------------------


def test_a_record_says_what_it_is(store):
    one = spec(checkpoints=(0, 2, 4), probes=(Performance(), Features(4)))
    record = run(one, store)
    assert record.spec == one
    assert record.diverged_at is None and record.stopped_at is None
    table = record.table
    assert list(table.columns) == ["step", "layer", "quantity", "value"]
    losses = table[table["quantity"] == "loss"]
    assert list(losses["step"]) == [0, 1, 2, 3] and set(losses["layer"]) == {0}
    features = table[table["quantity"] == "feature_change"]
    assert list(zip(features["step"], features["layer"], strict=True)) == [
        (step, layer) for step in (0, 2, 4) for layer in (1, 2)
    ]
    assert np.all(np.isfinite(table["value"]))
    facts = record.provenance
    assert facts["data_sha256"] == DATA.load().sha256
    assert facts["precision"] == "float32" and facts["wall_s"] > 0
    assert {"jax", "flax", "numpy", "python", "device", "code", "created"} <= set(facts)
    assert store.keys() == [one.key]
    again = Record.from_json(json.loads(json.dumps(record.to_json())), one)
    assert again == record


def test_a_run_starts_from_its_data(store):
    """The first loss of a network that starts at zero output is log(classes)."""
    wide = spec(width=512, probes=(), steps=1, batch_size=None)
    table = run(wide, store).table
    first = float(table["value"].iloc[0])
    # Outputs of mup are n^-1/2 at init: a loss off by their size at most.
    assert abs(first - math.log(10)) < 5 * 512**-0.5


def test_one_trace_for_a_grid_of_experiments(store):
    """4 parametrizations x 3 learning rates x 3 seeds: more than one ensemble."""
    names = ("sp-lr/n", "ntk", "ip", "mup")
    grid = [
        spec(parametrization=p, lr=lr, seed=seed, width=19)
        for p, lr, seed in itertools.product(names, (0.1, 0.3, 1.0), (0, 1, 2))
    ]
    before = trace_counts()
    records = sweep(grid, store)
    new = {name: n - before.get(name, 0) for name, n in trace_counts().items()}
    assert new == {"begin": 1, "advance": 1, "observe": 1}
    assert [record.spec for record in records] == grid
    finals = {tuple(r.columns["value"]) for r in records}
    assert len(finals) == len(grid)


def test_a_sweep_skips_what_the_store_has(store, trained):
    grid = [spec(seed=seed, lr=lr) for seed in (0, 1) for lr in (0.2, 0.4)]
    first = sweep(grid[:2], store)
    assert trained == [2]
    files = {key: store._file(key).stat().st_mtime_ns for key in store.keys()}
    everything = sweep([*grid, grid[0]], store)
    assert trained == [2, 2]  # the duplicate of a stored run is not run either
    assert [r.spec for r in everything] == [*grid, grid[0]]
    assert everything[:2] == first and everything[4] == everything[0]
    for key, at in files.items():
        assert store._file(key).stat().st_mtime_ns == at
    assert sweep(reversed(grid), store) == everything[3::-1]
    assert trained == [2, 2]


def test_duplicates_run_once(store, trained):
    records = sweep([spec(seed=3), spec(seed=4), spec(seed=3)], store)
    assert trained == [2] and records[0] == records[2] != records[1]


def test_runs_of_one_sweep_are_those_on_their_own(store, tmp_path):
    grid = [spec(seed=s, parametrization=p) for p in ("mup", "ip") for s in (0, 1)]
    together = sweep(grid, store)
    for index in (0, 3):
        alone = run(grid[index], Store(tmp_path / "other"))
        assert_same_runs([together[index]], [alone])


def test_nothing_to_do(store):
    assert sweep([], store) == []
    assert frame([]).empty


def test_the_default_store_is_that_of_the_environment(monkeypatch, tmp_path, trained):
    monkeypatch.setenv("WIDTHLAB_STORE", str(tmp_path / "mine"))
    run(spec(seed=11))
    assert Store(tmp_path / "mine").keys() == [spec(seed=11).key]
    run(spec(seed=11))
    assert trained == [1]


def test_a_diverging_run_is_recorded(store):
    mad = spec(data=ONE_HOT, loss="mse", activation="relu", lr=1e6, steps=30)
    sane = attrs.evolve(mad, lr=0.01)
    bad, good = sweep([mad, sane], store)
    assert good.diverged_at is None
    assert bad.diverged_at is not None and 0 < bad.diverged_at < 30
    table = bad.table
    losses = table[table["quantity"] == "loss"]
    assert list(losses["step"]) == list(range(bad.diverged_at + 1))
    assert np.all(np.isfinite(losses["value"].iloc[:-1]))
    again = Record.from_json(store.get(mad.key), mad)
    assert again.diverged_at == bad.diverged_at
    assert set(frame([bad])["diverged_at"]) == {bad.diverged_at}


def test_a_run_that_stops_is_recorded(store):
    full, stopped = sweep(
        [spec(steps=20, batch_size=None, stop_below=s) for s in (None, 2.0)], store
    )
    losses = full.table.query("quantity == 'loss'")["value"].to_numpy()
    assert full.stopped_at is None and losses.min() < 2.0
    assert stopped.stopped_at == np.argmax(losses < 2.0)
    seen = stopped.table.query("quantity == 'loss'")["value"].to_numpy()
    np.testing.assert_allclose(seen, losses[: stopped.stopped_at + 1], rtol=1e-6)


def test_an_error_in_one_ensemble_ends_the_sweep(store, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(ensembles, "train_ensemble", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        sweep([spec(), spec(steps=5), spec(steps=6)], store)
    assert store.keys() == []


# --- a killed sweep ------------------------------------------------------------

SWEEP = """
import sys
import test_sweeps as t
assert len(t.sweep(t.LONG, t.Store(sys.argv[1]))) == len(t.LONG)
"""
LONG = [spec(width=width, seed=5) for width in (21, 22, 23)]


def start_sweep(folder):
    return subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(folder)],
        env=os.environ | {"PYTHONPATH": PATH},
    )


def test_a_killed_sweep_resumes(tmp_path):
    folder = tmp_path / "records"
    process = start_sweep(folder)
    deadline = time.monotonic() + 120
    while not list(folder.glob("*/*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = Store(folder)
    done = {key: store._file(key).stat().st_mtime_ns for key in store.keys()}
    assert 0 < len(done) < len(LONG)  # really in the middle
    # Whatever lies there under a record's name is whole.
    assert len(list(folder.glob("*/*.json"))) == len(done)

    assert start_sweep(folder).wait(timeout=120) == 0
    assert set(store.keys()) == {one.key for one in LONG}
    for key, at in done.items():
        assert store._file(key).stat().st_mtime_ns == at
    assert [p.suffix for p in folder.glob("*/*") if p.suffix != ".json"] == []

    unbroken = sweep(LONG, Store(tmp_path / "unbroken"))
    for one, other in zip(sweep(LONG, store), unbroken, strict=True):
        assert one.spec == other.spec
        assert one.columns["quantity"] == other.columns["quantity"]
        np.testing.assert_allclose(
            one.columns["value"], other.columns["value"], rtol=1e-4
        )


# --- tables over records ------------------------------------------------------------


def test_frame(store):
    grid = [spec(seed=s, parametrization=p) for p in ("mup", "ntk") for s in (0, 1)]
    records = sweep(grid, store)
    table = frame(records)
    assert set(table.columns) == {
        *("step", "layer", "quantity", "value"),
        *("parametrization", "width", "depth", "growth", "activation", "loss"),
        *("optimizer", "lr", "seed", "batch_size", "base_width", "biases", "precision"),
        *("data", "variant", "schedule", "target", "diverged_at", "stopped_at"),
    }
    assert len(table) == sum(len(r.table) for r in records)
    assert list(table.index) == list(range(len(table)))
    some = frame(records, "train_loss", "test_loss")
    assert set(some["quantity"]) == {"train_loss", "test_loss"}
    assert len(some) == 4 * 2 * 2
    one = some.query("parametrization == 'ntk' and seed == 1 and step == 4")
    expected = records[3].table.query("step == 4")
    pd.testing.assert_frame_equal(
        one[["quantity", "value"]].reset_index(drop=True),
        expected[expected["quantity"].isin({"train_loss", "test_loss"})][
            ["quantity", "value"]
        ].reset_index(drop=True),
    )


def test_the_coordinate_check_sees_a_wrong_exponent(store):
    """Negative control of the whole way: sweep, probe, frame, slope.

    Of mup, changes of pre-activations do not depend on the width. With the hidden
    learning rate n^1/2 too large, those of the second layer grow like n^1/2.
    """
    wrong = get("mup").mutated(Role.HIDDEN, c=F(-1, 2))
    widths, seeds = (32, 64, 128, 256), range(6)
    grid = [
        spec(
            parametrization=table,
            width=width,
            seed=seed,
            lr=0.2,
            base_width=32,
            batch_size=None,
            steps=2,
            probes=(Features(8),),
        )
        for table, width, seed in itertools.product((get("mup"), wrong), widths, seeds)
    ]
    table = frame(sweep(grid, store), "pre_rms_change").query(
        "step == 2 and layer == 2"
    )

    def measured(name):
        mine = table[table["parametrization"] == name]
        values = mine.pivot(index="seed", columns="width", values="value")
        return slope_and_error(widths, values.to_numpy())

    right, spread = measured("mup")
    # Finite widths bend by the smallest n^-1/2 at most.
    assert abs(right) < 4 * spread + widths[0] ** -0.5
    steep, spread = measured(wrong.name)
    assert abs(steep - 0.5) < 4 * spread + widths[0] ** -0.5
    assert steep - 4 * spread > 4 * abs(right)
