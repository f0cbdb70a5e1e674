"""Numbers with intervals: means, ratios and ranges over seeds.

A claim is never judged on a bare number. Every function here returns an
`Estimate`, a value with an interval that the seeds themselves imply.

A seed stands for a whole replication: its own weights, order, subset of data and probe
inputs. Intervals hold for replications of that kind and for no others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, SupportsFloat

import attrs
import numpy as np
from scipy.special import stdtr, stdtrit

from widthlab.fields import choice, count, number, optional

LEVEL = 0.95
"""Confidence level of every interval."""

KINDS = ("t", "log-t", "range", "exact")
"""What an interval may be."""


class ClaimError(ValueError):
    """A claim or an estimate was given input it cannot be judged on."""


_MEASURED = number()  # what was not measured is no estimate: estimate=None


@attrs.frozen
class Estimate:
    r"""A measured number with its interval.

    Attributes:
        value: The point estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
        seeds: Independent replications behind it (the smallest count where they
            differ); 0 for a number that has no seed spread.
        kind: "t", Student's interval at `LEVEL`; "log-t", the same of the logarithm;
            "range", the least and the greatest of all runs, which is no confidence
            interval; "exact", a number without spread.
        dof: Degrees of freedom of a "t" or "log-t"; by default `seeds - 1`.

    Raises:
        ClaimError: The numbers are not finite or not in order.

    >>> print(Estimate(0.5, 0.4, 0.6, seeds=3))
    0.5 [0.4, 0.6]
    """

    _refusal: ClassVar = ClaimError

    value: float = attrs.field(converter=_MEASURED)
    low: float = attrs.field(converter=_MEASURED)
    high: float = attrs.field(converter=_MEASURED)
    seeds: int = attrs.field(converter=count(0))
    kind: str = attrs.field(default="t", converter=choice(KINDS))
    dof: float | None = attrs.field(
        default=None, converter=optional(number(above=0), "for seeds - 1")
    )

    def __attrs_post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ClaimError(
                f"an interval must contain its value, got {self.value} in "
                f"[{self.low}, {self.high}]"
            )
        if self.kind == "log-t" and self.low <= 0:
            raise ClaimError(f"an interval of a logarithm is positive, got {self.low}")
        if self.samples and self.seeds < 2 and self.dof is None:
            raise ClaimError(
                f"Student's interval needs at least 2 seeds, got {self.seeds}; a "
                "number without spread is exact(), all of what was run is extent()"
            )

    @property
    def samples(self) -> bool:
        """Whether the interval is Student's, about what was not run."""
        return self.kind in ("t", "log-t")

    @property
    def spread(self) -> float:
        """Standard deviation of one replication, of its logarithm for "log-t".

        Without a sample, 0.
        """
        return self._error() * math.sqrt(self.seeds) if self.samples else 0.0

    def p_below(self, limit: float) -> float:
        r"""Return the one-sided p-value for a true value below a limit.

        Of a sample $T_{\nu}\big((\hat m - l) / \mathrm{se}\big)$, where $T_\nu$ is the
        distribution function of Student's t; it is at most 0.025 exactly where the
        interval ends below the limit. Of what is no sample, 0 if all of it is at most
        the limit, else 1.
        """
        return self._p(limit, 1)

    def p_above(self, limit: float) -> float:
        """Return the one-sided p-value for a true value above a limit."""
        return self._p(limit, -1)

    def _p(self, limit: float, sign: int) -> float:
        worst = self.high if sign > 0 else self.low
        error = self._error() if self.samples else 0.0
        if math.isinf(limit):
            return 0.0 if limit * sign > 0 else 1.0
        if error == 0:
            return 0.0 if sign * (limit - worst) >= 0 else 1.0
        if self.kind == "log-t" and limit <= 0:
            return 1.0 if sign > 0 else 0.0
        distance = self._scaled(self.value) - self._scaled(limit)
        return float(stdtr(self._dof(), sign * distance / error))

    def _scaled(self, number: float) -> float:
        return math.log(number) if self.kind == "log-t" else number

    def _error(self) -> float:
        """Standard error, from the interval's length."""
        length = self._scaled(self.high) - self._scaled(self.low)
        return length / 2 / _t(self._dof())

    def _dof(self) -> float:
        return self.seeds - 1 if self.dof is None else self.dof

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def exact(value: float) -> Estimate:
    """Return a number without seed spread: a count, or an identity checked to rounding.

    >>> exact(1)
    Estimate(value=1.0, low=1.0, high=1.0, seeds=0, kind='exact', dof=None)
    """
    return Estimate(float(value), float(value), float(value), 0, "exact")


def mean(values_by_seed: Iterable[SupportsFloat]) -> Estimate:
    r"""Return the mean over seeds with Student's interval.

    $$\bar y \pm t_{n-1}\, s / \sqrt n$$

    Args:
        values_by_seed: One value per seed, at least two, all finite.

    Raises:
        ClaimError: Fewer than two values, or a value that is not finite.

    >>> print(mean([1.0, 2.0, 3.0]))
    2 [-0.4841, 4.484]
    """
    values = _sample(values_by_seed)
    centre = float(values.mean())
    half = _t(values.size - 1) * math.sqrt(values.var(ddof=1) / values.size)
    return Estimate(centre, centre - half, centre + half, int(values.size))


def extent(values_by_seed: Iterable[float]) -> Estimate:
    """Return the mean with the whole range over seeds: a range, no interval.

    For limits that every single run must reach, such as numerical zero: a check on it
    passes only if the worst seed does.

    >>> extent([1.0, 2.0, 6.0])
    Estimate(value=3.0, low=1.0, high=6.0, seeds=3, kind='range', dof=None)
    """
    values = _sample(values_by_seed)
    low, high = float(values.min()), float(values.max())
    # The mean of equal numbers can fall outside their range by rounding.
    centre = min(max(float(values.mean()), low), high)
    return Estimate(centre, low, high, int(values.size), "range")


def geometric_mean(values_by_seed: Iterable[SupportsFloat]) -> Estimate:
    r"""Return the geometric mean over seeds, with Student's interval for the mean log.

    $$\exp\big(\overline{\log y} \pm t_{n-1}\, s_{\log y} / \sqrt n\big)$$

    For quantities that spread over factors rather than sums (eigenvalues, losses).

    Raises:
        ClaimError: Fewer than two values, or one that is not finite and positive.

    >>> print(geometric_mean([1.0, 2.0, 4.0]))
    2 [0.3575, 11.19]
    """
    logs = mean(np.log(_positive(_sample(values_by_seed))))
    return _exp(logs)


def ratio(
    numerator_by_seed: Iterable[SupportsFloat],
    denominator_by_seed: Iterable[SupportsFloat],
) -> Estimate:
    r"""Return the ratio of geometric means over independent seeds; Welch's interval.

    $$\exp\Big(\overline{\log y} - \overline{\log x}
      \pm t_\nu \big(s_{\log y}^2 / n_y + s_{\log x}^2 / n_x\big)^{1/2}\Big)$$

    Raises:
        ClaimError: Fewer than two values in either, or one that is not finite and
            positive.

    >>> print(ratio([2.0, 2.2, 1.8], [1.0, 1.1, 0.9]))
    2 [1.593, 2.511]
    """
    top = np.log(_positive(_sample(numerator_by_seed)))
    bottom = np.log(_positive(_sample(denominator_by_seed)))
    sizes = np.array([top.size, bottom.size])
    variances = np.array([top.var(ddof=1), bottom.var(ddof=1)]) / sizes
    dof = _welch(variances, sizes)
    half = _t(dof) * math.sqrt(variances.sum())
    centre = float(top.mean() - bottom.mean())
    ends = (centre - half, centre + half)
    return _exp(Estimate(centre, *ends, int(sizes.min()), dof=dof))


def _sample(values: Iterable[SupportsFloat]) -> np.ndarray:
    sample = np.asarray(
        values if isinstance(values, np.ndarray) else list(values), dtype=float
    )
    if sample.ndim != 1 or sample.size < 2:
        raise ClaimError(
            f"an interval needs one value for each of at least 2 seeds, got an array "
            f"of shape {sample.shape}; for a number without seed spread use exact()"
        )
    if not np.isfinite(sample).all():
        lost = np.flatnonzero(~np.isfinite(sample))
        raise ClaimError(
            f"{lost.size} of {sample.size} values are not finite (positions "
            f"{_list(lost)}); drop diverged members explicitly and say so"
        )
    return sample


def _bad(values: np.ndarray) -> np.ndarray:
    return np.flatnonzero(~(np.isfinite(values) & (values > 0)))


def _positive(values: np.ndarray, where: list[str] | None = None) -> np.ndarray:
    """The values, if each has a logarithm."""
    bad = _bad(values)
    if bad.size:
        places = where if where is not None else [f"position {i}" for i in bad]
        shown = ", ".join(places[:5]) + (", ..." if len(places) > 5 else "")
        raise ClaimError(
            f"{bad.size} of {values.size} values are not finite and positive, at "
            f"{shown}; a diverged member must be dropped explicitly (and the text "
            "must say so), a quantity that reaches zero has no log-log slope"
        )
    return values


def _welch(variances: np.ndarray, sizes: np.ndarray) -> float:
    """Welch and Satterthwaite's degrees of freedom of a sum of estimated variances."""
    total = float(variances.sum())
    if total == 0.0:
        return float((sizes - 1).sum())
    shares = variances / total  # first, so that tiny variances do not underflow
    return 1 / float((shares**2 / (sizes - 1)).sum())


def _t(dof: float) -> float:
    """Student's quantile of a two-sided interval at `LEVEL`."""
    return float(stdtrit(dof, (1 + LEVEL) / 2))


def _exp(logs: Estimate) -> Estimate:
    value, low, high = (math.exp(v) for v in (logs.value, logs.low, logs.high))
    return Estimate(value, low, high, logs.seeds, "log-t", logs.dof)


def _list(values: Iterable[Any]) -> str:
    return ", ".join(f"{v:g}" for v in values)
