"""What runs leave: records, and the one table they are joined into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from widthlab.runs.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("step", "layer", "quantity", "value")
"""Columns of a record's table, in this order."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a run left.

    Attributes:
        experiment: the specification.
        columns: the table by columns, those of `COLUMNS`.
        diverged_at: step whose loss or gradient was not finite, or None.
        stopped_at: step at which the loss fell below `stop_below`, or None.
        provenance: versions, device, time and hashes behind the numbers.
    """

    experiment: Experiment
    columns: Mapping[str, list[Any]] = field(repr=False)
    diverged_at: int | None
    stopped_at: int | None
    provenance: Mapping[str, Any] = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """The measurements in long form, one a row."""
        import pandas as pd

        # In this order, which the store's sorted JSON does not keep.
        return pd.DataFrame(dict(self.columns), columns=list(COLUMNS))

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {
            "experiment": self.experiment.to_json(),
            "columns": dict(self.columns),
            "diverged_at": self.diverged_at,
            "stopped_at": self.stopped_at,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read what `to_json` wrote."""
        return cls(
            Experiment.from_json(data["experiment"]),
            data["columns"],
            data["diverged_at"],
            data["stopped_at"],
            data["provenance"],
        )


_SPEC_COLUMNS = (
    "width",
    "depth",
    "growth",
    "activation",
    "loss",
    "lr",
    "seed",
    "batch_size",
    "base_width",
    "biases",
    "precision",
)


def frame(records: Iterable[Record], *quantities: str) -> pd.DataFrame:
    """Join records into one table in long form, with their specifications as columns.

    Args:
        records: what to join.
        quantities: names to keep; all of them if none is given.

    Returns:
        One row for each measurement, with `step`, `layer`, `quantity`, `value`, the
        fields of the specification, `diverged_at` and `stopped_at`.
    """
    import pandas as pd

    parts = []
    for record in records:
        part = record.table
        if quantities:
            part = part[part["quantity"].isin(quantities)]
        spec = record.experiment
        columns = {name: getattr(spec, name) for name in _SPEC_COLUMNS}
        columns |= {
            "parametrization": spec.table.name,
            "data": spec.data.name,
            "variant": spec.data.variant,
            "optimizer": spec.optimizer.name,
            "schedule": spec.schedule.name,
            "target": spec.schedule.target,
            "diverged_at": record.diverged_at,
            "stopped_at": record.stopped_at,
        }
        parts.append(part.assign(**columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
