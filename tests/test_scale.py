"""Larger than one device: memory that is measured, precision, many devices."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import warnings

import attrs
import jax
import numpy as np
import pytest
from test_experiment import assert_same_runs, spec
from test_sweeps import PATH
from widthlab import compilation
from widthlab.claims import slopes
from widthlab.compilation import ONE_THREAD_A_PRODUCT
from widthlab.data import DataSpec
from widthlab.model import product
from widthlab.probes import Features
from widthlab.runs import ensembles
from widthlab.runs.cells import MemoryWarning
from widthlab.runs.record import frame
from widthlab.runs.store import Store
from widthlab.runs.sweep import run, sweep
from widthlab.training import ensemble
from widthlab.training.devices import DeviceMemoryError

GRID = [spec(width=33, seed=seed) for seed in range(8)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sweep(GRID, Store(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def pieces(monkeypatch):
    """Sizes of what was trained to the end."""
    sizes, original = [], ensembles.train_ensemble

    def spy(plan, members, *rest):
        outcome = original(plan, members, *rest)
        sizes.append(len(members.real))
        return outcome

    monkeypatch.setattr(ensembles, "train_ensemble", spy)
    return sizes


# --- memory ------------------------------------------------------------


def needed(grid, monkeypatch, tmp_path):
    """Bytes that runs take together, as their refusal says."""
    seen, original = [], DeviceMemoryError.__init__

    def note(self, needed, available, members):
        seen.append(needed)
        original(self, needed, available, members)

    with monkeypatch.context() as patch:
        patch.setenv("WIDTHLAB_MEMORY", "1")
        patch.setattr(DeviceMemoryError, "__init__", note)
        with pytest.raises(MemoryError, match="a single one of these runs of width 33"):
            sweep(grid, Store(tmp_path / "none"))
    return seen[0]


def test_cells_are_cut_to_the_memory_there_is(monkeypatch, tmp_path, pieces, whole):
    of_all = needed(GRID, monkeypatch, tmp_path)
    of_one = needed(GRID[:1], monkeypatch, tmp_path)
    assert pieces == [] and of_one < of_all < 8 * of_one  # the data are shared
    weights = 4 * GRID[0].shape.parameters
    assert of_all > 8 * 3 * weights
    monkeypatch.setenv("WIDTHLAB_MEMORY", str(0.8 * of_all))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing went wrong: nothing is said
        assert_same_runs(sweep(GRID, Store(tmp_path / "less")), whole)
    assert pieces == [4, 4]  # of equal size: compiled once
    monkeypatch.setenv("WIDTHLAB_MEMORY", str(of_all))
    sweep(GRID, Store(tmp_path / "all"))
    assert pieces == [4, 4, 8]


def test_data_that_do_not_fit_on_all_devices_are_put_on_fewer(
    monkeypatch, tmp_path, pieces
):
    """Each device has them: runs are done on as many devices as have room."""
    images = DataSpec("digits", n_train=1400, n_test=0, targets="labels")
    large = [spec(width=33, seed=seed, data=images, steps=2) for seed in range(2)]
    of_one = needed(large[:1], monkeypatch, tmp_path)
    monkeypatch.setenv("WIDTHLAB_MEMORY", str(1.1 * of_one))
    records = sweep(large, Store(tmp_path))
    assert pieces == [1, 1] and len(records) == 2


def test_what_does_not_fit_is_refused_before_its_batches_are_drawn(
    monkeypatch, tmp_path, pieces
):
    draw, drawn = ensemble._orders, []

    def note(size, batch_size, steps, keys):
        drawn.append(len(keys))
        return draw(size, batch_size, steps, keys)

    of_all = needed(GRID, monkeypatch, tmp_path)
    monkeypatch.setattr(ensemble, "_orders", note)
    monkeypatch.setenv("WIDTHLAB_MEMORY", str(0.8 * of_all))
    sweep(GRID, Store(tmp_path))
    assert drawn == pieces == [4, 4]


def test_a_cell_that_runs_out_of_memory_is_halved(monkeypatch, tmp_path, whole):
    original, tried = ensembles.train_ensemble, []

    def full(plan, members, *rest):
        tried.append(len(members.real))
        if len(members.real) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return original(plan, members, *rest)

    monkeypatch.setattr(ensembles, "train_ensemble", full)
    with pytest.warns(MemoryWarning) as said:
        found = sweep(GRID, Store(tmp_path))
    assert "8 runs of width 33 and depth 2 did not fit" in str(said[0].message)
    assert "they are run 4 at a time" in str(said[0].message)
    assert_same_runs(found, whole)
    assert tried == [8, 4, 2, 2, 4, 2, 2]


def test_one_run_that_does_not_fit_is_an_error(monkeypatch, tmp_path):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(ensembles, "train_ensemble", full)
    with (
        pytest.raises(MemoryError, match="a single one of these runs of width 33"),
        pytest.warns(MemoryWarning),
    ):
        sweep(GRID[:2], Store(tmp_path))


def test_other_errors_of_the_device_are_not_hidden(monkeypatch, tmp_path):
    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: device lost")

    monkeypatch.setattr(ensembles, "train_ensemble", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="device lost"):
        run(GRID[0], Store(tmp_path))


# --- precision ------------------------------------------------------------


@pytest.mark.parametrize(("rounding", "bits"), [("tf32", 10), ("bfloat16", 7)])
def test_products_are_rounded_in_both_directions(rounding, bits):
    """Against NumPy: operands and result rounded to nearest, sums in float32."""
    rng = np.random.default_rng(0)
    x, w, c = (rng.standard_normal((16, 16)).astype(np.float32) for _ in range(3))

    def rounded(v):
        keep = 23 - bits
        raw = np.asarray(v, np.float32).view(np.uint32).astype(np.uint64)
        half = (1 << (keep - 1)) - 1 + ((raw >> np.uint64(keep)) & np.uint64(1))
        raw = (raw + half) >> np.uint64(keep) << np.uint64(keep)
        return raw.astype(np.uint32).view(np.float32)

    out, back = jax.vjp(lambda x, w: product(x, w, rounding), x, w)
    expected = rounded(rounded(x) @ rounded(w))
    step = 2.0**-bits  # one unit in the last place, where a sum lies on the edge
    np.testing.assert_allclose(out, expected, rtol=1.01 * step)
    assert np.mean(np.asarray(out) == expected) > 0.97
    assert out.dtype == "float32"
    assert np.abs(np.asarray(out) - x @ w).max() > 0.1 * step  # it does something
    for got, want in zip(
        back(c),
        (rounded(rounded(c) @ rounded(w).T), rounded(rounded(x).T @ rounded(c))),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1.01 * step)
        assert got.dtype == "float32"


def test_no_rounding_is_the_plain_product():
    x = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    np.testing.assert_array_equal(product(x, x), jax.numpy.matmul(x, x))


@pytest.fixture(scope="module")
def by_precision(tmp_path_factory):
    """The comparison of chapter 1, small, in three precisions."""
    data = DataSpec("digits", n_train=256, n_test=0, targets="labels")
    grid = [
        spec(
            data=data,
            parametrization=name,
            width=width,
            depth=3,
            base_width=64,
            seed=seed,
            batch_size=64,
            steps=100,
            probes=(Features(16, spectra=False),),
            precision=precision,
        )
        for precision in ("float32", "tf32", "bfloat16")
        for name, width in itertools.product(("mup", "ntk"), (64, 128, 256))
        for seed in range(2)
    ]
    return frame(sweep(grid, Store(tmp_path_factory.mktemp("precision"))))


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_precision_leaves_the_slopes_of_a_claim(by_precision, precision):
    """Feature change is level under mup and falls as n^-1/2 under ntk, in each."""
    last = by_precision.query("step == 100")
    found = {
        name: slopes(last[last["precision"] == name], "pre_feature_change")
        for name in ("float32", precision)
    }
    for table, layer in itertools.product(("mup", "ntk"), (1, 2, 3)):
        exact, rounded = (found[n][table, layer].value for n in ("float32", precision))
        assert abs(exact - rounded) < 0.1
        if layer > 1:
            assert abs(rounded - {"mup": 0.0, "ntk": -0.5}[table]) < 0.25
    values = last.set_index(["precision", "parametrization", "width", "seed", "layer"])
    changes = values.query("quantity == 'pre_feature_change'")["value"]
    relative = (changes[precision] / changes["float32"] - 1).abs()
    # Rounding does something, and most to changes that are a percent of the features.
    assert 0 < relative.max() < {"tf32": 0.05, "bfloat16": 0.25}[precision]


# --- compilation ------------------------------------------------------------


def test_options_that_xla_does_not_know_are_left_out(monkeypatch):
    """Each exists in some of the supported versions, and none in all to come."""
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(
        compilation,
        "_BRIEF_ON_CPU",
        {"xla_backend_optimization_level": 1, "xla_cpu_no_such_thing": True},
    )
    assert compilation._is_known("xla_backend_optimization_level", 1)
    assert not compilation._is_known("xla_cpu_no_such_thing", True)
    doubled = compilation.compiled(lambda x: 2 * x, "cpu", static=(), brief=True)
    assert doubled(3) == 6


def test_the_users_flags_win_but_for_what_makes_bits_the_same(monkeypatch):
    level, threads = "xla_backend_optimization_level", "xla_cpu_multi_thread_eigen"
    wanted = {level: 1, **ONE_THREAD_A_PRODUCT}
    for flags, found in (
        ("", wanted),
        (f"--{level}=3", ONE_THREAD_A_PRODUCT),
        (f"--{level}=3 --{threads}=true", ONE_THREAD_A_PRODUCT),
        (f"--{level}_of_another=3", wanted),
    ):
        monkeypatch.setenv("XLA_FLAGS", flags)
        assert compilation.options_on_cpu(wanted) == found


# --- devices ------------------------------------------------------------

DEVICES = "--xla_force_host_platform_device_count"
ON_DEVICES = """
import json, sys
import jax
import test_scale as t
from widthlab.training.ensemble import trace_counts
records = t.sweep(t.GRID, t.Store(sys.argv[1]))
print(json.dumps([len(jax.devices()), trace_counts(), [r.columns for r in records]]))
"""


@pytest.mark.parametrize("count", [1, 8])
def test_any_number_of_devices_gives_the_same_bits(count, tmp_path, whole):
    env = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {DEVICES}={count}",
        "PYTHONPATH": PATH,
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES, str(tmp_path)],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    devices, traces, columns = json.loads(done.stdout.splitlines()[-1])
    assert devices == count
    assert traces == {"begin": 1, "advance": 1, "observe": 1}  # one compilation
    found = [
        dataclasses.replace(record, columns=each)
        for record, each in zip(whole, columns, strict=True)
    ]
    assert_same_runs(found, whole)


def test_members_fewer_than_devices(tmp_path, whole):
    one = attrs.evolve(GRID[3])
    assert_same_runs([run(one, Store(tmp_path))], whole[3:4])
