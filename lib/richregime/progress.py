"""Progress of a run over chapters: where it is, how long it took, what remains."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from tqdm import tqdm


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
    """A bar on a terminal, one line for each group of cells in a log.

    A cell counts as the seconds that it took when last recorded, so that what remains
    follows from the pace so far; cells count alike where one was never recorded.
    """

    def __init__(self, steps: Sequence[Step], stream: TextIO):
        self._steps, self._stream = steps, stream
        known = [step.recorded for step in steps if step.recorded is not None]
        self._sizes = known if len(known) == len(steps) else [1.0] * len(steps)
        self._terminal = stream.isatty()
        self.bar = tqdm(
            total=sum(self._sizes),
            file=stream,
            bar_format="{desc} | {percentage:.0f} % in {elapsed}, {remaining} left",
            dynamic_ncols=self._terminal,
            leave=False,
            delay=0 if self._terminal else math.inf,  # a log gets lines of its own
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.close()

    def start(self, position: int) -> None:
        """Note that the cell at `position` starts now, and all before it are done."""
        step, before = self._steps[position], self._steps[max(position - 1, 0)]
        place = f"{step.chapter} | cell {position + 1}/{len(self._steps)}"
        self.bar.set_description_str(f"{place} | {step.group}", self._terminal)
        self.bar.update(sum(self._sizes[:position]) - self.bar.n)
        new = (before.chapter, before.group) != (step.chapter, step.group)
        if not self._terminal and (new or position == 0):
            print(self.bar, file=self._stream, flush=True)
