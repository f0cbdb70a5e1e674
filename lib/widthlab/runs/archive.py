"""Records of the paper tier, kept with the book: a few files for each chapter.

Runs at a paper's own scale take hours or an accelerator. They are made once, by
`richregime run`, and chapters read them back by their specifications: a record is found
as long as its specification means the same, whatever has changed in the code since.
`runs.parquet` holds all measurements of training in long form, one a row, and other
kinds of runs have a table of their own beside it; `runs.json` says for each
run what was asked for and where the numbers come from: specification, hash of the data,
versions, device, precision, seconds, commit. It also has the columns that a table
cannot hold, such as numbers beside words.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from widthlab import perturbation
from widthlab.canonical import digest, plain_value
from widthlab.fields import number
from widthlab.files import check_writable, locked, write
from widthlab.runs import parquet
from widthlab.runs.cells import TOGETHER
from widthlab.runs.experiment import Experiment
from widthlab.runs.record import Record
from widthlab.runs.spec import Described, Spec, identity
from widthlab.runs.sweep import finish

SIDECAR = "runs.json"
"""File of what was asked for and where the numbers come from."""

_FORMAT = 1
_MINUTES = number(infinite=True)
_DIGITS = 8  # enough for float32, in which these runs are computed


def measurements_of(kind: str) -> str:
    """Return the file of the measurements of one kind of runs."""
    return f"{kind}.parquet"


MEASUREMENTS = measurements_of(Experiment.kind)
"""File of the measurements of training."""


def name_of(spec: Spec | Described) -> str:
    """Name of a run in the files: 16 digits of its specification's hash."""
    return identity(spec)[:16]


class ArchiveError(ValueError):
    """Stored records are damaged, incomplete, or not records."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The records in a folder.

    The sidecar decides which runs there are, and where their rows are. It is written
    after the table, so that a reader never finds a run without its rows, whoever is
    killed and when. Of two writers one waits for the other.
    """

    path: Path

    def records(self) -> list[Record]:
        """Read all records.

        Raises:
            ArchiveError: a file is damaged or not what it should be.
        """
        return list(self._by_name().values())

    def find(self, wanted: Iterable[Spec]) -> dict[Spec, Record]:
        """Return the records of those specifications that have one."""
        there = self._by_name()
        names = {spec: name_of(spec) for spec in wanted}
        return {
            spec: replace(there[name], spec=spec)
            for spec, name in names.items()
            if name in there
        }

    def select(self, wanted: Iterable[Spec]) -> list[Record]:
        """Return what `find` finds, in the order of the specifications."""
        specs = list(wanted)
        by_spec = self.find(specs)
        return [by_spec[spec] for spec in specs if spec in by_spec]

    def add(self, *records: Record) -> None:
        """Write records beside those that are there, or in their place.

        Raises:
            ArchiveError: the environment asks for perturbed runs, which are to be
                compared and not kept.
            ArchiveError: the files there are damaged, or the folder may not be written.
        """
        if perturbation.chosen() is not None:
            raise ArchiveError(
                f"{perturbation.PERTURB_VARIABLE} is set: runs whose start is moved by "
                f"rounding are not kept in {self.path}; unset it"
            )
        new = {name_of(record.spec): _rounded(record) for record in records}
        folder = Path(self.path)
        with self._writing():
            # From the files: another process may have written within one clock tick.
            there = _read_now(folder) if (folder / SIDECAR).exists() else {}
            _write(folder, there | new)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with locked(Path(self.path) / SIDECAR):
                yield
        except OSError as error:
            raise ArchiveError(
                f"cannot write into {self.path}: {type(error).__name__}: {error}"
            ) from error

    def _check_writable(self) -> None:
        """Refuse to run what could not be kept."""
        with self._writing():
            check_writable(Path(self.path))

    def _by_name(self) -> dict[str, Record]:
        folder = Path(self.path)
        while True:
            if not (folder / SIDECAR).exists():
                return {}
            stamps = _stamps(folder)
            try:
                return dict(_read(folder, *stamps))
            except ArchiveError:  # read while another process was writing
                if stamps == _stamps(folder):
                    raise

    def run(
        self,
        wanted: Iterable[Spec],
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
        minutes = _MINUTES.take("minutes", minutes)
        together = TOGETHER.take("together", together)
        specs = list(dict.fromkeys(wanted))
        have = self.find(specs)
        missing = [spec for spec in specs if spec not in have]
        if missing and minutes > 0:
            self._check_writable()
        together = runs_in_a_cell(together, elsewhere=executor is not None)
        finished = finish(
            missing,
            executor=executor,
            together=together,
            in_order=True,
            seconds=60 * minutes,
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
        return together
    import jax

    from widthlab.training.devices import use_all_cores

    devices = use_all_cores()
    return devices if jax.default_backend() == "cpu" else None


def _stamps(folder: Path) -> tuple[Any, ...]:
    """Return what changes whenever a file of records is written."""
    files = (f for f in folder.glob("*.*") if not f.name.startswith("."))
    stamps = []
    for file in sorted(files):
        with contextlib.suppress(FileNotFoundError):
            stat = file.stat()
            stamps.append((file.name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(stamps)


@functools.lru_cache(maxsize=4)
def _read(folder: Path, *stamps: Any) -> dict[str, Record]:
    """Read a folder; the stamps are those of its files, for the cache."""
    del stamps
    return _read_now(folder)


def _read_now(folder: Path) -> dict[str, Record]:
    try:
        sidecar = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        if sidecar["format"] != _FORMAT:
            raise ValueError(f"format {sidecar['format']!r}, expected {_FORMAT}")
        kinds = {facts["kind"] for facts in sidecar["runs"].values()}
        tables = sidecar.get("tables", {})
        rows = {
            kind: parquet.read(folder / tables.get(kind, measurements_of(kind)))
            for kind in kinds
        }
        records = [
            _record(facts, rows[facts["kind"]], name)
            for name, facts in sidecar["runs"].items()
        ]
    # What reading can end in where a file is cut short, changed, or something else.
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArchiveError(
            f"{folder} does not hold stored records ({type(error).__name__}: {error}); "
            f"restore {MEASUREMENTS} and {SIDECAR} from version control, or delete "
            "both and run them again"
        ) from error
    return {name_of(record.spec): record for record in records}


def _record(
    facts: dict[str, Any], rows: Mapping[str, parquet.Columns], name: str
) -> Record:
    # The name is the hash of what was asked for, the seed included.
    if digest(facts["spec"])[:16] != name:
        raise ValueError(f"the specification of run {name} is not the one it is of")
    # What was written before there was a checksum of all facts has none.
    if facts.get("whole", whole := _whole(facts)) != whole:
        raise ValueError(f"what is said of run {name} is not what was written")
    columns = _columns(facts, rows, name)
    spec = _spec(facts["kind"], facts["spec"])
    return Record.from_json(facts | {"columns": columns}, spec)


def _columns(
    facts: Mapping[str, Any], rows: Mapping[str, parquet.Columns], name: str
) -> dict[str, list[Any]]:
    """Return a run's rows, from the table and from what is said of it."""
    # A run of no rows is not in the table.
    empty = {column: [] for column in facts["order"]}
    there = {**rows.get(name, empty), **facts.get("columns", {})}
    columns = {column: there[column] for column in facts["order"]}
    if _checksum(columns) != facts["sha256"]:
        raise ValueError(f"the rows of run {name} are not those that were written")
    return columns


def _spec(kind: str, described: dict[str, Any]) -> Any:
    """Return the specification that JSON describes, or the description itself."""
    if kind == Experiment.kind:
        # What is not registered here makes other runs no worse.
        with contextlib.suppress(*[ValueError] if "plugins" in described else []):
            return Experiment.from_json(described)
    return Described(kind, described)


def _write(folder: Path, records: Mapping[str, Record]) -> None:
    """Write all files anew, the tables first; equal records are equal files."""
    named = dict(sorted(records.items()))
    new = _files(named)
    sidecar = new.pop(SIDECAR)
    if _would_not_fit(folder, new):
        # First under other names, which the sidecar then says: never a run whose rows
        # are another's, whoever is killed between any two lines.
        others = {f"{Path(name).stem}.new.parquet": name for name in new}
        for other, name in others.items():
            write(folder / other, new[name])
        tables = {Path(name).stem: other for other, name in others.items()}
        write(folder / SIDECAR, _files(named, tables)[SIDECAR])
    for name, content in new.items():
        write(folder / name, content)
    write(folder / SIDECAR, sidecar)
    # Those of writers that were killed: this one holds the folder.
    for left in (*folder.glob("*.new.parquet"), *folder.glob(".*.tmp")):
        left.unlink()


def _would_not_fit(folder: Path, new: Mapping[str, bytes]) -> bool:
    """Whether runs that are there would not be found in new tables, or others'."""
    if not (folder / SIDECAR).exists():
        return False
    there = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
    if there.get("tables"):
        return False  # a writer was killed: the sidecar does not read these files
    rows: dict[str, parquet.Rows] = {}
    try:
        for name, facts in there["runs"].items():
            kind = facts["kind"]
            if kind not in rows:
                rows[kind] = parquet.read(io.BytesIO(new[measurements_of(kind)]))
            _columns(facts, rows[kind], name)
    except (KeyError, ValueError):
        return True
    return False


def _files(
    named: Mapping[str, Record], tables: Mapping[str, str] = MappingProxyType({})
) -> dict[str, bytes]:
    """Return the content of all files, the sidecar's last."""
    kinds = sorted({record.spec.kind for record in named.values()})
    columns_of = {
        kind: {k: r.columns for k, r in named.items() if r.spec.kind == kind}
        for kind in kinds
    }
    held = {kind: parquet.held(columns) for kind, columns in columns_of.items()}
    facts = {name: _facts(r, held[r.spec.kind]) for name, r in named.items()}
    # One run a line, for readable differences between versions.
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(fact, sort_keys=True)}"
        for name, fact in facts.items()
    )
    where = f'"tables": {json.dumps(tables, sort_keys=True)}, ' if tables else ""
    text = f'{{"format": {_FORMAT}, {where}"runs": {{\n{lines}\n}}}}\n'
    written = {
        measurements_of(kind): parquet.written(columns, held[kind])
        for kind, columns in columns_of.items()
    }
    return written | {SIDECAR: text.encode()}


def _facts(record: Record, held: set[str]) -> dict[str, Any]:
    """Return all but the columns that the table holds."""
    everything = plain_value(record.to_json(), "the record")
    columns = everything.pop("columns")
    if other := {name: v for name, v in columns.items() if name not in held}:
        everything["columns"] = other
    facts = everything | {"sha256": _checksum(columns)}
    return facts | {"whole": _whole(facts)}


def _whole(facts: Mapping[str, Any]) -> str:
    """SHA-256 of all that is said of a run, whatever that comes to be."""
    said = {name: value for name, value in facts.items() if name != "whole"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _checksum(columns: Mapping[str, list[Any]]) -> str:
    """SHA-256 of a run's rows, in which NaN and infinity are themselves."""
    text = json.dumps(list(columns.values()))
    return hashlib.sha256(text.encode()).hexdigest()


def _rounded(record: Record) -> Record:
    """Keep the digits that mean something; what was read back has no others."""
    if record.spec.kind != Experiment.kind:
        return record
    values = [float(f"{value:.{_DIGITS}g}") for value in record.columns["value"]]
    return replace(record, columns={**record.columns, "value": values})
