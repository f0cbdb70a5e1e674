"""Rows of many computations in one table, with what tells the computations apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from widthlab.runs import Computed, Record, sweep


def rows_of(specs: Iterable[Computed], **options: Any) -> pd.DataFrame:
    """Run computations and join their rows, as `joined` does.

    Args:
        specs: what to run.
        **options: as for `sweep`.
    """
    return joined(sweep(list(specs), **options))


def joined(records: Iterable[Record]) -> pd.DataFrame:
    """Join the rows of computations, with their fields that are no tuples.

    Args:
        records: of computations, at least one.

    Returns:
        A table in the order of the records; a column of the rows hides a field of the
        same name.
    """
    parts = []
    for record in records:
        table: Any = record.table
        fields = {
            name: value
            for name, value in record.spec.columns.items()
            if not isinstance(value, tuple) and name not in table
        }
        parts.append(table.assign(**fields))
    return pd.concat(parts, ignore_index=True)
