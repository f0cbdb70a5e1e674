"""The columns of many runs in one Parquet file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Columns = Mapping[str, list[Any]]

_RUN = "run"


def written(columns_of: Mapping[str, Columns]) -> bytes:
    """Return a file with the columns of each run; equal columns give equal files.

    Raises:
        ValueError: a column has values of one type in one run, of another in another.
    """
    parts = []
    for name, columns in columns_of.items():
        length = len(next(iter(columns.values()), []))
        run = {_RUN: pa.array([name] * length).dictionary_encode()}
        parts.append(pa.table(run | {k: _array(v) for k, v in columns.items()}))
    try:
        table = pa.concat_tables(parts, promote_options="default")
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"columns of equal names have other types in other runs ({error}); name "
            "them apart"
        ) from error
    stream = io.BytesIO()
    pq.write_table(table.unify_dictionaries(), stream, compression="zstd")
    return stream.getvalue()


def _array(values: list[Any]) -> pa.Array:
    array = pa.array(values)
    return array.dictionary_encode() if pa.types.is_string(array.type) else array


def read(path: Path) -> dict[str, dict[str, list[Any]]]:
    """Return the columns of each run, as `written` was given them.

    Columns of other runs are there too, empty; the caller knows its own.
    """
    table = pq.read_table(path).combine_chunks()
    by_run: dict[str, dict[str, list[Any]]] = {}
    runs = table[_RUN].to_pylist()
    start = 0
    for end in range(1, len(runs) + 1):
        if end == len(runs) or runs[end] != runs[start]:
            rows = table.slice(start, end - start).drop_columns([_RUN])
            by_run[runs[start]] = rows.to_pydict()
            start = end
    return by_run
