"""Records of the paper tier, kept with the book: two files for each chapter.

Runs at a paper's own scale take hours or an accelerator. They are made once, by
`widthlab run`, and chapters read them back by their specifications: a record is found
as long as its specification means the same, whatever has changed in the code since.
`runs.parquet` holds all measurements in long form, one a row; `runs.json` says for each
run what was asked for and where the numbers come from: specification, hash of the data,
versions, device, precision, seconds, commit.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from widthlab.canonical import digest
from widthlab.files import write_durably
from widthlab.runs.cells import TOGETHER
from widthlab.runs.experiment import Experiment
from widthlab.runs.record import COLUMNS, Record
from widthlab.runs.sweep import finish

if TYPE_CHECKING:
    import pandas as pd

TABLE = "runs.parquet"
"""File of the measurements."""

SIDECAR = "runs.json"
"""File of what was asked for and where the numbers come from."""

_FORMAT = 1
_DIGITS = 8  # enough for float32, in which these runs are computed


class ArchiveError(ValueError):
    """Stored records are damaged, incomplete, or not records."""


def run_id(experiment: Experiment) -> str:
    """Name of a run in the files: 16 digits of its specification's hash."""
    return digest(experiment.to_json())[:16]


@dataclass(frozen=True, slots=True)
class Archive:
    """The records in a folder.

    The sidecar decides which runs there are. It is written after the table, so that a
    reader never finds a run without its rows, whoever is killed and when.
    """

    path: Path

    def records(self) -> dict[Experiment, Record]:
        """Read all records.

        Raises:
            ArchiveError: a file is damaged or not what it should be.
        """
        sidecar = Path(self.path) / SIDECAR
        if not sidecar.exists():
            return {}
        files = [sidecar, sidecar.with_name(TABLE)]
        stamps = [file.stat().st_mtime_ns for file in files if file.exists()]
        return dict(_read(Path(self.path), *stamps))

    def select(self, wanted: Iterable[Experiment]) -> list[Record]:
        """Return the records of those specifications that have one."""
        found = self.records()
        return [found[spec] for spec in wanted if spec in found]

    def add(self, *records: Record) -> None:
        """Write records beside those that are there, or in their place."""
        new = {record.experiment: _rounded(record) for record in records}
        together = self.records() | new
        _write(Path(self.path), together.values())

    def run(
        self,
        wanted: Iterable[Experiment],
        *,
        minutes: float = math.inf,
        executor: Any = None,
        together: int | None = None,
        done: Callable[[int, int], None] = lambda finished, total: None,
    ) -> int:
        """Run what is missing and return how many runs were added.

        Every cell is written as soon as it is done; a call that is cut short goes on
        where it was.

        Args:
            wanted: specifications, the most important first.
            minutes: no new cells begin after this time.
            executor: where cells run, as for `sweep`.
            together: runs in a cell, at most. By default as many as there are devices
                on CPU, where a run can take minutes, and otherwise as for `sweep`.
            done: called with the finished and all runs whenever some are written.
        """
        specs = list(dict.fromkeys(wanted))
        have = self.records()
        missing = [spec for spec in specs if spec not in have]
        together = runs_in_a_cell(together, elsewhere=executor is not None)
        finished = finish(
            missing,
            executor=executor,
            together=together,
            in_order=True,
            until=time.time() + 60 * minutes,
        )
        added = 0
        with closing(finished):
            for records in finished:
                self.add(*records)
                added += len(records)
                done(len(specs) - len(missing) + added, len(specs))
        return added


def runs_in_a_cell(together: int | None, *, elsewhere: bool) -> int | None:
    """Return how many runs train together: one a device on this CPU, if none is given.

    None leaves it to `finish`.
    """
    if together is not None or elsewhere:
        return together or TOGETHER
    import jax

    from widthlab.training.devices import use_all_cores

    devices = use_all_cores()
    return devices if jax.default_backend() == "cpu" else None


@functools.lru_cache(maxsize=4)
def _read(folder: Path, *stamps: int) -> dict[Experiment, Record]:
    """Read a folder; the stamps are those of its files, for the cache."""
    del stamps
    try:
        import pandas as pd

        sidecar = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        if sidecar["format"] != _FORMAT:
            raise ValueError(f"format {sidecar['format']!r}, expected {_FORMAT}")
        rows = pd.read_parquet(folder / TABLE)
        tables = dict(list(rows.groupby("run", observed=True, sort=False)))
        records = [
            _record(facts, tables.get(name), name)
            for name, facts in sidecar["runs"].items()
        ]
    # What reading can end in where a file is cut short, changed, or something else.
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArchiveError(
            f"{folder} does not hold stored records ({type(error).__name__}: {error}); "
            f"restore {TABLE} and {SIDECAR} from version control, or delete both and "
            "run them again"
        ) from error
    return {record.experiment: record for record in records}


def _record(facts: dict[str, Any], rows: pd.DataFrame | None, name: str) -> Record:
    if rows is None:
        raise ValueError(f"run {name} has no rows")
    columns = {column: rows[column].tolist() for column in COLUMNS}
    if _checksum(columns) != facts["sha256"]:
        raise ValueError(f"the rows of run {name} are not those that were written")
    return Record.from_json(facts | {"columns": columns})


def _write(folder: Path, records: Iterable[Record]) -> None:
    """Write both files anew, the table first; equal records are equal files."""
    named = sorted((run_id(record.experiment), record) for record in records)
    facts = {name: _facts(record) for name, record in named}
    # One run a line, for readable differences between versions.
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(fact, sort_keys=True)}"
        for name, fact in facts.items()
    )
    text = f'{{"format": {_FORMAT}, "runs": {{\n{lines}\n}}}}\n'
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in ((TABLE, _table(named)), (SIDECAR, text.encode())):
        temporary = folder / f"{file}.{uuid.uuid4().hex}.tmp"
        write_durably(temporary, folder / file, content)


def _facts(record: Record) -> dict[str, Any]:
    everything = record.to_json()
    return everything | {"sha256": _checksum(everything.pop("columns"))}


def _checksum(columns: Mapping[str, list[Any]]) -> str:
    """SHA-256 of a run's rows, in which NaN and infinity are themselves."""
    text = json.dumps([columns[name] for name in COLUMNS])
    return hashlib.sha256(text.encode()).hexdigest()


def _table(named: Iterable[tuple[str, Record]]) -> bytes:
    import numpy as np
    import pandas as pd

    columns: dict[str, list[Any]] = {name: [] for name in ("run", *COLUMNS)}
    for name, record in named:
        columns["run"] += [name] * len(record.columns["step"])
        for column in COLUMNS:
            columns[column] += record.columns[column]
    table = pd.DataFrame(columns).astype(
        {
            "run": "category",
            "step": np.int32,
            "layer": np.int16,
            "quantity": "category",
            "value": np.float64,
        }
    )
    return table.to_parquet(index=False, compression="zstd")


def _rounded(record: Record) -> Record:
    """Keep the digits that mean something; what was read back has no others."""
    values = [float(f"{value:.{_DIGITS}g}") for value in record.columns["value"]]
    return replace(record, columns={**record.columns, "value": values})
