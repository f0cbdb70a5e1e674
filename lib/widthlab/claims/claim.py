"""Checks, claims and the verdicts that measurements give them.

A `Check` compares one `Estimate` with one predicted number. A `Claim` collects checks,
and controls that must not pass, into a `Judgement`, whose JSON form is one object of
`results/claims.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self

import attrs

from widthlab.claims.check import _STRETCHES, SCALES, SYMBOLS, Check, Outcome
from widthlab.claims.estimates import ClaimError
from widthlab.fields import choice, instance, several, text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Check", "Claim", "Judgement", "Outcome", "Verdict"]

_CHECKS = several(instance(Check))
TIERS = ("live", "paper")


class Verdict(StrEnum):
    """What one claim came to."""

    REPRODUCED = "reproduced"
    """Every check passes; every control was run and does not."""

    PARTLY = "partly reproduced"
    """Anything between."""

    UNDECIDED = "undecided"
    """Intervals a quarter longer or shorter would turn the verdict: it is on an edge,
    where other seeds, or another processor's rounding, may turn it."""

    NOT = "not reproduced"
    """The headline check fails, or more than half of the measured checks do."""

    UNTESTED = "not tested"
    """Nothing was measured."""

    @property
    def badge(self) -> str:
        """The verdict with a symbol, readable without colour."""
        return f"{_BADGES[self]} {self.value}"


_BADGES = {
    Verdict.REPRODUCED: "✓",
    Verdict.PARTLY: "◐",
    Verdict.UNDECIDED: "○",
    Verdict.NOT: "✗",
    Verdict.UNTESTED: "–",
}


@attrs.frozen
class Claim:
    """One statement of one paper, as tested in one tier.

    Attributes:
        id: Chapter key and number, "mup.C1".
        chapter: File stem of the chapter, "01-mup-global-convergence".
        paper: Key in references.bib.
        statement: The claim in our words.
        source: Where in the paper it stands, or "abstract".
        tier: "live" or "paper".
        tolerance_origin: Why the tolerance is what it is.

    Raises:
        ClaimError: An empty field, a malformed id or an unknown tier.
    """

    _refusal: ClassVar = ClaimError

    id: str = attrs.field(converter=text())
    chapter: str = attrs.field(converter=text())
    paper: str = attrs.field(converter=text())
    statement: str = attrs.field(converter=text())
    source: str = attrs.field(converter=text())
    tier: str = attrs.field(converter=choice(TIERS))
    tolerance_origin: str = attrs.field(converter=text())

    def __attrs_post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][\w-]*\.[A-Za-z0-9]+", self.id, re.ASCII):
            raise ClaimError(
                f"a claim id is a chapter key, a dot and a number, as 'mup.C1'; "
                f"got {self.id!r}"
            )

    @property
    def anchor(self) -> str:
        """Name of the claim's section in its chapter, "mup-c1"."""
        return self.id.lower().replace(".", "-")

    def judge(
        self, checks: Sequence[Check], controls: Sequence[Check] = ()
    ) -> Judgement:
        """Return the verdict on the claim from its checks and negative controls.

        Args:
            checks: The headline check first.
            controls: Checks of the same kind on a deliberately broken case. They must
                not pass; a control that passes, or was not run, caps the verdict at
                "partly reproduced".

        Raises:
            ClaimError: There is no check, or two share label and quantity.
        """
        return Judgement(self, tuple(checks), tuple(controls))


@attrs.frozen
class Judgement:
    """A claim with its checks, its controls and the verdict they imply."""

    _refusal: ClassVar = ClaimError

    claim: Claim = attrs.field(converter=instance(Claim))
    checks: tuple[Check, ...] = attrs.field(converter=_CHECKS)
    controls: tuple[Check, ...] = attrs.field(default=(), converter=_CHECKS)

    def __attrs_post_init__(self) -> None:
        if not self.checks:
            raise ClaimError(
                f"claim {self.claim.id} has no checks; what is predicted but not yet "
                "measured is a Check with estimate=None"
            )
        for checks in (self.checks, self.controls):
            names = [(check.label, check.quantity) for check in checks]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ClaimError(
                    f"claim {self.claim.id} repeats {sorted(twice)}; a check counted "
                    "twice would weigh twice in the verdict"
                )

    @property
    def verdict(self) -> Verdict:
        """The verdict.

        - not tested: nothing was measured;
        - not reproduced: the headline check fails, or more than half of the measured
          checks do;
        - reproduced: every check passes and every control was run and does not;
        - partly reproduced: anything between;
        - undecided: which of these it is depends on whether intervals are a quarter
          (`EDGE`) longer or shorter.
        """
        implied = {self._verdict(stretch) for stretch in _STRETCHES}
        return implied.pop() if len(implied) == 1 else Verdict.UNDECIDED

    def _verdict(self, stretch: float) -> Verdict:
        outcomes = [check.outcome(stretch=stretch) for check in self.checks]
        measured = [o for o in outcomes if o is not Outcome.UNTESTED]
        if not measured:
            return Verdict.UNTESTED
        failed = measured.count(Outcome.FAIL)
        if outcomes[0] is Outcome.FAIL or 2 * failed > len(measured):
            return Verdict.NOT
        refuted = {Outcome.FAIL, Outcome.INCONCLUSIVE}
        controls = [control.outcome(stretch=stretch) for control in self.controls]
        all_pass = outcomes.count(Outcome.PASS) == len(outcomes)
        if all_pass and refuted.issuperset(controls):
            return Verdict.REPRODUCED
        return Verdict.PARTLY

    def passed(self, scale: float = 1.0) -> int:
        """Return how many checks pass with every tolerance multiplied by `scale`."""
        return _tally(self.checks, scale)[Outcome.PASS]

    def unmeasured(self, tier: str) -> Self:
        """Return the claim in another tier, with the same checks, not measured yet.

        Controls are left out: they are chosen when there is something to judge.
        """
        checks = tuple(attrs.evolve(check, estimate=None) for check in self.checks)
        return type(self)(attrs.evolve(self.claim, tier=tier), checks)

    def line(self) -> str:
        """Return the line a chapter prints and nbval compares: the verdict alone.

        How many checks pass, and by how much, is not in it: on another processor a
        check may come out otherwise without turning the verdict.

        >>> from widthlab.claims.estimates import exact
        >>> claim = Claim("mup.C1", "01-mup", "chen2025", "Features move.", "abstract",
        ...               "live", "seed spread")
        >>> print(claim.judge([Check("μP", "slope", "equals", 0.0, 0.1, exact(0.06))],
        ...                   [Check("NTP", "slope", "equals", 0.0, 0.1, exact(-0.5))]
        ...                   ).line())
        mup.C1 reproduced
        """
        tier = "" if self.claim.tier == "live" else f" ({self.claim.tier} tier)"
        return f"{self.claim.id}{tier} {self.verdict.value}"

    def control_line(self) -> str:
        """Return what became of the negative controls, in one line."""
        if not self.controls:
            return "no control"
        tally, total = _tally(self.controls), len(self.controls)
        rest = [
            f"{tally[outcome]} {text}"
            for outcome, text in (
                (Outcome.INCONCLUSIVE, "inconclusive"),
                (Outcome.PASS, "PASSES though it must not"),
                (Outcome.UNTESTED, "not run"),
            )
            if tally[outcome]
        ]
        tail = f" ({', '.join(rest)})" if rest else ""
        return f"control fails as it must {tally[Outcome.FAIL]}/{total}{tail}"

    def measurements(self) -> pd.DataFrame:
        """Return what was measured, check by check, for cells that nbval ignores."""
        import pandas as pd

        rows = [
            {
                "check": check.label,
                "quantity": check.quantity,
                "predicted": f"{SYMBOLS[check.relation]} {check.predicted:.4g}",
                "tolerance": check.tolerance,
                "measured": check.estimate and check.estimate.value,
                "low": check.estimate and check.estimate.low,
                "high": check.estimate and check.estimate.high,
                "seeds": check.estimate and check.estimate.seeds,
                "outcome": check.outcome().value,
                "role": role,
            }
            for role, checks in (("check", self.checks), ("control", self.controls))
            for check in checks
        ]
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """Return the claim's object in results/claims.json."""
        headline = self.checks[0].to_json()
        return {
            **attrs.asdict(self.claim),
            **{name: headline[name] for name in _HEADLINE},
            "checks": [check.to_json() for check in self.checks],
            "passes": {name: self.passed(scale) for name, scale in SCALES.items()},
            "negative_control": self._control_json(),
            "verdict": self.verdict.value,
        }

    def _control_json(self) -> dict[str, Any] | None:
        if not self.controls:
            return None
        tally = _tally(self.controls)
        order = (Outcome.PASS, Outcome.UNTESTED, Outcome.INCONCLUSIVE, Outcome.FAIL)
        return {
            "broken": "; ".join(dict.fromkeys(c.label for c in self.controls)),
            "outcome": next(outcome.value for outcome in order if tally[outcome]),
            "checks": [control.to_json() for control in self.controls],
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Return the judgement that `to_json` wrote.

        Raises:
            ClaimError: A key is missing or unknown, or the stored verdict is not the
                one that the stored numbers imply (the file was edited by hand).
        """
        differing = _KEYS.symmetric_difference(entry)
        if differing:
            raise ClaimError(
                f"claim {entry.get('id')!r} has missing or unknown keys: "
                f"{', '.join(sorted(differing))}"
            )
        claim = Claim(**{name: entry[name] for name in attrs.fields_dict(Claim)})
        control = entry["negative_control"] or {"checks": []}
        judgement = cls(
            claim,
            tuple(map(Check.from_json, entry["checks"])),
            tuple(map(Check.from_json, control["checks"])),
        )
        implied = judgement.to_json()
        changed = [name for name in implied if implied[name] != entry[name]]
        if changed:
            raise ClaimError(
                f"claim {claim.id} ({claim.tier}): stored {', '.join(changed)} do not "
                "follow from the stored checks; claims are written by running the "
                "chapter, never by hand"
            )
        return judgement


_HEADLINE = ("quantity", "predicted", "measured", "interval", "tolerance", "seeds")
_KEYS = {
    *attrs.fields_dict(Claim),
    *_HEADLINE,
    *("checks", "passes", "negative_control", "verdict"),
}


def _tally(checks: Iterable[Check], scale: float = 1.0) -> dict[Outcome, int]:
    outcomes = [check.outcome(scale) for check in checks]
    return {outcome: outcomes.count(outcome) for outcome in Outcome}
