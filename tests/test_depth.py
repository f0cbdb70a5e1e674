"""Deep networks: angles against kernels, and the one-step law against derivatives."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from widthlab import activations, kernels
from widthlab.kernels import infinite
from widthlab.model import MLP, Scales, Shape
from widthlab.papers.terjek2025mlps import depth
from widthlab.papers.terjek2025mlps.response import first_response
from widthlab.parametrization import Role, get
from widthlab.parametrization.exponents import Growth

UNIT = np.array([0.6, 0.0, -0.8])
DELTA = {"relu": 0.5, "abs": 1.0, "abrelu(-0.3,1)": 1.3**2 / 2 / 1.09}


# --- angles


def test_bends():
    for name, delta in DELTA.items():
        assert depth.bend(name) == pytest.approx(delta, rel=1e-14)
        kurtosis = activations.get(name).derivative_kurtosis
        assert kurtosis == pytest.approx(1 + 4 * delta * (1 - delta), rel=1e-12)
    with pytest.raises(ValueError, match=r"'tanh'; only \(a, b\)-ReLUs"):
        depth.bend("tanh")


@pytest.mark.parametrize("name", DELTA)
def test_the_correlation_map_is_the_kernel(name):
    rho = np.linspace(-1, 1, 9)
    gain = activations.get(name).critical_gain
    with jax.enable_x64(True):
        one = jnp.ones(9)
        there = gain**2 * kernels.moment(name, one, jnp.asarray(rho), one)
        there = np.asarray(there)
    found = depth.correlation_map(rho, depth.bend(name))
    np.testing.assert_allclose(found, there, atol=1e-14)


@pytest.mark.parametrize("name", DELTA)
def test_angles_behind_many_layers(name):
    """Iterating the map; the kernels of deep networks; and the law of small angles."""
    delta = depth.bend(name)
    start = np.array([0.3, np.pi / 2, 3.0])
    found = depth.angles(start, 5000, delta)
    assert found.shape == (5001, 3)
    rho = np.cos(start)
    for theta in found[:30]:
        np.testing.assert_allclose(np.cos(theta), rho, atol=1e-13)
        rho = depth.correlation_map(rho, delta)
    nngp = deep_kernels(name, 12).nngp
    assert nngp[0, 0] == pytest.approx(1, rel=1e-12)
    assert nngp[0, 1] == pytest.approx(np.cos(found[12, 1]), rel=1e-12)
    ratio = found[-1] * 5000 * 2 * delta / (3 * np.pi)
    assert np.all(np.abs(ratio - 1) < 0.02)


def gain_of(name):
    return activations.get(name).critical_gain


def deep_kernels(name, layers):
    """At the edge of chaos, of two orthogonal inputs."""
    std = (math.sqrt(2), *[gain_of(name)] * layers)
    with jax.enable_x64(True):
        x = jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
        pair = kernels.mlp(x, activation=name, depth=layers, weight_std=std)
        return infinite.Kernels(*map(np.asarray, pair))


@pytest.mark.parametrize(
    ("name", "layers", "expected"), [("relu", 4, 0.286), ("abs", 999, 0.2528)]
)
def test_tangent_kernels_lose_all_but_a_quarter(name, layers, expected):
    """Off the diagonal over on it, from orthogonal inputs: 1/4 in the limit."""
    ntk = deep_kernels(name, layers).ntk
    assert ntk[0, 0] == pytest.approx(layers + 1, rel=1e-10)
    assert ntk[0, 1] / ntk[0, 0] == pytest.approx(expected, abs=6e-4)


# --- the law


def growing(m, q, layers):
    return tuple(m * k**q for k in range(1, layers + 1))


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        (0, [k * (k + 1) * (2 * k + 1) / 6 for k in range(1, 10)]),
        (1, [k * (k + 1) / 2 for k in range(1, 10)]),
        (2, list(range(1, 10))),
        (3, np.cumsum(1 / np.arange(1, 10))),
    ],
)
def test_growth_makes_the_law_regular(q, expected):
    found = 24 * depth.one_step_law(growing(24, q, 9), 1.0)
    np.testing.assert_allclose(found, expected)
    # The kurtosis counts for the layers below only.
    own = np.arange(1, 10) ** (2.0 - q)
    found = 24 * depth.one_step_law(growing(24, q, 9), 2.0)
    np.testing.assert_allclose(found, 2 * np.array(expected) - own)


def test_normalised_updates_are_bounded_at_any_depth():
    """If widths grow faster than the depth; else like the cube of its logarithm."""
    for q, at_9, bound in ((1, 9.15, 0.5 * math.log(2000) ** 3), (2, 1.98, 2.25)):
        widths = growing(24, q, 2000)
        found = 24 * depth.one_step_law(widths, 1.0, [24 / m for m in widths])
        assert found[8] == pytest.approx(at_9, rel=0.002)
        assert found.max() < bound


@pytest.mark.parametrize("kappa", [1.0, 1.5, 2.0])
def test_the_laws_agree_in_wide_networks(kappa):
    """Their gap is a sum of 1 / m over layers, to first order."""
    gaps = []
    for m in (10**4, 10**5, 10**6):
        ratio, law = [], {}
        for q in (0, 1):
            law = [
                f(growing(m, q, 6), kappa)
                for f in (depth.finite_width_law, depth.one_step_law)
            ]
            ratio.append(law[0] / law[1] - 1)
        gaps.append(np.array(ratio))
    np.testing.assert_allclose(gaps[0][:, 1:], 10 * gaps[1][:, 1:], rtol=0.01)
    np.testing.assert_allclose(gaps[1][:, 1:], 10 * gaps[2][:, 1:], rtol=0.01)
    assert np.all(gaps[0][:, 0] == 0) and np.all(gaps[0][:, 1:] > 0)
    assert np.all(gaps[0][1, 1:] < gaps[0][0, 1:])


@pytest.mark.parametrize("slopes", [(-1.0, 1.0), (0.0, 1.0), (-0.3, 1.0)])
def test_the_exact_law_by_plain_sampling(slopes):
    """In NumPy, from the recursion of the law and nothing else of the library."""
    a, b = slopes
    g2, kappa = 2 / (a**2 + b**2), 2 * (a**4 + b**4) / (a**2 + b**2) ** 2
    widths, nu, rng = (3, 5, 4, 1), (1.0, 0.5, 2.0, 0.7), np.random.default_rng(1)
    seeds = 40_000
    z = rng.standard_normal((seeds, widths[0]))
    k, seen = np.broadcast_to(nu[0] * np.eye(3), (seeds, 3, 3)), []
    for layer, m in enumerate(widths):
        if layer:
            slope = np.where(z > 0, b, a)
            q = g2 * np.mean((slope * z) ** 2, axis=1)
            back = rng.standard_normal((seeds, m, z.shape[1]))
            back *= np.sqrt(g2 / z.shape[1]) * slope[:, None, :]
            z = np.einsum("sij,sj->si", back, z)
            k = np.einsum("sij,sjk,slk->sil", back, k, back, optimize=True)
            k = k + nu[layer] * q[:, None, None] * np.eye(m)
        seen.append(np.sum(k**2, axis=(1, 2)) / m**2)
    seen = np.array(seen)
    error = seen.std(axis=1) / math.sqrt(seeds)
    expected = depth.finite_width_law(widths, kappa, nu)
    assert np.all(np.abs(seen.mean(axis=1) - expected) < 4 * error + 1e-12)
    assert np.all(expected[1:] > 1.05 * depth.one_step_law(widths, kappa, nu)[1:])


@pytest.mark.parametrize(
    ("widths", "updates"), [([], None), ([3, 0], None), ([3, 3], [1.0])]
)
def test_what_the_law_refuses(widths, updates):
    with pytest.raises(ValueError, match=r"give at least one width.*one update"):
        depth.one_step_law(widths, 1.0, updates)


# --- networks


@functools.cache
def measured(name, q, layers, table="nup", m=24, seeds=30):
    """Mean squares over seeds, their standard errors, and what the laws say."""
    shape = Shape(3, growing(m, q, layers), 1, name)
    gains = (1.0, gain_of(name), gain_of(name))
    scales = shape.scales(get(table), lr=1.0, gains=gains, dtype="float64")
    keys = jax.random.split(jax.random.key(0), seeds)
    squares = first_response(shape, scales, UNIT, keys) ** 2
    assert squares.shape == (seeds, layers + 1)
    error = squares.std(axis=0, ddof=1) / math.sqrt(seeds)
    laws = [depth.mean_square_response(shape, scales, exact=e) for e in (False, True)]
    return squares.mean(axis=0), error, *laws


CASES = [
    *(("abs", q, 4, table) for q in (1, 2) for table in ("nup", "nup-normalised")),
    ("relu", 1, 4, "nup"),
    ("abs", 0, 9, "nup"),
    ("abs", 1, 4, "mup"),
    ("abs", 1, 4, "ntk"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_networks_follow_the_law(case):
    mean, error, _, exact = measured(*case)
    assert np.all(np.abs(mean - exact) < 4 * error)
    assert np.all(error < 0.35 * exact)


@pytest.mark.parametrize(
    ("q", "layers", "expected"),
    [
        (0, 9, [1, 5, 14, 30, 55, 91, 140, 204, 285]),
        (1, 4, [1, 3, 6, 10]),
        (2, 4, [1, 2, 3, 4]),
    ],
)
def test_wide_layers_of_absolute_values(q, layers, expected):
    """In units of 1 / m, which here is gamma^2: R^2 as it stands."""
    mean, error, law, exact = measured("abs", q, layers)
    np.testing.assert_allclose(law[:-1], expected, rtol=1e-12)
    assert np.all(np.abs(mean[:-1] / expected - 1) < 0.15 + 2 * error[:-1] / expected)
    # What is left is what the exact law says, up to a third at depth 9.
    assert np.all(exact[:-1] >= law[:-1] * (1 - 1e-12))


def test_relu_counts_first_updates_twice():
    """Gains are part of the weights: behind the first matrix, all learn at half."""
    _, _, law, _ = measured("relu", 1, 4)
    np.testing.assert_allclose(
        law[:-1], depth.one_step_law([1, 2, 3, 4], 2.0, [1, 0.5, 0.5, 0.5])
    )


def test_normalised_networks_respond_alike_in_all_layers():
    mean = measured("abs", 2, 4, "nup-normalised")[0]
    assert np.all(mean[:-1] < 2.2) and np.all(mean[:-1] > 0.7)


def test_the_readout_of_mup_undoes_growth():
    """With gamma^2 one over the last width, not the first, as deep as without growth.

    Rates eta / gamma^2 rise by what the readout lacks, and the output moves as fast.
    """
    nup, mup_readout = [], []
    for layers in (4, 9):
        shape = Shape(3, growing(24, 1, layers), 1, "abs")
        table = get("nup").mutated(Role.OUTPUT, growth=Growth(c_in=Fraction(1)))
        scales = shape.scales(table, lr=float(layers), dtype="float64")
        mup_readout.append(depth.mean_square_response(shape, scales, exact=False))
        scales = shape.scales(get("nup"), lr=1.0, dtype="float64")
        nup.append(depth.mean_square_response(shape, scales, exact=False))
    for one, other in zip(nup, mup_readout, strict=True):
        assert other[-1] == pytest.approx(one[-1], rel=1e-12)
    assert nup[1][8] / nup[0][3] == pytest.approx(45 / 10)
    assert mup_readout[1][8] / mup_readout[0][3] == pytest.approx(45 / 10 * 9 / 4)
    assert 285 / 30 < 45 / 10 * 9 / 4  # constant width


def test_responses_are_derivatives():
    """Against a small step of descent, by hand, of a network with biases."""
    shape = Shape(3, (4, 6), 1, "relu", "all")
    scales = shape.scales(get("mup"), lr=0.3, bias_gains=(1.0, 2.0, 3.0))
    key = jax.random.key(5)
    found = first_response(shape, scales, UNIT, key[None])[0]
    slow = scales._replace(lr=1e-6 * scales.lr)
    np.testing.assert_allclose(
        first_response(shape, slow, UNIT, key[None])[0], 1e-6 * found, rtol=1e-6
    )

    @jax.jit
    def draw(key):
        double = Scales(*(np.asarray(v, "float64") for v in scales))
        layers = MLP(shape, double, key=key).layers
        return [p.kernel[...] for p in layers] + [p.bias[...] for p in layers]

    with jax.enable_x64(True):
        weights = list(map(np.asarray, draw(key)))
    multipliers = scales.multiplier.astype("float64")

    def signals(weights):
        x, seen = UNIT, []
        for k in range(3):
            h = x @ weights[k] * multipliers[k] + weights[k + 3] * multipliers[k + 3]
            seen.append(h)
            x = np.maximum(h, 0)
        return seen

    def slope(index, at, h=1e-6):
        ends = []
        for sign in (1, -1):
            moved = [w.copy() for w in weights]
            moved[index][at] += sign * h
            ends.append(signals(moved)[-1][0])
        return (ends[0] - ends[1]) / (2 * h)

    step = 1e-6
    there, back = [w.copy() for w in weights], [w.copy() for w in weights]
    for index, w in enumerate(weights):
        for at in np.ndindex(*w.shape):
            change = step * float(scales.lr[index]) * slope(index, at)
            there[index][at] -= change
            back[index][at] += change
    moves = [
        (a - b) / (2 * step) for a, b in zip(signals(there), signals(back), strict=True)
    ]
    sizes = [np.sqrt(np.mean(move**2)) for move in moves]
    np.testing.assert_allclose(found, sizes, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "gains", "message"),
    [
        ({"activation": "tanh"}, (1, 1, 1), "'tanh'; only"),
        ({"biases": "input"}, (1, 1, 1), "biases are 'input', outputs 1"),
        ({"output_dim": 2}, (1, 1, 1), "outputs 2"),
        ({"activation": "relu"}, (1, 1, 1), r"variances \[1.0, 0.5\].*critical_gain"),
    ],
)
def test_networks_without_a_law(change, gains, message):
    fields = {"input_dim": 3, "widths": (4, 4), "output_dim": 1, "activation": "abs"}
    shape = Shape(**(fields | change))
    scales = shape.scales(get("nup"), lr=1.0, gains=gains)
    with pytest.raises(ValueError, match=message):
        depth.mean_square_response(shape, scales)


def test_responses_need_one_output():
    shape = Shape(3, (4,), 2, "abs")
    scales = shape.scales(get("mup"), lr=1.0)
    with pytest.raises(ValueError, match="output_dim is 2; the response is to"):
        first_response(shape, scales, UNIT, jax.random.key(0)[None])
