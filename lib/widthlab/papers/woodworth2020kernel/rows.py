"""Rows of many computations in one table, with what tells the computations apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from widthlab.runs import Computed, sweep


def rows_of(specs: Iterable[Computed], **options: Any) -> pd.DataFrame:
    """Run computations and join their rows, with their fields that are no tuples.

    Args:
        specs: what to run.
        **options: as for `sweep`.

    Returns:
        A table in the order of the computations; a column of the rows hides a field of
        the same name.
    """
    parts = []
    for record in sweep(list(specs), **options):
        table: Any = record.table
        fields = {
            name: value
            for name, value in record.spec.columns.items()
            if not isinstance(value, tuple) and name not in table
        }
        parts.append(table.assign(**fields))
    return pd.concat(parts, ignore_index=True)
