r"""Exponents of power laws in width, with intervals from seeds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from widthlab.claims.estimates import (
    ClaimError,
    Estimate,
    _bad,
    _list,
    _positive,
    _t,
    _welch,
)

if TYPE_CHECKING:
    import pandas as pd


def slope(
    frame: pd.DataFrame,
    *,
    value: str = "value",
    width: str = "width",
    seed: str = "seed",
    level: float = 0.95,
    resamples: int = 2000,
    rng_seed: int = 0,
) -> Estimate:
    r"""Return the log-log slope of a power law in width, with an interval from seeds.

    The point estimate is the least-squares slope of the seed means of $y = \log$ value
    on $x = \log$ width, each width counted once:

    $$\hat\beta = \sum_w c_w \bar y_w, \qquad c_w = (x_w - \bar x) / S_{xx}, \qquad
      S_{xx} = \sum_w (x_w - \bar x)^2.$$

    The interval joins two sources of error in quadrature, on each side:

    $$h_\pm^2 = \Big(\tfrac{t_\nu}{z}\, q_\pm\Big)^2 + t_{k-2}^2\, \tau^2 / S_{xx}$$

    *Seeds.* $q_\pm$ are the bootstrap percentiles' distances from $\hat\beta$ when
    seeds are resampled within each width, independently between widths (equal seed
    numbers at two widths are still independent runs). With $n$ seeds the plain
    bootstrap is too narrow twice over. Its variance is that of the $n$ values about
    their own mean, $(n-1)/n$ of the unbiased one, so each resampled deviation is
    inflated by $\sqrt{n/(n-1)}$; and its percentiles are Gaussian while the spread
    itself is estimated from a handful of values, so they are stretched by $t_\nu / z$,
    with Welch and Satterthwaite's $\nu$.

    *Lack of fit.* If the points do not lie on a line (curvature from finite width),
    their residuals $r_w$ exceed what seed noise explains, and more seeds would not
    help. That excess is estimated by moments,

    $$\tau^2 = \max\Big(0, \frac{1}{k-2} \Big(\sum_w r_w^2
      - \sum_w M_{ww} \frac{s_w^2}{n_w}\Big)\Big),$$

    where $M$ is the residual projection of the regression over $k$ widths and
    $s_w^2 / n_w$ the variance of the mean at a width. Where lack of fit dominates this
    is the regression's own interval with $k - 2$ degrees of freedom; where there is
    none the term vanishes. The sum is slightly conservative, never narrower than the
    seeds allow.

    Args:
        frame: One row for each run: one value per (width, seed).
        value: Column of positive values.
        width: Column of widths, at least three distinct ones.
        seed: Column that tells runs of one width apart, at least two per width.
        level: Confidence level in (0, 1).
        resamples: Bootstrap resamples.
        rng_seed: Seed of the bootstrap, so that an interval is a function of the data.

    Returns:
        The slope; `seeds` is the smallest count over widths.

    Raises:
        ClaimError: A column is missing, a run appears twice, there are too few widths
            or seeds, or a value has no logarithm.

    >>> import pandas as pd
    >>> rows = [(n, s, n**-0.5 * (1 + s)) for n in (64, 128, 256) for s in (0, 1)]
    >>> estimate = slope(pd.DataFrame(rows, columns=["width", "seed", "value"]))
    >>> round(estimate.value, 6), estimate.seeds
    (-0.5, 2)
    """
    z = _t(level, math.inf)
    if resamples < 100:
        raise ClaimError(f"resamples must be at least 100, got {resamples}")
    widths, samples = _runs(frame, value=value, width=width, seed=seed)
    x = np.log(widths)
    x = x - x.mean()
    leverage = x @ x
    coefficients = x / leverage
    sizes = np.array([y.size for y in samples])
    means = np.array([y.mean() for y in samples])
    variances = np.array([y.var(ddof=1) for y in samples]) / sizes  # of the means

    centre = float(coefficients @ means)
    shifts = _bootstrap(samples, coefficients, resamples, rng_seed)
    tail = (1 - level) / 2
    below, above = np.quantile(shifts, [tail, 1 - tail])
    dof = _welch(coefficients**2 * variances, sizes)
    stretch = _t(level, dof) / z
    misfit = _misfit(x, means, variances, level)
    return Estimate(
        centre,
        centre - math.hypot(stretch * min(below, 0.0), misfit),
        centre + math.hypot(stretch * max(above, 0.0), misfit),
        int(sizes.min()),
    )


def _bootstrap(
    samples: list[np.ndarray], coefficients: np.ndarray, resamples: int, rng_seed: int
) -> np.ndarray:
    """Deviations of the resampled slopes from the slope of the data."""
    rng = np.random.default_rng(rng_seed)
    shifts = np.zeros(resamples)
    for sample, coefficient in zip(samples, coefficients, strict=True):
        n = sample.size
        deviations = (sample - sample.mean()) * math.sqrt(n / (n - 1))
        drawn = deviations[rng.integers(n, size=(resamples, n))].mean(axis=1)
        shifts += coefficient * drawn
    return shifts


def _misfit(
    x: np.ndarray, means: np.ndarray, variances: np.ndarray, level: float
) -> float:
    """Half-width of the slope due to residuals that seed noise does not explain."""
    dof = x.size - 2
    residuals = means - means.mean() - x * (x @ means) / (x @ x)
    kept = 1 - 1 / x.size - x**2 / (x @ x)  # diagonal of the residual projection
    excess = max(0.0, float(residuals @ residuals - kept @ variances) / dof)
    return _t(level, dof) * math.sqrt(excess / float(x @ x))


def _runs(
    frame: pd.DataFrame, *, value: str, width: str, seed: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Distinct widths in order, and the log values of the runs at each."""
    missing = [name for name in (value, width, seed) if name not in frame.columns]
    if missing:
        raise ClaimError(
            f"no column {', '.join(map(repr, missing))}; the frame has "
            f"{', '.join(map(repr, frame.columns))}"
        )
    twice = frame.duplicated([width, seed])
    if twice.any():
        first = frame.loc[twice, [width, seed]].iloc[0]
        raise ClaimError(
            f"{int(twice.sum())} rows repeat a ({width}, {seed}) pair, the first "
            f"{tuple(first.tolist())}; select one step, layer, quantity and "
            "parametrization, so that each run counts once"
        )
    frame = frame.sort_values([width, seed])  # the bootstrap draws by position
    at = frame[width].to_numpy(dtype=float)
    if _bad(at).size:
        raise ClaimError(
            f"widths must be finite and positive, got {_list(at[_bad(at)][:5])}"
        )
    widths = np.unique(at)
    if widths.size < 3:
        raise ClaimError(
            f"a slope needs at least 3 distinct widths, got {widths.size} "
            f"({_list(widths)}); two points always lie on a line"
        )
    values = frame[value].to_numpy(dtype=float)
    where = [f"{width}={at[i]:g} {seed}={frame[seed].iloc[i]}" for i in _bad(values)]
    logs = np.log(_positive(values, where))
    samples = [logs[at == n] for n in widths]
    few = [n for n, y in zip(widths, samples, strict=True) if y.size < 2]
    if few:
        raise ClaimError(
            f"{width} {_list(few)} has a single {seed}, so no spread can be "
            "estimated; run at least 2 (3 or more is better) or leave that width out"
        )
    return widths, samples
