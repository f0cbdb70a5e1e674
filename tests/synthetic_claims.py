"""Claims of every kind that no chapter has measured: for tests of what shows them."""

from pathlib import Path

from richregime.chapters import read_chapters
from widthlab.claims import (
    Check,
    Claim,
    Estimate,
    Plan,
    Prediction,
    at_least,
    at_most,
    exact,
    extent,
)

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [chapter.name for chapter in read_chapters(ROOT)]
LEVEL = Prediction("slope of feature change", 0.0, within=0.125)
PLAN = Plan(8, 0.05, "pilot of three seeds")


def student(value, half, seeds=8):
    return Estimate(value, value - half, value + half, seeds)


def claim(number, chapter, statement, **rest):
    key = {0: "mup", 1: "mf", 2: "ip"}[chapter]
    given = {
        "id": f"{key}.C{number}",
        "chapter": CHAPTERS[chapter],
        "paper": ("chen2025global", "chen2022feature", "hajjar2024training")[chapter],
        "statement": statement,
        "source": "Theorem 2 and the text below it",
        "tier": "live",
        "primary": LEVEL.endpoint("μP, hidden layer 2"),
        "plan": PLAN,
        "tolerance_origin": "half the distance between exponents of the theory",
    }
    return Claim(**given | rest)


def secondary(*values):
    return [
        LEVEL.check(f"arm {place}", student(value, 0.03 + 1e-4 * place))
        for place, value in enumerate(values, 1)
    ]


MOVES = claim(
    1, 0, "Under μP features move by an amount that width < ∞ doesn't change."
)
ORDER = Prediction("ratio of least eigenvalues, IP to μP", at_most(1.0))
CAP = Prediction("accuracy with capped updates", at_least(0.5))

JUDGED = [
    MOVES.judge(
        student(0.0212345, 0.04),
        secondary(0.01, -0.02, 0.12),
        {"read-out of SP": student(-0.5, 0.05), "frozen layer": student(-0.9, 0.1)},
    ),
    MOVES.judge(student(0.02, 0.04), secondary(0.01)).unmeasured("paper"),
    claim(2, 0, "Features don't move under NTP | at any width.", tier="live").judge(
        student(0.05, 0.12), controls={"μP's read-out": student(0.4, 0.05)}
    ),
    claim(
        10,
        0,
        "A cap of a twentieth of the width is enough for the network to learn.",
        ours=True,
        source="the question that C2 leaves",
        primary=CAP.endpoint("tanh, width 1,024"),
        plan=Plan(8, 0.02, "pilot", truth=0.6),
        exploratory="the threshold, after the first two seeds",
    ).judge(student(0.31, 0.02), secondary(0.4)),
    claim(
        1,
        1,
        "The solution of the flow and that of its reduction agree to rounding.",
        primary=Check.at_most("all runs", "greatest relative difference", 1e-9),
        plan=None,
        tolerance_origin="float64",
    ).judge(extent([1e-14, 3e-12, 2e-13]), controls={"a step of 0.1": exact(0.02)}),
    claim(
        2,
        1,
        "The loss falls at least at the rate of the bound.",
        primary=Check.at_least("all tasks", "rate over bound", 1.0),
        plan=None,
    ).judge(extent([0.9, 1.4, 2.0])),
    claim(
        3,
        2,
        "Eigenvalues of IP fall below those of μP.",
        tier="paper",
        primary=ORDER.endpoint("width 1,024, paired by seed"),
        plan=Plan(6, 0.4, "pilot", truth=0.5, log=True),
        exploratory="the width",
    ).judge(
        Estimate(0.4123, 0.21, 0.81, 6, "log-t"),
        controls={"the same table twice": Estimate(1.01, 0.8, 1.28, 6, "log-t")},
    ),
]
