"""A check: one predicted number against one measured interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Self

import attrs

from widthlab.claims.estimates import ClaimError, Estimate
from widthlab.fields import choice, instance, number, optional, text

RELATIONS = ("equals", "at_most", "at_least")


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


@attrs.frozen
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
    >>> Check.equals("μP", "slope", 0.0, 0.1, measured).outcome()
    <Outcome.PASS: 'pass'>
    >>> Check.at_least("μP", "slope", 0.0, measured).outcome()
    <Outcome.INCONCLUSIVE: 'inconclusive'>
    """

    _refusal: ClassVar = ClaimError

    label: str = attrs.field(converter=text())
    quantity: str = attrs.field(converter=text())
    relation: str = attrs.field(converter=choice(RELATIONS))
    predicted: float = attrs.field(converter=number())
    tolerance: float = attrs.field(converter=number(least=0))
    estimate: Estimate | None = attrs.field(
        default=None, converter=optional(instance(Estimate), "without a measurement")
    )

    @classmethod
    def equals(
        cls,
        label: str,
        quantity: str,
        predicted: float,
        within: float,
        estimate: Estimate | None = None,
    ) -> Self:
        r"""Return a check of $|m - p| \le \delta$, with `within` for $\delta$."""
        return cls(label, quantity, "equals", predicted, within, estimate)

    @classmethod
    def at_most(
        cls,
        label: str,
        quantity: str,
        limit: float,
        estimate: Estimate | None = None,
        slack: float = 0.0,
    ) -> Self:
        r"""Return a check of $m \le p + \delta$, with `slack` for $\delta$."""
        return cls(label, quantity, "at_most", limit, slack, estimate)

    @classmethod
    def at_least(
        cls,
        label: str,
        quantity: str,
        limit: float,
        estimate: Estimate | None = None,
        slack: float = 0.0,
    ) -> Self:
        r"""Return a check of $m \ge p - \delta$, with `slack` for $\delta$."""
        return cls(label, quantity, "at_least", limit, slack, estimate)

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
        """Return the check in 4 significant digits.

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
        return attrs.evolve(
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
        """Return the check that `to_json` wrote."""
        estimate = None
        if entry["measured"] is not None:
            low, high = entry["interval"]
            estimate = Estimate(entry["measured"], low, high, entry["seeds"])
        names = ("label", "quantity", "relation", "predicted", "tolerance")
        return cls(**{name: entry[name] for name in names}, estimate=estimate)


def _round(number: float, digits: int) -> float:
    return float(f"{number:.{digits - 1}e}") + 0.0  # + 0.0: no negative zero
