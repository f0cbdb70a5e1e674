r"""Exponents of power laws in width, one a replication, with Student's interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from widthlab.claims.estimates import (
    ClaimError,
    Estimate,
    _bad,
    _list,
    _positive,
    mean,
)

if TYPE_CHECKING:
    import pandas as pd


def slope(
    frame: pd.DataFrame,
    *,
    value: str = "value",
    width: str = "width",
    seed: str = "seed",
) -> Estimate:
    r"""Return the log-log slope of a power law in width: a mean over replications.

    Each replication $s$ has a least-squares slope of its own, of $y = \log$ value on
    $x = \log$ width,

    $$\hat\beta_s = \sum_w c_w y_{ws}, \qquad c_w = (x_w - \bar x) / S, \qquad
      S = \sum_w (x_w - \bar x)^2,$$

    and the estimate is their mean with Student's interval, $n - 1$ degrees of freedom.
    Its coverage is exact for normal $y$ whatever the covariance between widths, so
    replications may share data, Gaussians or probe inputs across widths. It covers the
    slope of the best line. Where the law is curved that is not the exponent: `bend`
    says by how much a law is no line, and a derived correction belongs into the
    prediction.

    Args:
        frame: One row for each run: one value for each width and replication.
        value: Column of positive values.
        width: Column of widths, at least three distinct ones.
        seed: Column of replications, at least two, each with all widths.

    Raises:
        ClaimError: A column is missing, a run appears twice or is missing, there are
            too few widths or seeds, or a value has no logarithm.

    >>> import pandas as pd
    >>> rows = [(n, s, n**-0.5 * (1 + s)) for n in (64, 128, 256) for s in (0, 1)]
    >>> estimate = slope(pd.DataFrame(rows, columns=["width", "seed", "value"]))
    >>> round(estimate.value, 6), estimate.seeds
    (-0.5, 2)
    """
    x, logs = _block(frame, value, width, seed)
    return mean(logs @ x / (x @ x))


def bend(
    frame: pd.DataFrame,
    *,
    value: str = "value",
    width: str = "width",
    seed: str = "seed",
) -> Estimate:
    r"""Return how much the local slope changes over the widths: lack of fit to a line.

    Of the least-squares parabola of each replication, $y = a + b x + c x^2$, the
    difference $2c\,(x_{\max} - x_{\min})$ between the local slopes at the last and at
    the first width, as a mean with Student's interval. It is a diagnosis: an interval
    off zero says that the law is not a power of width yet, and decides nothing else.

    Args and errors are those of `slope`.

    >>> import pandas as pd
    >>> rows = [(n, s, (1 + s) / n) for n in (64, 128, 256) for s in (0, 1)]
    >>> abs(bend(pd.DataFrame(rows, columns=["width", "seed", "value"])).value) < 1e-9
    True
    """
    x, logs = _block(frame, value, width, seed)
    square = x**2 - (x**2).mean()
    square -= x * (x @ square) / (x @ x)
    coefficients = logs @ square / (square @ square)
    return mean(2 * coefficients * (x.max() - x.min()))


def _block(
    frame: pd.DataFrame, value: str, width: str, seed: str
) -> tuple[np.ndarray, np.ndarray]:
    """Centred log widths, and the log values: a row a replication."""
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
    at = frame[width].to_numpy(dtype=float)
    if _bad(at).size:
        raise ClaimError(
            f"widths must be finite and positive, got {_list(at[_bad(at)][:5])}"
        )
    values = frame[value].to_numpy(dtype=float)
    where = [f"{width}={at[i]:g} {seed}={frame[seed].iloc[i]}" for i in _bad(values)]
    _positive(values, where)
    table = frame.pivot(index=seed, columns=width, values=value).sort_index(axis=1)
    widths = table.columns.to_numpy(dtype=float)
    if widths.size < 3:
        raise ClaimError(
            f"a slope needs at least 3 distinct widths, got {widths.size} "
            f"({_list(widths)}); two points always lie on a line"
        )
    gaps = table.isna().to_numpy()
    if gaps.any():
        row, column = np.argwhere(gaps)[0]
        raise ClaimError(
            f"{int(gaps.sum())} runs are missing, the first {seed} "
            f"{table.index[row]} at {width} {widths[column]:g}; a slope is one "
            "replication's over all widths: run them, or leave out the replication or "
            "the width explicitly"
        )
    if len(table) < 2:
        raise ClaimError(
            f"there is a single {seed}, so no spread can be estimated; run at least 2"
        )
    x = np.log(widths)
    return x - x.mean(), np.log(table.to_numpy(dtype=float))
