"""What JAX is set to changes no number of a run, or is part of its key."""

import dataclasses
import os

import jax
import numpy as np
import pytest
from test_experiment import spec
from test_kinds_of_runs import network
from widthlab import settings
from widthlab.data import Stream, stream
from widthlab.runs import Computed, FlowRun, Store, sweep
from widthlab.runs.executors import Processes
from widthlab.runs.spec import identity

STREAM = Stream(task="noise", dim=4, n_sample=8, n_test=3)
PINNED = {
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "bfloat16",
}


@dataclasses.dataclass(frozen=True)
class Draws(Computed):
    """Random numbers, and a sum in whatever type JAX has."""

    size: int = 4

    def run(self):
        key = jax.random.key(0)
        x = jax.random.normal(key, (self.size, 3), "float32")
        third = jax.numpy.asarray(1 / 3)
        return [{"draw": float(v), "third": float(third)} for v in x.ravel()]


@pytest.fixture
def set_to():
    before = {}

    def change(**values):
        for name, value in values.items():
            before.setdefault(name, jax.config.values[name])
            jax.config.update(name, value)

    yield change
    for name, value in before.items():
        jax.config.update(name, value)


def specs():
    fresh = spec(data=fresh_stream(), loss="mse", depth=1)
    return [spec(depth=1), fresh, FlowRun(network(0), (0.0, 0.1))]


def fresh_stream():
    # Drawn anew: what is drawn is kept in memory, whatever JAX is set to afterwards.
    stream._drawn.cache_clear()
    return STREAM


def numbers(records):
    return [np.asarray(r.columns["value"]) for r in records]


def test_a_pinned_setting_changes_neither_key_nor_number(set_to, tmp_path):
    plain = specs()
    keys, values = [s.key for s in plain], numbers(sweep(plain, Store(tmp_path / "a")))
    set_to(**PINNED)
    again = specs()
    assert [s.key for s in again] == keys
    for one, other in zip(
        numbers(sweep(again, Store(tmp_path / "b"))), values, strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_computations_draw_alike_and_have_their_precision_in_the_key(set_to, tmp_path):
    (plain,) = sweep([Draws()], Store(tmp_path))
    key, name = Draws().key, identity(Draws())
    set_to(jax_threefry_partitionable=False, jax_default_prng_impl="rbg")
    assert Draws().key == key
    (same,) = sweep([Draws()], Store(tmp_path / "other"))
    assert same.columns == plain.columns
    for setting in ("jax_enable_x64", "jax_default_matmul_precision"):
        set_to(**{setting: PINNED[setting]})
        assert Draws().key != key and identity(Draws()) != name
    (wide,) = sweep([Draws()], Store(tmp_path))
    assert wide.columns["third"][0] == 1 / 3 != plain.columns["third"][0]
    assert wide.columns["draw"] == plain.columns["draw"]


@pytest.mark.parametrize("executor", [None, Processes])
def test_a_setting_of_the_caller_s_own_context_reaches_its_cells(executor, tmp_path):
    pool = executor and executor(1)
    with jax.enable_x64(True):
        (wide,) = sweep([Draws()], Store(tmp_path), executor=pool)
        key = Draws().key
    (narrow,) = sweep([Draws()], Store(tmp_path), executor=pool)
    if pool:
        pool.shutdown()
    assert wide.columns["third"][0] == 1 / 3 != narrow.columns["third"][0]
    assert key != Draws().key


def test_an_offset_of_all_seeds_is_refused(set_to, tmp_path):
    set_to(jax_random_seed_offset=7)
    with pytest.raises(ValueError, match="JAX_RANDOM_SEED_OFFSET is 7"):
        sweep([spec()], Store(tmp_path))


def test_what_compiles_otherwise_is_another_run(set_to, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    one = spec()
    keys = {one.key}
    assert settings.compilation() == {}
    for changed in (
        {"jax_optimization_level": "O1"},
        {"jax_disable_most_optimizations": True},
    ):
        set_to(**changed)
        keys.add(one.key)
    for flag in ("--xla_cpu_enable_fast_math=true", "--xla_allow_excess_precision"):
        monkeypatch.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} {flag}")
        keys.add(one.key)
    assert len(keys) == 5
    monkeypatch.setenv("XLA_FLAGS", f"{flag}=false {os.environ['XLA_FLAGS']}")
    assert one.key in keys  # of two, XLA takes the last
    monkeypatch.setenv("XLA_FLAGS", "flags.txt")
    with pytest.raises(ValueError, match=r"'flags\.txt'; write its flags there"):
        one.key  # noqa: B018
