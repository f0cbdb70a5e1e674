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
from widthlab.parametrization.exponents import ParametrizationError
from widthlab.regimes import Regime, classify, tensor_programs_r

HALF = F(1, 2)
NAMES = tuple(catalogue())
DEPTHS = (1, 2, 3, 4, 5)

fractions = st.fractions(-3, 3, max_denominator=6)
thetas = st.fixed_dictionaries({role: fractions for role in Role})
halves = st.integers(-2, 6).map(lambda k: F(k, 2))


def depths(name):
    return (1,) if name == "mean-field" else DEPTHS


def biases_of(name):
    """Which layers have biases where the literature defines the table."""
    return "all" if name == "ip-bias" else "none"


def expected_regime(name, depth):
    """Tensor Programs IV, Section 3; Hajjar et al. 2024, Prop. 5, Thms 13, 16 to 18."""
    if name == "ip":
        return Regime.FEATURE_LEARNING if depth <= 2 else Regime.TRIVIAL
    return {
        "sp": Regime.UNSTABLE,
        "sp-lr/n": Regime.KERNEL,
        "ntk": Regime.KERNEL,
    }.get(name, Regime.FEATURE_LEARNING)


@pytest.mark.parametrize(
    ("name", "depth"), [(name, depth) for name in NAMES for depth in depths(name)]
)
def test_verdicts_of_the_literature(name, depth):
    verdict = classify(get(name), depth, biases=biases_of(name))
    assert verdict.regime is expected_regime(name, depth)
    if verdict.regime is Regime.FEATURE_LEARNING:
        assert verdict.r == 0 and verdict.output_change == 0
    if name in ("ntk", "sp-lr/n") and depth > 1:
        assert verdict.r == HALF and verdict.output_change == 0
    # Integrable parametrizations alone shrink features at init, n^-1/2 a matrix, unless
    # biases or means keep them up.
    shrinks = HALF if name in ("ip", "ip-llr") else F(0)
    assert verdict.preactivation == tuple(-shrinks * layer for layer in range(depth))
    assert verdict.stable_at_init == (shrinks == 0 or depth == 1)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", [n for n in NAMES if n != "mean-field"])
def test_gradients_and_first_updates(name, depth):
    """Hajjar et al. 2024, Section 3.2 and Theorem 13; the others from the theory."""
    verdict = classify(get(name), depth, biases=biases_of(name))
    # What the output matrix lets through, and what each hidden matrix takes away.
    out = HALF if name in ("sp", "sp-lr/n", "ntk") else F(1)
    lost = HALF if name in ("ip", "ip-llr", "ip-bias") else F(0)
    above = [depth - layer for layer in range(1, depth + 1)]
    assert verdict.gradient == tuple(-out - lost * k for k in above)
    hidden = depth - 1
    if name == "ip":
        lost = HALF * (1 - depth)
        expected = (HALF + lost, *[HALF + lost] * hidden, -HALF + lost)
    else:
        first, later, last = {
            "sp": (0, HALF, HALF),
            "sp-lr/n": (-1, -HALF, -HALF),
            "ntk": (0, -HALF, -HALF),
        }.get(name, (HALF, 0, -HALF))
        expected = (first, *[later] * hidden, last)
    assert verdict.first_update == expected


def test_relative_change_by_layer():
    """Chen et al. 2025, first figure: slopes of |h_t - h_0| / |h_0| against width."""
    assert classify(get("mup"), 3).relative_change == (0, 0, 0)
    assert classify(get("ntk"), 3).relative_change == (-HALF, -HALF, -HALF)
    assert classify(get("sp-lr/n"), 3).relative_change == (F(-3, 2), -HALF, -HALF)
    assert classify(get("ip-llr"), 3).relative_change == (0, HALF, 1)


# --- what Hajjar et al. 2024 do to integrable parametrizations ----------------------


@pytest.mark.parametrize("depth", DEPTHS)
def test_large_rates_are_for_the_first_step_only(depth):
    """Theorem 7: constants that get learning started make the second step blow up."""
    table = get("ip-llr")
    assert classify(table, depth).regime is Regime.FEATURE_LEARNING
    for layer, role in ((1, Role.INPUT), (2, Role.HIDDEN), (depth + 1, Role.OUTPUT)):
        table = table.mutated(role, c=table[role].first(depth, layer))
    regimes = [classify(table, depth, steps).regime for steps in (1, 2)]
    assert regimes[0] is Regime.FEATURE_LEARNING
    assert (regimes[1] is Regime.UNSTABLE) == (depth > 1)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", ["hp", "hpz"])
def test_hybrids_are_ip_llr_after_the_first_step(name, depth):
    """Proposition 15 and Theorem 16, as far as exponents go."""

    def learnt(name, steps):
        v = classify(get(name), depth, steps)
        return v.regime, v.first_update, v.feature_change, v.output_change

    for steps in (1, 2, 3, 4):
        assert learnt(name, steps) == learnt("ip-llr", steps)
    # What they start from is mup's.
    assert classify(get(name), depth).gradient == classify(get("mup"), depth).gradient


def test_initial_weights_that_grow_after_the_first_step():
    """Negative control: the recursion does see the factor on the initial weights."""
    table = get("hp").mutated(Role.HIDDEN, retained=-HALF)
    assert classify(table, 3).regime is Regime.UNSTABLE
    # Features whose initial weights go away change, even if nothing is learnt of them.
    still = get("ntk").mutated(Role.HIDDEN, retained=HALF)
    assert classify(get("ntk"), 3, 1).feature_change == (-HALF, -HALF, -HALF)
    assert classify(still, 3, 1).feature_change == (-HALF, 0, 0)


def test_what_the_first_layer_learns_passes_through_the_initial_weights():
    """With nothing else learning, a network that loses those loses its output too."""
    verdicts = []
    for name in ("mup", "hp", "hpz"):
        table = get(name)
        for role in (Role.HIDDEN, Role.OUTPUT):
            table = table.mutated(role, c=F(4))
        verdicts.append(classify(table, 3, steps=1))
    assert [v.feature_change[0] for v in verdicts] == [0, 0, 0]
    # What is left of the change is the initial output, of order n^-1/2.
    assert [v.output_change for v in verdicts] == [0, -HALF, -HALF]


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_biases_and_learning_rates_belong_together(depth):
    """Large rates for a network without biases blow up one that has them, not so its
    first layer's alone; those for biases do too little without any."""
    llr = get("ip-llr")
    assert classify(llr, depth, biases="input") == classify(llr, depth)
    assert classify(llr, depth, biases="all").regime is Regime.UNSTABLE
    without = classify(get("ip-bias"), depth, steps=1)
    lost = [HALF * (layer - 2) for layer in range(2, depth + 1)]
    assert without.first_update == (HALF, *[-k for k in lost], -HALF * depth)
    assert (without.regime is Regime.TRIVIAL) == (depth > 2)


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_biases_alone_take_naive_rates_off_the_start(depth):
    """Features of order one below the last layers let those learn; one more a step."""
    above = [depth - layer for layer in range(1, depth + 1)]
    for steps in (1, 2, depth):
        verdict = classify(get("ip"), depth, steps, "all")
        assert verdict.preactivation == (0,) * depth and verdict.output_change == 0
        moved = [-HALF * max(k - steps + 1, 0) for k in above]
        assert list(verdict.feature_change[1:]) == moved[1:]


def test_the_bias_of_the_output_moves_it_alone():
    still = get("mup")
    for role in Role:
        still = still.mutated(role, c=F(4))
    assert classify(still, 2).regime is Regime.TRIVIAL
    assert classify(still, 2, biases="input").regime is Regime.TRIVIAL
    assert classify(still, 2, biases="all").regime is Regime.KERNEL


@pytest.mark.parametrize("name", ["sp-lr/n", "ntk", "mup", "hp", "ip-non-centred"])
def test_biases_of_order_one_leave_these_verdicts(name):
    without = classify(get(name), 3)
    for biases in ("input", "all"):
        with_them = classify(get(name), 3, biases=biases)
        assert with_them.regime is without.regime
        assert with_them.feature_change == without.feature_change
        assert with_them.first_update == without.first_update


def test_biases_are_of_three_kinds():
    with pytest.raises(ParametrizationError, match=r"'some'.*none, input, all"):
        classify(get("mup"), 2, biases="some")


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


def matrices(table, depth, draws, biases, rng):
    """Matrices in effective form, their first learning rates and shares that stay.

    Biases are a last row of each matrix. A neuron that is one at all times, whose own
    weights are a last column, carries them through a network of ReLUs.
    """
    roles = [Role.INPUT] + [Role.HIDDEN] * (depth - 1) + [Role.OUTPUT]
    out = []
    for layer, (role, w) in enumerate(zip(roles, draws, strict=True), 1):
        fans = dict(zip(("fan_in", "fan_out"), w.shape, strict=True))
        s, b = (
            table.scales(role, depth=depth, layer=layer, bias=bias, **fans)
            for bias in (False, True)
        )
        start = s.multiplier * (s.std * w + s.mean)
        rate, kept = np.full_like(w, s.first_lr * s.multiplier**2), s.retained + 0 * w
        if biases == "all":
            row = b.multiplier * b.std * rng.standard_normal((1, w.shape[1]))
            rows = row, b.first_lr * b.multiplier**2 + 0 * row, b.retained + 0 * row
            column = (0, 0), (0, layer <= depth)
            start, rate, kept = (
                np.pad(np.vstack(pair), column)
                for pair in zip((start, rate, kept), rows, strict=True)
            )
            if layer <= depth:
                start[-1, -1] = kept[-1, -1] = 1
        out.append((start, rate, kept))
    return zip(*out, strict=True)


def measure(table, depth, lr=1.0, activation="tanh", biases="none"):
    """Rms of each h and of f at init, of their changes in one step; norms of updates.

    Pure exponents. The error signal is a constant of order one, as the recursion takes
    it: targets are set off from the initial outputs by a random amount.
    """
    sizes = np.zeros((3, SEEDS, len(WIDTHS), depth + 1))
    real = slice(0, -1 if biases == "all" else None)  # without the constant neuron
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((INPUTS, DIM))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        y = rng.standard_normal((INPUTS, OUT))
        if biases == "all":
            x = np.pad(x, ((0, 0), (0, 1)), constant_values=1)
        for index, width in enumerate(WIDTHS):
            draws = normals(seed, width, depth)
            start, rates, kept = matrices(table, depth, draws, biases, rng)
            h0, _, f0 = forward(start, x, activation)
            _, grads = gradients(start, x, f0 - y, activation)
            steps = [lr * r * g for r, g in zip(rates, grads, strict=True)]
            end = [k * w - d for k, w, d in zip(kept, start, steps, strict=True)]
            h1, _, f1 = forward(end, x, activation)
            before, after = (
                [*(h[:, real] for h in hs), f] for hs, f in ((h0, f0), (h1, f1))
            )
            moved = [b - a for a, b in zip(before, after, strict=True)]
            for row, values in enumerate((before, moved)):
                sizes[row, seed, index] = [np.sqrt(np.mean(v**2)) for v in values]
            sizes[2, seed, index] = [np.linalg.norm(d[real]) for d in steps]
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
        ("hp", 3, "relu", 30.0),
        ("hpz", 3, "relu", 30.0),
        ("ip-non-centred", 3, "relu", 1.0),
        ("ip-bias", 3, "relu", 1.0),
    ],
)
def test_exponents_are_those_of_real_networks(name, depth, activation, lr):
    biases = biases_of(name)
    verdict = classify(get(name), depth, steps=1, biases=biases)
    start, moved, updates = measure(get(name), depth, lr, activation, biases)
    check_slopes(start, (*verdict.preactivation, verdict.output), "init")
    predicted = (*verdict.feature_change, verdict.output_change)
    check_slopes(moved, predicted, "first step")
    check_slopes(updates, verdict.first_update, "first update")


def test_large_first_steps_of_odd_activations_fall_short():
    """What the recursion cannot see: features before and after that do not correlate.

    Where the theory of IP-LLR holds (non-negative activations) it is right, as above.
    With tanh and depth 3, layer 2 is W_0 x at first and a multiple of a backward signal
    after, whose inner products are of order n^1/2, not n: layer 3 loses that factor.
    """
    _, moved, _ = measure(get("ip-llr"), 3, activation="tanh")
    check_slopes(moved[:, :, :2], (0, 0), "first step")
    found, spread = slope_and_error(WIDTHS, moved[:, :, 2])
    assert abs(found + 0.5) < 4 * spread + WIDTHS[0] ** -0.5
    assert found < -4 * spread


def test_means_behind_odd_activations_fall_short():
    """The other upper bound: tanh of centred features has no mean to add up."""
    verdict = classify(get("ip-non-centred"), 3, steps=1)
    assert verdict.preactivation == (0, 0, 0)
    start, moved, _ = measure(get("ip-non-centred"), 3)
    check_slopes(start[:, :, :2], (0, -HALF), "init")
    # The first update of layer 1 has a mean, so later sizes are as predicted.
    check_slopes(moved, (0, 0, 0, 0), "first step")


def test_biases_and_large_rates_blow_up_real_networks():
    verdict = classify(get("ip-llr"), 3, steps=1, biases="all")
    start, moved, updates = measure(get("ip-llr"), 3, 1.0, "relu", "all")
    check_slopes(start[:, :, :3], verdict.preactivation, "init")
    check_slopes(moved[:, :, :3], verdict.feature_change, "first step")
    check_slopes(updates, verdict.first_update, "first update")
    assert verdict.feature_change == (0, HALF, 1)


@pytest.mark.parametrize("role", [Role.INPUT, Role.HIDDEN])
def test_the_output_sees_aligned_changes(role):
    """With one hidden role learning alone, W_0 dx adds up over n coordinates."""
    table = get("ntk")
    for other in Role:
        if other is not role:
            table = table.mutated(other, c=F(3))
    verdict = classify(table, 2, steps=1)
    assert verdict.output_change == 0 and verdict.r == HALF
    _, moved, _ = measure(table, 2)
    check_slopes(moved[:, :, -1:], [verdict.output_change], "output")


def test_a_wrong_exponent_shows():
    """Negative control: the check above fails for predictions of another table."""
    wrong = get("mup").mutated(Role.HIDDEN, c=-HALF)
    _, moved, _ = measure(wrong, 3)
    right = classify(get("mup"), 3, steps=1)
    with pytest.raises(AssertionError, match="first step"):
        check_slopes(moved, (*right.feature_change, right.output_change), "first step")
