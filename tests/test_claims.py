"""Verdict logic, and the stored form of claims."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from widthlab.claims import (
    Check,
    Claim,
    ClaimError,
    ClaimsFile,
    Estimate,
    Judgement,
    Outcome,
    Verdict,
    compare,
)
from widthlab.claims.check import EDGE

CLAIM = Claim(
    id="mup.C1",
    chapter="01-mup-global-convergence",
    paper="chen2025global",
    statement="Features move at every width | only under μP.",
    source="abstract",
    tier="live",
    tolerance_origin="seed spread",
)
KEYS = {
    *("id", "chapter", "paper", "statement", "source", "tier", "quantity"),
    *("predicted", "measured", "interval", "tolerance", "tolerance_origin", "seeds"),
    *("negative_control", "verdict", "checks", "passes"),
}


def check(outcome, label="a"):
    """A check of 0 ± 0.1 with the wanted outcome at full tolerance."""
    centre = {"pass": 0.02, "inconclusive": 0.1, "fail": 0.5, "not tested": None}
    value = centre[outcome]
    estimate = None if value is None else Estimate(value, value - 0.03, value + 0.03, 3)
    made = Check(label, "slope", "equals", 0.0, 0.1, estimate)
    assert made.outcome() == outcome
    return made


def judge(checks, controls="", claim=CLAIM):
    """Judgement from letters: p(ass) i(nconclusive) f(ail) n(ot tested)."""
    names = {"p": "pass", "i": "inconclusive", "f": "fail", "n": "not tested"}
    return claim.judge(
        [check(names[c], f"check {i}") for i, c in enumerate(checks)],
        [check(names[c], f"broken {i}") for i, c in enumerate(controls)],
    )


numbers = st.floats(-1e3, 1e3)
estimates = st.tuples(numbers, numbers, numbers).map(
    lambda t: Estimate(sorted(t)[1], sorted(t)[0], sorted(t)[2], 3)
)
checks = st.builds(
    Check,
    label=st.just("a"),
    quantity=st.just("slope"),
    relation=st.sampled_from(["equals", "at_most", "at_least"]),
    predicted=numbers,
    tolerance=st.floats(0, 100),
    estimate=st.none() | estimates,
)


@given(checks, st.floats(0.1, 1), st.floats(1, 10))
def test_a_wider_tolerance_never_hurts(made, small, large):
    order = [Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS]
    if made.estimate is None:
        assert made.outcome(small) == made.outcome(large) == Outcome.UNTESTED
        return
    assert order.index(made.outcome(small)) <= order.index(made.outcome(large))


@settings(max_examples=300)
@given(checks)
def test_a_narrower_interval_never_contradicts(made):
    """Pass and fail are claims about every number in the interval."""
    # Most drawn checks decide nothing: too many for `assume`, hence more examples.
    if made.outcome() in (Outcome.UNTESTED, Outcome.INCONCLUSIVE):
        return
    point = Estimate(*[made.estimate.value] * 3, seeds=3)
    assert attrs.evolve(made, estimate=point).outcome() == made.outcome()


@given(checks)
def test_rounding_keeps_outcomes_at_every_reported_tolerance(made):
    for scale in (0.5, 1.0, 2.0):
        assert made.rounded().outcome(scale) == made.outcome(scale)
    assert Check.from_json(made.to_json()) == made.rounded()


@pytest.mark.parametrize(
    ("relation", "low", "high", "outcome"),
    [
        ("equals", 0.91, 1.09, "pass"),
        ("equals", 0.8, 1.2, "inconclusive"),  # wider than the band, centred on it
        ("equals", 1.11, 1.2, "fail"),
        ("equals", 0.8, 0.89, "fail"),
        ("at_most", -9.0, 1.1, "pass"),
        ("at_most", 1.0, 1.2, "inconclusive"),
        ("at_most", 1.2, 1.3, "fail"),
        ("at_least", 0.9, 9.0, "pass"),
        ("at_least", 0.8, 9.0, "inconclusive"),
        ("at_least", 0.7, 0.8, "fail"),
    ],
)
def test_outcomes(relation, low, high, outcome):
    estimate = Estimate((low + high) / 2, low, high, 3)
    assert Check("a", "q", relation, 1.0, 0.1, estimate).outcome() == outcome


@pytest.mark.parametrize(
    ("checks", "controls", "verdict"),
    [
        ("n", "", "not tested"),
        ("nn", "f", "not tested"),
        ("p", "", "reproduced"),
        ("ppp", "ff", "reproduced"),
        ("ppp", "fi", "reproduced"),
        ("ppp", "fp", "partly reproduced"),  # a control that passes caps the verdict
        ("ppp", "fn", "partly reproduced"),  # and so does one that was not run
        ("ppi", "f", "partly reproduced"),
        ("ppf", "f", "partly reproduced"),
        ("ppn", "f", "partly reproduced"),
        ("ipp", "f", "partly reproduced"),
        ("npp", "f", "partly reproduced"),
        ("fpp", "f", "not reproduced"),  # the headline decides
        ("pff", "f", "not reproduced"),  # and so does a majority
        ("pffn", "f", "not reproduced"),  # of those that were measured
        ("pf", "f", "partly reproduced"),
        ("f", "p", "not reproduced"),
    ],
)
def test_verdicts(checks, controls, verdict):
    assert judge(checks, controls).verdict == Verdict(verdict)


@given(st.text("pifn", min_size=1, max_size=6), st.text("pifn", max_size=3))
def test_reproduced_means_all_pass_and_no_control_does(checks, controls):
    reproduced = set(checks) == {"p"} and set(controls) <= {"i", "f"}
    verdict = judge(checks, controls).verdict
    assert (verdict is Verdict.REPRODUCED) == reproduced
    assert (verdict is Verdict.UNTESTED) == (set(checks) == {"n"})


def test_lines_say_the_verdict_and_nothing_that_rounding_turns():
    paper = attrs.evolve(CLAIM, tier="paper")
    assert judge("ppp", "ff").line() == "mup.C1 reproduced"
    assert judge("pifn", "fipn").line() == "mup.C1 partly reproduced"
    assert judge("nn", "f", paper).line() == "mup.C1 (paper tier) not tested"


def on_edge(low, high):
    return Check("a", "q", "equals", 0.0, 0.1, Estimate(0.0, low, high, 3))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.05, 0.079, "reproduced"),
        (-0.05, 0.081, "undecided"),  # a quarter longer leaves the band
        (-0.05, 0.13, "undecided"),  # a quarter shorter is within it
        (-0.05, 0.14, "partly reproduced"),
    ],
)
def test_a_verdict_on_the_edge_is_undecided(low, high, verdict):
    assert CLAIM.judge([on_edge(low, high)]).verdict == Verdict(verdict)


def test_a_control_on_the_edge_leaves_the_verdict_undecided():
    control = on_edge(-0.05, 0.11)
    assert CLAIM.judge([check("pass", "a")], [control]).verdict is Verdict.UNDECIDED


@given(checks)
def test_rounded_numbers_imply_every_outcome(made):
    rounded = made.rounded()
    for stretch in (1 - EDGE, 1, 1 + EDGE):
        assert rounded.outcome(stretch=stretch) == made.outcome(stretch=stretch)


def test_json_has_the_agreed_keys_and_four_digits():
    measured = Estimate(-0.0212345, -0.0512345, 0.0112345, 3)
    entry = CLAIM.judge(
        [Check("μP", "slope", "equals", 0.0, 0.1, measured)], [check("fail", "b = 0")]
    ).to_json()
    assert set(entry) == KEYS
    assert (entry["measured"], entry["interval"]) == (-0.02123, [-0.05123, 0.01123])
    assert entry["passes"] == {"half": 0, "full": 1, "double": 1}
    assert entry["negative_control"]["broken"] == "b = 0"
    assert entry["negative_control"]["outcome"] == "fail"
    assert judge("p").to_json()["negative_control"] is None
    untested = judge("n").to_json()
    assert untested["measured"] is untested["interval"] is untested["seeds"] is None


@given(
    st.lists(checks, min_size=1, max_size=4),
    st.lists(checks, max_size=2),
)
def test_json_round_trip(made, controls):
    def named(group):
        return [attrs.evolve(c, label=f"{i}") for i, c in enumerate(group)]

    judgement = CLAIM.judge(named(made), named(controls))
    entry = json.loads(json.dumps(judgement.to_json(), allow_nan=False))
    again = Judgement.from_json(entry)
    assert again.to_json() == entry
    assert (again.verdict, again.line()) == (judgement.verdict, judgement.line())


@pytest.mark.parametrize(
    "edit",
    [
        lambda e: e.update(verdict="reproduced"),
        lambda e: e.update(measured=0.0),
        lambda e: e["passes"].update(full=3),
        lambda e: e["checks"][1].update(outcome="pass"),
        lambda e: e.pop("seeds"),
        lambda e: e.update(comment="fine"),
    ],
)
def test_a_claim_edited_by_hand_is_refused(edit):
    entry = judge("pf", "f").to_json()
    Judgement.from_json(entry)
    edit(entry)
    with pytest.raises(ClaimError):
        Judgement.from_json(entry)


def test_table_shows_every_check_with_its_digits():
    table = judge("pn", "f").measurements()
    assert list(table["outcome"]) == ["pass", "not tested", "fail"]
    assert list(table["role"]) == ["check", "check", "control"]
    assert table.loc[0, "measured"] == 0.02


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.delenv("WIDTHLAB_CLAIMS", raising=False)
    return ClaimsFile(tmp_path / "results" / "claims.json")


def numbered(name, checks="p", tier="live"):
    return judge(checks, claim=attrs.evolve(CLAIM, id=name, tier=tier))


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
    new = [numbered("a.C1", "f"), numbered("a.C3", "pp"), numbered("a.C4")]
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
        (lambda: check("pass").outcome(0), "scale"),
        (lambda: attrs.evolve(CLAIM, tier="big"), "live, paper"),
        (lambda: attrs.evolve(CLAIM, id="C1"), r"mup\.C1"),
        (lambda: attrs.evolve(CLAIM, tolerance_origin=" "), "tolerance_origin is ' '"),
        (lambda: CLAIM.judge([]), "no checks"),
        (lambda: CLAIM.judge([check("pass"), check("fail")]), "twice"),
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
