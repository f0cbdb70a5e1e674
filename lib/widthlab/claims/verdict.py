"""What a claim came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from widthlab.claims.check import Outcome


class Verdict(StrEnum):
    """What one claim came to, by its primary endpoint alone."""

    REPRODUCED = "reproduced"
    """The whole interval satisfies the relation, and every control fails."""

    UNDECIDED = "undecided"
    """A part of the interval does, or a control does not fail."""

    NOT = "not reproduced"
    """No part of the interval does; or one run does not, of a claim about every run."""

    UNTESTED = "not tested"
    """Nothing was measured."""

    @property
    def badge(self) -> str:
        """The verdict with a symbol, readable without colour."""
        return f"{_BADGES[self]} {self.value}"


_BADGES = {
    Verdict.REPRODUCED: "✓",
    Verdict.UNDECIDED: "○",
    Verdict.NOT: "✗",
    Verdict.UNTESTED: "–",
}

OF_OUTCOME = {
    Outcome.PASS: Verdict.REPRODUCED,
    Outcome.OPEN: Verdict.UNDECIDED,
    Outcome.FAIL: Verdict.NOT,
    Outcome.UNTESTED: Verdict.UNTESTED,
}
"""The verdict that an outcome of the primary endpoint stands for."""

OF_CHECKS = {
    Outcome.OPEN: "open",
    Outcome.FAIL: "refuted",
    Outcome.UNTESTED: "not run",
}
"""What secondary checks came to that do not pass."""

OF_CONTROLS = {
    Outcome.OPEN: "open",
    Outcome.PASS: "PASSES though it must not",
    Outcome.UNTESTED: "not run",
}
"""What controls came to that do not fail."""


def _counted(outcomes: Sequence[Outcome], words: Mapping[Outcome, str]) -> list[str]:
    """Return the numbers of the outcomes that there are words for, "3 open"."""
    tally = [(outcomes.count(outcome), word) for outcome, word in words.items()]
    return [f"{count} {word}" for count, word in tally if count]
