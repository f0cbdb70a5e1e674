"""Verdict logic, and the stored form of claims."""

import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from widthlab.claims import (
    Check,
    Claim,
    Estimate,
    Judgement,
    Plan,
    Verdict,
    exact,
    extent,
    geometric_mean,
    mean,
)
from widthlab.claims.check import ALPHA, Outcome, _holm_level, holm
from widthlab.claims.estimates import ClaimError
from widthlab.claims.file import ClaimsFile, compare
from widthlab.claims.table import measurements

BAND = Check.equals("μP", "slope", 0.0, 0.1)
CLAIM = Claim(
    id="mup.C1",
    chapter="01-mup-global-convergence",
    paper="chen2025global",
    statement="Features move at every width | only under μP.",
    source="abstract",
    tier="live",
    primary=BAND,
    plan=Plan(8, 0.05, "pilot"),
    tolerance_origin="seed spread",
)
KEYS = {
    *("id", "chapter", "paper", "statement", "source", "ours", "tier", "exploratory"),
    *("tolerance_origin", "plan", "power", "commit", "primary", "secondary"),
    *("controls", "verdict", "qualification"),
}


def interval(low, high, seeds=8, kind="t"):
    return Estimate((low + high) / 2, low, high, seeds, kind)


def measured(letter, place=0):
    """An estimate with which a check of 0 ± 0.1 p(asses), is o(pen), f(ails)."""
    centre = {"p": 0.02, "o": 0.1, "f": 0.5, "n": None}[letter]
    if centre is None:
        return None
    return interval(centre - 0.03 - place * 1e-4, centre + 0.03)


def named(letter, place):
    return attrs.evolve(BAND, label=f"layer {place}", estimate=measured(letter, place))


def judge(primary, secondary="", controls="", claim=CLAIM):
    """Judgement from letters."""
    return claim.judge(
        measured(primary),
        [named(letter, place) for place, letter in enumerate(secondary, 1)],
        {f"broken {i}": measured(c, 50 + i) for i, c in enumerate(controls)},
    )


numbers = st.floats(-1e3, 1e3)
halves = st.floats(0, 1e2)


def drawn(kind, value, half, more):
    """An estimate of a kind: Student's intervals are symmetric, ranges are not."""
    if kind == "log-t":
        logs = [value / 200 + d for d in (0, -half / 50, half / 50)]
        return Estimate(*map(math.exp, logs), 8, kind)
    high = value + (half if kind == "t" else more)
    return Estimate(value, value - half, high, 8, kind)


def estimates(kind):
    return st.builds(drawn, st.just(kind), numbers, halves, halves)


def checks(kinds=("t", "log-t", "range")):
    return st.builds(
        Check,
        label=st.just("a"),
        quantity=st.just("slope"),
        relation=st.sampled_from(["equals", "at_most", "at_least"]),
        predicted=numbers,
        tolerance=st.floats(0, 100),
        estimate=st.none() | st.one_of(*map(estimates, kinds)),
    )


# --- outcomes of one check


@pytest.mark.parametrize(
    ("relation", "low", "high", "outcome"),
    [
        ("equals", 0.91, 1.09, "pass"),
        ("equals", 0.8, 1.2, "open"),  # wider than the band, centred on it
        ("equals", 1.11, 1.2, "fail"),
        ("equals", 0.8, 0.89, "fail"),
        ("at_most", -9.0, 1.09, "pass"),
        ("at_most", 1.0, 1.2, "open"),
        ("at_most", 1.2, 1.3, "fail"),
        ("at_least", 0.91, 9.0, "pass"),
        ("at_least", 0.8, 9.0, "open"),
        ("at_least", 0.7, 0.8, "fail"),
    ],
)
@pytest.mark.parametrize("kind", ["t", "range"])
def test_outcomes(relation, low, high, outcome, kind):
    found = interval(low, high, kind=kind)
    assert Check("a", "q", relation, 1.0, 0.1, found).outcome() == outcome


@given(checks())
def test_an_outcome_says_where_the_interval_lies(check):
    """By p-values at 0.025 each as by the ends of the interval at 0.95."""
    if check.estimate is None:
        assert check.outcome() is Outcome.UNTESTED
        assert check.p_values() == (1.0, 1.0) and check.margin() == math.inf
        return
    low, high = check.bounds()
    found = check.estimate
    near = [
        abs(end - limit) for end in (found.low, found.high) for limit in (low, high)
    ]
    assume(min(near) > 1e-6)
    assert check.margin() == pytest.approx(min(near))
    inside, outside = (
        low < found.low and found.high < high,
        (found.high < low or high < found.low),
    )
    assert (check.outcome() is Outcome.PASS) == inside
    assert (check.outcome() is Outcome.FAIL) == outside


@pytest.mark.parametrize(
    ("check", "outcome"),
    [
        (Check.at_least("a", "q", 1.0, extent([0.0, 1.0])), "open"),
        (Check.at_most("a", "q", 0.0, extent([0.0, 1.0])), "open"),
        (Check.at_least("a", "q", 1.0, extent([1.0, 1.0])), "pass"),
        (Check.at_most("a", "q", 0.0, exact(0)), "pass"),
        (Check.equals("a", "q", 3.0, 0.0, exact(3)), "pass"),
        (Check.equals("a", "q", 3.0, 0.0, exact(4)), "fail"),
    ],
)
def test_a_limit_that_some_runs_reach_is_open(check, outcome):
    """Counts lie on limits: none of them must fail while a part satisfies it."""
    assert check.outcome() == outcome


@given(checks(), st.floats(0, 10))
def test_a_wider_tolerance_never_hurts(check, more):
    order = [Outcome.UNTESTED, Outcome.FAIL, Outcome.OPEN, Outcome.PASS]
    wider = attrs.evolve(check, tolerance=check.tolerance + more)
    assert order.index(check.outcome()) <= order.index(wider.outcome())


# --- Holm


def p_check(p, label):
    """A check that passes at a level p: an ordering of eight seeds."""
    from scipy import stats

    half = stats.t.ppf(0.975, 7)
    centre = -stats.t.ppf(p, 7)
    return Check.at_least(label, "q", 0.0, interval(centre - half, centre + half))


@given(st.lists(st.floats(1e-5, 0.2), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(p_values):
    made = [p_check(p, f"{i}") for i, p in enumerate(p_values)]
    # Written out: reject in order while p <= alpha / (how many are left).
    order, rejected = sorted(range(len(p_values)), key=p_values.__getitem__), set()
    for rank, place in enumerate(order):
        assume(abs(p_values[place] * (len(order) - rank) - ALPHA) > 1e-9)
        if p_values[place] > ALPHA / (len(order) - rank):
            break
        rejected.add(place)
    passed = {i for i, o in enumerate(holm(made)) if o is Outcome.PASS}
    assert passed >= rejected
    assert {p_values[i] for i in passed} == {p_values[i] for i in rejected}


@given(st.lists(checks(), min_size=1, max_size=6))
def test_adjusting_never_decides_what_was_open(made):
    for check, adjusted in zip(made, holm(made), strict=True):
        alone = check.outcome()
        assert adjusted in (alone, Outcome.OPEN)
        if check.estimate is None or not check.estimate.samples:
            assert adjusted is alone
    assert holm(made[:1]) == [made[0].outcome()]


# --- power


@pytest.mark.parametrize(
    ("check", "plan"),
    [
        (BAND, Plan(8, 0.1, "pilot")),
        (BAND, Plan(4, 0.05, "pilot", truth=0.05)),
        (Check.at_least("a", "q", 0.0), Plan(8, 1.0, "pilot", truth=1.0)),
        (Check.at_most("a", "q", 1.0), Plan(5, 0.3, "pilot", truth=0.8, log=True)),
        (Check.equals("a", "q", 2.0, 0.3), Plan(6, 0.1, "pilot", log=True)),
        (BAND, Plan(2, 0.2, "pilot")),
    ],
)
def test_power_is_how_often_the_check_passes(check, plan):
    truth = check.predicted if plan.truth is None else plan.truth
    rng = np.random.default_rng(7)
    noise = plan.spread * rng.standard_normal((2000, plan.seeds))
    make = geometric_mean if plan.log else mean
    drawn = truth * np.exp(noise) if plan.log else truth + noise
    passed = [attrs.evolve(check, estimate=make(row)).outcome() for row in drawn]
    # 2,000 experiments: four binomial deviations are at most .045.
    assert passed.count("pass") / 2000 == pytest.approx(plan.power(check), abs=0.045)


def test_an_ordering_of_eight_seeds_has_the_power_of_the_table():
    check = Check.at_least("a", "paired", 0.0)
    found = [Plan(8, 1.0, "unit", truth=e).power(check) for e in (0.5, 1.0, 1.5, 2.0)]
    assert found == pytest.approx([0.23, 0.69, 0.95, 1.0], abs=0.01)


@given(st.floats(0.01, 0.3))
def test_more_seeds_have_more_power_and_enough_is_enough(spread):
    plan = Plan(8, spread, "pilot")
    assert plan.power(BAND, 16) >= plan.power(BAND) - 1e-3
    seeds = plan.seeds_for(BAND)
    assert plan.power(BAND, seeds) >= 0.9
    assert seeds == 2 or plan.power(BAND, seeds - 1) < 0.9


def test_no_number_of_seeds_helps_at_the_margin():
    assert Plan(8, 0.1, "pilot", truth=0.1).seeds_for(BAND) is None


@pytest.mark.parametrize(
    ("primary", "plan", "message"),
    [
        (Check.at_least("a", "q", 0.0), Plan(8, 0.1, "pilot"), "truth="),
        (BAND, Plan(8, 0.1, "pilot", log=True), "no logarithm"),
    ],
)
def test_a_claim_whose_power_is_unknown_is_not_stated(primary, plan, message):
    with pytest.raises(ClaimError, match=message):
        attrs.evolve(CLAIM, primary=primary, plan=plan)


def test_a_claim_knows_its_power_before_it_is_measured():
    assert CLAIM.power == CLAIM.plan.power(BAND) > 0.9
    assert attrs.evolve(CLAIM, plan=None).power is None
    with pytest.raises(ClaimError, match="measured already"):
        attrs.evolve(CLAIM, primary=attrs.evolve(BAND, estimate=measured("p")))


# --- verdicts


@pytest.mark.parametrize(
    ("primary", "secondary", "controls", "verdict"),
    [
        ("n", "ppp", "f", "not tested"),
        ("p", "", "", "reproduced"),
        ("p", "ppp", "ff", "reproduced"),
        ("p", "fffonf", "f", "reproduced"),  # secondary checks never turn it
        ("o", "ppp", "f", "undecided"),
        ("f", "ppp", "f", "not reproduced"),
        ("f", "", "p", "not reproduced"),
        ("p", "", "fo", "undecided"),  # a control has to fail
        ("p", "", "p", "undecided"),
        ("o", "", "p", "undecided"),
    ],
)
def test_verdicts(primary, secondary, controls, verdict):
    assert judge(primary, secondary, controls).verdict == Verdict(verdict)


@given(st.text("pofn", max_size=6), st.text("pof", max_size=3))
def test_the_primary_endpoint_alone_decides(secondary, controls):
    for letter, alone in [("o", "undecided"), ("f", "not reproduced")]:
        assert judge(letter, secondary, controls).verdict == alone
    passed = judge("p", secondary, controls).verdict
    assert passed == ("reproduced" if set(controls) <= {"f"} else "undecided")


def test_lines_say_the_verdict_and_nothing_that_rounding_turns():
    paper = attrs.evolve(CLAIM, tier="paper")
    assert judge("p", "ppo", "ff").line() == "mup.C1 reproduced"
    assert judge("p", "", "p").line() == "mup.C1 undecided"
    assert judge("n", "n", "", paper).line() == "mup.C1 (paper tier) not tested"


@pytest.mark.parametrize(
    ("secondary", "text"),
    [
        ("", "no secondary checks"),
        ("p", "1 secondary check, none open"),
        ("ppp", "3 secondary checks, none open"),
        ("ppofn", "of 5 secondary checks 1 open, 1 refuted, 1 not run"),
    ],
)
def test_secondary_checks_qualify(secondary, text):
    assert judge("p", secondary).qualification() == text


@pytest.mark.parametrize(
    ("controls", "text"),
    [
        ("", "no control"),
        ("ff", "control fails as it must 2/2"),
        ("fp", "control fails as it must 1/2 (1 PASSES though it must not)"),
        ("o", "control fails as it must 0/1 (1 open)"),
    ],
)
def test_what_became_of_controls_is_said(controls, text):
    assert judge("p", "", controls).control_line() == text


def decide(estimate, claim=CLAIM, **controls):
    plan = estimate.samples and Plan.of(estimate, 0.0)
    stated = attrs.evolve(claim, plan=plan or None)
    return stated.judge(estimate, controls=controls).to_decide()


def test_what_would_decide_is_said_of_the_undecided():
    assert judge("p").to_decide() == judge("f").to_decide() == ""
    assert judge("p", "", "o").to_decide() == "a control that fails"
    # sd 0.2 at eight seeds: as the power of a plan has it.
    wide = mean(0.2 * np.array([-1.0, 1.0] * 4) * math.sqrt(7 / 8))
    seeds = Plan(8, 0.2, "same").seeds_for(BAND)
    assert decide(wide) == f"about {seeds} seeds, if the true value is the measured one"
    assert "can only refute" in decide(interval(0.05, 0.25))
    assert "wider margin" in decide(interval(0.0, 0.19999))


def test_a_statement_about_every_run_is_refuted_by_one_and_its_control_by_all():
    claim = attrs.evolve(CLAIM, plan=None)
    assert claim.judge(extent([0.0, 0.05])).verdict is Verdict.REPRODUCED
    assert claim.judge(extent([0.0, 0.3])).verdict is Verdict.NOT
    broken = {"broken": extent([0.0, 0.3])}
    judged = claim.judge(extent([0.0, 0.05]), controls=broken)
    assert judged.verdict is Verdict.UNDECIDED
    broken = {"broken": extent([0.2, 0.3])}
    judged = claim.judge(extent([0.0, 0.05]), controls=broken)
    assert judged.verdict is Verdict.REPRODUCED


def test_controls_in_turn_are_the_same_endpoint_on_another_case():
    judgement = judge("p", "", "f")
    (control,) = judgement.controls
    assert attrs.evolve(control, label=BAND.label, estimate=None) == BAND
    bare = judgement.unmeasured("paper")
    assert (bare.claim.tier, bare.verdict, bare.controls) == ("paper", "not tested", ())


SPREAD = [-0.01, 0.03, 0.02, 0.05, 0.0, 0.01, 0.04, 0.02]


@pytest.mark.parametrize(
    "control",
    [
        lambda: mean(SPREAD),
        lambda: mean([-x for x in SPREAD]),
        lambda: mean([x + 0.2 for x in SPREAD]),  # that of the secondary check
    ],
    ids=["same", "turned over", "secondary"],
)
def test_a_control_that_is_a_complement_is_refused(control):
    """On the estimate of a check it cannot fail on its own."""
    other = attrs.evolve(BAND, label="NTP", estimate=mean([x + 0.2 for x in SPREAD]))
    with pytest.raises(ClaimError, match="cannot fail on its own"):
        CLAIM.judge(mean(SPREAD), [other], {"broken": control()})
    CLAIM.judge(mean(SPREAD), [other], {"broken": mean([x - 0.3 for x in SPREAD])})


def test_a_ratio_turned_over_is_a_complement_too():
    falls = Check.at_most("IP/μP", "ratio", 1.0)
    plan = Plan(4, 0.5, "pilot", truth=0.5, log=True)
    claim = attrs.evolve(CLAIM, primary=falls, plan=plan)
    ratios = np.array([0.5, 0.4, 0.6, 0.55])
    with pytest.raises(ClaimError, match="cannot fail on its own"):
        claim.judge(geometric_mean(ratios), controls={"a": geometric_mean(1 / ratios)})
    # Counts of two runs may agree: that is no complement.
    diverged = Check.equals("a", "diverged", 0.0, 0.0)
    count = attrs.evolve(CLAIM, primary=diverged, plan=None)
    steep = Check.equals("SP", "diverged", 1.0, 0.0, exact(1))
    assert count.judge(exact(0), [steep], {"b": exact(1)}).verdict == "reproduced"
    with pytest.raises(ClaimError, match="cannot fail on its own"):
        count.judge(exact(0), [steep], {"b": steep.estimate})


@pytest.mark.parametrize(
    ("plan", "estimate", "message"),
    [
        (Plan(8, 0.1, "p"), interval(0, 0.1, seeds=4), "planned with 8 seeds"),
        (Plan(8, 0.1, "p"), interval(0.1, 0.2, kind="log-t"), "on a log-t interval"),
        (Plan(8, 0.1, "p"), interval(0, 0.1, kind="range"), "on a range interval"),
        (None, interval(0, 0.1), "needs a plan"),
    ],
)
def test_an_interval_that_was_not_planned_is_refused(plan, estimate, message):
    with pytest.raises(ClaimError, match=message):
        attrs.evolve(CLAIM, plan=plan).judge(estimate)


# --- the stored form


@given(checks(), st.integers(4, 9))
def test_rounding_changes_the_last_digits_alone(check, digits):
    rounded = check.rounded(digits)
    assert rounded.rounded(digits) == rounded
    for name in ("predicted", "tolerance"):
        number = getattr(check, name)
        assert getattr(rounded, name) == pytest.approx(number, rel=10.0 ** (1 - digits))
    if check.estimate is not None:
        assert rounded.estimate.value == pytest.approx(
            check.estimate.value, rel=10.0 ** (1 - digits)
        )
    assert Check.from_json(check.to_json()) == check


def stated(check, secondary, controls):
    """A judgement of drawn checks, however they came out."""
    estimate = check.estimate
    plan = None
    if estimate is not None and estimate.samples:
        log = estimate.kind == "log-t"
        plan = Plan(8, 0.1, "pilot", truth=1.0, log=log)
    claim = attrs.evolve(CLAIM, primary=attrs.evolve(check, estimate=None), plan=plan)
    more = [attrs.evolve(c, label=f"{i}") for i, c in enumerate(secondary)]
    broken = {f"{i}": c.estimate for i, c in enumerate(controls) if c.estimate}
    try:
        return claim.judge(estimate, more, broken)
    except ClaimError:
        assume(False)


judgements = st.builds(
    stated,
    checks(),
    st.lists(checks(), max_size=4),
    st.lists(checks(), max_size=2),
)


@given(judgements)
def test_rounding_keeps_every_outcome(judgement):
    rounded = judgement.rounded()
    assert rounded.outcomes == judgement.outcomes
    assert (rounded.verdict, rounded.line()) == (judgement.verdict, judgement.line())
    for one, other in zip(rounded.controls, judgement.controls, strict=True):
        assert one.outcome() is other.outcome()


@given(judgements)
def test_json_round_trip(judgement):
    entry = json.loads(json.dumps(judgement.to_json(), allow_nan=False))
    again = Judgement.from_json(entry)
    assert again._json() == entry
    assert (again.verdict, again.line()) == (judgement.verdict, judgement.line())


def test_numbers_that_turn_when_rounded_keep_their_digits():
    """0.100049999 is no 0.1: and rounded twice it would be 0.1001."""
    limit = attrs.evolve(BAND, predicted=0.0, tolerance=0.10004)
    claim = attrs.evolve(CLAIM, primary=limit, plan=None)
    judgement = claim.judge(extent([0.02, 0.100049999]))
    assert judgement.verdict == "not reproduced"
    entry = judgement.to_json()
    assert Judgement.from_json(entry).verdict == "not reproduced"
    assert entry["primary"]["interval"][1] > entry["primary"]["tolerance"]


def test_json_has_the_agreed_keys_and_four_digits():
    found = Estimate(-0.0212345, -0.0512345, 0.0112345, 8)
    entry = CLAIM.judge(
        found, [named("o", 1)], {"b = 0": interval(0.4712345, 0.5312345)}
    ).to_json()
    assert set(entry) == KEYS
    primary = entry["primary"]
    assert primary["measured"] == -0.02123
    assert primary["interval"] == [-0.05123, 0.01123]
    assert (primary["outcome"], primary["kind"], primary["seeds"]) == ("pass", "t", 8)
    assert entry["controls"][0]["label"] == "b = 0"
    assert entry["controls"][0]["outcome"] == "fail"
    assert entry["secondary"][0]["outcome"] == "open"
    assert entry["qualification"] == "of 1 secondary check 1 open"
    assert (entry["verdict"], entry["ours"], entry["exploratory"]) == (
        *("reproduced", False, ""),
    )
    assert entry["power"] == round(CLAIM.power, 3)
    untested = judge("n").to_json()["primary"]
    assert untested["measured"] is untested["interval"] is untested["seeds"] is None


@pytest.mark.parametrize(
    "edit",
    [
        lambda e: e.update(verdict="reproduced"),
        lambda e: e.update(power=0.99),
        lambda e: e.update(qualification="3 secondary checks, none open"),
        lambda e: e["plan"].update(spread=0.2),
        lambda e: e["primary"].update(interval=[-0.01, 0.05], measured=0.02),
        lambda e: e["primary"].update(outcome="pass"),
        lambda e: e["secondary"][1].update(outcome="pass"),
        lambda e: e["controls"][0].update(outcome="open"),
        lambda e: e["primary"].update(tolerance=0.5),
        lambda e: e["primary"].update(seeds=4),
        lambda e: e.pop("commit"),
        lambda e: e.update(comment="fine"),
    ],
)
def test_a_claim_edited_by_hand_is_refused(edit):
    entry = judge("o", "pf", "f").to_json()
    Judgement.from_json(entry)
    edit(entry)
    with pytest.raises(ClaimError):
        Judgement.from_json(entry)


def test_what_is_stated_has_a_digest_that_a_change_changes():
    changes = [
        {"statement": "Features stay."},
        {"tolerance_origin": "a guess"},
        {"exploratory": "the margin"},
        {"tier": "paper"},
        {"ours": True},
        {"plan": None},
        {"primary": attrs.evolve(BAND, tolerance=0.2)},
        {"primary": attrs.evolve(BAND, label="SP")},
    ]
    digests = [CLAIM.stated, *(attrs.evolve(CLAIM, **c).stated for c in changes)]
    assert len(set(digests)) == len(digests)
    assert attrs.evolve(CLAIM, source="Section 2").stated == CLAIM.stated


def test_table_shows_every_check_with_its_digits():
    table = measurements(judge("p", "on", "f"))
    assert list(table["outcome"]) == ["pass", "open", "not tested", "fail"]
    assert list(table["role"]) == ["primary", "secondary", "secondary", "control"]
    assert table.loc[0, "measured"] == pytest.approx(0.02)


# --- the file


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.delenv("WIDTHLAB_CLAIMS", raising=False)
    return ClaimsFile(tmp_path / "results" / "claims.json")


def numbered(name, letter="p", tier="live"):
    return judge(letter, claim=attrs.evolve(CLAIM, id=name, tier=tier))


def test_the_file_is_sorted_stable_and_updated_in_place(file):
    assert file.read() == []
    file.update([numbered("mup.C10"), numbered("mup.C9"), numbered("ip.C1")])
    file.update([numbered("mup.C9", tier="paper")])
    first = file.path.read_bytes()
    names = [(j.claim.id, j.claim.tier) for j in file.read()]
    assert names == [
        *[("ip.C1", "live"), ("mup.C9", "live"), ("mup.C9", "paper")],
        ("mup.C10", "live"),
    ]
    file.update([numbered("mup.C9")])
    assert file.path.read_bytes() == first
    assert first.endswith(b"]\n") and "μP".encode() in first
    file.update([numbered("mup.C9", "f")])
    assert [j.verdict.value for j in file.read()].count("not reproduced") == 1
    assert left(file) == {"claims.json", ".claims.json.lock"}


def left(file):
    return {path.name for path in file.path.parent.iterdir()}


def test_a_failed_write_leaves_the_old_file(file, monkeypatch):
    file.update([numbered("mup.C1")])
    before = file.path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        file.update([numbered("mup.C2")])
    assert file.path.read_bytes() == before
    assert left(file) == {"claims.json", ".claims.json.lock"}


def test_concurrent_updates_are_all_kept(file):
    names = [f"mup.C{i}" for i in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: file.update([numbered(name)]), names))
    assert [j.claim.id for j in file.read()] == names


def test_the_environment_variable_moves_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHLAB_CLAIMS", str(tmp_path / "other.json"))
    assert ClaimsFile("claims.json").path == tmp_path / "other.json"
    monkeypatch.delenv("WIDTHLAB_CLAIMS")
    with pytest.raises(ClaimError, match="WIDTHLAB_CLAIMS"):
        ClaimsFile()


@pytest.mark.parametrize("text", ["[{", "{}"])
def test_a_broken_file_is_named_and_kept(file, text):
    file.path.parent.mkdir()
    file.path.write_text(text)
    with pytest.raises(ClaimError, match=r"claims\.json"):
        file.update([numbered("mup.C1")])
    assert file.path.read_text() == text


def test_compare_reports_verdicts_only():
    old = [numbered("a.C1"), numbered("a.C2"), numbered("a.C3")]
    new = [numbered("a.C1", "f"), numbered("a.C3"), numbered("a.C4")]
    assert compare(old, old) == []
    assert [str(d) for d in compare(old, new)] == [
        "a.C1 (live) changed: reproduced -> not reproduced",
        "a.C2 (live) missing: reproduced -> absent",
        "a.C4 (live) added: absent -> reproduced",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Check("a", "q", "near", 0.0, 0.1), "equals, at_most, at_least"),
        (lambda: Check("a", "q", "equals", 0.0, -0.1), "tolerance"),
        (lambda: Check("a", "q", "equals", float("nan"), 0.1), "predicted"),
        (lambda: Plan(1, 0.1, "pilot"), "seeds"),
        (lambda: Plan(8, 0.0, "pilot"), "spread"),
        (lambda: Plan(8, 0.1, " "), "origin"),
        (lambda: attrs.evolve(CLAIM, tier="big"), "live, paper"),
        (lambda: attrs.evolve(CLAIM, id="C1"), r"mup\.C1"),
        (lambda: attrs.evolve(CLAIM, tolerance_origin=" "), "tolerance_origin is ' '"),
        (lambda: CLAIM.judge(None, [named("p", 1)] * 2), "twice"),
        (lambda: compare([numbered("a.C1")] * 2, []), "given twice"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ClaimError, match=message):
        make()


def test_claims_need_no_jax():
    code = (
        "import sys; sys.modules['widthlab'] = m = type(sys)('widthlab'); "
        "m.__path__ = [sys.argv[1]]; import widthlab.claims; "
        "assert not {'jax', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    file = sys.modules[ClaimsFile.__module__].__file__
    package = os.path.dirname(os.path.dirname(file))
    subprocess.run([sys.executable, "-c", code, package], check=True)


# --- where a changed sign or bound changed no test -----------------------------------


def test_one_check_has_the_level_of_none_beside_it():
    """A p-value at the level itself rejects, alone and as the last of several."""
    assert _holm_level([ALPHA]) == ALPHA
    assert _holm_level([ALPHA / 2, ALPHA]) == ALPHA
    assert _holm_level([np.nextafter(ALPHA, 1)]) == 0


def test_a_plan_of_what_did_not_vary_has_a_spread():
    for value, least in ((0.5, 1e-12), (-3.0, 3e-12)):
        assert Plan.of(Estimate(value, value, value, 3, "t")).spread == least


def test_as_many_seeds_are_sought_as_can_be_run():
    assert 4000 < Plan(8, 1.76, "pilot").seeds_for(BAND) <= 4096
    assert Plan(8, 1.78, "pilot").seeds_for(BAND) is None


def test_two_secondary_checks_are_several():
    assert judge("p", "pp").qualification() == "2 secondary checks, none open"
    assert judge("p", "po").qualification() == "of 2 secondary checks 1 open"


def test_a_judgement_is_given_by_name():
    with pytest.raises(TypeError):
        Judgement(CLAIM, BAND)


def test_a_line_of_the_file_is_a_key(file):
    file.update([numbered("mup.C1")])
    first = file.path.read_text(encoding="utf-8").splitlines()[:4]
    assert first[:3] == ["[", "  {", '    "id": "mup.C1",']
    assert first[3].startswith('    "chapter": ')


def test_a_plan_of_a_measurement_has_its_seeds_and_scale():
    assert Plan.of(mean([1.0, 2.0])).seeds == Plan.of(exact(1.0)).seeds == 2
    assert Plan.of(mean([1.0, 2.0, 3.0])).seeds == 3
    assert [Plan.of(make([1.0, 2.0])).log for make in (mean, geometric_mean)] == [
        *(False, True),
    ]


def test_a_band_that_begins_at_zero_has_power_in_logarithms():
    plan = Plan(8, 0.1, "pilot", log=True)
    band, above = Check.equals("a", "q", 1.0, 1.0), Check.at_most("a", "q", 2.0)
    assert plan.power(band) == attrs.evolve(plan, truth=1.0).power(above) > 0.99


def test_equal_differences_are_one_in_a_set():
    old, new = [numbered("a.C1")], [numbered("a.C1", "f")]
    assert len({*compare(old, new), *compare(old, new)}) == 1


def test_what_is_stored_has_no_negative_zero():
    found = Estimate(-0.0, -0.0, 0.0, 3)
    entry = attrs.evolve(BAND, predicted=-0.0, estimate=found).rounded(4).to_json()
    stored = [entry[name] for name in ("predicted", "measured")] + entry["interval"]
    assert [*map(str, stored)] == ["0.0"] * 4


@pytest.mark.parametrize(("spread", "seeds"), [(0.1, 11), (0.1, 16), (1.76, 4096)])
def test_the_power_that_is_asked_for_is_enough(spread, seeds):
    plan = Plan(8, spread, "pilot")
    assert plan.seeds_for(BAND, plan.power(BAND, seeds)) == seeds
