"""Estimates of a quantity for each group of runs in a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from widthlab.claims.estimates import ClaimError, Estimate, exact, extent, mean
from widthlab.claims.slopes import slope

if TYPE_CHECKING:
    import pandas as pd


def slopes(
    frame: pd.DataFrame,
    quantity: str,
    by: str | Sequence[str] = ("parametrization", "layer"),
    **where: Any,
) -> dict[Any, Estimate]:
    """Return the slope against width of a quantity, for each group of runs.

    Args:
        frame: Table in long form, as `widthlab.frame` returns.
        quantity: Which rows.
        by: Column or columns that tell groups apart; with one, keys are its values.
        **where: Values of further columns to keep.

    Raises:
        ClaimError: No row is left, or `slope` refuses a group.

    >>> import pandas as pd
    >>> rows = [("mup", n, s, "q", 2.0 + s) for n in (64, 128, 256) for s in (0, 1)]
    >>> names = ["parametrization", "width", "seed", "quantity", "value"]
    >>> estimates = slopes(pd.DataFrame(rows, columns=names), "q", by="parametrization")
    >>> abs(round(estimates["mup"].value, 6))
    0.0
    """
    return {key: slope(rows) for key, rows in _groups(frame, quantity, by, where)}


def means(
    frame: pd.DataFrame, quantity: str, by: str | Sequence[str], **where: Any
) -> dict[Any, Estimate]:
    """Return the mean over seeds of a quantity, for each group of runs; as `slopes`."""
    return {
        key: mean(rows["value"]) for key, rows in _groups(frame, quantity, by, where)
    }


def extents(
    frame: pd.DataFrame, quantity: str, by: str | Sequence[str], **where: Any
) -> dict[Any, Estimate]:
    """Return mean and range over seeds of a quantity, by group of runs; as `slopes`.

    Of a group with a single run it is that run's number, which has no spread.
    """
    return {
        key: extent(rows["value"]) if len(rows) > 1 else exact(rows["value"].iloc[0])
        for key, rows in _groups(frame, quantity, by, where)
    }


def _groups(
    frame: pd.DataFrame, quantity: str, by: str | Sequence[str], where: dict[str, Any]
) -> Iterable[tuple[Any, pd.DataFrame]]:
    """Rows of each group of runs."""
    chosen = frame.loc[frame["quantity"] == quantity]
    for column, value in where.items():
        chosen = chosen.loc[chosen[column] == value]
    if chosen.empty:
        wanted = {"quantity": quantity} | where
        measured = sorted(frame["quantity"].unique())
        raise ClaimError(f"no row has {wanted}; the quantities are {measured}")
    columns = [by] if isinstance(by, str) else list(by)
    keys = columns if len(columns) > 1 else columns[0]
    return chosen.groupby(keys)
