"""Tables of measurements in long form: rows chosen, paired, and made from numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, SupportsFloat

if TYPE_CHECKING:
    import pandas as pd

# What a run came to: it does not say which run a row belongs to.
_RESULTS = ("value", "diverged_at", "stopped_at", "status", "reached")

_ENDS = {"first": "min", "last": "max"}


def select(frame: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Return the rows of a table, by what their columns must be.

    Args:
        frame: table in long form.
        **where: for each column a value, a collection of values, or a function that
            says of the column which rows to keep; None, or NaN, where there is
            nothing. In a column of numbers "first" and
            "last" are the least and the greatest that all other conditions leave.

    Raises:
        ValueError: there is no such column, or no row is left.

    Example:
        >>> import pandas as pd
        >>> runs = pd.DataFrame({"width": [64, 64, 128, 128], "step": [0, 9, 0, 9]})
        >>> select(runs, width=lambda n: n > 64, step="last").to_dict("records")
        [{'width': 128, 'step': 9}]
    """
    unknown = [column for column in where if column not in frame.columns]
    if unknown:
        raise ValueError(f"no column {unknown}; the table has {[*frame.columns]}")
    ends = [column for column in where if _is_end(frame[column], where[column])]
    for column in [*(c for c in where if c not in ends), *ends]:
        kept: Any = frame[_fits(frame[column], where[column])]
        if kept.empty:
            there = frame[column].drop_duplicates().tolist()
            raise ValueError(
                f"no row of {where}; where the conditions before it hold, {column} is "
                f"one of {there[:12]}"
            )
        frame = kept
    return frame


def paired(frame: pd.DataFrame, by: str, top: Any, bottom: Any) -> pd.DataFrame:
    """Return ratios of values that agree in what tells rows apart, but for one column.

    These are the columns that vary within the numerators or within the denominators:
    width, seed and layer, say, but not a learning rate that goes with `by`. Equal seeds
    draw equal Gaussians, so that ratios by seed vary less than values do.

    Args:
        frame: table in long form, of one quantity or several.
        by: the column in which they differ, such as "parametrization" or "step".
        top: its value in numerators; "first" and "last" as in `select`.
        bottom: its value in denominators.

    Returns:
        The numerators' rows in order of what tells them apart, their values divided.

    Raises:
        ValueError: a row has no partner, or several.

    Example:
        >>> import pandas as pd
        >>> rows = [("ip", 0, 2.0), ("mup", 0, 4.0), ("ip", 1, 3.0), ("mup", 1, 2.0)]
        >>> runs = pd.DataFrame(rows, columns=["parametrization", "seed", "value"])
        >>> paired(runs, "parametrization", "ip", "mup")["value"].tolist()
        [0.5, 1.5]
    """
    above, below = select(frame, **{by: top}), select(frame, **{by: bottom})
    keys = [
        column
        for column in frame.columns
        if column not in (*_RESULTS, by)
        and any(part[column].nunique(dropna=False) > 1 for part in (above, below))
    ]
    # Without such a column there is one row each, which an index of zeros pairs.
    one, other = (_indexed(part, keys, by) for part in (above, below))
    alone = one.symmetric_difference(other)
    if len(alone):
        raise ValueError(
            f"{len(alone)} rows with {by} {top!r} or {bottom!r} have no partner of "
            f"equal {keys}, the first {alone[0]}; select rows that both have"
        )
    order = one.sort_values()
    numerators = above.set_axis(one).reindex(order)
    ratios = numerators["value"] / below.set_axis(other)["value"].reindex(order)
    return numerators.assign(value=ratios).reset_index(drop=True)


def by_seed(
    values: Mapping[Any, Iterable[SupportsFloat]],
    by: str | tuple[str, ...] = "width",
    **columns: Any,
) -> pd.DataFrame:
    """Return one number for each seed, from the numbers of each width or other case.

    Args:
        values: numbers in order of seeds, for each case.
        by: the column, or columns, that cases stand in.
        **columns: values of further columns.

    Returns:
        One row for each number, with these columns, `seed` and `value`.

    Raises:
        ValueError: a case does not have one part for each column, or two columns have
            one name.

    Example:
        >>> by_seed({64: [0.1, 0.2], 128: [0.3]}, quantity="gap").to_dict("records")[2]
        {'width': 128, 'quantity': 'gap', 'seed': 0, 'value': 0.3}
    """
    import pandas as pd

    names = [*((by,) if isinstance(by, str) else by), *columns, "seed", "value"]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the table would have {twice} twice; name columns apart")
    rows = [
        {**_cells(by, case), **columns, "seed": seed, "value": float(value)}
        for case, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]
    return pd.DataFrame(rows)


def _cells(by: str | tuple[str, ...], case: Any) -> dict[str, Any]:
    """Return the cells of a case in its column or columns."""
    if isinstance(by, str):
        return {by: case}
    if not isinstance(case, tuple) or len(case) != len(by):
        raise ValueError(f"{case!r} does not have one part for each column of {by}")
    return dict(zip(by, case, strict=True))


def _is_end(column: Any, wanted: Any) -> bool:
    return isinstance(wanted, str) and wanted in _ENDS and column.dtype.kind in "iuf"


def _fits(column: Any, wanted: Any) -> Any:
    if _is_end(column, wanted):
        return column == getattr(column, _ENDS[wanted])()
    if callable(wanted):
        return wanted(column)
    if isinstance(wanted, Collection) and not isinstance(wanted, str):
        return column.isin(list(wanted))
    # Nothing equals NaN, which is also what pandas makes of None among numbers.
    return column.isna() if wanted is None or wanted != wanted else column == wanted


def _indexed(rows: Any, keys: list[str], by: str) -> pd.MultiIndex:
    """Index of what tells rows apart."""
    import pandas as pd

    index = pd.MultiIndex.from_frame(rows[keys] if keys else rows[[by]] * 0)
    if index.has_duplicates:
        again = index[index.duplicated()][0]
        raise ValueError(f"several rows have {dict(zip(keys, again, strict=True))}")
    return index
