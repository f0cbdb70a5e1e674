"""Measurements: each formula against a direct computation in NumPy float64."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import error, forward, gradients
from widthlab import probes
from widthlab.model import MLP, Shape
from widthlab.parametrization import Role, get
from widthlab.probes import (
    Features,
    Performance,
    Stationarity,
    Updates,
    relative_change,
    root_mean_square,
    smallest_eigenvalue,
)
from widthlab.tensor_program import CovariancePreservation
from widthlab.training import LOSSES, Data, precision

SHAPE = Shape(input_dim=6, widths=(12, 14), output_dim=3, activation="tanh")
PROBES = (
    Performance(),
    Features(inputs=5),
    Updates(),
    Stationarity(),
    CovariancePreservation(inputs=3, matrix=2),
)


def sample(kind="labels"):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 6))
    y = rng.integers(0, 3, 16) if kind == "labels" else rng.standard_normal((16, 3))
    dtype = "int32" if kind == "labels" else "float64"
    with jax.enable_x64(True):
        x, y = jnp.asarray(x), jnp.asarray(y, dtype)
        return Data(x[:10], y[:10], x[10:], y[10:])


def network(seed, table="ntk"):
    table = get(table) if isinstance(table, str) else table
    scales = SHAPE.scales(table, lr=0.1, dtype="float64")
    return MLP(SHAPE, scales, key=jax.random.key(seed))


def matrices(model):
    return [
        np.asarray(w.kernel[...] * w.multiplier[...], np.float64) for w in model.layers
    ]


def measure(probe, model, initial=None, kind="labels"):
    loss = LOSSES["cross-entropy" if kind == "labels" else "mse"]
    return probe.measure(model, initial or model, sample(kind), loss)


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


# --- JSON --------------------------------------------------------------------------


@pytest.mark.parametrize("probe", PROBES)
def test_json_round_trip(probe):
    text = json.dumps(probes.to_json(probe))
    assert probes.from_json(json.loads(text)) == probe
    assert json.loads(text)["probe"] == probe.name


def test_an_unknown_probe_lists_the_known_ones():
    with pytest.raises(ValueError, match="'feature'") as refusal:
        probes.from_json({"probe": "feature"})
    assert all(probe.name in str(refusal.value) for probe in PROBES)


def test_names_are_distinct():
    assert len({probe.name for probe in PROBES}) == len(PROBES)
