"""Progress of a run over chapters: where it is, how long it took, what remains."""

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Stream(Protocol):
    """What progress is written to: standard output, or whatever stands in for it."""

    def write(self, text: str, /) -> int:
        """Write text."""
        ...

    def flush(self) -> None:
        """Write out what is buffered."""
        ...

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One code cell: its place, and the seconds it took when last recorded."""

    chapter: str
    group: str
    recorded: float | None = None


def clock(seconds: float) -> str:
    """Format a duration as minutes and seconds.

    >>> clock(65.2)
    '1:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


class Progress:
    """One updating line on a terminal; one line per cell group in a log.

    The estimate scales the recorded seconds of the cells to come by the pace of the
    cells done. On a resumed run, cells far faster than their record were read back from
    the store and say nothing about the pace.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        stream: Stream,
        *,
        resumed: bool = False,
        now: Callable[[], float] = time.monotonic,
    ):
        self._steps, self._stream = steps, stream
        self._resumed, self._now = resumed, now
        self._terminal = stream.isatty()
        self._begin = self._cell_begin = now()
        self._done: list[float] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> "Progress":
        if self._terminal:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join()
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def start(self, position: int) -> None:
        """Note that the cell at `position` starts now, and all before it are done."""
        with self._lock:
            if position > len(self._done):
                self._done.append(self._now() - self._cell_begin)
            self._cell_begin = self._now()
            step = self._steps[position]
            before = self._steps[position - 1] if position else None
        if self._terminal:
            self._draw()
        elif before is None or (before.chapter, before.group) != (
            step.chapter,
            step.group,
        ):
            print(self.line(), file=self._stream, flush=True)

    def remaining(self) -> float | None:
        """Estimate the seconds that remain, or None while there is nothing to go by."""
        done = len(self._done)
        records = [step.recorded for step in self._steps]
        running = self._now() - self._cell_begin
        if any(record is None for record in records):
            if not done:
                return None
            return max(sum(self._done) / done * (len(records) - done) - running, 0.0)
        known = [record for record in records if record is not None]
        pace = self._pace(known[:done])
        ahead = [pace * record for record in known[done:]]
        if not ahead:
            return 0.0
        return max(ahead[0] - running, 0.0) + sum(ahead[1:])

    def _pace(self, recorded: Sequence[float]) -> float:
        pairs = list(zip(self._done, recorded, strict=True))
        if self._resumed:
            pairs = [(took, record) for took, record in pairs if took > 0.3 * record]
        expected = sum(record for _, record in pairs)
        # The first short cells (imports) are too noisy to scale minutes by.
        return sum(took for took, _ in pairs) / expected if expected > 2.0 else 1.0

    def line(self) -> str:
        """The current state in one line of text."""
        position = min(len(self._done), len(self._steps) - 1)
        step = self._steps[position]
        left = self.remaining()
        estimate = "no estimate yet" if left is None else f"about {clock(left)} left"
        return (
            f"[{clock(self._now() - self._begin):>5}] {step.chapter} | cell "
            f"{position + 1}/{len(self._steps)} | {estimate} | {step.group}"
        )

    def _draw(self) -> None:
        with self._lock:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{self.line()[:width]}")
            self._stream.flush()

    def _tick(self) -> None:
        while not self._stop.wait(1.0):
            self._draw()
