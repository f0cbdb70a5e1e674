"""The Gaussian and the correlation part of W x: known cases, and rates in the width."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import forward, gradients, sgd, slope_and_error
from widthlab.model import MLP, Shape
from widthlab.parametrization import get
from widthlab.probes.covariance import (
    CovariancePreservation,
    Vectors,
    gram_error,
    split,
)
from widthlab.training.devices import precision
from widthlab.training.losses import LOSSES
from widthlab.training.state import Data

WIDTHS = (64, 128, 256, 512, 1024)
SEEDS = 12


def matrix(rng, width):
    return rng.standard_normal((width, width)) / math.sqrt(width)


def through(vectors, w):
    return Vectors(vectors, vectors @ w)


def errors(program):
    """Values that a program returns, by seed and width."""
    return np.array(
        [
            [program(np.random.default_rng((seed, n)), n) for n in WIDTHS]
            for seed in range(SEEDS)
        ]
    )


def assert_rate(widths, values):
    """n^-1/2 within four standard errors, which a constant is not."""
    found, spread = slope_and_error(widths, values)
    assert abs(found + 0.5) < 4 * spread and found + 4 * spread < 0


def assert_stays(widths, values, vanishing):
    """Not n^-1/2 (four standard errors), and by now far above what is.

    A limit c shows as sqrt(c^2 + a^2 / n), whose slope is 0 only at infinite width.
    """
    found, spread = slope_and_error(widths, values)
    assert found - 4 * spread > -0.5
    ratios = values[:, -1] / vanishing[:, -1]
    spread = ratios.std(ddof=1) / math.sqrt(len(ratios))
    assert ratios.mean() - 4 * spread > 2


def test_gram_error_of_known_matrices():
    eye = np.eye(2, 8)
    assert gram_error(eye, eye) == 0
    assert gram_error(eye, 2 * eye) == pytest.approx(3)
    # Each Gram matrix is over its own width.
    assert gram_error(np.ones((1, 4)), np.ones((1, 9))) == pytest.approx(0)


def test_independent_vectors_keep_covariances_at_the_rate_of_the_width():
    def program(rng, n):
        vectors = rng.standard_normal((4, n))
        return gram_error(vectors, vectors @ matrix(rng, n))

    assert_rate(WIDTHS, errors(program))


def test_the_first_vectors_have_no_correlation_part():
    rng = np.random.default_rng(0)
    w = matrix(rng, 32)
    fore = through(rng.standard_normal((3, 32)), w)
    back = through(rng.standard_normal((2, 32)), w.T)
    hat, _ = split([fore], [back])
    np.testing.assert_array_equal(hat, fore.images)


def dependent(rng, n):
    """y goes through W^T, then x = tanh(W^T y) through W: as correlated as can be."""
    w, y = matrix(rng, n), rng.standard_normal((6, n))
    fore = [through(rng.standard_normal((1, n)), w), through(np.tanh(y @ w.T), w)]
    later = through(rng.standard_normal((1, n)), w.T)
    return fore, split(fore, [through(y, w.T), later])[0]


def test_the_split_removes_an_explicit_correlation():
    def program(rng, n):
        fore, hats = dependent(rng, n)
        vectors = np.concatenate([v.vectors for v in fore])
        raw = np.concatenate([v.images for v in fore])
        return gram_error(vectors, hats), gram_error(vectors, raw)

    both = errors(program)
    assert_rate(WIDTHS, both[:, :, 0])
    assert_stays(WIDTHS, both[:, :, 1], both[:, :, 0])


def test_the_correlation_part_is_the_one_of_the_theory():
    """Stein: the part of W tanh(W^T y) along y is E[tanh'(Z)], Z ~ N(0, 1).

    Its estimate is an average over n coordinates: five standard errors from the seeds.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    slope = np.sum(weights * (1 - np.tanh(nodes) ** 2)) / math.sqrt(2 * math.pi)
    n, found = 512, []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        w, y = matrix(rng, n), rng.standard_normal((1, n))
        y *= math.sqrt(n) / np.linalg.norm(y)
        start = through(rng.standard_normal((1, n)), w)
        late = through(np.tanh(y @ w.T), w)
        back = [through(y, w.T), through(rng.standard_normal((1, n)), w.T)]
        hats, _ = split([start, late], back)
        found.append((late.images - hats[1:]) @ y.T / n)
    spread = np.std(found, ddof=1) / math.sqrt(SEEDS)
    # The estimate and the truth differ by O(1/n) in the mean, besides.
    assert abs(np.mean(found) - slope) < 5 * spread + 5 / n


def test_backward_vectors_are_corrected_by_forward_ones():
    """The mirror image: x goes through W first, then y = tanh(W x) through W^T."""

    def program(rng, n):
        w, x = matrix(rng, n), rng.standard_normal((6, n))
        back = through(np.tanh(x @ w), w.T)
        hats = split([through(x, w)], [back])[1]
        return gram_error(back.vectors, hats), gram_error(back.vectors, back.images)

    both = errors(program)
    assert_rate(WIDTHS, both[:, :, 0])
    assert_stays(WIDTHS, both[:, :, 1], both[:, :, 0])


# --- in networks -------------------------------------------------------------------


def test_the_probe_sees_what_backpropagation_does():
    shape = Shape(5, (12, 14, 16), 3, "tanh")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 5)), rng.integers(0, 3, 6)
    with precision("float64"):
        scales = shape.scales(get("mup"), lr=0.1, dtype="float64")
        start, now = (MLP(shape, scales, key=jax.random.key(seed)) for seed in (0, 1))
        labels = jnp.asarray(y, "int32")
        data = Data(jnp.asarray(x), labels, jnp.asarray(x), labels)
        seen = CovariancePreservation(4, matrix=3).measure(
            now, start, data, LOSSES["cross-entropy"]
        )
        first, weights = (
            [np.asarray(w.kernel[...] * w.multiplier[...]) for w in m.layers]
            for m in (start, now)
        )
    _, after, _ = forward(weights, x[:4])
    np.testing.assert_allclose(seen["forward"], after[2], rtol=1e-10)
    np.testing.assert_allclose(seen["forward_image"], after[2] @ first[2], rtol=1e-10)
    # dL/dW = x^T dL/dh for the loss of the four inputs, of which L is the mean.
    grad = gradients(weights, x[:4], y[:4])[1][2]
    signal = np.linalg.lstsq(after[2].T, grad, rcond=None)[0]
    np.testing.assert_allclose(seen["backward"], 4 * 14 * signal, rtol=1e-7, atol=1e-9)
    image = np.asarray(seen["backward"]) @ first[2].T
    np.testing.assert_allclose(seen["backward_image"], image, rtol=1e-10)


def history_of(seed, width, steps=3, inputs=6):
    """Checkpoints of a mup network in training, as the probe would measure them."""
    rng = np.random.default_rng((seed, width))
    x = rng.standard_normal((inputs, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.standard_normal((inputs, 6))
    std = (1.0, width**-0.5, width**-0.5, 1 / width)
    sizes = (8, width, width, width, 6)
    weights = [
        s * rng.standard_normal(pair)
        for s, pair in zip(std, itertools.pairwise(sizes), strict=True)
    ]
    rates = (width, 1.0, 1.0, 1 / width)
    batch = np.arange(inputs)
    history = []
    for w in sgd(weights, rates, x, y, [batch] * steps)[1]:
        before, after, outputs = forward(w, x)
        back = (outputs - y) @ w[3].T * (1 - after[3] ** 2)
        back = width * (back @ w[2].T) * (1 - np.tanh(before[1]) ** 2)
        history.append(
            {
                "forward": after[1],
                "forward_image": after[1] @ weights[1],
                "backward": back,
                "backward_image": back @ weights[1].T,
            }
        )
    return history


def test_covariances_are_kept_in_a_network_that_learns_features():
    """Chen et al. 2025, key lemma; without the split no width is large enough."""
    probe = CovariancePreservation(inputs=6)
    widths = (64, 128, 256, 512)
    tables = [
        [probe.rows(history_of(seed, n)) for n in widths] for seed in range(SEEDS)
    ]
    assert all(rows[:-1] == [[], [], []] for row in tables for rows in row)
    assert {layer for _, layer, _ in tables[0][0][-1]} == {2}
    values = {
        name: np.array(
            [[dict((q, v) for q, _, v in r[-1])[name] for r in row] for row in tables]
        )
        for name, _, _ in tables[0][0][-1]
    }
    assert len(values) == 8
    for side in ("forward", "backward"):
        for part in ("", "_increments"):
            assert_rate(widths, values[f"covariance_{side}{part}"])
        hat = values[f"covariance_{side}_increments"]
        raw = values[f"covariance_{side}_increments_raw"]
        assert_stays(widths, raw, hat)


@pytest.mark.parametrize(("inputs", "matrix"), [(0, 2), (3, 1), (3, 0), (3, -1)])
def test_impossible_settings(inputs, matrix):
    with pytest.raises(ValueError, match="it must be an integer from"):
        CovariancePreservation(inputs, matrix)
