"""A check: one predicted number against one measured interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Self

import attrs

from widthlab.claims.estimates import LEVEL, ClaimError, Estimate
from widthlab.fields import choice, instance, number, optional, text

RELATIONS = ("equals", "at_most", "at_least")


SYMBOLS = {"equals": "=", "at_most": "≤", "at_least": "≥"}


ALPHA = (1 - LEVEL) / 2
"""Level of each one-sided test, so that it says what the interval says."""


class Outcome(StrEnum):
    """What one check came to."""

    PASS = "pass"
    """The whole interval satisfies the relation."""

    OPEN = "open"
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
    <Outcome.OPEN: 'open'>
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

    def bounds(self) -> tuple[float, float]:
        """Return the least and the greatest number for which the relation holds."""
        low, high = self.predicted - self.tolerance, self.predicted + self.tolerance
        if self.relation == "at_most":
            low = -math.inf
        elif self.relation == "at_least":
            high = math.inf
        return low, high

    def p_values(self) -> tuple[float, float]:
        """Return p-values for the relation and against it.

        For it stand two one-sided tests, of which both must reject; against it either
        of them with sides changed. Without a measurement, 1 and 1.
        """
        if self.estimate is None:
            return 1.0, 1.0
        low, high = self.bounds()
        holds = max(self.estimate.p_above(low), self.estimate.p_below(high))
        # For the limit itself the relation holds: a range that ends there is open.
        under, over = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
        fails = min(self.estimate.p_below(under), self.estimate.p_above(over))
        return holds, fails

    def outcome(self) -> Outcome:
        """Pass if the whole interval satisfies the relation, fail if none of it does.

        In between the data do not decide: an equality whose interval is wider than
        the band is open, never a pass.
        """
        return self.outcome_at(ALPHA, ALPHA)

    def outcome_at(self, holds: float, fails: float) -> Outcome:
        """Return the outcome where p-values for and against it are judged at levels."""
        return self._outcome(self.p_values(), (holds, fails))

    def _outcome(
        self, p_values: tuple[float, float], levels: tuple[float, float]
    ) -> Outcome:
        if self.estimate is None:
            return Outcome.UNTESTED
        (for_it, against), (holds, fails) = p_values, levels
        if for_it <= holds:
            return Outcome.PASS
        return Outcome.FAIL if against <= fails else Outcome.OPEN

    def margin(self) -> float:
        """Return how far the interval is from where the outcome would be another.

        In units of the measured number; infinite without a measurement.
        """
        if self.estimate is None:
            return math.inf
        ends = (self.estimate.low, self.estimate.high)
        limits = [limit for limit in self.bounds() if math.isfinite(limit)]
        return min(abs(end - limit) for end in ends for limit in limits)

    def rounded(self, digits: int) -> Check:
        """Return the check with its numbers in significant digits."""
        estimate = self.estimate and attrs.evolve(
            self.estimate,
            value=_round(self.estimate.value, digits),
            low=_round(self.estimate.low, digits),
            high=_round(self.estimate.high, digits),
            dof=self.estimate.dof and _round(self.estimate.dof, digits),
        )
        return attrs.evolve(
            self,
            predicted=_round(self.predicted, digits),
            tolerance=_round(self.tolerance, digits),
            estimate=estimate,
        )

    def to_json(self) -> dict[str, Any]:
        """Return all numbers as a plain dictionary, without the outcome."""
        return {
            **{name: getattr(self, name) for name in _NAMES},
            "measured": self.estimate and self.estimate.value,
            "interval": self.estimate and [self.estimate.low, self.estimate.high],
            "kind": self.estimate and self.estimate.kind,
            "seeds": self.estimate and self.estimate.seeds,
            "dof": self.estimate and self.estimate.dof,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Return the check that `to_json` wrote."""
        estimate = None
        if entry["measured"] is not None:
            ends, rest = entry["interval"], ("seeds", "kind", "dof")
            estimate = Estimate(entry["measured"], *ends, *(entry[n] for n in rest))
        return cls(**{name: entry[name] for name in _NAMES}, estimate=estimate)


_NAMES = ("label", "quantity", "relation", "predicted", "tolerance")


def _round(number: float, digits: int) -> float:
    return float(f"{number:.{digits - 1}e}") + 0.0  # + 0.0: no negative zero


def holm(checks: Sequence[Check]) -> list[Outcome]:
    """Return the outcomes of several checks, adjusted together by Holm's procedure.

    Once over their p-values for the relation and once over those against it, each at
    `ALPHA`: that any of the outcomes "pass" is wrong has at most this probability,
    whatever the dependence between checks. So has any wrong "fail"; twice that where a
    band is narrow beside the interval, which can then miss it on either side. What is
    no sample has no p-value and is not adjusted.

    >>> one = Estimate(0.0, -0.09, 0.09, seeds=8)
    >>> [Check.equals("a", "q", 0.0, 0.1, one).outcome()]
    [<Outcome.PASS: 'pass'>]
    >>> holm([Check.equals(name, "q", 0.0, 0.1, one) for name in "abc"])[0]
    <Outcome.OPEN: 'open'>
    """
    p_values = [check.p_values() for check in checks]
    sampled = [c.estimate is not None and c.estimate.samples for c in checks]
    adjusted = [p for p, is_one in zip(p_values, sampled, strict=True) if is_one]
    holds, fails = (_holm_level([p[side] for p in adjusted]) for side in (0, 1))
    return [
        check._outcome(p, (holds, fails) if is_one else (ALPHA, ALPHA))
        for check, p, is_one in zip(checks, p_values, sampled, strict=True)
    ]


def _holm_level(p_values: Sequence[float]) -> float:
    """Level up to which Holm's step-down procedure rejects."""
    level = 0.0
    for rank, p in enumerate(sorted(p_values)):
        if p > ALPHA / (len(p_values) - rank):
            break
        level = p
    return level
