"""The theory's verdicts: against the literature, closed formulas and real networks."""

import functools
import itertools
from fractions import Fraction as F

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import forward, gradients, slope_and_error
from widthlab.parametrization import Exponents, Parametrization, Role, catalogue, get
from widthlab.regimes import Regime, classify, tensor_programs_r

HALF = F(1, 2)
NAMES = tuple(catalogue())
DEPTHS = (1, 2, 3, 4, 5)

fractions = st.fractions(-3, 3, max_denominator=6)
thetas = st.fixed_dictionaries({role: fractions for role in Role})
halves = st.integers(-2, 6).map(lambda k: F(k, 2))


def depths(name):
    return (1,) if name == "mean-field" else DEPTHS


def expected_regime(name, depth):
    """Tensor Programs IV, Section 3; Hajjar et al. 2024, Proposition 5, Theorem 13."""
    if name == "ip":
        return Regime.FEATURE_LEARNING if depth <= 2 else Regime.TRIVIAL
    return {
        "sp": Regime.UNSTABLE,
        "sp-lr/n": Regime.KERNEL,
        "ntk": Regime.KERNEL,
        "mean-field": Regime.FEATURE_LEARNING,
        "ip-llr": Regime.FEATURE_LEARNING,
        "mup": Regime.FEATURE_LEARNING,
    }[name]


@pytest.mark.parametrize(
    ("name", "depth"), [(name, depth) for name in NAMES for depth in depths(name)]
)
def test_verdicts_of_the_literature(name, depth):
    verdict = classify(get(name), depth)
    assert verdict.regime is expected_regime(name, depth)
    if verdict.regime is Regime.FEATURE_LEARNING:
        assert verdict.r == 0 and verdict.output_change == 0
    if name in ("ntk", "sp-lr/n") and depth > 1:
        assert verdict.r == HALF and verdict.output_change == 0
    # Integrable parametrizations alone shrink features at init, n^-1/2 a matrix.
    shrinks = HALF if name in ("ip", "ip-llr") else F(0)
    assert verdict.preactivation == tuple(-shrinks * layer for layer in range(depth))
    assert verdict.stable_at_init == (shrinks == 0 or depth == 1)


def test_relative_change_by_layer():
    """Chen et al. 2025, first figure: slopes of |h_t - h_0| / |h_0| against width."""
    assert classify(get("mup"), 3).relative_change == (0, 0, 0)
    assert classify(get("ntk"), 3).relative_change == (-HALF, -HALF, -HALF)
    assert classify(get("sp-lr/n"), 3).relative_change == (F(-3, 2), -HALF, -HALF)
    assert classify(get("ip-llr"), 3).relative_change == (0, HALF, 1)


# --- against the closed conditions of Tensor Programs IV ---------------------------


def stable_at_init(s_out, rates, c):
    """A table with features of order one at init, in the form that the paper uses.

    `s_out` is a + b of the output, `rates` are c + 2a of the three roles; the common c
    is free, since a shift along the class moves it.
    """
    a = [(rate - c) / 2 for rate in rates]
    b = [-a[0], HALF - a[1], s_out - a[2]]
    rows = [Exponents(x, y, c) for x, y in zip(a, b, strict=True)]
    return Parametrization("random", "random", tuple(zip(Role, rows, strict=True)))


@settings(deadline=None)
@given(
    st.integers(1, 4).map(lambda k: F(k, 2)),
    st.tuples(halves, halves, halves),
    fractions,
    st.integers(2, 4),
)
def test_verdict_equals_the_theorem(s_out, rates, c, depth):
    """Tensor Programs IV, Theorems 3.4 and 3.8 with Definition 3.2."""
    table = stable_at_init(s_out, rates, c)
    r = tensor_programs_r(table, depth)
    assert r == min(s_out, rates[2]) + min(rates[0], rates[1] - 1)
    stable = r >= 0 and rates[2] >= 1 and s_out + r >= 1
    trivial = rates[2] > 1 and s_out + r > 1
    verdict = classify(table, depth)
    assert verdict.stable_at_init
    if not stable:
        assert verdict.regime is Regime.UNSTABLE
        return
    assert verdict.r == r
    assert (verdict.regime is Regime.TRIVIAL) == trivial
    if not trivial:
        assert (verdict.regime is Regime.FEATURE_LEARNING) == (r == 0)
        assert (verdict.regime is Regime.KERNEL) == (r > 0)


@pytest.mark.parametrize("name", ["sp-lr/n", "ntk", "mup", "mean-field"])
def test_r_of_stable_tables(name):
    for depth in depths(name):
        assert classify(get(name), depth).r == tensor_programs_r(get(name), depth)


@settings(deadline=None)
@given(st.sampled_from(NAMES), thetas, st.sampled_from(DEPTHS))
def test_verdict_is_that_of_the_class(name, theta, depth):
    depth = 1 if name == "mean-field" else depth
    moved = get(name).shifted(theta)
    assert classify(moved, depth) == classify(get(name), depth)
    assert tensor_programs_r(moved, depth) == tensor_programs_r(get(name), depth)


@pytest.mark.parametrize(
    ("role", "letter", "change", "regime"),
    [
        (Role.HIDDEN, "c", -HALF, Regime.UNSTABLE),
        (Role.INPUT, "c", -HALF, Regime.UNSTABLE),
        (Role.OUTPUT, "c", -HALF, Regime.UNSTABLE),
        (Role.HIDDEN, "b", -HALF, Regime.UNSTABLE),
        (Role.OUTPUT, "b", -HALF, Regime.UNSTABLE),
        # One of two ways to learn features is enough; without both there is none.
        (Role.HIDDEN, "c", HALF, Regime.FEATURE_LEARNING),
        (Role.INPUT, "c", HALF, Regime.FEATURE_LEARNING),
    ],
)
def test_mutations_of_mup(role, letter, change, regime):
    """Maximal: no exponent of mup can be enlarged."""
    table = get("mup")
    table = table.mutated(role, **{letter: getattr(table[role], letter) + change})
    assert classify(table, 3).regime is regime


# --- against real networks ---------------------------------------------------------

INPUTS, DIM, OUT, SEEDS = 8, 12, 8, 6
WIDTHS = (128, 256, 512, 1024)


@functools.cache
def normals(seed, width, depth):
    """Weights of unit variance, the same for all tables."""
    rng = np.random.default_rng((seed, width))
    sizes = [DIM] + [width] * depth + [OUT]
    pairs = itertools.pairwise(sizes)
    return [rng.standard_normal(pair, np.float32) for pair in pairs]


def measure(table, depth, lr=1.0, activation="tanh"):
    """Rms of each h and of f at init and of their changes in one step.

    Pure exponents. The error signal is a constant of order one, as the recursion takes
    it: targets are set off from the initial outputs by a random amount.
    """
    sizes = np.zeros((2, SEEDS, len(WIDTHS), depth + 1))
    roles = [Role.INPUT] + [Role.HIDDEN] * (depth - 1) + [Role.OUTPUT]
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((INPUTS, DIM))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        y = rng.standard_normal((INPUTS, OUT))
        for index, width in enumerate(WIDTHS):
            draws = normals(seed, width, depth)
            scales = [
                table.scales(role, fan_in=w.shape[0], fan_out=w.shape[1], depth=depth)
                for role, w in zip(roles, draws, strict=True)
            ]
            # In effective form: the matrices themselves, without multipliers.
            start = [
                s.std * s.multiplier * w for s, w in zip(scales, draws, strict=True)
            ]
            h0, _, f0 = forward(start, x, activation)
            _, grads = gradients(start, x, f0 - y, activation)
            end = [
                w - lr * s.first_lr * s.multiplier**2 * g
                for w, s, g in zip(start, scales, grads, strict=True)
            ]
            h1, _, f1 = forward(end, x, activation)
            before, after = [*h0, f0], [*h1, f1]
            moved = [b - a for a, b in zip(before, after, strict=True)]
            for row, values in enumerate((before, moved)):
                sizes[row, seed, index] = [np.sqrt(np.mean(v**2)) for v in values]
    return sizes


def check_slopes(measured, predicted, what):
    """Four standard errors, plus what finite widths bend a slope by.

    A factor 1 + c n^-1/2 with c of order one, as central limits give, bends the slope
    by about c times the smallest n^-1/2 or less.
    """
    for layer, exponent in enumerate(predicted):
        found, spread = slope_and_error(WIDTHS, measured[:, :, layer])
        allowed, off = 4 * spread + WIDTHS[0] ** -0.5, abs(found - float(exponent))
        assert off < allowed, (what, layer + 1, found, spread)
        # Exponents come in halves: an interval that holds two of them shows nothing.
        assert off + allowed < 0.5, (what, layer + 1, found, spread)


@pytest.mark.parametrize(
    ("name", "depth", "activation", "lr"),
    [
        ("sp-lr/n", 3, "tanh", 1.0),
        ("ntk", 3, "tanh", 1.0),
        ("mup", 3, "tanh", 1.0),
        ("ip", 3, "tanh", 1.0),
        ("ip", 2, "tanh", 1.0),
        # What is learnt has to outgrow a random start that shrinks only as n^-1/2.
        ("ip-llr", 3, "relu", 100.0),
    ],
)
def test_exponents_are_those_of_real_networks(name, depth, activation, lr):
    verdict = classify(get(name), depth, steps=1)
    start, moved = measure(get(name), depth, lr, activation)
    check_slopes(start, (*verdict.preactivation, verdict.output), "init")
    predicted = (*verdict.feature_change, verdict.output_change)
    check_slopes(moved, predicted, "first step")


def test_large_first_steps_of_odd_activations_fall_short():
    """What the recursion cannot see: features before and after that do not correlate.

    Where the theory of IP-LLR holds (non-negative activations) it is right, as above.
    With tanh and depth 3, layer 2 is W_0 x at first and a multiple of a backward signal
    after, whose inner products are of order n^1/2, not n: layer 3 loses that factor.
    """
    _, moved = measure(get("ip-llr"), 3, activation="tanh")
    check_slopes(moved[:, :, :2], (0, 0), "first step")
    found, spread = slope_and_error(WIDTHS, moved[:, :, 2])
    assert abs(found + 0.5) < 4 * spread + WIDTHS[0] ** -0.5
    assert found < -4 * spread


@pytest.mark.parametrize("role", [Role.INPUT, Role.HIDDEN])
def test_the_output_sees_aligned_changes(role):
    """With one hidden role learning alone, W_0 dx adds up over n coordinates."""
    table = get("ntk")
    for other in Role:
        if other is not role:
            table = table.mutated(other, c=F(3))
    verdict = classify(table, 2, steps=1)
    assert verdict.output_change == 0 and verdict.r == HALF
    _, moved = measure(table, 2)
    check_slopes(moved[:, :, -1:], [verdict.output_change], "output")


def test_a_wrong_exponent_shows():
    """Negative control: the check above fails for predictions of another table."""
    wrong = get("mup").mutated(Role.HIDDEN, c=-HALF)
    _, moved = measure(wrong, 3)
    right = classify(get("mup"), 3, steps=1)
    with pytest.raises(AssertionError, match="first step"):
        check_slopes(moved, (*right.feature_change, right.output_change), "first step")
