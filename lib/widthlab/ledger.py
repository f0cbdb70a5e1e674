"""What this process has used so far: data sets, runs trained, gradient flows solved.

The library notes it as it goes; whoever executes a chapter asks its kernel at the end
and keeps the answer with the chapter (`richregime.executions`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

_data: dict[tuple[str, str], dict[str, Any]] = {}
_counts: Counter[str] = Counter()


def note_data(
    name: str, selection: Mapping[str, Any], sha256: str, *, drawn: bool = False
) -> None:
    """Note that a data set was loaded.

    Args:
        name: what it is called.
        selection: what was taken of it, as plain values.
        sha256: names the content.
        drawn: it is a task that follows from its specification alone.
    """
    entry = {"selection": dict(selection), "sha256": sha256, "drawn": drawn}
    _data[name, sha256] = entry


def note(what: str, count: int) -> None:
    """Add to the number of "runs" or "flows"."""
    _counts[what] += count


def report() -> dict[str, Any]:
    """Return what was used: the data sets by name, and the numbers of runs and flows.

    A data set has all its selections with their hashes. Drawn tasks can be hundreds,
    and follow from their specifications: they are counted.
    """
    names = sorted({name for name, _ in _data})
    return {
        "data": [_entry(name) for name in names],
        "runs": _counts["runs"],
        "flows": _counts["flows"],
    }


def _entry(name: str) -> dict[str, Any]:
    mine = [entry for (owner, _), entry in sorted(_data.items()) if owner == name]
    if mine[0]["drawn"]:
        return {"name": name, "tasks": len(mine)}
    selections = [{**one["selection"], "sha256": one["sha256"]} for one in mine]
    return {"name": name, "selections": selections}
