"""A run has the same bits whatever else the machine does."""

import os
import subprocess
import sys
from contextlib import contextmanager

import jax
import numpy as np
import pytest
from widthlab import flow, limit
from widthlab.compilation import ONE_THREAD_A_PRODUCT
from widthlab.data import DataSpec
from widthlab.papers.hajjar2023symmetries import population
from widthlab.runs.experiment import Experiment
from widthlab.runs.store import Store
from widthlab.runs.sweep import run


@contextmanager
def busy_cores():
    """Load every core twice for as long as the block takes."""
    spin = [sys.executable, "-c", "while True: pass"]
    loads = [subprocess.Popen(spin) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for load in loads:
            load.kill()
            load.wait()


def wide_flows(tmp_path):
    """Two flows, wider than what one thread is given of a shared product."""
    rng = np.random.default_rng(0)
    width, dim = 1024, 20
    inner = rng.standard_normal((2, width, dim)) / np.sqrt(dim)
    outer = np.repeat([1.0, -1.0], width // 2)
    flows = [population.gaussian_norm(b, outer, 5) for b in inner]
    # A few steps, of a second each.
    method = flow.Adaptive(rtol=1e-5, atol=1e-7)
    runs = flow.solve(flows, [0.0, 0.1], method=method)
    return [np.asarray(leaf) for run in runs for leaf in jax.tree.leaves(run.final)]


def wide_training(tmp_path):
    spec = Experiment(
        data=DataSpec("digits", n_train=512, targets="labels"),
        parametrization="mup",
        width=1024,
        lr=0.5,
        steps=10,
    )
    record = run(spec, store=Store(tmp_path))
    return [np.asarray(record.columns["value"])]


def infinite_width(tmp_path):
    spec = Experiment(
        data=DataSpec("digits", n_train=16, targets="parity"),
        parametrization="mup",
        depth=2,
        width=64,
        loss="mse",
        lr=1.0,
        steps=6,
    )
    found = limit.solve(
        limit.Problem.of(spec), particles=4096, seeds=2, store=Store(tmp_path)
    )
    return [found.all_outputs, found.losses, found.grams]


@pytest.mark.parametrize("compute", [wide_flows, wide_training, infinite_width])
def test_busy_cores_do_not_change_a_bit(compute, tmp_path):
    idle = compute(tmp_path / "idle")
    with busy_cores():
        busy = compute(tmp_path / "busy")
    for a, b in zip(idle, busy, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_product_is_shared_between_threads_unless_someone_asks_for_it():
    code = """
import os
from widthlab.training.devices import use_all_cores
use_all_cores()
print(os.environ["XLA_FLAGS"])
"""

    def flags(given):
        env = os.environ | {"XLA_FLAGS": given}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, check=True
        )
        return done.stdout.decode().split()

    (name,) = ONE_THREAD_A_PRODUCT
    assert f"--{name}=false" in flags("")
    assert flags(f"--{name}=true") == [f"--{name}=true"]
