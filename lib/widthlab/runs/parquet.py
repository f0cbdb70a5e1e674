"""The columns of many runs in one Parquet file."""

from __future__ import annotations

import io
import itertools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Columns = Mapping[str, list[Any]]

Rows = dict[str, dict[str, list[Any]]]
"""Columns by run."""

_RUN = "run"


_TYPES = (bool, int, float, str)


def held(columns_of: Mapping[str, Columns]) -> set[str]:
    """Return the names of columns that come back from a file as they are.

    Their values are of one type in all runs, or None.
    """
    types: dict[str, set[type | None]] = {}
    for columns in columns_of.values():
        for name, values in columns.items():
            types.setdefault(name, set()).update(map(_type, values))
    fit = {name for name, found in types.items() if len(found - {type(None)}) <= 1}
    return {name for name in fit if None not in types[name]} - {_RUN}


def _type(value: Any) -> type | None:
    """Return a value's type; None if a file has none for it."""
    if value is None:
        return type(None)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return None
    return next((kind for kind in _TYPES if isinstance(value, kind)), None)


def written(columns_of: Mapping[str, Columns], names: Collection[str]) -> bytes:
    """Return a file with these columns of each run, which must be `held`.

    Equal columns give equal files.
    """
    parts = []
    for name, columns in columns_of.items():
        length = len(next(iter(columns.values()), []))
        run = {_RUN: pa.array([name] * length, pa.string()).dictionary_encode()}
        arrays = {k: _array(v) for k, v in columns.items() if k in names}
        parts.append(pa.table(run | arrays))
    table = pa.concat_tables(parts, promote_options="default")
    stream = io.BytesIO()
    pq.write_table(table.unify_dictionaries(), stream, compression="zstd")
    return stream.getvalue()


def _array(values: list[Any]) -> pa.Array:
    array = pa.array(values)
    return array.dictionary_encode() if pa.types.is_string(array.type) else array


def read(path: Path | io.BytesIO) -> Rows:
    """Return the columns of each run, as `written` was given them.

    Columns of other runs are there too, empty; the caller knows its own.
    """
    table = pq.read_table(path).combine_chunks()
    by_run: Rows = {}
    start = 0
    for run, rows in itertools.groupby(table[_RUN].to_pylist()):
        length = len(list(rows))
        mine = table.slice(start, length).drop_columns([_RUN])
        by_run[run] = mine.to_pydict()
        start += length
    return by_run
