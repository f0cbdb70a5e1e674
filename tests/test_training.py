"""Training: one program a grid, the same numbers however it is run, honest endings."""

import functools
import gc
import itertools
import os
import subprocess
import sys
import textwrap
import time
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction as F
from typing import ClassVar

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import gradients, sgd
from widthlab.compilation import compiled, compiling_once
from widthlab.data import DataSpec
from widthlab.model import Scales, Shape
from widthlab.parametrization import Role, get
from widthlab.probes import Performance
from widthlab.runs.experiment import Experiment
from widthlab.training import ensemble as training
from widthlab.training.devices import DeviceMemoryError, deal, members_per_batch
from widthlab.training.ensemble import trace_counts, train
from widthlab.training.optimizer import Optimizer, scale_by_width
from widthlab.training.state import Data, Members, Plan, Probe

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
        base_lr=np.array([lr for _, lr, _ in runs], plan.dtype)
        if plan.optimizer.decays_by_base
        else None,
    )


QUICK = plan(batch_size=8, dtype="float32")
RUNS = [("mup", 0.5, 0), ("mup", 0.5, 1), ("ntk", 0.5, 0), ("mup", 0.7, 0)]


def weights_of(trained, member=0, checkpoint=-1):
    leaves = trained.observations[checkpoint]["weights"]
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
    """Have what is decided at tracing decided anew."""
    for function, options in (
        (training._begin, {"brief": True, "static": (0, 1)}),
        (training._advance, {"donated": (1,)}),
        (training._observe, {"brief": True}),
    ):
        compiled(function, "cpu", **options).clear_cache()


# --- one program for a grid --------------------------------------------------------


def test_one_trace_for_a_grid():
    """4 parametrizations x 3 learning rates x 3 seeds, then others: nothing anew."""
    shape = attrs.evolve(SHAPE, widths=(11, 13))
    here = plan(shape=shape, batch_size=8, dtype="float32")
    before = trace_counts()
    grid = list(itertools.product(NAMES, (0.1, 0.3, 1.0), (0, 1, 2)))
    trained = follow(here, grid, checkpoints=(0, 2, 6))
    assert trained.losses.shape == (36, 6) and np.all(np.isfinite(trained.losses))
    new = {name: n - before.get(name, 0) for name, n in trace_counts().items()}
    assert new == {"begin": 1, "advance": 1, "observe": 1}
    assert trained.traces == 3

    mutated = get("mup").mutated(Role.HIDDEN, c=F(1, 3))
    others = ("sp", "ip-llr", mutated, "mup")
    grid = list(itertools.product(others, (0.01, 0.02, 0.05), (5, 6, 7)))
    assert follow(here, grid, checkpoints=(0, 3, 6)).traces == 0


def test_what_only_training_sees_is_not_compiled_into_the_beginning():
    """Other activations, losses, batches and steps start from the same bits."""
    one = plan(shape=attrs.evolve(SHAPE, widths=(10, 14)), dtype="float32")
    others = [
        attrs.evolve(one, shape=attrs.evolve(one.shape, activation="gelu")),
        attrs.evolve(one, batch_size=8, steps=3),
        attrs.evolve(one, loss="mse"),
    ]
    first = follow(one, RUNS)
    for other in others:
        before = trace_counts()["begin"]
        trained = follow(other, RUNS)
        assert trace_counts()["begin"] == before
        for a, b in zip(
            weights_of(first, 1, 0), weights_of(trained, 1, 0), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    adam = attrs.evolve(one, optimizer=Optimizer("adam"))
    assert adam.beginning != one.beginning


@given(
    real=st.lists(st.booleans(), min_size=1, max_size=40),
    devices=st.integers(1, 9),
)
def test_members_are_dealt_so_that_devices_have_as_many_to_run(real, devices):
    real = np.array(real)
    devices = min(devices, len(real))
    taken, places = deal(real, devices)
    assert len(taken) % devices == 0 and len(taken) - len(real) < devices
    np.testing.assert_array_equal(taken[places], np.arange(len(real)))
    runs = (real[taken] & (taken >= 0)).reshape(devices, -1).sum(1)
    assert runs.max() - runs.min() <= 1


def test_training_leaves_what_it_is_given():
    """It takes the memory of its own copies, on one device too."""
    given_to = jax.tree.map(jnp.asarray, members(QUICK, RUNS))
    results = [
        train(QUICK, given_to, data(), (6,), devices=jax.devices()[:count])
        for count in (1, 1, 2)
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].losses, other.losses)


def test_neighbours_and_every_second_member_are_shared_out():
    for period, devices in ((1, 2), (2, 2), (2, 4), (4, 2), (4, 4)):
        taken, _ = deal(np.ones(16, bool), devices)
        long = (taken % (2 * period) < period).reshape(devices, -1).sum(1)
        assert len(set(long)) == 1, (period, devices)


def test_histories_that_do_not_fit_are_refused_without_a_byte_of_them(monkeypatch):
    monkeypatch.setenv("WIDTHLAB_MEMORY", "100MB")
    long = attrs.evolve(QUICK, steps=10**9, batch_size=None)
    who = members(long, RUNS)
    tracemalloc.start()
    with pytest.raises(DeviceMemoryError, match="GB are needed"):
        train(long, who, data(), (1,))
    assert tracemalloc.get_traced_memory()[1] < 1e9
    tracemalloc.stop()


def test_what_was_compiled_once_is_let_go():
    class Own:
        pass

    own = Own()
    gone = weakref.ref(own)
    for _ in range(2):
        with compiling_once("here", own):
            pass
    del own
    gc.collect()
    assert gone() is None


def test_threads_that_want_one_program_compile_it_once():
    traced = []

    def slow(x):
        traced.append(1)
        time.sleep(0.2)
        return x + 1

    program = jax.jit(slow)

    def call(_):
        with compiling_once(slow, "here"):
            return float(program(1.0))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(8))) == [2.0] * 8
    assert len(traced) == 1


def test_members_differ_and_repeat_to_the_bit():
    one, two = (follow(QUICK, RUNS) for _ in range(2))
    assert one.losses.dtype == one.observations[0]["weights"][0].dtype == "float32"
    np.testing.assert_array_equal(one.losses, two.losses)
    for a, b in zip(
        jax.tree.leaves(one.observations),
        jax.tree.leaves(two.observations),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert len({row.tobytes() for row in one.losses}) == len(RUNS)


def test_checkpoints_do_not_change_the_trajectory():
    told = []
    who = members(QUICK, RUNS)
    probes = (Weights(),)
    sparse = train(QUICK, who, data(), (6,), probes, on_checkpoint=told.append)
    dense = follow(QUICK, RUNS, (0, 1, 4, 5, 6))
    assert told == [6] and len(dense.observations) == 5
    np.testing.assert_array_equal(sparse.losses, dense.losses)
    for member in range(len(RUNS)):
        for a, b in zip(
            weights_of(sparse, member), weights_of(dense, member), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_an_ensemble_is_a_loop_over_single_runs():
    here = plan(batch_size=8)
    together = follow(here, RUNS)
    for index, run in enumerate(RUNS):
        alone = follow(here, [run])
        np.testing.assert_allclose(together.losses[index], alone.losses[0], rtol=1e-11)
        for a, b in zip(weights_of(together, index), weights_of(alone), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_layouts_give_the_same_numbers(monkeypatch):
    """One at a time, in batches with a remainder, all at once; to float32 rounding."""
    runs = list(itertools.product(("mup", "ip", "ntk"), (0.2, 0.8, 1.0), (0,)))
    ensembles = []
    for batch in (1, 4, 9):
        monkeypatch.setattr(training, "members_per_batch", lambda *_, n=batch: n)
        forget_programs()
        ensembles.append(follow(QUICK, runs))
    forget_programs()
    assert [trained.traces for trained in ensembles] == [3, 3, 3]  # it is compiled in
    for trained in ensembles[1:]:
        assert_same(trained, ensembles[0], rtol=1e-5)


def test_the_choice_of_layout_fits_the_share():
    for share in (1, 3, 33):
        assert members_per_batch("cpu", share) == 1
        assert members_per_batch("gpu", share) == share


# --- against other implementations -------------------------------------------------


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_sgd_is_that_of_plain_numpy(batch_size, loss):
    """IP-LLR has a learning rate of its own at step 0, and at no other."""
    here = plan(loss=loss, batch_size=batch_size, steps=7)
    runs = [(name, 0.3, seed) for seed, name in enumerate(("mup", "ntk", "ip-llr"))]
    trained = follow(here, runs)
    assert trained.losses.dtype == trained.observations[0]["weights"][0].dtype
    assert trained.losses.dtype == "float64" and not jax.config.jax_enable_x64
    x, y = data("labels" if loss == "cross-entropy" else "targets")[:2]
    orders = training._orders(24, batch_size, 7, members(here, runs).key)
    for member, (name, lr, _) in enumerate(runs):
        scales = here.shape.scales(get(name), lr=lr, dtype="float64")
        square = scales.multiplier**2
        assert np.all(scales.lr == scales.first_lr) == (name != "ip-llr")
        losses, history = sgd(
            weights_of(trained, member, 0),
            square * scales.lr,
            np.float64(x),
            y if loss == "cross-entropy" else np.float64(y),
            [np.arange(24)] * 7 if orders is None else np.asarray(orders[member]),
            first_rates=square * scales.first_lr,
        )
        np.testing.assert_allclose(trained.losses[member], losses, rtol=1e-11)
        for step, expected in enumerate(history):
            for a, b in zip(weights_of(trained, member, step), expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


SETTINGS = {"momentum": 0.8, "b1": 0.7, "b2": 0.95, "eps": 1e-40}
OPTAX = {
    "sgd": lambda lr: optax.sgd(lr),
    "momentum": lambda lr: optax.sgd(lr, momentum=0.8),
    "adam": lambda lr: optax.adam(lr, b1=0.7, b2=0.95, eps=1e-40),
    "adamw": lambda lr: optax.chain(
        optax.adam(lr, b1=0.7, b2=0.95, eps=1e-40),
        optax.add_decayed_weights(-LR["adamw"] * 0.1),
    ),
    "adamw by layer": lambda lr: optax.adamw(
        lr, b1=0.7, b2=0.95, eps=1e-40, weight_decay=0.1
    ),
}
LR = {"sgd": 0.3, "momentum": 0.1, "adam": 0.02, "adamw": 0.02, "adamw by layer": 0.02}
THETA = {Role.INPUT: F(1, 2), Role.HIDDEN: F(-2, 3), Role.OUTPUT: F(3, 4)}
WRONG = get("mup").mutated(Role.HIDDEN, c=F(1, 2), c_adam=F(1, 2))
TABLES = (get("mup"), get("mup").shifted(THETA), get("mup").canonical(), WRONG)


@functools.cache
def across_the_class(rule):
    """Four members: mup, two other members of its class, and one of another class."""
    name, *by_layer = rule.split(" by ")
    decay = {"weight_decay": 0.1 * (name == "adamw"), "decay": (*by_layer, "base")[0]}
    optimizer = Optimizer(name, **SETTINGS, **decay)
    here = plan(optimizer=optimizer, loss="mse", steps=7)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes within Adam
        return here, follow(here, [(table, LR[rule], 1) for table in TABLES])


@pytest.mark.parametrize("rule", OPTAX)
def test_optimizers_are_those_of_optax(rule):
    """One optax optimizer a matrix, each with the learning rate of its layer."""
    here, trained = across_the_class(rule)
    scales = here.shape.scales(
        get("mup"), lr=LR[rule], adam=here.optimizer.normalises, dtype="float64"
    )
    multipliers = scales.multiplier
    x, y = (np.float64(v) for v in data("targets")[:2])
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        rules = [OPTAX[rule](float(lr)) for lr in scales.lr]
        start = zip(weights_of(trained, checkpoint=0), multipliers, strict=True)
        weights = [jnp.asarray(w / m) for w, m in start]
        states = [r.init(w) for r, w in zip(rules, weights, strict=True)]
        for step in range(here.steps + 1):
            real = [
                np.asarray(w) * m for w, m in zip(weights, multipliers, strict=True)
            ]
            for a, b in zip(weights_of(trained, 0, step), real, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
            grads = gradients(real, x, y)[1]
            for i, (grad, m) in enumerate(zip(grads, multipliers, strict=True)):
                update, states[i] = rules[i].update(
                    jnp.asarray(grad * m), states[i], weights[i]
                )
                weights[i] = weights[i] + update


# --- a first step of its own ---------------------------------------------------------


def test_hp_keeps_a_share_of_its_start_and_its_whole_update():
    r"""$W_1 = k W_0 + \Delta W$ with mup's update; then plain gradient descent."""
    here = plan(steps=7)
    lr = 0.3
    trained = follow(here, [(name, lr, 3) for name in ("mup", "hp", "hpz")])
    x, y = np.float64(data()[0]), data()[1]
    for member, kept in ((1, SHAPE.widths[0] ** -0.5), (2, 0.0)):
        start, after = (weights_of(trained, member, step) for step in (0, 1))
        theirs = [weights_of(trained, 0, step) for step in (0, 1)]
        for a, b in zip(start, theirs[0], strict=True):
            np.testing.assert_array_equal(a, b)
        for layer, (now, w, moved) in enumerate(zip(after, *theirs, strict=True), 1):
            share = kept if layer == 2 else 1.0  # matrix 2 is the hidden one
            np.testing.assert_allclose(now, share * w + (moved - w), atol=1e-14)
        scales = here.shape.scales(get("mup"), lr=lr, dtype="float64")
        rates = scales.multiplier**2 * scales.lr
        rest = [np.arange(24)] * (here.steps - 1)
        losses, history = sgd(after, rates, x, y, rest)
        np.testing.assert_allclose(trained.losses[member, 1:], losses, rtol=1e-11)
        for step, expected in enumerate(history, 1):
            for a, b in zip(weights_of(trained, member, step), expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    # Without the share that is taken away, HP is mup.
    assert np.all(trained.losses[:, 0] == trained.losses[0, 0])
    assert len(set(trained.losses[:, 1])) == 3


def test_a_kept_start_leaves_updates_as_they_are_to_the_bit():
    rng = np.random.default_rng(0)
    weights, directions = (
        {k: jnp.asarray(rng.standard_normal((4, 3)), jnp.float32) for k in "ab"}
        for _ in range(2)
    )
    late, first = ({k: jnp.float32(rng.random()) for k in "ab"} for _ in range(2))
    for kept in (1.0, 0.25):
        rule = scale_by_width(late, first, {k: jnp.float32(kept) for k in "ab"})
        state = rule.init(weights)
        for step, rates in enumerate((first, late, late)):
            updates, state = rule.update(directions, state, weights)
            for k, rate in rates.items():
                expected = -rate * directions[k]
                if kept < 1 and step == 0:
                    expected = expected - jnp.float32(1 - kept) * weights[k]
                np.testing.assert_array_equal(updates[k], expected)


@dataclass(frozen=True)
class Everything:
    """All trained arrays, without their multipliers."""

    name: ClassVar[str] = "everything"

    def measure(self, model, initial, data, loss):
        layers = model.layers
        biases = [w.bias[...] for w in layers if w.bias is not None]
        return tuple([w.kernel[...] for w in layers] + biases)

    def rows(self, history):
        return [[] for _ in history]


# One output, one example a step, a homogeneous activation.
SINGLE = Experiment(
    data=DataSpec("digits", n_train=8, n_test=2, targets="parity"),
    parametrization="hp",
    width=16,
    depth=3,
    activation="relu",
    loss="mse",
    lr=0.2,
    batch_size=1,
    steps=3,
    gains=(1.0, 2**0.5, 1.0),
    biases="input",
    probes=(),
    precision="float64",
)


def follow_single(scales):
    """Train three members with one seed; with the arrays of each at each step."""
    who = Members(
        key=jnp.stack([jax.random.key(0)] * 3),
        scales=Scales(*map(np.stack, zip(*scales, strict=True))),
        stop_below=np.full(3, -np.inf),
        real=np.ones(3, bool),
    )
    loaded = SINGLE.data.load()
    arrays = Data(loaded.x_train, loaded.y_train, loaded.x_test, loaded.y_test)
    trained = train(SINGLE.plan, who, arrays, (0, 1, 2, 3), (Everything(),))
    steps = [at["everything"] for at in trained.observations]
    seen = [[[np.asarray(v[i]) for v in at] for at in steps] for i in range(3)]
    return trained, seen


def test_each_array_has_rates_and_a_multiplier_of_its_own():
    """Biases are a row of the first matrix, for inputs with a 1 appended."""
    rng = np.random.default_rng(2)
    fields = ("multiplier", "lr", "first_lr", "retained")
    scales = [
        SINGLE.scales()._replace(**{name: 0.2 + 0.6 * rng.random(5) for name in fields})
        for _ in range(3)
    ]
    trained, seen = follow_single(scales)
    loaded = SINGLE.data.load()
    x = np.hstack([np.float64(loaded.x_train), np.ones((8, 1))])
    batches = np.asarray(training._orders(8, 1, 3, jax.random.key(0)[None]))[0]

    def joined(arrays):
        first, *rest, bias = arrays
        return [np.vstack([first, bias]), *rest]

    def columns(numbers):
        """One number a tensor as factors of the joined matrices."""
        first = np.full((x.shape[1], 1), numbers[0])
        first[-1] = numbers[-1]
        return [first, *numbers[1:-1]]

    for member, numbers in enumerate(scales):
        m, late, first, kept = (columns(getattr(numbers, name)) for name in fields)
        for step, batch in enumerate(batches):
            now, after = (joined(seen[member][at]) for at in (step, step + 1))
            real = [w * factor for w, factor in zip(now, m, strict=True)]
            y = np.float64(loaded.y_train[batch])
            loss, grads = gradients(real, x[batch], y, "relu")
            np.testing.assert_allclose(trained.losses[member, step], loss, rtol=1e-12)
            for i, grad in enumerate(grads):
                share, rate = (kept, first) if step == 0 else ([1.0] * 4, late)
                expected = share[i] * now[i] - rate[i] * m[i] * grad
                np.testing.assert_allclose(after[i], expected, atol=1e-13)
                assert np.abs(after[i] - now[i]).max() > 1e-6


def test_large_first_rates_are_hp_with_another_first_rate():
    r"""Proposition 15 of Hajjar, Chizat and Giraud 2024, exact at every width.

    For one output, one example a step and a homogeneous activation, IP-LLR is HP from
    step 1 on if HP's first learning rate is that of IP-LLR times the ratio of their
    error signals, $(f_{IP} - y) / (f_{HP} - y)$.
    """

    def trained(first_lr):
        llr = attrs.evolve(SINGLE, parametrization="ip-llr")
        runs = [llr, attrs.evolve(SINGLE, first_lr=first_lr), SINGLE]
        scales = [run.scales() for run in runs]
        trained, seen = follow_single(scales)
        effective = [
            [[m * w for m, w in zip(s.multiplier, at, strict=True)] for at in steps]
            for s, steps in zip(scales, seen, strict=True)
        ]
        return trained.losses, effective

    before, _ = trained(None)
    np.testing.assert_array_equal(before[1], before[2])
    # Both errors have the sign of the target: outputs are smaller than targets.
    ratio = np.sqrt(before[0, 0] / before[1, 0])
    losses, (llr, hp, control) = trained((SINGLE.lr * ratio,) * 4)
    np.testing.assert_allclose(losses[1, 1:], losses[0, 1:], rtol=1e-12)
    assert abs(losses[2, 1] / losses[0, 1] - 1) > 1e-3
    for step in (1, 2, 3):
        for a, b in zip(llr[step], hp[step], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
        pairs = zip(llr[step], control[step], strict=True)
        assert max(np.abs(a - b).max() for a, b in pairs) > 1e-3


# --- the equivalence class -----------------------------------------------------------


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam"])
def test_trajectories_are_those_of_the_class(rule):
    _, trained = across_the_class(rule)
    assert trained.losses[0, -1] < 0.99 * trained.losses[0, 0]
    for member in (1, 2):
        np.testing.assert_allclose(
            trained.losses[member], trained.losses[0], rtol=1e-10
        )
        for a, b in zip(weights_of(trained, member), weights_of(trained), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)
    # Negative control: a table of another class, with one exponent wrong, shows.
    assert np.all(np.abs(trained.losses[3, 1:] / trained.losses[0, 1:] - 1) > 1e-6)


# --- how runs end ------------------------------------------------------------


def test_a_diverging_member_is_marked_and_frozen():
    shape = attrs.evolve(SHAPE, activation="relu")
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
    assert np.all(np.diff(with_it.losses[1, :step]) > 0)  # it was on its way there
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


# --- batches ------------------------------------------------------------


@pytest.mark.parametrize(("size", "batch"), [(24, 8), (25, 8), (3, 1)])
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

from widthlab.training.devices import use_all_cores
assert use_all_cores() == len(jax.devices()) == 8  # as they were
plan = here.plan(batch_size=8)
runs = [("mup", 0.1 * (seed + 1), seed) for seed in range(11)]
who = here.members(plan, runs)
steps, data, probes = (0, 3, 6), here.data(), (here.Weights(),)
spread = here.train(plan, who, data, steps, probes)
alone = here.train(plan, who, data, steps, probes, devices=jax.devices()[:1])
assert spread.losses.shape == (11, 6)
here.assert_same(spread, alone)
print("traces", spread.traces, alone.traces)
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
    """11 members do not divide by 8; padding shows nowhere."""
    flags = "--xla_force_host_platform_device_count=8"
    code = SHARDED.format(tests=os.path.dirname(__file__))
    out = python(code, XLA_FLAGS=flags)
    assert out[:2] == ["traces 3 3", "padded to the same 0"]


def test_every_core_becomes_a_device_unless_jax_is_in_use():
    code = """
    import os, jax
    from widthlab.training.devices import use_all_cores
    if os.environ.get("USED"):
        jax.devices()
    print(use_all_cores(), len(jax.devices()))
    """
    cores = len(os.sched_getaffinity(0))
    assert python(code)[0] == f"{cores} {cores}"
    assert python(code, USED="1")[0] == "1 1"


# --- what is refused ------------------------------------------------------------


def test_an_unknown_optimizer():
    with pytest.raises(ValueError, match=r"'sdg'; .* one of sgd, momentum"):
        Optimizer("sdg")


def test_probes_follow_the_protocol():
    assert isinstance(Weights(), Probe) and isinstance(Performance(), Probe)
    assert not isinstance(object(), Probe)


def test_operations_of_a_step():
    assert plan(batch_size=8).flops_per_step == 8 * SHAPE.flops
    assert plan(batch_size=None).flops_per_step == 24 * SHAPE.flops
