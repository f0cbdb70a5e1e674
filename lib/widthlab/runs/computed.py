"""Computations of one's own as runs: a frozen dataclass with a `run`."""

from __future__ import annotations

import dataclasses
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from widthlab.canonical import plain_value
from widthlab.runs.provenance import provenance
from widthlab.runs.record import Record
from widthlab.runs.spec import Spec
from widthlab.settings import arithmetic
from widthlab.source import source_sha256

if TYPE_CHECKING:
    import pandas as pd


class Computed(Spec):
    """A kernel, a sampler, a curve of theory: whatever takes time and has settings.

    Inherit, be a frozen dataclass, and return tidy rows from `run`. Then `sweep` runs
    it, keeps its rows, and goes on where it was interrupted. Its key holds its fields
    and the source of its class, with the functions and values that its methods refer
    to (`widthlab.source`), and the precision that JAX is set to, if it is: what was
    computed in float64 is not read as float32. It is drawn with JAX's own generator.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Powers(Computed):
        ...     base: float
        ...     def run(self):
        ...         return [{"power": k, "value": self.base**k} for k in range(3)]
        >>> import tempfile
        >>> from widthlab.runs import Store, run
        >>> run(Powers(2.0), Store(tempfile.mkdtemp())).columns["value"]
        [1.0, 2.0, 4.0]
    """

    kind: ClassVar[str] = "computations"
    together: ClassVar[int | None] = 1

    @abstractmethod
    def run(self) -> pd.DataFrame | Iterable[Mapping[str, Any]]:
        """Return tidy rows: mappings with equal keys, or a table."""

    @property
    def program(self) -> Any:
        """Nothing is shared: each is a cell of its own."""
        return self

    @property
    def columns(self) -> dict[str, Any]:
        """What tells its record apart in a table of many: its fields."""
        return {f.name: getattr(self, f.name) for f in _fields(self)}

    def to_json(self) -> dict[str, Any]:
        """Return class, fields and the hash of the class's source."""
        kind = type(self)
        # What `run` computes in is JAX's own setting, and absent where nobody set it.
        changed = {"settings": found} if (found := arithmetic()) else {}
        return {
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "fields": self.columns,
            "source": source_sha256(kind),
            **changed,
        }

    @classmethod
    def run_cell(cls, cell: Sequence[Any]) -> list[Record]:
        """Run each by itself."""
        return [_record(spec) for spec in cell]


def _is_frozen(spec: Any) -> bool:
    return type(spec).__dataclass_params__.frozen


def _fields(spec: Any) -> Sequence[Any]:
    if not dataclasses.is_dataclass(spec) or not _is_frozen(spec):
        raise TypeError(
            f"{type(spec).__name__} is not a frozen dataclass; what is computed and "
            "kept must not change: write @dataclass(frozen=True) above its class"
        )
    return dataclasses.fields(spec)


def _record(spec: Computed) -> Record:
    start = time.perf_counter()
    rows = spec.run()
    columns = _columns(spec, rows)
    seconds = round(time.perf_counter() - start, 4)
    return Record(
        spec=spec,
        columns=columns,
        diverged_at=None,
        stopped_at=None,
        provenance=provenance() | {"wall_s": seconds},
    )


def _columns(spec: Computed, rows: Any) -> dict[str, list[Any]]:
    if hasattr(rows, "columns"):
        if len({str(name) for name in rows.columns}) < len(rows.columns):
            raise ValueError(
                f"{type(spec).__name__}.run() returned a table with the columns "
                f"{[*rows.columns]}; each has a name of its own"
            )
        return {
            str(name): [_plain(spec, name, value) for value in rows[name].tolist()]
            for name in rows.columns
        }
    given = list(rows)
    if not all(isinstance(row, Mapping) for row in given) or not given:
        raise TypeError(
            f"{type(spec).__name__}.run() returned {type(rows).__name__}; it returns a "
            "table, or at least one row as a mapping from column to value"
        )
    names = list(given[0])
    if odd := next((row for row in given if list(row) != names), None):
        raise ValueError(
            f"rows of {type(spec).__name__}.run() have the columns {names} and "
            f"{list(odd)}; all have the same"
        )
    return {
        str(name): [_plain(spec, name, row[name]) for row in given] for name in names
    }


def _plain(spec: Computed, name: Any, value: Any) -> Any:
    """Return a value as the record holds it: NumPy's and JAX's as Python's own."""
    return plain_value(value, f"the column {name!r} of {type(spec).__name__}.run()")
