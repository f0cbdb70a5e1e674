"""Numbers with intervals: means, ratios and ranges over seeds.

A claim is never judged on a bare number. Every function here returns an
`Estimate`, a value with an interval that the seeds themselves imply.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, SupportsFloat

import attrs
import numpy as np
from scipy.special import stdtrit

from widthlab.fields import count, number


class ClaimError(ValueError):
    """A claim or an estimate was given input it cannot be judged on."""


_MEASURED = number()  # what was not measured is no estimate: estimate=None


@attrs.frozen
class Estimate:
    """A measured number with its interval.

    Attributes:
        value: The point estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
        seeds: Independent runs behind it (the smallest count where they differ);
            0 for a number that has no seed spread.

    Raises:
        ClaimError: The numbers are not finite or not in order.

    >>> Estimate(0.5, 0.4, 0.7, seeds=3)
    Estimate(value=0.5, low=0.4, high=0.7, seeds=3)
    """

    _refusal: ClassVar = ClaimError

    value: float = attrs.field(converter=_MEASURED)
    low: float = attrs.field(converter=_MEASURED)
    high: float = attrs.field(converter=_MEASURED)
    seeds: int = attrs.field(converter=count(0))

    def __attrs_post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ClaimError(
                f"an interval must contain its value, got {self.value} in "
                f"[{self.low}, {self.high}]"
            )

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def exact(value: float) -> Estimate:
    """Return a number without seed spread: a count, or an identity checked to rounding.

    >>> exact(1)
    Estimate(value=1.0, low=1.0, high=1.0, seeds=0)
    """
    return Estimate(float(value), float(value), float(value), 0)


def mean(values_by_seed: Iterable[SupportsFloat], *, level: float = 0.95) -> Estimate:
    r"""Return the mean over seeds with Student's interval.

    $$\bar y \pm t_{n-1}\, s / \sqrt n$$

    Args:
        values_by_seed: One value per seed, at least two, all finite.
        level: Confidence level in (0, 1).

    Raises:
        ClaimError: Fewer than two values, or a value that is not finite.

    >>> print(mean([1.0, 2.0, 3.0]))
    2 [-0.4841, 4.484]
    """
    values = _sample(values_by_seed)
    centre = float(values.mean())
    half = _t(level, values.size - 1) * math.sqrt(values.var(ddof=1) / values.size)
    return Estimate(centre, centre - half, centre + half, int(values.size))


def extent(values_by_seed: Iterable[float]) -> Estimate:
    """Return the mean with the whole range over seeds as its interval.

    For limits that every single run must reach, such as numerical zero: a check on it
    passes only if the worst seed does.

    >>> extent([1.0, 2.0, 6.0])
    Estimate(value=3.0, low=1.0, high=6.0, seeds=3)
    """
    values = _sample(values_by_seed)
    low, high = float(values.min()), float(values.max())
    # The mean of equal numbers can fall outside their range by rounding.
    return Estimate(min(max(float(values.mean()), low), high), low, high, values.size)


def geometric_mean(
    values_by_seed: Iterable[SupportsFloat], *, level: float = 0.95
) -> Estimate:
    r"""Return the geometric mean over seeds, with Student's interval for the mean log.

    $$\exp\big(\overline{\log y} \pm t_{n-1}\, s_{\log y} / \sqrt n\big)$$

    For quantities that spread over factors rather than sums (eigenvalues, losses).

    Raises:
        ClaimError: Fewer than two values, or one that is not finite and positive.

    >>> print(geometric_mean([1.0, 2.0, 4.0]))
    2 [0.3575, 11.19]
    """
    logs = mean(np.log(_positive(_sample(values_by_seed))), level=level)
    return _exp(logs)


def ratio(
    numerator_by_seed: Iterable[SupportsFloat],
    denominator_by_seed: Iterable[SupportsFloat],
    *,
    level: float = 0.95,
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
    half = _t(level, _welch(variances, sizes)) * math.sqrt(variances.sum())
    centre = float(top.mean() - bottom.mean())
    return _exp(Estimate(centre, centre - half, centre + half, int(sizes.min())))


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


def _t(level: float, dof: float) -> float:
    if not 0 < level < 1:
        raise ClaimError(f"level must lie in (0, 1), got {level}")
    return float(stdtrit(dof, (1 + level) / 2))


def _exp(logs: Estimate) -> Estimate:
    value, low, high = (math.exp(v) for v in (logs.value, logs.low, logs.high))
    return Estimate(value, low, high, logs.seeds)


def _list(values: Iterable[Any]) -> str:
    return ", ".join(f"{v:g}" for v in values)
