"""Checks, claims and the verdicts that measurements give them.

A `Check` compares one `Estimate` with one predicted number. A `Claim` collects checks,
and controls that must not pass, into a `Judgement`, whose JSON form is one object of
`results/claims.json`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from widthlab.estimates import ClaimError, Estimate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Check", "Claim", "Judgement", "Outcome", "Verdict"]

RELATIONS = ("equals", "at_most", "at_least")
TIERS = ("live", "paper")
SCALES = {"half": 0.5, "full": 1.0, "double": 2.0}
SYMBOLS = {"equals": "=", "at_most": "≤", "at_least": "≥"}
# Stored numbers keep this many significant digits: more would change from machine to
# machine and fill the history of results/claims.json with noise.
_DIGITS = 4
EDGE = 0.25
"""Share by which an interval may be longer or shorter without turning a verdict."""
_STRETCHES = (1 - EDGE, 1.0, 1 + EDGE)


class Outcome(StrEnum):
    """What one check came to."""

    PASS = "pass"
    """The whole interval satisfies the relation."""

    INCONCLUSIVE = "inconclusive"
    """A part of the interval does: the data do not decide."""

    FAIL = "fail"
    """No part of the interval does."""

    UNTESTED = "not tested"
    """There is no measurement."""


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


@dataclass(frozen=True, slots=True)
class Check:
    r"""One predicted number against one measured interval.

    With the prediction $p$ and the tolerance $\delta$ the relation holds for a number
    $m$ when

    - `equals`: $|m - p| \le \delta$;
    - `at_most`: $m \le p + \delta$;
    - `at_least`: $m \ge p - \delta$.

    Attributes:
        label: What is compared, short ("μP, hidden layer 2").
        quantity: The measured quantity ("slope of feature change against width").
        relation: "equals", "at_most" or "at_least".
        predicted: The number theory predicts.
        tolerance: $\delta$, at least 0; its origin is stated by the claim.
        estimate: The measurement, or None where there is none yet.

    Raises:
        ClaimError: An unknown relation, or numbers that are not finite.

    >>> measured = Estimate(0.02, -0.03, 0.07, seeds=3)
    >>> Check("μP", "slope", "equals", 0.0, 0.1, measured).outcome()
    <Outcome.PASS: 'pass'>
    """

    label: str
    quantity: str
    relation: str
    predicted: float
    tolerance: float
    estimate: Estimate | None = None

    def __post_init__(self) -> None:
        _among("relation", self.relation, RELATIONS)
        if not math.isfinite(self.predicted):
            raise ClaimError(f"predicted must be finite, got {self.predicted}")
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ClaimError(f"tolerance must be at least 0, got {self.tolerance}")

    def outcome(self, scale: float = 1.0, stretch: float = 1.0) -> Outcome:
        """Pass if the whole interval satisfies the relation, fail if none of it does.

        In between the data do not decide: an equality whose interval is wider than
        the band is inconclusive, never a pass.

        Args:
            scale: Factor on the tolerance, positive.
            stretch: Factor on the interval's length on either side of its value,
                positive.

        Raises:
            ClaimError: A factor is not positive.
        """
        if not (scale > 0 and stretch > 0):
            raise ClaimError(
                f"scale and stretch must be positive, got {scale} and {stretch}"
            )
        if self.estimate is None:
            return Outcome.UNTESTED
        low, high = self.estimate.low, self.estimate.high
        if stretch != 1:
            middle = self.estimate.value
            low = middle - stretch * (middle - low)
            high = middle + stretch * (high - middle)
        floor = self.predicted - scale * self.tolerance
        ceiling = self.predicted + scale * self.tolerance
        if self.relation == "at_most":
            floor = -math.inf
        elif self.relation == "at_least":
            ceiling = math.inf
        if floor <= low and high <= ceiling:
            return Outcome.PASS
        if high < floor or low > ceiling:
            return Outcome.FAIL
        return Outcome.INCONCLUSIVE

    def rounded(self) -> Check:
        """The check in 4 significant digits.

        Where rounding would turn an outcome (at half, full or double tolerance, or with
        the interval longer or shorter), as many more digits as keep it: the published
        numbers imply the published verdict.
        """
        for digits in range(_DIGITS, 17):
            candidate = self._rounded_to(digits)
            if candidate._outcomes() == self._outcomes():
                return candidate
        return self

    def _outcomes(self) -> list[Outcome]:
        """All outcomes that anything published depends on."""
        scaled = [self.outcome(scale) for scale in SCALES.values()]
        return scaled + [self.outcome(stretch=stretch) for stretch in _STRETCHES]

    def _rounded_to(self, digits: int) -> Check:
        estimate = self.estimate and Estimate(
            _round(self.estimate.value, digits),
            _round(self.estimate.low, digits),
            _round(self.estimate.high, digits),
            self.estimate.seeds,
        )
        return replace(
            self,
            predicted=_round(self.predicted, digits),
            tolerance=_round(self.tolerance, digits),
            estimate=estimate,
        )

    def to_json(self) -> dict[str, Any]:
        """Label, quantity, relation, numbers in 4 digits, and outcome."""
        check = self.rounded()
        return {
            "label": check.label,
            "quantity": check.quantity,
            "relation": check.relation,
            "predicted": check.predicted,
            "measured": check.estimate and check.estimate.value,
            "interval": check.estimate and [check.estimate.low, check.estimate.high],
            "tolerance": check.tolerance,
            "seeds": check.estimate and check.estimate.seeds,
            "outcome": check.outcome().value,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """The check that `to_json` wrote."""
        estimate = None
        if entry["measured"] is not None:
            low, high = entry["interval"]
            estimate = Estimate(entry["measured"], low, high, entry["seeds"])
        names = ("label", "quantity", "relation", "predicted", "tolerance")
        return cls(**{name: entry[name] for name in names}, estimate=estimate)


@dataclass(frozen=True, slots=True)
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

    id: str
    chapter: str
    paper: str
    statement: str
    source: str
    tier: str
    tolerance_origin: str

    def __post_init__(self) -> None:
        _among("tier", self.tier, TIERS)
        empty = [name for name, text in asdict(self).items() if not text.strip()]
        if empty:
            raise ClaimError(f"claim {self.id!r} has no {', '.join(empty)}")
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
        """Verdict on the claim from its checks and negative controls.

        Args:
            checks: The headline check first.
            controls: Checks of the same kind on a deliberately broken case. They must
                not pass; a control that passes, or was not run, caps the verdict at
                "partly reproduced".

        Raises:
            ClaimError: There is no check, or two share label and quantity.
        """
        return Judgement(self, tuple(checks), tuple(controls))


@dataclass(frozen=True, slots=True)
class Judgement:
    """A claim with its checks, its controls and the verdict they imply."""

    claim: Claim
    checks: tuple[Check, ...]
    controls: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
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
        """How many checks pass with every tolerance multiplied by `scale`."""
        return _tally(self.checks, scale)[Outcome.PASS]

    def line(self) -> str:
        """The one line a chapter prints and nbval compares: the verdict, nothing else.

        How many checks pass, and by how much, is not in it: on another processor a
        check may come out otherwise without turning the verdict.

        >>> from widthlab.estimates import exact
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
        """What became of the negative controls, in one line."""
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

    def table(self) -> pd.DataFrame:
        """Measured digits, check by check (for cells that nbval does not compare)."""
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
        """The claim's object in results/claims.json."""
        headline = self.checks[0].to_json()
        return {
            **asdict(self.claim),
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
        """The judgement that `to_json` wrote.

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
        claim = Claim(**{name: entry[name] for name in Claim.__dataclass_fields__})
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
    *Claim.__dataclass_fields__,
    *_HEADLINE,
    *("checks", "passes", "negative_control", "verdict"),
}


def _tally(checks: Iterable[Check], scale: float = 1.0) -> dict[Outcome, int]:
    outcomes = [check.outcome(scale) for check in checks]
    return {outcome: outcomes.count(outcome) for outcome in Outcome}


def _among(name: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise ClaimError(f"{name} must be one of {', '.join(allowed)}, got {given!r}")


def _round(number: float, digits: int) -> float:
    return float(f"{number:.{digits - 1}e}") + 0.0  # + 0.0: no negative zero
