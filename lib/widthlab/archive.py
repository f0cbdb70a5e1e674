"""Records of the paper tier, kept with the book: one small file for each run.

Runs at a paper's own scale take hours or an accelerator. They are made once, by
`make paper`, and chapters read them back by their specifications: a record is found as
long as its specification means the same, whatever has changed in the code since. Its
provenance says which code, machine and data it came from.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from widthlab.experiment import Experiment
from widthlab.records import Record
from widthlab.store import Store, digest, write_durably
from widthlab.sweeps import sweep

# What reading a file can end in that is cut short, changed, or something else.
_DAMAGED = (
    *(OSError, EOFError, zlib.error),
    *(AttributeError, KeyError, TypeError, ValueError),
)
_DIGITS = 8  # enough for float32, in which these runs are computed


@dataclass(frozen=True, slots=True)
class Archive:
    """A folder of records, `<first 16 digits of the specification's hash>.json.gz`."""

    path: Path

    def records(self) -> dict[Experiment, Record]:
        """Read all records.

        Raises:
            ValueError: a file is damaged or not a record.
        """
        found = {}
        for file in sorted(Path(self.path).glob("*.json.gz")):
            try:
                record = Record.from_json(
                    json.loads(gzip.decompress(file.read_bytes()))
                )
            except _DAMAGED as error:
                raise ValueError(
                    f"{file} is not a stored record ({type(error).__name__}: {error}); "
                    "restore it from version control, or delete it and run it again"
                ) from error
            found[record.experiment] = record
        return found

    def select(self, wanted: Iterable[Experiment]) -> list[Record]:
        """Return the records of those specifications that have one."""
        found = self.records()
        return [found[spec] for spec in wanted if spec in found]

    def add(self, record: Record) -> Path:
        """Write a record, all or nothing."""
        payload = record.to_json()
        payload["columns"]["value"] = [
            _rounded(value) for value in payload["columns"]["value"]
        ]
        name = digest(payload["experiment"])[:16]
        path = Path(self.path) / f"{name}.json.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        # Without a time stamp, equal records are equal files.
        write_durably(temporary, path, gzip.compress(text.encode(), mtime=0))
        return path

    def run(
        self,
        wanted: Iterable[Experiment],
        *,
        minutes: float = float("inf"),
        done: Callable[[int, int], None] = lambda finished, total: None,
    ) -> int:
        """Run what is missing, a few at a time, and return how many runs were added.

        Args:
            wanted: specifications, the most important first.
            minutes: no new runs begin after this time.
            done: called with the finished and all runs whenever some are written.
        """
        specs = list(dict.fromkeys(wanted))
        have = self.records()
        missing = [spec for spec in specs if spec not in have]
        added, end = 0, time.monotonic() + 60 * minutes
        with tempfile.TemporaryDirectory() as folder:
            for together in _batches(missing):
                if time.monotonic() >= end:
                    break
                for record in sweep(together, Store(Path(folder))):
                    self.add(record)
                added += len(together)
                done(len(specs) - len(missing) + added, len(specs))
        return added


def _batches(specs: Sequence[Experiment]) -> Iterator[list[Experiment]]:
    """Cut into batches that share a program, small ones on CPU: a kill loses little."""
    import jax

    from widthlab.training import use_all_cores

    devices = use_all_cores()
    most = devices if jax.default_backend() == "cpu" else 16 * devices
    sharing: dict[Any, list[Experiment]] = {}
    for spec in specs:
        sharing.setdefault(spec.program, []).append(spec)
    batches = [
        group[start : start + most]
        for group in sharing.values()
        for start in range(0, len(group), most)
    ]
    # In the order of their most important runs.
    place = {spec: index for index, spec in enumerate(specs)}
    yield from sorted(batches, key=lambda batch: place[batch[0]])


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
