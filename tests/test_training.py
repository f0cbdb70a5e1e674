"""Training: one program a grid, the same numbers however it is run, honest endings."""

import dataclasses
import functools
import itertools
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from fractions import Fraction as F
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import gradients, sgd
from widthlab import training
from widthlab.model import Scales, Shape
from widthlab.parametrization import Role, get
from widthlab.probes import Performance
from widthlab.training import (
    Data,
    Members,
    Optimizer,
    Plan,
    Probe,
    members_per_batch,
    trace_counts,
    train,
)

SHAPE = Shape(input_dim=8, widths=(12, 16), output_dim=3, activation="tanh")
NAMES = ("sp-lr/n", "ntk", "ip", "mup")


@dataclass(frozen=True)
class Weights:
    """All matrices of the forward pass, multiplier included."""

    name: ClassVar[str] = "weights"

    def measure(self, model, initial, data, loss):
        return tuple(w.kernel[...] * w.multiplier[...] for w in model.layers)

    def rows(self, history):
        return [[] for _ in history]


@functools.cache
def data(kind="labels", size=24):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((size + 8, SHAPE.input_dim)).astype("float32")
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if kind == "labels":
        y = rng.integers(0, SHAPE.output_dim, len(x)).astype("int32")
    else:
        y = rng.standard_normal((len(x), SHAPE.output_dim)).astype("float32")
    return Data(x[:size], y[:size], x[size:], y[size:])


def plan(**changes):
    fields = {
        "shape": SHAPE,
        "loss": "cross-entropy",
        "optimizer": Optimizer(),
        "batch_size": None,
        "steps": 6,
        "train_size": 24,
        "dtype": "float64",
    }
    return Plan(**(fields | changes))


def members(plan, runs, stop_below=-np.inf, base_width=1):
    """Members from (table, lr, seed) triples; tables by name or themselves."""
    scales = [
        plan.shape.scales(
            get(table) if isinstance(table, str) else table,
            lr=lr,
            base_width=base_width,
            adam=plan.optimizer.normalises,
            dtype=plan.dtype,
        )
        for table, lr, _ in runs
    ]
    return Members(
        key=jnp.stack([jax.random.key(seed) for *_, seed in runs]),
        scales=Scales(*map(np.stack, zip(*scales, strict=True))),
        stop_below=np.broadcast_to(stop_below, len(runs)).astype(plan.dtype),
        real=np.ones(len(runs), bool),
    )


def weights_of(outcome, member=0, checkpoint=-1):
    leaves = outcome.observations[checkpoint]["weights"]
    return [np.asarray(leaf[member], np.float64) for leaf in leaves]


def follow(plan, runs, checkpoints=None, **settings):
    """Train with weights at each checkpoint, all steps by default."""
    steps = tuple(range(plan.steps + 1)) if checkpoints is None else checkpoints
    who = settings.pop("who", None) or members(plan, runs, **settings)
    kind = "labels" if plan.loss == "cross-entropy" else "targets"
    return train(plan, who, data(kind, plan.train_size), steps, (Weights(),))


def assert_same(one, other, rtol=1e-10):
    np.testing.assert_array_equal(one.diverged_at, other.diverged_at)
    np.testing.assert_array_equal(one.stopped_at, other.stopped_at)
    np.testing.assert_allclose(one.losses, other.losses, rtol=rtol)
    for a, b in zip(
        jax.tree.leaves(one.observations[-1]),
        jax.tree.leaves(other.observations[-1]),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def forget_programs():
    for program in (training._start, training._advance, training._observe):
        program.clear_cache()


# --- one program for a grid --------------------------------------------------------


def test_one_trace_for_a_grid():
    """4 parametrizations x 3 learning rates x 3 seeds, then others: nothing anew."""
    shape = dataclasses.replace(SHAPE, widths=(11, 13))
    here = plan(shape=shape, batch_size=8, dtype="float32")
    before = trace_counts()
    grid = list(itertools.product(NAMES, (0.1, 0.3, 1.0), (0, 1, 2)))
    outcome = follow(here, grid, checkpoints=(0, 2, 6))
    assert outcome.losses.shape == (36, 6) and np.all(np.isfinite(outcome.losses))
    new = {name: n - before.get(name, 0) for name, n in trace_counts().items()}
    assert new == {"start": 1, "advance": 1, "observe": 1}
    assert outcome.traces == 3

    mutated = get("mup").mutated(Role.HIDDEN, c=F(1, 3))
    others = ("sp", "ip-llr", mutated, "mup")
    grid = list(itertools.product(others, (0.01, 0.02, 0.05), (5, 6, 7)))
    assert follow(here, grid, checkpoints=(0, 3, 6)).traces == 0


def test_members_differ_and_repeat_to_the_bit():
    grid = [("mup", 0.5, 0), ("mup", 0.5, 1), ("ntk", 0.5, 0), ("mup", 0.7, 0)]
    here = plan(batch_size=5, dtype="float32")
    one, two = (follow(here, grid) for _ in range(2))
    np.testing.assert_array_equal(one.losses, two.losses)
    for a, b in zip(
        jax.tree.leaves(one.observations),
        jax.tree.leaves(two.observations),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert len({row.tobytes() for row in one.losses}) == len(grid)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-11), ("float32", 1e-4)])
def test_an_ensemble_is_a_loop_over_single_runs(dtype, rtol):
    here = plan(batch_size=8, dtype=dtype)
    grid = [*itertools.product(("mup", "ip"), (0.2, 0.8), (0, 3)), ("ntk", 1.0, 9)]
    together = follow(here, grid)
    for index, run in enumerate(grid):
        alone = follow(here, [run])
        np.testing.assert_allclose(together.losses[index], alone.losses[0], rtol=rtol)
        for a, b in zip(weights_of(together, index), weights_of(alone), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize("batch", [1, 4, 9])
def test_layouts_give_the_same_numbers(batch, monkeypatch):
    here = plan(batch_size=8)
    grid = list(itertools.product(("mup", "ip", "ntk"), (0.2, 0.8, 1.0), (0,)))
    usual = follow(here, grid)
    monkeypatch.setattr(training, "members_per_batch", lambda *_: batch)
    forget_programs()
    laid_out = follow(here, grid)
    forget_programs()
    assert laid_out.traces == 3  # the layout is compiled in: this was a new program
    assert_same(laid_out, usual)


def test_the_choice_of_layout_fits_the_share():
    for platform, widest, share, devices in itertools.product(
        ("cpu", "gpu"), (16, 256, 4096), (1, 3, 4, 33), (1, 2, 8)
    ):
        assert 1 <= members_per_batch(platform, widest, share, devices) <= share


# --- against other implementations -------------------------------------------------


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("name", ["mup", "ntk", "ip-llr"])
def test_sgd_is_that_of_plain_numpy(name, batch_size, loss):
    """IP-LLR has a learning rate of its own at step 0, and at no other."""
    here = plan(loss=loss, batch_size=batch_size, steps=7)
    outcome = follow(here, [(name, 0.3, 4)])
    scales = here.shape.scales(get(name), lr=0.3, dtype="float64")
    square = scales.multiplier**2
    assert np.all(scales.lr == scales.first_lr) == (name != "ip-llr")
    who = members(here, [(name, 0.3, 4)])
    orders = training._orders(24, batch_size, 7, who.key)
    batches = [np.arange(24)] * 7 if orders is None else np.asarray(orders[0])
    mine = data("labels" if loss == "cross-entropy" else "targets")
    losses, history = sgd(
        weights_of(outcome, checkpoint=0),
        square * scales.lr,
        np.float64(mine.x_train),
        np.asarray(mine.y_train, None if loss == "cross-entropy" else "float64"),
        batches,
        first_rates=square * scales.first_lr,
    )
    np.testing.assert_allclose(outcome.losses[0], losses, rtol=1e-11)
    for step, expected in enumerate(history):
        for a, b in zip(weights_of(outcome, 0, step), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
def test_optimizers_are_those_of_optax(name):
    """One optax optimizer a matrix, each with the learning rate of its layer."""
    rule = Optimizer(name, momentum=0.8, b1=0.7, b2=0.95, eps=1e-6, weight_decay=0.1)
    here = plan(optimizer=rule, loss="mse")
    outcome = follow(here, [("mup", 0.05, 2)])
    scales = here.shape.scales(
        get("mup"), lr=0.05, adam=rule.normalises, dtype="float64"
    )
    make = {
        "momentum": lambda lr: optax.sgd(lr, momentum=0.8),
        "adam": lambda lr: optax.adam(lr, b1=0.7, b2=0.95, eps=1e-6),
        "adamw": lambda lr: optax.adamw(
            lr, b1=0.7, b2=0.95, eps=1e-6, weight_decay=0.1
        ),
    }[name]
    x, y = (np.float64(v) for v in data("targets")[:2])
    multipliers = scales.multiplier
    start = weights_of(outcome, checkpoint=0)
    with jax.enable_x64(True):
        rules = [make(float(lr)) for lr in scales.lr]
        weights = [jnp.asarray(w / m) for w, m in zip(start, multipliers, strict=True)]
        states = [r.init(w) for r, w in zip(rules, weights, strict=True)]
        for step in range(here.steps):
            real = [
                np.asarray(w) * m for w, m in zip(weights, multipliers, strict=True)
            ]
            for a, b in zip(weights_of(outcome, 0, step), real, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
            _, grads = gradients(real, x, y)
            for i, grad in enumerate(grads):
                update, states[i] = rules[i].update(
                    jnp.asarray(grad * multipliers[i]), states[i], weights[i]
                )
                weights[i] = weights[i] + update


def test_precision_is_what_the_plan_says():
    for dtype in ("float32", "float64"):
        outcome = follow(plan(dtype=dtype), [("mup", 0.1, 0)])
        assert outcome.losses.dtype == dtype
        assert outcome.observations[-1]["weights"][0].dtype == dtype
    assert not jax.config.jax_enable_x64


# --- the equivalence class -----------------------------------------------------------

THETA = {Role.INPUT: F(1, 2), Role.HIDDEN: F(-2, 3), Role.OUTPUT: F(3, 4)}


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("name", ["mup", "ntk", "ip-llr"])
def test_trajectories_are_those_of_the_class(name, optimizer):
    if optimizer == "adam" and name == "ip-llr":
        name = "sp-lr/n"
    here = plan(optimizer=Optimizer(optimizer, eps=1e-40), steps=8)
    tables = (get(name), get(name).shifted(THETA), get(name).canonical())
    outcome = follow(here, [(table, 0.05, 1) for table in tables])
    for member in (1, 2):
        np.testing.assert_allclose(
            outcome.losses[member], outcome.losses[0], rtol=1e-10
        )
        for a, b in zip(weights_of(outcome, member), weights_of(outcome), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)
    assert outcome.losses[0, -1] != outcome.losses[0, 0]


def test_a_shift_by_one_letter_alone_changes_the_trajectory():
    """Negative control: the comparison above sees a table of another class."""
    other = get("mup").mutated(Role.HIDDEN, c=F(1, 2))
    outcome = follow(plan(), [("mup", 0.05, 1), (other, 0.05, 1)])
    assert np.any(np.abs(outcome.losses[1] / outcome.losses[0] - 1) > 1e-4)


# --- how runs end ------------------------------------------------------------


def test_a_diverging_member_is_marked_and_frozen():
    shape = dataclasses.replace(SHAPE, activation="relu")
    here = plan(shape=shape, loss="mse", steps=30, dtype="float32")
    sane = [("mup", 0.05, seed) for seed in range(3)]
    mad = [sane[0], ("mup", 1e6, 1), sane[2]]
    every = tuple(range(31))
    with_it, without = (follow(here, runs, every) for runs in (mad, sane))
    step = int(with_it.diverged_at[1])
    assert 0 < step < 30 and with_it.stopped_at[1] == -1
    # No loss is recorded after that step, and weights stay finite, then still.
    assert np.all(np.isfinite(with_it.losses[1, :step]))
    assert np.all(np.isnan(with_it.losses[1, step + 1 :]))
    for at in every:
        assert all(np.all(np.isfinite(w)) for w in weights_of(with_it, 1, at))
    for a, b in zip(
        weights_of(with_it, 1, step), weights_of(with_it, 1, 30), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    # Its neighbours neither know nor care.
    for member in (0, 2):
        assert with_it.diverged_at[member] == -1
        np.testing.assert_array_equal(with_it.losses[member], without.losses[member])
        for a, b in zip(
            weights_of(with_it, member), weights_of(without, member), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    assert np.all(without.diverged_at == -1) and np.all(np.isfinite(without.losses))


def test_the_step_that_overflows_is_the_one_recorded():
    """A linear map whose error grows by a known factor: the step follows from it."""
    shape = Shape(1, (1,), 1, "linear")
    here = plan(shape=shape, loss="mse", steps=60, train_size=4, dtype="float32")
    ones = np.ones((4, 1), "float32")
    outcome = train(
        here, members(here, [("mup", 1e4, 0)]), Data(ones, 0 * ones, ones, ones), (60,)
    )
    losses, step = outcome.losses[0], int(outcome.diverged_at[0])
    assert step < 10
    bad = np.flatnonzero(~np.isfinite(losses))
    assert bad[0] in (step, step + 1)  # the loss itself, or the update from it


def test_stops_at_the_first_loss_below_the_threshold():
    runs = [("mup", 0.2, 0), ("mup", 0.5, 0), ("ntk", 0.5, 2), ("mup", 0.2, 1)]
    here = plan(steps=40, loss="mse")
    every = tuple(range(41))
    full = follow(here, runs, every)
    # Thresholds between two losses of the run; the last is never reached.
    thresholds = [np.mean(full.losses[i, s - 1 : s + 1]) for i, s in ((0, 7), (1, 19))]
    thresholds += [np.inf, -np.inf]
    stopped = follow(here, runs, every, stop_below=thresholds)
    expected = [
        int(np.argmax(row < t)) if np.any(row < t) else -1
        for row, t in zip(full.losses, thresholds, strict=True)
    ]
    assert expected[0] > 3 and expected[2:] == [0, -1]
    assert list(stopped.stopped_at) == expected
    assert np.all(stopped.diverged_at == -1)
    for member, step in enumerate(expected):
        last = 40 if step == -1 else step
        np.testing.assert_array_equal(
            stopped.losses[member, : last + 1], full.losses[member, : last + 1]
        )
        assert np.all(np.isnan(stopped.losses[member, last + 1 :]))
        # The weights are those whose loss was below: no further update.
        for a, b in zip(
            weights_of(stopped, member), weights_of(full, member, last), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_checkpoints_do_not_change_the_trajectory():
    here = plan(batch_size=8, steps=12, dtype="float32")
    runs = [("mup", 0.5, 0), ("ip", 0.5, 1)]
    told = []
    sparse = train(
        here,
        members(here, runs),
        data(),
        (12,),
        (Weights(),),
        on_checkpoint=told.append,
    )
    dense = follow(here, runs, (0, 1, 5, 11, 12))
    assert told == [12] and len(dense.observations) == 5
    np.testing.assert_array_equal(sparse.losses, dense.losses)
    for member in (0, 1):
        for a, b in zip(
            weights_of(sparse, member), weights_of(dense, member), strict=True
        ):
            np.testing.assert_array_equal(a, b)


# --- batches ------------------------------------------------------------


@pytest.mark.parametrize(("size", "batch"), [(24, 8), (24, 24), (25, 8), (3, 1)])
def test_each_epoch_sees_each_example_once(size, batch):
    keys = jnp.stack([jax.random.key(seed) for seed in (0, 1)])
    per_epoch = size // batch
    steps = 3 * per_epoch
    orders = np.asarray(training._orders(size, batch, steps, keys))
    assert orders.shape == (2, steps, batch)
    epochs = orders.reshape(2, 3, per_epoch * batch)
    for epoch in epochs.reshape(6, -1):
        assert len(np.unique(epoch)) == per_epoch * batch  # the remainder is dropped
        assert epoch.min() >= 0 and epoch.max() < size
    if size > 20:
        assert len({epoch.tobytes() for epoch in epochs.reshape(6, -1)}) == 6
    # A longer run begins like a shorter one.
    shorter = np.asarray(training._orders(size, batch, per_epoch + 1, keys))
    np.testing.assert_array_equal(shorter, orders[:, : per_epoch + 1])


def test_full_batch_has_no_order():
    assert training._orders(24, None, 10, None) is None


# --- devices ------------------------------------------------------------

SHARDED = """
import sys
sys.path.insert(0, {tests!r})
import jax, numpy as np
import test_training as here

assert len(jax.devices()) == 8
plan = here.plan(batch_size=8)
runs = [("mup", 0.1 * (seed + 1), seed) for seed in range(11)]
who = here.members(plan, runs)
steps, data, probes = (0, 3, 6), here.data(), (here.Weights(),)
spread = here.train(plan, who, data, steps, probes)
alone = here.train(plan, who, data, steps, probes, devices=jax.devices()[:1])
some = here.train(plan, who, data, steps, probes, devices=jax.devices()[:3])
assert spread.losses.shape == (11, 6)
here.assert_same(spread, alone)
here.assert_same(some, alone)
few = here.train(plan, here.members(plan, runs[:3]), data, steps, probes)
np.testing.assert_allclose(few.losses, alone.losses[:3], rtol=1e-10)
print("traces", spread.traces, alone.traces, some.traces)
again = here.train(plan, here.members(plan, runs[:9]), data, steps, probes)
print("padded to the same", again.traces)
"""


def python(code, **environment):
    """Run code in a fresh interpreter, without the settings of the tests."""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | environment
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def test_sharded_over_eight_devices():
    """11 members do not divide by 8 or 3; padding shows nowhere."""
    flags = "--xla_force_host_platform_device_count=8"
    code = SHARDED.format(tests=os.path.dirname(__file__))
    out = python(code, XLA_FLAGS=flags)
    assert out[:2] == ["traces 3 3 3", "padded to the same 0"]


def test_every_core_becomes_a_device_unless_jax_is_in_use():
    code = """
    import os, sys, jax
    from widthlab.training import use_all_cores
    if sys.argv[1:] or os.environ.get("USED"):
        jax.devices()
    print(use_all_cores(), len(jax.devices()))
    """
    cores = len(os.sched_getaffinity(0))
    assert python(code)[0] == f"{cores} {cores}"
    assert python(code, USED="1")[0] == "1 1"
    flags = "--xla_force_host_platform_device_count=3"
    assert python(code, XLA_FLAGS=flags)[0] == "3 3"


# --- what is refused ------------------------------------------------------------


def test_an_unknown_optimizer():
    with pytest.raises(ValueError, match=r"'sdg'; there are sgd, momentum, adam"):
        Optimizer("sdg")


def test_probes_follow_the_protocol():
    assert isinstance(Weights(), Probe) and isinstance(Performance(), Probe)
    assert not isinstance(object(), Probe)


def test_operations_of_a_step():
    assert plan(batch_size=8).flops_per_step == 8 * SHAPE.flops
    assert plan(batch_size=None).flops_per_step == 24 * SHAPE.flops
