"""Intervals: coverage by simulation, p-values, invariances, and what is refused."""

import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from widthlab.claims.estimates import (
    KINDS,
    ClaimError,
    Estimate,
    exact,
    extent,
    geometric_mean,
    mean,
    ratio,
)
from widthlab.claims.groups import extents, means, slopes
from widthlab.claims.slopes import bend, slope

WIDTHS = (64, 128, 256, 512, 1024)
ROOTS = tuple(64 * 2 ** (k / 2) for k in range(9))


def power_law(exponent=-0.5, *, noise=0.1, seeds=3, widths=WIDTHS, rng=0):
    """Runs of c width^exponent with log-normal noise of their own."""
    logs = noise * np.random.default_rng(rng).normal(size=(seeds, len(widths)))
    return runs(exponent * np.log(widths) + logs, widths)


def runs(logs, widths=WIDTHS):
    """Runs by seed and width, of which the logarithms are given."""
    seeds = len(logs)
    return pd.DataFrame(
        {
            "width": np.tile(widths, seeds),
            "seed": np.repeat(np.arange(seeds), len(widths)),
            "value": np.exp(logs).ravel(),
        }
    )


# --- slopes: coverage

# 500 repetitions: the binomial deviation of a 95 % coverage is .0097.
TIMES, FOUR = 500, 4 * math.sqrt(0.95 * 0.05 / 500)


def coverage(noises, truth, curve=0.0, widths=WIDTHS):
    line = -0.5 * np.log(widths) + curve
    hits = [
        found.low <= truth <= found.high
        for noise in noises
        for found in [slope(runs(line + noise, widths))]
    ]
    return float(np.mean(hits))


@pytest.mark.parametrize("seeds", [2, 4, 8])
def test_the_slope_covers_exactly_under_noise_of_each_run(seeds):
    rng = np.random.default_rng(seeds)
    noises = 0.2 * rng.normal(size=(TIMES, seeds, len(WIDTHS)))
    assert abs(coverage(noises, -0.5) - 0.95) < FOUR


@pytest.mark.parametrize("kind", ["data", "walk", "wide ones"])
def test_the_slope_covers_exactly_whatever_the_covariance_between_widths(kind):
    """A replication's widths share data, Gaussians and probe inputs."""
    rng = np.random.default_rng(len(kind))
    mixing = {
        "data": np.ones((5, 5)) + 0.2 * np.eye(5),  # one subset moves all widths
        "walk": np.tril(np.ones((5, 5))),  # neighbours are alike
        "wide ones": np.diag([0.1, 0.1, 0.2, 1.0, 3.0]),  # spreads differ
    }[kind]
    noises = 0.2 * rng.normal(size=(TIMES, 8, 5)) @ mixing
    assert abs(coverage(noises, -0.5) - 0.95) < FOUR


@pytest.mark.parametrize(("size", "bias"), [(1.0, -0.031), (3.0, -0.082)])
def test_a_bent_law_is_covered_at_its_best_line_and_the_bias_is_known(size, bias):
    """Curvature is bias, not spread: no interval of a straight line mends it."""
    curve = np.log1p(size / np.sqrt(ROOTS))
    x = np.log(ROOTS) - np.mean(np.log(ROOTS))
    line = curve @ x / (x @ x)
    assert line == pytest.approx(bias, abs=5e-4)
    noises = 0.1 * np.random.default_rng(3).normal(size=(TIMES, 8, len(ROOTS)))
    assert abs(coverage(noises, -0.5 + line, curve, ROOTS) - 0.95) < FOUR
    # The exponent itself is missed as the bias grows beyond the interval.
    missed = coverage(noises[:300], -0.5, curve, ROOTS)
    assert missed < 0.85 if size == 1.0 else missed < 0.02


def test_what_bends_is_seen_as_such():
    bent = power_law(noise=0.005, seeds=6)
    bent["value"] *= 1 + 30 / bent["width"]
    assert bend(bent).low > 0
    straight = bend(power_law(noise=0.005, seeds=6))
    assert straight.low < 0 < straight.high
    parabola = 0.25 * np.log(WIDTHS) ** 2 + np.array([[0.0], [1.0], [-2.0]])
    wanted = 2 * 0.25 * math.log(WIDTHS[-1] / WIDTHS[0])
    assert bend(runs(parabola)).value == pytest.approx(wanted)


# --- slopes: what they are


def test_the_slope_of_an_exact_power_law_is_exact():
    estimate = slope(power_law(-0.75, noise=0.0))
    assert estimate.value == pytest.approx(-0.75, abs=1e-12)
    assert estimate.high - estimate.low < 1e-10
    assert (estimate.seeds, estimate.kind) == (3, "t")


def test_the_slope_is_the_mean_of_the_replications_own():
    frame = power_law(seeds=5)
    own = [
        stats.linregress(np.log(rows["width"]), np.log(rows["value"])).slope
        for _, rows in frame.groupby("seed")
    ]
    found, wanted = slope(frame), mean(own)
    assert found.value == pytest.approx(wanted.value)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.spread == pytest.approx(np.std(own, ddof=1))


@settings(max_examples=40)
@given(
    exponent=st.floats(-2, 2),
    factor=st.floats(1e-6, 1e6),
    rng=st.integers(0, 2**16),
)
def test_slope_follows_units_and_powers(exponent, factor, rng):
    frame = power_law(exponent, rng=rng)
    plain = slope(frame)
    scaled = slope(frame.assign(value=frame["value"] * factor))
    steeper = slope(frame.assign(value=frame["value"] * frame["width"]))
    inverse = slope(frame.assign(value=1 / frame["value"]))
    for field in ("value", "low", "high"):
        assert getattr(scaled, field) == pytest.approx(getattr(plain, field), abs=1e-9)
        assert getattr(steeper, field) == pytest.approx(
            getattr(plain, field) + 1, abs=1e-9
        )
    assert inverse.value == pytest.approx(-plain.value, abs=1e-9)
    assert inverse.low == pytest.approx(-plain.high, abs=1e-9)


def test_what_a_replication_shares_over_widths_falls_out():
    frame = power_law(seeds=4)
    shifted = frame.assign(value=frame["value"] * np.exp(frame["seed"]))
    for one, other in zip(*map(ends, (slope(frame), slope(shifted))), strict=True):
        assert one == pytest.approx(other, abs=1e-12)


def ends(estimate):
    return estimate.low, estimate.value, estimate.high


def test_row_order_and_repetition_do_not_change_the_interval():
    frame = power_law()
    assert slope(frame) == slope(frame)
    assert slope(frame) == slope(frame.sort_values("width", ascending=False))


def test_slope_is_fast():
    frame = power_law(seeds=8, widths=ROOTS)
    took = []
    for _ in range(5):
        start = time.perf_counter()
        slope(frame)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[f["width"] <= 128], "at least 3 distinct widths, got 2"),
        (lambda f: f.drop(columns="seed"), "no column 'seed'"),
        (lambda f: pd.concat([f, f.head(2)]), "2 rows repeat"),
        (lambda f: f[f["seed"] == 0], "single seed"),
        (lambda f: f.assign(width=f["width"] - 64), "widths must be"),
        (lambda f: f.assign(value=f["value"] * 0), "15 of 15 values"),
        (lambda f: f.iloc[:-1], r"1 runs are missing, the first seed 2 at width 1024"),
        (lambda f: f[(f["width"] < 1024) | (f["seed"] == 0)], "2 runs are missing"),
    ],
)
@pytest.mark.parametrize("estimate", [slope, bend])
def test_slope_refuses(estimate, change, message):
    with pytest.raises(ClaimError, match=message):
        estimate(change(power_law()))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_slope_names_the_values_that_have_no_logarithm(bad):
    frame = power_law()
    frame.loc[6, "value"] = bad
    with pytest.raises(ClaimError, match=r"1 of 15 .*width=128 seed=1.*explicitly"):
        slope(frame)


# --- means, ratios, ranges


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_mean_interval_covers(seeds):
    samples = np.random.default_rng(0).normal(2.0, 1.0, size=(2000, seeds))
    hits = [e.low <= 2.0 <= e.high for e in map(mean, samples)]
    # Student's interval is exact here: 4 binomial standard deviations.
    assert abs(np.mean(hits) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_geometric_mean_and_ratio_agree_with_logs():
    top, bottom = [2.0, 8.0, 4.0], [1.0, 2.0, 0.5, 1.0]
    assert geometric_mean(top).value == pytest.approx(4.0)
    assert ratio(top, bottom).value == pytest.approx(4.0)
    assert ratio(bottom, top).low == pytest.approx(1 / ratio(top, bottom).high)
    assert ratio(top, bottom).seeds == 3
    welch = stats.ttest_ind(np.log(top), np.log(bottom), equal_var=False)
    low, high = welch.confidence_interval()
    assert ends(ratio(top, bottom))[::2] == pytest.approx(
        (math.exp(low), math.exp(high))
    )
    assert ratio(top, bottom).dof == pytest.approx(welch.df)


def test_kinds_say_what_an_interval_is():
    made = {
        "t": mean([1.0, 2.0]),
        "log-t": geometric_mean([1.0, 2.0]),
        "range": extent([1.0, 2.0]),
        "exact": exact(1),
    }
    assert tuple(made) == KINDS
    assert {name: one.kind for name, one in made.items()} == {k: k for k in KINDS}
    assert [one.samples for one in made.values()] == [True, True, False, False]
    assert [one.seeds for one in made.values()] == [2, 2, 2, 0]
    assert [one.spread > 0 for one in made.values()] == [True, True, False, False]
    assert ratio([1.0, 2.0], [1.0, 3.0]).kind == "log-t"
    assert ends(extent([3.0, 1.0, 2.0])) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("values", [[1.0], [], np.ones((2, 2)), [1.0, math.nan]])
def test_mean_refuses(values):
    with pytest.raises(ClaimError):
        mean(values)


def test_an_estimate_contains_its_value():
    assert exact(3) == Estimate(3.0, 3.0, 3.0, 0, "exact")
    for numbers in [(1, 2, 3), (1, 0, math.inf), (math.nan, 0, 1)]:
        with pytest.raises(ClaimError):
            Estimate(*numbers, seeds=3)
    for others in [(-1, "t"), (0, "t"), (1, "log-t"), (3, "bootstrap")]:
        with pytest.raises(ClaimError):
            Estimate(0, 0, 0, *others)
    with pytest.raises(ClaimError, match="logarithm is positive"):
        Estimate(1.0, -1.0, 2.0, 3, "log-t")


# --- p-values

samples = st.lists(st.floats(0.1, 10), min_size=2, max_size=9)


@given(samples, st.sampled_from([mean, geometric_mean]), st.floats(0.01, 20))
def test_p_values_agree_with_the_interval(values, make, limit):
    """One-sided 0.025 is where the 95 % interval ends."""
    found = make(values)
    assume(all(abs(end - limit) > 1e-9 * limit for end in ends(found)))
    assert (found.p_below(limit) <= 0.025) == (found.high < limit)
    assert (found.p_above(limit) <= 0.025) == (found.low > limit)
    if found.low < found.high:
        assert found.p_below(limit) + found.p_above(limit) == pytest.approx(1)


@given(samples, st.floats(0.1, 10))
def test_p_values_are_those_of_students_test(values, limit):
    assume(np.std(values) > 1e-3)
    less = stats.ttest_1samp(values, limit, alternative="less").pvalue
    assert mean(values).p_below(limit) == pytest.approx(less, abs=1e-9)
    logs = stats.ttest_1samp(np.log(values), math.log(limit), alternative="greater")
    found = geometric_mean(values).p_above(limit)
    assert found == pytest.approx(logs.pvalue, abs=1e-9)


@given(samples, st.floats(-1, 11))
def test_a_range_has_a_p_value_only_by_name(values, limit):
    """All runs are on one side of a limit, or they are not."""
    found = extent(values)
    assert found.p_below(limit) == (0.0 if max(values) <= limit else 1.0)
    assert found.p_above(limit) == (0.0 if min(values) >= limit else 1.0)


def test_p_values_beyond_all_numbers_and_without_spread():
    found, same = mean([1.0, 2.0]), mean([1.0, 1.0])
    assert (found.p_below(math.inf), found.p_below(-math.inf)) == (0.0, 1.0)
    assert (found.p_above(math.inf), found.p_above(-math.inf)) == (1.0, 0.0)
    assert (same.p_below(1.1), same.p_below(0.9), same.p_above(0.9)) == (0.0, 1.0, 0.0)
    positive = geometric_mean([1.0, 2.0])
    assert (positive.p_below(-1.0), positive.p_above(-1.0)) == (1.0, 0.0)


def test_the_spread_is_that_of_one_replication():
    values = [1.0, 2.5, 4.0, 3.0]
    assert mean(values).spread == pytest.approx(np.std(values, ddof=1))
    logs = np.std(np.log(values), ddof=1)
    assert geometric_mean(values).spread == pytest.approx(logs)


def test_groups_of_runs_have_their_own_estimates():
    one, two = power_law(-0.5, rng=1), power_law(0.5, rng=2)
    frame = pd.concat([one.assign(layer=1), two.assign(layer=2)])
    frame = pd.concat([frame.assign(quantity="q"), frame.assign(quantity="other")])
    assert slopes(frame, "q", "layer") == {1: slope(one), 2: slope(two)}
    last = two.loc[two["width"] == 1024, "value"]
    assert means(frame, "q", "layer", width=1024)[2] == mean(last)
    assert extents(frame, "q", ["layer", "width"])[2, 1024] == extent(last)
    single = frame[frame["seed"] == 0]
    assert extents(single, "q", ["layer", "width"])[2, 1024] == exact(last.iloc[0])
    with pytest.raises(ClaimError, match=r"no row has .*'quantity': 'lost'"):
        extents(frame, "lost", "layer")


def test_three_widths_and_two_seeds_are_enough():
    rng = np.random.default_rng(0)
    fewest = runs(rng.standard_normal((2, 3)), (64, 128, 256))
    assert slope(fewest).seeds == 2
    with pytest.raises(ClaimError, match="at least 3 distinct widths, got 2"):
        slope(fewest[fewest["width"] > 64])


def test_an_interval_of_a_logarithm_does_not_begin_at_zero():
    with pytest.raises(ClaimError, match=r"is positive, got 0\.0"):
        Estimate(1.0, 0.0, 2.0, 3, "log-t")


def test_a_group_of_two_runs_has_a_range():
    frame = pd.DataFrame({"quantity": "q", "layer": 1, "value": [1.0, 3.0]})
    assert extents(frame, "q", "layer") == {1: extent([1.0, 3.0])}


def test_lost_values_are_named_and_five_of_many_are_enough():
    with pytest.raises(ClaimError, match=r"1 of 3 .*\(positions 1\)"):
        mean([1.0, math.nan, 2.0])
    with pytest.raises(ClaimError, match=r"at position 0, .*, position 4; "):
        geometric_mean([0.0] * 5 + [1.0])
    with pytest.raises(ClaimError, match=r"at position 0, .*, position 4, \.\.\.; "):
        geometric_mean([0.0] * 6)


def test_a_ratio_to_what_does_not_vary_has_the_freedom_of_the_other():
    found = ratio([1.0, 4.0], [2.0, 2.0, 2.0])
    wanted = geometric_mean([0.5, 2.0])
    assert found.dof == pytest.approx(1)
    assert ends(found) == pytest.approx(ends(wanted))


def test_what_bends_is_told_from_a_slope_where_widths_are_not_evenly_spaced():
    widths = (64, 96, 512, 1024)
    x, own = np.log(widths), np.array([[0.0], [1.0], [-2.0]])
    found = bend(runs(0.25 * x**2 - 3 * x + own, widths))
    assert found.value == pytest.approx(2 * 0.25 * math.log(1024 / 64))
    assert bend(runs(-3 * x + own, widths)).value == pytest.approx(0, abs=1e-9)


def test_the_first_run_that_is_repeated_is_named():
    frame = power_law()
    with pytest.raises(ClaimError, match=r"2 rows repeat .* the first \(64, 0\)"):
        slope(pd.concat([frame, frame.head(2)]))


def test_a_ratio_of_what_does_not_vary_has_no_length():
    found = ratio([2.0, 2.0], [1.0, 1.0, 1.0])
    assert ends(found) == pytest.approx((2.0, 2.0, 2.0), rel=1e-15)
    assert found.dof == 1 + 2
