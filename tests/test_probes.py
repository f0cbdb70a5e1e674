"""Measurements: each formula against a direct computation in NumPy float64."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import error, forward, gradients
from widthlab.model import MLP, Shape
from widthlab.parametrization import Role, get
from widthlab.probes import (
    Backward,
    Features,
    Outputs,
    Performance,
    Rank,
    Spread,
    Stationarity,
    Updates,
    registry,
)
from widthlab.probes.covariance import CovariancePreservation
from widthlab.probes.device import device_rms
from widthlab.probes.rank import numerical_rank
from widthlab.probes.rows import relative_change, root_mean_square, smallest_eigenvalue
from widthlab.training.devices import precision
from widthlab.training.losses import LOSSES
from widthlab.training.state import Data

SHAPE = Shape(input_dim=6, widths=(12, 14), output_dim=3, activation="tanh")
PROBES = (
    Performance(),
    Features(inputs=5),
    Updates(),
    Stationarity(),
    CovariancePreservation(inputs=3, matrix=2),
    Outputs(inputs=4),
    Backward(inputs=4),
    Spread(inputs=4),
    Rank(inputs=9),
)


def sample(kind="labels"):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 6))
    y = rng.integers(0, 3, 16) if kind == "labels" else rng.standard_normal((16, 3))
    dtype = "int32" if kind == "labels" else "float64"
    with jax.enable_x64(True):
        x, y = jnp.asarray(x), jnp.asarray(y, dtype)
        return Data(x[:10], y[:10], x[10:], y[10:])


def network(seed, table="ntk", shape=SHAPE):
    table = get(table) if isinstance(table, str) else table
    scales = shape.scales(table, lr=0.1, dtype="float64")
    return MLP(shape, scales, key=jax.random.key(seed))


def matrices(model):
    return [
        np.asarray(w.kernel[...] * w.multiplier[...], np.float64) for w in model.layers
    ]


def biases(model):
    return [
        np.asarray(w.bias[...] * w.bias_multiplier[...], np.float64)
        for w in model.layers
    ]


def measure(probe, model, initial=None, kind="labels", data=None):
    loss = LOSSES["cross-entropy" if kind == "labels" else "mse"]
    return probe.measure(model, initial or model, data or sample(kind), loss)


def rows_of(probe, *history):
    """Rows at the last checkpoint, by quantity and layer."""
    last = probe.rows(list(history))[-1]
    assert all(type(value) is float for *_, value in last)
    assert len({(q, layer) for q, layer, _ in last}) == len(last)
    return {(q, layer): value for q, layer, value in last}


@pytest.fixture(autouse=True)
def _float64():
    with precision("float64"):
        yield


# --- functions ---------------------------------------------------------------------


def eigenvalues(features):
    return np.linalg.eigvalsh(features @ features.T / features.shape[1])


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(1, 8), st.integers(0, 20))
def test_smallest_eigenvalue_is_that_of_the_gram_matrix(seed, inputs, more):
    features = np.random.default_rng(seed).standard_normal((inputs, inputs + more))
    found, exact = smallest_eigenvalue(features), eigenvalues(features)
    # Eigenvalues of the product are exact to rounding of the largest.
    assert abs(found - exact[0]) <= 1e-13 * inputs * exact[-1]
    assert found >= 0


def test_smallest_eigenvalue_of_known_spectra():
    assert smallest_eigenvalue(np.eye(3, 5) * [[1], [2], [3]]) == pytest.approx(1 / 5)
    assert smallest_eigenvalue(2.0 * np.eye(4)) == pytest.approx(4 / 4)


def test_singular_features_have_none():
    h = np.random.default_rng(0).standard_normal((6, 40))
    scale = smallest_eigenvalue(h)
    for singular in (
        np.concatenate([h, h[:1]]),  # a duplicate
        np.concatenate([h, -h[:1]]),  # an antipode
        np.concatenate([h, h[:2].sum(0, keepdims=True)]),
        np.concatenate([h, np.zeros((1, 40))]),
    ):
        assert 0 <= smallest_eigenvalue(singular) < 1e-28 * 40 / scale
    assert smallest_eigenvalue(h[:, :5]) == 0  # fewer coordinates than inputs


def test_small_eigenvalues_are_exact():
    """The square of 1e-9 is lost in the rounding of a Gram matrix, and not here."""
    rng = np.random.default_rng(1)
    left = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    right = np.linalg.qr(rng.standard_normal((30, 4)))[0]
    h = left @ np.diag([1.0, 1.0, 1.0, 1e-9]) @ right.T
    assert smallest_eigenvalue(h) * 30 == pytest.approx(1e-18, rel=1e-5)
    assert abs(eigenvalues(h)[0] * 30 - 1e-18) > 1e-18


def test_what_is_not_finite_has_no_spectrum():
    h = np.eye(3)
    h[0, 0] = np.inf
    assert np.isnan(smallest_eigenvalue(h))


def test_relative_change_and_rms():
    before = np.array([[3.0, 4.0], [1.0, 0.0]])
    after = np.array([[3.0, 9.0], [1.0, 0.5]])
    assert relative_change(before, after) == pytest.approx((5 / 5 + 0.5 / 1) / 2)
    assert relative_change(before, before) == 0
    assert root_mean_square(before) == pytest.approx(np.sqrt(26 / 4))


# --- probes ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["labels", "targets"])
def test_performance(kind):
    model, data = network(1), sample(kind)
    found = rows_of(Performance(), measure(Performance(), model, kind=kind))
    for split, x, y in (("train", *data[:2]), ("test", *data[2:])):
        outputs = forward(matrices(model), np.asarray(x))[2]
        y = np.asarray(y)
        loss = error(outputs, y)[0]
        assert found[f"{split}_loss", 0] == pytest.approx(loss, rel=1e-12)
        labels = y if kind == "labels" else y.argmax(1)
        accuracy = np.mean(outputs.argmax(1) == labels)
        assert found[f"{split}_accuracy", 0] == pytest.approx(accuracy)
    assert len(found) == 4


def test_performance_of_a_single_output_is_its_loss():
    shape = Shape(6, (12,), 1, "tanh")
    model = MLP(
        shape, shape.scales(get("ntk"), lr=0.1, dtype="float64"), key=jax.random.key(0)
    )
    data = sample("targets")
    data = Data(data[0], data[1][:, :1], data[2], data[3][:, :1])
    seen = Performance().measure(model, model, data, LOSSES["mse"])
    assert set(seen) == {"train_loss", "test_loss"}


def test_features():
    probe, start, end = PROBES[1], network(1), network(2)
    found = rows_of(probe, measure(probe, start), measure(probe, end))
    x = np.asarray(sample()[0])[:5]
    (h0, x0, f0), (h1, x1, f1) = (forward(matrices(m), x) for m in (start, end))
    for kind, starts, ends in (("pre_", h0, h1), ("", x0[1:], x1[1:])):
        for layer, (a, b) in enumerate(zip(starts, ends, strict=True), 1):
            expected = {
                "feature_change": np.mean(
                    np.linalg.norm(b - a, axis=1) / np.linalg.norm(a, axis=1)
                ),
                "lambda_min": eigenvalues(b)[0],
                "lambda_min_joint": eigenvalues(np.concatenate([a, b]))[0],
                "rms": np.sqrt(np.mean(b**2)),
                "rms_change": np.sqrt(np.mean((b - a) ** 2)),
            }
            for quantity, value in expected.items():
                here = found.pop((kind + quantity, layer))
                assert here == pytest.approx(value, rel=1e-9), (kind, quantity)
    assert found.pop(("output_rms", 0)) == pytest.approx(np.sqrt(np.mean(f1**2)))
    moved = np.sqrt(np.mean((f1 - f0) ** 2))
    assert found.pop(("output_rms_change", 0)) == pytest.approx(moved)
    assert not found


def test_features_at_the_first_checkpoint_have_not_moved():
    probe, model = PROBES[1], network(1)
    found = rows_of(probe, measure(probe, model))
    changes = [value for (q, _), value in found.items() if "change" in q]
    joints = [value for (q, _), value in found.items() if q.endswith("joint")]
    assert len(changes) == 9 and set(changes) == {0.0}
    assert len(joints) == 4 and max(joints) < 1e-28  # each input twice


def test_the_joint_spectrum_lies_below_both():
    """Cauchy interlacing: a principal submatrix has the larger smallest eigenvalue."""
    probe, start, end = PROBES[1], network(1), network(2)
    seen = [measure(probe, m) for m in (start, end)]
    both, first = rows_of(probe, *seen), rows_of(probe, seen[0])
    for layer in (1, 2):
        joint = both["lambda_min_joint", layer]
        for separate in (both, first):
            assert 0 < joint <= separate["lambda_min", layer]


@pytest.mark.parametrize("table", ["ntk", "mup"])
def test_updates(table):
    start, end = network(1, table), network(2, table)
    found = rows_of(Updates(), measure(Updates(), end, start))
    pairs = zip(matrices(start), matrices(end), strict=True)
    for layer, (a, b) in enumerate(pairs, 1):
        size = np.linalg.norm(b - a)
        assert found["update_norm", layer] == pytest.approx(size, rel=1e-12)
        relative = size / np.linalg.norm(a)
        assert found["relative_update", layer] == pytest.approx(relative, rel=1e-12)
    assert len(found) == 6


@pytest.mark.parametrize("kind", ["labels", "targets"])
def test_stationarity(kind):
    model, data = network(3), sample(kind)
    found = rows_of(Stationarity(), measure(Stationarity(), model, kind=kind))
    x, y = (np.asarray(v) for v in data[:2])
    weights = matrices(model)
    outputs = forward(weights, x)[2]
    sizes = np.linalg.norm(len(x) * error(outputs, y)[1], axis=1)
    assert found["error_max", 0] == pytest.approx(sizes.max(), rel=1e-12)
    rms = np.sqrt(np.mean(sizes**2))
    assert found["error_rms", 0] == pytest.approx(rms, rel=1e-12)
    products = [
        np.linalg.norm(g) * np.linalg.norm(w)
        for g, w in zip(gradients(weights, x, y)[1], weights, strict=True)
    ]
    assert found["gradient", 0] == pytest.approx(max(products), rel=1e-10)


@settings(max_examples=15, deadline=None)
@given(st.fixed_dictionaries({role: st.fractions(-2, 2) for role in Role}))
def test_stationarity_is_that_of_the_class(theta):
    before, after = (
        rows_of(Stationarity(), measure(Stationarity(), network(3, table)))
        for table in (get("mup"), get("mup").shifted(theta))
    )
    for key, value in before.items():
        assert after[key] == pytest.approx(value, rel=1e-9)
    assert after["gradient", 0] > 0


def test_stationarity_at_a_minimum():
    """Targets that are the outputs: every signal is exactly zero."""
    model, data = network(3), sample("targets")
    data = data._replace(y_train=model(data.x_train))
    seen = Stationarity().measure(model, model, data, LOSSES["mse"])
    assert all(float(value) == 0 for value in seen.values())


def test_outputs():
    probe, model = Outputs(inputs=4), network(1)
    found = rows_of(probe, measure(probe, model))
    outputs = forward(matrices(model), np.asarray(sample().x_train)[:4])[2]
    for i, of_input in enumerate(outputs):
        for k, value in enumerate(of_input):
            assert found[f"output[{i},{k}]", 0] == pytest.approx(value, rel=1e-12)
    mean = np.mean(np.abs(outputs))
    assert found["output_mean_abs", 0] == pytest.approx(mean, rel=1e-12)
    assert len(found) == 4 * 3 + 1


@pytest.mark.parametrize("kind", ["labels", "targets"])
def test_backward(kind):
    """Each example on its own, by the chain rule of two hidden layers with biases."""
    shape = Shape(6, (12, 14), 3, "tanh", biases="all")
    probe, model, data = Backward(inputs=4), network(3, shape=shape), sample(kind)
    # Compiled as a whole, which is quicker for a single use.
    seen = jax.jit(lambda: measure(probe, model, kind=kind))()
    found = rows_of(probe, seen)
    (w1, w2, w3), (b1, b2, b3) = matrices(model), biases(model)
    squares = np.zeros(2)
    for i in range(4):
        x, y = (np.asarray(v)[i : i + 1] for v in data[:2])
        x1 = np.tanh(x @ w1 + b1)
        x2 = np.tanh(x1 @ w2 + b2)
        second = error(x2 @ w3 + b3, y)[1] @ w3.T * (1 - x2**2)
        first = second @ w2.T * (1 - x1**2)
        squares += [np.mean(first**2) / 4, np.mean(second**2) / 4]
    for layer, square in enumerate(squares, 1):
        here = found["backward_rms", layer]
        assert here == pytest.approx(np.sqrt(square), rel=1e-11)
    assert len(found) == 2


def spread(values, axis):
    return values.std(axis), np.sqrt(np.mean(values**2, axis))


def test_spread():
    probe, start, end = Spread(inputs=4), network(1), network(2, "mup")
    found = rows_of(probe, measure(probe, end, start))
    before, after, outputs = forward(matrices(end), np.asarray(sample()[0])[:4])
    for kind, layers in (("pre_", before), ("", after[1:])):
        for layer, h in enumerate(layers, 1):
            deviation, size = spread(h, 1)
            between = np.sqrt(np.mean(np.var(h, 0)) / np.mean(h**2))
            expected = {
                "coordinate_spread": np.mean(deviation / size),
                "input_spread": between,
                "coordinate_mean": np.mean(h),
            }
            for quantity, value in expected.items():
                here = found.pop((kind + quantity, layer))
                assert here == pytest.approx(value, rel=1e-11), (kind, quantity)
    between = np.sqrt(np.mean(np.var(outputs, 0)) / np.mean(outputs**2))
    assert found.pop(("output_input_spread", 0)) == pytest.approx(between, rel=1e-11)
    for layer, (a, b) in enumerate(zip(start.layers, end.layers, strict=True), 1):
        moved = np.asarray(b.kernel[...]) - np.asarray(a.kernel[...])
        deviation, size = spread(moved, None)
        here = found.pop(("update_spread", layer))
        assert here == pytest.approx(deviation / size, rel=1e-11)
    assert not found


def test_what_has_collapsed_has_no_spread():
    """Matrices with equal entries: coordinates agree, and inputs still differ."""
    start, end = network(1), network(1)
    for layer in end.layers:
        layer.kernel[...] = jnp.ones_like(layer.kernel[...])
    for layer in start.layers:
        layer.kernel[...] = jnp.full_like(layer.kernel[...], 0.75)
    data = sample()
    found = rows_of(Spread(inputs=4), measure(Spread(inputs=4), end, start))
    for layer in (1, 2):
        assert found["coordinate_spread", layer] < 1e-14
        assert found["pre_coordinate_spread", layer] < 1e-14
        assert found["input_spread", layer] > 0.1
    assert all(found["update_spread", layer] == 0 for layer in (1, 2, 3))

    same = data._replace(x_train=jnp.ones_like(data.x_train) * data.x_train[:1])
    found = rows_of(Spread(inputs=4), measure(Spread(inputs=4), network(1), data=same))
    for layer in (1, 2):
        assert found["input_spread", layer] < 1e-14
        assert found["coordinate_spread", layer] > 0.1
    assert found["output_input_spread", 0] < 1e-14


def test_what_is_zero_is_left_out_of_spreads():
    """A dead input does not count, and without an update there is no row."""
    shape = Shape(6, (12, 14), 3, "relu")
    model, data, probe = network(1, shape=shape), sample(), Spread(inputs=4)
    model.layers[0].kernel[...] = jnp.abs(model.layers[0].kernel[...])
    x = jnp.abs(data.x_train).at[1].multiply(-1.0)
    found = rows_of(probe, measure(probe, model, data=data._replace(x_train=x)))
    alive = forward(matrices(model), np.asarray(x)[[0, 2, 3]], "relu")[1][1]
    deviation, size = spread(alive, 1)
    expected = np.mean(deviation / size)
    assert found["coordinate_spread", 1] == pytest.approx(expected, rel=1e-11)
    assert not any(quantity == "update_spread" for quantity, _ in found)

    found = rows_of(probe, measure(probe, model, data=data._replace(x_train=-abs(x))))
    assert not any(q == "coordinate_spread" for q, _ in found)
    assert all(np.isfinite(value) for value in found.values())


def test_spreads_and_ranks_are_those_of_scaled_features():
    """ReLU and a power of two, whose square underflows: the same bits."""
    model, data = network(1, shape=Shape(6, (12, 14), 3, "relu")), sample()
    small = data._replace(x_train=data.x_train * 2.0**-600)
    for probe in (Spread(inputs=4), Rank(inputs=9)):
        one, other = (
            rows_of(probe, measure(probe, model, data=d)) for d in (data, small)
        )
        assert set(one) == set(other)
        for (quantity, layer), value in one.items():
            factor = 2.0**-600 if quantity.endswith("mean") else 1.0
            assert other[quantity, layer] == factor * value


def test_rms_on_the_device_does_not_underflow():
    values = np.random.default_rng(0).standard_normal((4, 3))
    small = float(device_rms(jnp.asarray(values * 2.0**-600)))
    assert small == float(device_rms(jnp.asarray(values))) * 2.0**-600
    assert small * 2.0**600 == pytest.approx(root_mean_square(values), rel=1e-14)
    assert float(device_rms(jnp.zeros((4, 3)))) == 0
    assert np.isnan(float(device_rms(jnp.full((4, 3), jnp.inf))))


def test_rank():
    """Inputs in a plane: pre-activations of rank 2, until a nonlinearity."""
    probe, model, data = Rank(inputs=9), network(1), sample()
    plane = data.x_train[:, :2] @ data.x_train[:2]
    found = rows_of(probe, measure(probe, model, data=data._replace(x_train=plane)))
    before, after, _ = forward(matrices(model), np.asarray(plane)[:9])
    for kind, layers in (("pre_", before), ("", after[1:])):
        for layer, h in enumerate(layers, 1):
            tolerance = np.linalg.norm(h, 2) * max(h.shape) * np.finfo(np.float32).eps
            exact = np.linalg.matrix_rank(h, tol=tolerance)
            assert found.pop((f"{kind}rank", layer)) == exact
    assert not found
    assert rows_of(probe, measure(probe, model, data=data))["pre_rank", 1] == 6
    seen = measure(probe, model, data=data._replace(x_train=plane))
    assert rows_of(probe, seen)["pre_rank", 1] == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks_of_known_spectra(dtype):
    """Singular values on both sides of the tolerance, out of a Gram matrix's reach."""
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.standard_normal((8, 5)))[0]
    right = np.linalg.qr(rng.standard_normal((40, 5)))[0]
    tolerance = 40 * 2.0**-23
    for above, smallest in ((4, 0.5 * tolerance), (5, 2 * tolerance)):
        values = 3.0 * np.array([1.0, 1.0, 0.1, 1e-2, smallest])
        matrix = jnp.asarray(((left * values) @ right.T).astype(dtype))
        assert float(numerical_rank(matrix)) == above
        assert float(numerical_rank(matrix.T)) == above
    assert float(numerical_rank(jnp.zeros((3, 4), dtype))) == 0
    assert np.isnan(float(numerical_rank(jnp.full((3, 4), jnp.nan, dtype))))


@pytest.mark.parametrize(
    ("make", "given", "allowed"),
    [(Outputs, 0, 1), (Backward, 0, 1), (Rank, -1, 1), (Spread, 1, 2)],
)
def test_too_few_inputs_are_refused(make, given, allowed):
    with pytest.raises(ValueError, match=f"inputs is {given}; .* from {allowed} on"):
        make(inputs=given)


# --- JSON --------------------------------------------------------------------------


@pytest.mark.parametrize("probe", PROBES)
def test_json_round_trip(probe):
    text = json.dumps(registry.to_json(probe))
    assert registry.from_json(json.loads(text)) == probe
    assert json.loads(text)["probe"] == probe.name


def test_an_unknown_probe_lists_the_known_ones():
    with pytest.raises(ValueError, match="'feature'") as refusal:
        registry.from_json({"probe": "feature"})
    assert all(probe.name in str(refusal.value) for probe in PROBES)


def test_names_are_distinct():
    assert len({probe.name for probe in PROBES}) == len(PROBES)
