"""Calibrated first steps: rates, what they bring about, refusals, reports."""

import json
import math

import attrs
import jax
import numpy as np
import pandas as pd
import pytest
from test_experiment import spec as plain_spec
from test_training import data, follow, members, plan, weights_of
from widthlab.model import Shape
from widthlab.runs.ensembles import first_rates
from widthlab.runs.experiment import Experiment
from widthlab.runs.store import Store
from widthlab.runs.sweep import sweep
from widthlab.training.calibration import Calibration, calibrate_members, draw, report
from widthlab.training.member import untrained
from widthlab.training.state import Data

SHAPE = Shape(5, (12, 12, 12), 3, "relu", "all")
PLAN = plan(shape=SHAPE, batch_size=8, train_size=12)
FREE = Calibration(target=0.5, output_target=0.2, cap=math.inf)


def arrays():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((12, SHAPE.input_dim)).astype("float32")
    y = rng.integers(0, SHAPE.output_dim, 12).astype("int32")
    return Data(x, y, x, y)


def network(weights, x):
    """Inputs of all layers with a 1 appended, pre-activations and outputs."""
    inputs, before = [], []
    for w in weights:
        x = np.hstack([x if not before else np.maximum(x, 0), np.ones((len(x), 1))])
        inputs.append(x)
        x = x @ w
        before.append(x)
    return inputs, before


def slopes(weights, x, y):
    """Gradients of cross-entropy in matrices whose last row is the bias."""
    inputs, before = network(weights, x)
    p = np.exp(before[-1] - before[-1].max(axis=1, keepdims=True))
    back = p / p.sum(axis=1, keepdims=True)
    back[np.arange(len(y)), y] -= 1
    back, out = back / len(y), []
    for index in reversed(range(len(weights))):
        out.insert(0, inputs[index].T @ back)
        back = back @ weights[index][:-1].T
        if index:
            back = back * (before[index - 1] > 0)
    return out


def rates_by_hand(weights, squares, lr, rule, update, probe):
    """Uncapped rates, given powers of the width times multipliers squared."""
    changes = [-s * g for s, g in zip(squares, slopes(weights, *update), strict=True)]
    x, rates = probe, [lr]
    for index, (w, change) in enumerate(zip(weights, changes, strict=True)):
        if index:
            size = np.abs(x @ change[:-1]).mean()
            target = rule.target if index < len(weights) - 1 else rule.output_target
            rates.append(target / size)
        one = np.hstack([x, np.ones((len(x), 1))])
        x = np.maximum(one @ (w + rates[-1] * change), 0)
    return np.array(rates)


def drawn(scales, key):
    """A network's effective matrices with their biases below, and factors alike."""
    with jax.enable_x64(True):
        model = untrained(SHAPE, scales, key)
    layers, factor = len(model.layers), scales.multiplier**2 * scales.first_lr
    weights, squares = [], []
    for i, layer in enumerate(model.layers):
        kernel = np.asarray(layer.kernel[...]) * scales.multiplier[i]
        bias = np.asarray(layer.bias[...]) * scales.multiplier[layers + i]
        weights.append(np.vstack([kernel, bias]))
        column = np.full((len(kernel) + 1, 1), factor[i])
        column[-1] = factor[layers + i]
        squares.append(column)
    return weights, squares


# --- what is found ------------------------------------------------------------


def test_rates_are_those_of_plain_numpy():
    lrs = [0.3, 0.7]
    who = members(PLAN, [("ip-llr", lrs[0], 0), ("ip-bias", lrs[1], 1)])
    found = calibrate_members(PLAN, who, arrays(), lrs, [FREE, FREE])[1]
    x, y = np.float64(arrays().x_train), arrays().y_train
    for index, (lr, seen) in enumerate(zip(lrs, found, strict=True)):
        scales = type(who.scales)(*(v[index] for v in who.scales))
        scales = scales._replace(first_lr=scales.first_lr / lr)
        rows = draw(8, 12, who.key[index])
        batches = (x[rows[:8]], y[rows[:8]]), x[rows[8:]]
        expected = rates_by_hand(*drawn(scales, who.key[index]), lr, FREE, *batches)
        np.testing.assert_allclose(seen.uncapped, expected, rtol=1e-10)
        np.testing.assert_array_equal(seen.lr, seen.uncapped)
        assert seen.lr[0] == lr


def test_batches_are_drawn_anew_for_each_key_and_go_round_the_set():
    rows = draw(8, 12, jax.random.key(0))
    assert sorted(rows[:12]) == list(range(12))
    np.testing.assert_array_equal(rows[12:], rows[:4])
    assert not np.array_equal(rows, draw(8, 12, jax.random.key(1)))


def test_the_cap_bounds_rates_but_neither_the_first_nor_the_forward_pass():
    lrs = [0.3, 0.7, 1e6]
    who = members(PLAN, [("ip-llr", lr, seed) for seed, lr in enumerate(lrs)])
    free = calibrate_members(PLAN, who, arrays(), lrs, [FREE] * 3)[1]
    cap = float(np.sort(free[0].uncapped)[1:3].mean())
    tight = attrs.evolve(FREE, cap=cap)
    after, found = calibrate_members(PLAN, who, arrays(), lrs, [tight, None, tight])
    for index in (0, 2):
        np.testing.assert_array_equal(found[index].uncapped, free[index].uncapped)
        expected = np.minimum(free[index].uncapped, cap)
        expected[0] = lrs[index]
        np.testing.assert_array_equal(found[index].lr, expected)
    assert 0 < np.sum(found[0].lr < found[0].uncapped) < 3 and cap < 1e6
    # They become the rates of the first step, powers of the width on top; all else,
    # and members without a rule, stay as they are.
    assert found[1] is None
    rates = np.stack([found[0].lr, np.full(4, 0.7), found[2].lr])
    powers = who.scales.first_lr / np.array(lrs)[:, None]
    expected = np.hstack([rates, rates]) * powers  # matrices, then biases
    np.testing.assert_allclose(after.scales.first_lr, expected, rtol=1e-12)
    np.testing.assert_array_equal(after.scales.first_lr[1], who.scales.first_lr[1])
    rest = after.scales._replace(first_lr=who.scales.first_lr)
    for one, other in zip(rest, who.scales, strict=True):
        np.testing.assert_array_equal(one, other)


def test_nobody_is_calibrated_without_a_rule():
    who = members(PLAN, [("ip-llr", 0.3, 0)])
    assert calibrate_members(PLAN, who, arrays(), [0.3], [None]) == (who, [None])


def test_the_first_update_adds_what_was_asked_for():
    r"""Mean $|\Delta W^l x^{l-1}|$ after one step; a full batch is the second too."""
    here = plan(loss="mse", steps=7)
    who = members(here, [("ip-llr", 0.3, seed) for seed in (0, 0, 1)])
    rules = [FREE, None, FREE]
    with_rates, _ = calibrate_members(here, who, data("targets"), [0.3] * 3, rules)
    outcome = follow(here, None, who=with_rates)
    targets, sizes = [FREE.target, FREE.output_target], []
    for member in range(3):
        starts, nows = (weights_of(outcome, member, step) for step in (0, 1))
        x, added = np.float64(data("targets").x_train), []
        for start, now in zip(starts, nows, strict=True):
            added.append(np.abs(x @ (now - start)).mean())
            x = np.tanh(x @ now)
        sizes.append(added[1:])
    for member in (0, 2):
        np.testing.assert_allclose(sizes[member], targets, rtol=1e-10)
    # Negative control: the member without a rule adds something else.
    assert np.all(np.abs(np.array(sizes[1]) / targets - 1) > 0.1)


def test_a_network_without_a_gradient_keeps_finite_rates():
    """Whatever the cap: an infinite rate times an update of 0 would not be a number."""
    who = members(PLAN, [("ip-llr", 0.01, 0)])
    who = who._replace(scales=who.scales._replace(std=np.zeros((1, 8))))
    after, (found,) = calibrate_members(PLAN, who, arrays(), [0.01], [FREE])
    assert np.all(np.isfinite(found.lr)) and np.all(found.lr[1:] > 1e6)
    assert np.all(np.isfinite(after.scales.first_lr))


@pytest.mark.parametrize("dead", [1, 2])
def test_what_follows_a_dead_layer_has_finite_rates(dead):
    """Its matrix does not move at any rate, but the biases behind it do."""
    who = members(PLAN, [("ip-llr", 0.01, 0)])
    mean = np.array(who.scales.mean)
    mean[0, len(SHAPE.layers) + dead - 1] = -1e3  # biases: far below zero
    who = who._replace(scales=who.scales._replace(mean=mean))
    after, (found,) = calibrate_members(PLAN, who, arrays(), [0.01], [FREE])
    assert np.all(np.isfinite(found.lr)) and np.all(found.lr > 0)
    assert found.lr[dead] > 1e6
    assert np.all(np.isfinite(after.scales.first_lr))


# --- the rule ------------------------------------------------------------


@pytest.mark.parametrize("name", ["target", "output_target", "cap"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_rule_without_meaning_is_refused(name, value):
    if (name, value) == ("cap", math.inf):
        assert Calibration(cap=value).cap == math.inf
        return
    with pytest.raises(ValueError, match=f"{name} is .* above 0"):
        Calibration(**{name: value})


def test_equal_rules_are_equal():
    one, other = Calibration(2, 1, 500), Calibration(2.0, 1.0, 500.0)
    assert one == other and hash(one) == hash(other)
    assert all(isinstance(v, float) for v in attrs.astuple(one))


# --- in experiments ------------------------------------------------------------

CAPPED = Calibration(cap=20.0)


def spec(**changes):
    return plain_spec(**({"parametrization": "ip-llr", "lr": 0.25} | changes))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A calibrated run, the same with its rates written out, and plain ones."""
    folder = tmp_path_factory.mktemp("records")
    rule, plain, other = spec(first_lr=CAPPED), spec(), spec(seed=1)
    found = first_rates([rule])
    given = spec(first_lr=tuple(found["lr"]))
    pairs = [(rule, plain), (given, other), (plain, other)]
    return found, [sweep(p, Store(folder / str(i))) for i, p in enumerate(pairs)]


def test_rates_without_training_are_those_of_the_record(records):
    found, ((ruled, plain), (given, other), _) = records
    table = report([plain, ruled, given, other])
    pd.testing.assert_frame_equal(table, found)
    assert list(table["layer"]) == [1, 2, 3]
    assert list(table["capped"]) == list(table["uncapped"] > table["lr"])
    assert set(table["capped"]) == {True, False} and not table["capped"].iloc[0]
    assert np.all(table["lr"][table["capped"]] == CAPPED.cap)
    first = table.iloc[0]
    assert first["lr"] == 0.25 and first["parametrization"] == "ip-llr"
    assert (first["activation"], first["depth"], first["width"]) == ("tanh", 2, 16)


def test_a_calibrated_run_is_one_with_these_rates(records):
    _, ((ruled, _), (given, _), _) = records
    losses = [
        r.table.query("quantity == 'loss'")["value"].to_numpy() for r in (ruled, given)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert len(losses[0]) == 4


def test_members_without_a_rule_do_not_notice(records):
    _, ((ruled, plain), (_, other), (alone, again)) = records
    assert plain.columns == alone.columns and other.columns == again.columns
    assert "first_lr" in ruled.columns["quantity"]
    for record in (plain, other):
        assert "first_lr" not in record.columns["quantity"]
    assert plain.columns["value"][1] != ruled.columns["value"][1]


def test_only_rules_have_rates_to_find():
    for rates in (None, (0.1,) * 3):
        with pytest.raises(ValueError, match=r"first_lr is .*only runs with a Calib"):
            first_rates([spec(first_lr=rates)])


def test_no_cap_is_written_and_read():
    free = spec(first_lr=Calibration(cap=math.inf))
    text = json.dumps(free.to_json(), allow_nan=False)
    again = Experiment.from_json(json.loads(text))
    assert again == free and again.key == free.key
    assert again.first_lr.cap == math.inf
    assert len({free.key, spec(first_lr=Calibration()).key, spec().key}) == 3
