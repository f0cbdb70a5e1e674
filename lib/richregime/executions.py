"""When, where and with what each chapter was last executed: results/executions.json.

`execute` writes an entry for each chapter that it runs. The seconds of the cells come
from whoever drives the kernel; all else comes from the kernel itself, which is asked
once the last cell is done (`witness`): only there is it known which device computed,
what data were loaded and how many runs were trained and not read back.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from widthlab.files import locked, write_text

from richregime.chapters import Chapter

EXECUTIONS = Path("results/executions.json")
LOCK = Path("requirements.lock")
WITNESS = "from richregime.executions import witness; print(witness())"
"""What a kernel is asked after a chapter's last cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What is known of a chapter's last execution; None is what was not recorded.

    Attributes:
        seconds: of all cells.
        cells: seconds of each code cell.
        date: when it began, in UTC.
        text_sha256: of the chapter's ``.md`` that was executed.
        lock_sha256: of ``requirements.lock``.
        device: what JAX computed on, as `machine.device` says.
        system: operating system and architecture.
        versions: of Python and the packages behind the numbers.
        code: digest of the library's source, as `store.code_version` takes it.
        gflops: rate of a large float32 matrix product right after, in 10^9 a second.
        data: what was loaded, as `ledger.report` says.
        runs: how many were trained in this execution, without those read back.
        flows: how many gradient flows were solved.
    """

    seconds: float
    cells: tuple[float, ...]
    date: str | None = None
    text_sha256: str | None = None
    lock_sha256: str | None = None
    device: Mapping[str, Any] | None = None
    system: str | None = None
    versions: Mapping[str, str] | None = None
    code: str | None = None
    gflops: float | None = None
    data: Sequence[Mapping[str, Any]] | None = None
    runs: int | None = None
    flows: int | None = None

    @property
    def place(self) -> str:
        """The device in words."""
        if self.device is None:
            return "a machine that was not recorded"
        if self.device["platform"] == "cpu":
            return f"{self.device['cores']} cores of {self.device['kind']}"
        return f"{self.device['count']} × {self.device['kind']}"

    def to_json(self) -> dict[str, Any]:
        """Return what is known as plain JSON values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Execution:
        """Read what `to_json` wrote."""
        return cls(**{**entry, "cells": tuple(entry["cells"])})


def read_executions(root: Path) -> dict[str, Execution]:
    """Return the last execution of each chapter that was ever executed."""
    path = root / EXECUTIONS
    if not path.exists():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {name: Execution.from_json(entry) for name, entry in entries.items()}


def write_execution(root: Path, name: str, execution: Execution) -> None:
    """Write a chapter's entry in place of its last."""
    path = root / EXECUTIONS
    with locked(path):
        entries = read_executions(root) | {name: execution}
        lines = [
            f" {json.dumps(key)}: {_entry_text(entries[key])}"
            for key in sorted(entries)
        ]
        write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _entry_text(execution: Execution) -> str:
    """Lay out an entry with one fact a line, for readable differences."""
    facts = [
        f"  {json.dumps(name)}: {_value_text(value)}"
        for name, value in execution.to_json().items()
    ]
    return "{\n" + ",\n".join(facts) + "\n }"


def _value_text(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n   " + ",\n   ".join(json.dumps(one) for one in value) + "\n  ]"
    return json.dumps(value, ensure_ascii=False)


def executed(
    root: Path, chapter: Chapter, began: str, cells: Sequence[float], answer: str
) -> Execution:
    """Put together what the kernel says and what is known without it."""
    lock = root / LOCK
    return Execution(
        seconds=round(sum(cells), 1),
        cells=tuple(round(took, 1) for took in cells),
        date=began,
        text_sha256=file_sha256(chapter.source),
        lock_sha256=file_sha256(lock) if lock.exists() else None,
        **json.loads(answer),
    )


def witness() -> str:
    """Say in one line of JSON what the process that ran a chapter's cells knows."""
    from widthlab import ledger, machine
    from widthlab.runs.provenance import code_version

    from richregime.tiers import product_rate

    facts = {
        "device": machine.device(),
        "system": machine.system(),
        "versions": machine.versions(),
        "code": code_version(),
        "gflops": round(product_rate() / 1e9, 1),
        **ledger.report(),
    }
    return json.dumps(facts)


def file_sha256(path: Path) -> str:
    """SHA-256, in hex, of a file's bytes."""
    return sha256(path.read_bytes()).hexdigest()
