"""Sum up what JAX spends on programs in this process, from the moment of watching."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from common import CORES

KINDS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "backend",
}
HIT = "/jax/compilation_cache/cache_hits"


class Event(NamedTuple):
    """A stretch of time in which a thread made a program."""

    kind: str
    thread: int
    start: float
    end: float
    name: str = ""


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of a union of intervals: traces lie within each other."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def by_thread(events: Sequence[Event], *kinds: str) -> float:
    """Return seconds summed over threads, each counted once in each thread."""
    threads = {event.thread for event in events}
    return sum(
        covered(
            (e.start, e.end) for e in events if e.thread == thread and e.kind in kinds
        )
        for thread in threads
    )


def slowest(events: Sequence[Event], most: int = 8) -> list[dict[str, Any]]:
    """Return the programs that XLA compiled longest, those of a name together."""
    found: dict[str, list[float]] = {}
    for event in events:
        if event.kind == "backend":
            found.setdefault(event.name, []).append(event.end - event.start)
    rows = [
        {"name": name, "programs": len(each), "seconds": round(sum(each), 2)}
        for name, each in found.items()
    ]
    return sorted(rows, key=lambda row: -row["seconds"])[:most]


class Watch:
    """Listen to JAX from now on."""

    def __init__(self) -> None:
        import jax

        self.events: list[Event] = []
        self.hits = 0
        jax.monitoring.register_event_duration_secs_listener(self._took)
        jax.monitoring.register_event_listener(self._happened)
        self.start = time.perf_counter()

    def _took(self, event: str, seconds: float, **about: Any) -> None:
        if kind := KINDS.get(event):
            end = time.perf_counter()
            thread = threading.get_ident()
            name = str(about.get("fun_name", "?"))
            self.events.append(Event(kind, thread, end - seconds, end, name))

    def _happened(self, event: str, **_: Any) -> None:
        self.hits += event == HIT

    def report(self) -> dict[str, Any]:
        """Return seconds of compiling, and shares of the time since the start."""
        wall = time.perf_counter() - self.start
        found = list(self.events)
        compiling = by_thread(found, *KINDS.values())
        someone = covered((e.start, e.end) for e in found)
        return {
            "wall_s": wall,
            "compiling_s": compiling,
            "someone_s": someone,
            "share": someone / wall,
            "of_cores": compiling / (wall * CORES),
            "backend_s": by_thread(found, "backend"),
            "lower_s": by_thread(found, "lower"),
            "trace_s": by_thread(found, "trace"),
            "programs": sum(e.kind == "backend" for e in found),
            "cache_hits": self.hits,
            "slowest": slowest(found),
        }
