"""Predictions: the checks and the lines that come from one object."""

import pytest
from widthlab.claims import Check, Estimate, Prediction, at_least, at_most, equals
from widthlab.claims.estimates import ClaimError

LEVEL, FALLS = Estimate(0.01, -0.1, 0.1, 4), Estimate(-0.5, -0.6, -0.4, 4)
MEASURED = {("ntk", 1): FALLS, ("mup", 2): LEVEL, ("ip", 2): FALLS, ("sp", 1): LEVEL}
MOVES = Prediction(
    "slope",
    {("mup", 2): 0.0, ("ntk", 1): equals(-0.5, within=0.1), ("ip", 2): at_most(-0.5)},
    within=0.25,
)


def test_constructors_are_the_relations():
    assert Check.equals("a", "q", 1, 0.5, LEVEL) == Check(
        "a", "q", "equals", 1, 0.5, LEVEL
    )
    assert Check.at_most("a", "q", 1, LEVEL) == Check("a", "q", "at_most", 1, 0, LEVEL)
    assert Check.at_least("a", "q", 1, slack=0.5) == Check("a", "q", "at_least", 1, 0.5)


def test_checks_are_in_the_predictions_order_and_not_in_the_estimates():
    names = {"mup": "μP"}
    assert MOVES.checks(MEASURED, "{}, hidden layer {}", names=names) == [
        Check.equals("μP, hidden layer 2", "slope", 0.0, 0.25, LEVEL),
        Check.equals("ntk, hidden layer 1", "slope", -0.5, 0.1, FALLS),
        Check.at_most("ip, hidden layer 2", "slope", -0.5, FALLS, slack=0.25),
    ]
    labels = [c.label for c in MOVES.checks(MEASURED, label=lambda case: case[0] * 2)]
    assert labels == ["mupmup", "ntkntk", "ipip"]


def test_one_bound_judges_whatever_was_measured():
    gone = Prediction("log10 of the loss", at_most(-12))
    assert gone.checks({"d = 40": FALLS, "d = 25": None}) == [
        Check.at_most("d = 40", "log10 of the loss", -12, FALLS),
        Check.at_most("d = 25", "log10 of the loss", -12),
    ]
    assert gone.check("broken", LEVEL).outcome() == "fail"
    for needs_cases in (gone.lines, lambda: gone.each("a")):
        with pytest.raises(ClaimError, match="one bound and no cases"):
            needs_cases()


def test_a_control_is_judged_as_another_case():
    control = MOVES.check("NTP judged as μP", FALLS, ("mup", 2))
    assert (control.predicted, control.tolerance) == (0.0, 0.25)
    with pytest.raises(ClaimError, match=r"predicted for .*not for \('hp', 1\)"):
        MOVES.check("HP", FALLS, ("hp", 1))


def test_a_case_that_was_not_measured_is_missed():
    with pytest.raises(ClaimError, match=r"\('mup', 2\).* not measured"):
        MOVES.checks({("ntk", 1): FALLS})
    with pytest.raises(ClaimError, match="nothing is predicted"):
        Prediction("slope", {})


def test_lines_are_the_numbers_and_never_the_bounds():
    assert MOVES.lines() == {2: {"mup": 0.0}, 1: {"ntk": -0.5}}
    assert MOVES.lines({"mup": "μP"})[2] == {"μP": 0.0}
    assert Prediction("slope", {"mup": 0, "ip": at_least(0)}).lines() == {"mup": 0.0}


def test_arms_repeat_a_prediction_the_first_arm_first():
    arms = MOVES.each("base", "pure")
    assert list(arms.expected)[:4] == [
        ("mup", 2, "base"),
        ("ntk", 1, "base"),
        ("ip", 2, "base"),
        ("mup", 2, "pure"),
    ]
    assert arms.within == MOVES.within
    assert arms.lines()[2, "pure"] == {"mup": 0.0}
    single = Prediction("slope", {"mup": 0.0}).each(1, 2)
    assert single.lines() == {1: {"mup": 0.0}, 2: {"mup": 0.0}}


def test_what_is_judged_can_be_less_than_what_is_drawn():
    judged = MOVES.of("ip", "mup")
    assert [*judged.expected] == [("mup", 2), ("ip", 2)]
    assert judged.checks(MEASURED) == [MOVES.checks(MEASURED)[i] for i in (0, 2)]
    with pytest.raises(ClaimError, match=r"with no case of \['sp'\]"):
        MOVES.of("ip", "sp")
    with pytest.raises(ClaimError, match=r"with no case of \['ip'\]"):
        Prediction("slope", 0.0).of("ip")


def test_an_endpoint_is_a_check_that_is_not_measured_yet():
    assert MOVES.endpoint("μP, layer 2", ("mup", 2)) == Check.equals(
        "μP, layer 2", "slope", 0.0, 0.25
    )
    falls = Prediction("slope", at_most(0.0)).endpoint("every layer")
    assert falls == Check.at_most("every layer", "slope", 0.0)
    assert falls.outcome() == "not tested"
    with pytest.raises(ClaimError, match=r"not for None"):
        MOVES.endpoint("which case?")


def test_no_case_is_taken_for_granted():
    layers = Prediction("slope", {1: 0.0, 2: -0.5})
    for unnamed in (
        layers.bound,
        lambda: layers.endpoint("which?"),
        lambda: layers.check("which?", LEVEL),
    ):
        with pytest.raises(ClaimError, match="not for None"):
            unnamed()


def test_a_bound_without_a_tolerance_has_that_of_the_prediction():
    for bound in (equals(0.0), at_most(0.0), at_least(0.0)):
        assert bound.within is None
        assert Prediction("slope", bound, 0.25).endpoint("it").tolerance == 0.25
