"""What runs leave: records, and the one table they are joined into."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Record:
    """What a run left.

    Attributes:
        spec: what was run, of any kind (`widthlab.runs.spec.Spec`).
        columns: the measurements in long form, by columns.
        diverged_at: step, or time of a flow, from which on nothing was finite, or None.
        stopped_at: step or time at which the loss fell below the threshold, or None.
        provenance: versions, device, time and hashes behind the numbers.
        arrays: what is not a table, exactly, such as the last state of a flow.
    """

    spec: Any
    columns: Mapping[str, list[Any]] = field(repr=False)
    diverged_at: float | None
    stopped_at: float | None
    provenance: Mapping[str, Any] = field(repr=False)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        """How many measurements there are.

        Raises:
            ValueError: columns differ in length.
        """
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len({*lengths.values()}) > 1:
            raise ValueError(f"columns of a record differ in length: {lengths}")
        return next(iter(lengths.values()), 0)

    @property
    def table(self) -> pd.DataFrame:
        """The measurements in long form, one a row."""
        import pandas as pd

        return pd.DataFrame(dict(self.columns))

    def series(self, quantity: str, layer: int = 0) -> np.ndarray:
        """Return the values of one quantity in one layer, in order of steps."""
        return np.array(self._series.get((quantity, layer), ()), float)

    @functools.cached_property
    def _series(self) -> dict[tuple[str, int], list[Any]]:
        # All at once: a chapter asks a record hundreds of times.
        names = ("quantity", "layer", "step", "value")
        found: dict[tuple[str, int], list[tuple[Any, Any]]] = {}
        for *key, step, value in zip(*(self.columns[n] for n in names), strict=True):
            found.setdefault(tuple(key), []).append((step, value))
        return {
            key: [value for _, value in sorted(rows, key=itemgetter(0))]
            for key, rows in found.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        """Return what goes to another process: not what follows from it."""
        return {name: v for name, v in vars(self).items() if name != "_series"}

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {
            "kind": self.spec.kind,
            "spec": self.spec.to_json(),
            # In this order, which the store's sorted JSON does not keep.
            "order": list(self.columns),
            "columns": dict(self.columns),
            "diverged_at": self.diverged_at,
            "stopped_at": self.stopped_at,
            "provenance": dict(self.provenance),
            "arrays": {name: _encoded(array) for name, array in self.arrays.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], spec: Any) -> Record:
        """Read what `to_json` wrote of the run that `spec` describes.

        The specification is the caller's, who found the record by it. So a run whose
        probe or activation only a chapter knows needs no more to be read than to be
        asked for.
        """
        columns = data["columns"]
        return cls(
            spec,
            {name: columns[name] for name in data.get("order", columns)},
            data["diverged_at"],
            data["stopped_at"],
            data["provenance"],
            {k: _decoded(v) for k, v in data.get("arrays", {}).items()},
        )


def _encoded(array: np.ndarray) -> dict[str, Any]:
    array = np.asarray(array)
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "bytes": base64.b64encode(array.tobytes()).decode(),
    }


def _decoded(data: Mapping[str, Any]) -> np.ndarray:
    content = base64.b64decode(data["bytes"])
    array = np.frombuffer(content, np.dtype(data["dtype"]))
    return array.reshape(data["shape"])


def frame(records: Iterable[Record], *quantities: str) -> pd.DataFrame:
    """Join records into one table in long form, with their specifications as columns.

    Args:
        records: what to join.
        quantities: names to keep; all of them if none is given.

    Returns:
        One row for each measurement, with the record's own columns (of a training run
        `step`, `layer`, `quantity`, `value`), what its specification says of itself,
        `diverged_at` and `stopped_at`.
    """
    import pandas as pd

    parts = []
    for record in records:
        columns = {
            **record.columns,
            **record.spec.columns,
            "diverged_at": record.diverged_at,
            "stopped_at": record.stopped_at,
        }
        # At once: pandas takes long for each column that is added to a table.
        part = pd.DataFrame(columns, index=range(record.rows))
        parts.append(part[part["quantity"].isin(quantities)] if quantities else part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
