"""What a design can decide: the power of a primary endpoint, before anything is run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from scipy.special import gammaincinv, ndtr

from widthlab.claims.check import Check
from widthlab.claims.estimates import ClaimError, Estimate, _t
from widthlab.fields import count, number, optional, text
from widthlab.fields import truth as flag

ENOUGH = 0.9
"""The power that a design should have."""

MOST_SEEDS = 4096
"""Where looking for enough seeds ends."""

_QUANTILES = (np.arange(512) + 0.5) / 512


@attrs.frozen
class Plan:
    """How often a primary endpoint is measured, and what was known of its spread.

    Attributes:
        seeds: Replications.
        spread: Standard deviation of one replication, of its logarithm where `log`.
        origin: Where the spread comes from ("pilot of three seeds").
        truth: The value at which power is asked for; by default the predicted one,
            which an inequality cannot have.
        log: Whether it is the logarithm that is averaged, as in `geometric_mean`.

    Raises:
        ClaimError: Fewer than two seeds, or a spread that is not positive.

    >>> check = Check("μP", "slope", "equals", 0.0, 0.1)
    >>> plan = Plan(8, 0.1, "pilot")
    >>> round(plan.power(check), 2), plan.seeds_for(check)
    (0.41, 16)
    """

    _refusal: ClassVar = ClaimError

    seeds: int = attrs.field(converter=count(2))
    spread: float = attrs.field(converter=number(above=0))
    origin: str = attrs.field(converter=text())
    truth: float | None = attrs.field(
        default=None, converter=optional(number(), "for the predicted number")
    )
    log: bool = attrs.field(default=False, converter=flag())

    @classmethod
    def of(cls, estimate: Estimate, truth: float | None = None) -> Self:
        """Return the plan that a measurement suggests for the next one."""
        least = 1e-12 * max(1.0, abs(estimate.value))
        spread = max(estimate.spread, least)
        return cls(
            max(estimate.seeds, 2), spread, "measured", truth, estimate.kind == "log-t"
        )

    def power(self, check: Check, seeds: int | None = None) -> float:
        r"""Return the probability that the check passes, at the plan's truth.

        For $n$ normal replications with mean $\mu$ and standard deviation $\sigma$ and
        a relation that holds on $[l, u]$, the expectation over $s^2$ of

        $$\Big[\Phi\Big(\frac{u - t s/\sqrt n - \mu}{\sigma/\sqrt n}\Big)
          - \Phi\Big(\frac{l + t s/\sqrt n - \mu}{\sigma/\sqrt n}\Big)\Big]_+ .$$

        Raises:
            ClaimError: An inequality without a truth, or a truth without a logarithm.
        """
        n = seeds or self.seeds
        low, high = map(self._scaled, check.bounds())
        error = self.spread / math.sqrt(n)
        centre = self._truth(check)
        deviation = np.sqrt(gammaincinv((n - 1) / 2, _QUANTILES) / ((n - 1) / 2))
        half = _t(n - 1) * error * deviation
        above = ndtr((low + half - centre) / error)
        return float(np.maximum(ndtr((high - half - centre) / error) - above, 0).mean())

    def seeds_for(self, check: Check, power: float = ENOUGH) -> int | None:
        """Return the least number of seeds with that power; None above `MOST_SEEDS`."""
        least, most = 1, 2
        while self.power(check, most) < power:
            least, most = most, 2 * most
            if most > MOST_SEEDS:
                return None
        while most - least > 1:
            middle = (least + most) // 2
            if self.power(check, middle) < power:
                least = middle
            else:
                most = middle
        return most

    def _truth(self, check: Check) -> float:
        if self.truth is None and check.relation != "equals":
            raise ClaimError(
                f"{check.quantity!r} is predicted {check.relation} "
                f"{check.predicted:g}; its power needs the value that is supposed to "
                "be true: Plan(..., truth=)"
            )
        centre = check.predicted if self.truth is None else self.truth
        if self.log and centre <= 0:
            raise ClaimError(f"{centre} has no logarithm, in which power is asked for")
        return self._scaled(centre)

    def _scaled(self, value: float) -> float:
        if not self.log:
            return value
        return math.log(value) if value > 0 else -math.inf

    def to_json(self) -> dict[str, Any]:
        """All fields as a plain dictionary."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Return the plan that `to_json` wrote."""
        return cls(**entry)
