"""Completion of a matrix over widths and scales: what the chapter's C7 measures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from widthlab import perturbation
from widthlab.papers.woodworth2020kernel import printed
from widthlab.papers.woodworth2020kernel.width import complete, lifted_start, nuclear
from widthlab.runs import Computed

DIM, SEEN = 10, 60
"""Rows of the matrix, and how many of its entries are seen (Figure 5)."""

LIMIT_SCALES = tuple(float(a) for a in np.logspace(-7, 4, 23))
r"""$\alpha^2 k$ of the curve of infinite width."""

_RATE_SCALES, _RATE_WIDTHS = (0.1, 1.0, 10.0), (100, 1000, 10_000, 100_000, 1_000_000)

_CELLS = (
    *(
        ("cell", a, float(k))
        for a in printed.FIGURE_5_SCALES
        for k in printed.FIGURE_5_WIDTHS
    ),
    *(("rate", a, math.inf) for a in _RATE_SCALES),
    *(("rate", a / k, k) for a in _RATE_SCALES for k in _RATE_WIDTHS),
)
_CURVE = tuple(("limit", a, math.inf) for a in LIMIT_SCALES)


@dataclass(frozen=True)
class Completions(Computed):
    r"""Targets of rank one: the cells of Figure 5, and the limit of infinite width.

    Rows are of three kinds: "cell", a cell of the figure; "limit", infinite width at
    some $\alpha^2 k$; "rate", a width at one of three $\alpha^2 k$, with its distance
    to infinite width. What has "moved" is the norm of the change of the entries that
    are not seen, over that of the target there; "law" is the same in the kernel regime,
    $|(Y_O Y_O^\top Y_O) / (6 (\alpha^2 k)^2)|$.

    Attributes:
        seeds: each draws a target, the entries seen and all starts.
    """

    seeds: tuple[int, ...]

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each seed and cell."""
        tasks = [_Task.draw(seed) for seed in self.seeds]
        coarse = _ends(tasks, slice(len(_CELLS)), 0.2)
        # Small steps: in the kernel regime what moves is small beside an error of 2 %.
        exact = _ends(tasks, slice(len(_CELLS), None), 0.05)
        for index, (seed, task) in enumerate(zip(self.seeds, tasks, strict=True)):
            found = (
                np.concatenate([some[index], rest[index]])
                for some, rest in zip(coarse, exact, strict=True)
            )
            for row in task.rows(*found):
                yield {"seed": seed} | row


class _Task(NamedTuple):
    """A target, which of its entries are seen, and a start for each cell."""

    target: np.ndarray
    seen: np.ndarray
    starts: np.ndarray

    @classmethod
    def draw(cls, seed: int) -> _Task:
        rng = np.random.default_rng([seed, 5])
        left, right = rng.standard_normal((2, DIM))
        target, seen = np.outer(left, right), np.zeros(DIM * DIM)
        seen[rng.permutation(DIM * DIM)[:SEEN]] = 1
        if (number := perturbation.chosen()) is not None:
            target = perturbation.moved(target[None], number)[0]
        starts = [lifted_start(DIM, k, a, rng) for _, a, k in (*_CELLS, *_CURVE)]
        return cls(target, seen.reshape(DIM, DIM), np.stack(starts))

    def rows(self, ends: np.ndarray, left: np.ndarray) -> Iterator[dict[str, Any]]:
        """Yield what is known of each cell from its end and what is left there."""
        cells = (*_CELLS, *_CURVE)
        moved, hidden = ends - self.starts[:, :DIM, DIM:], 1 - self.seen
        size, known = np.linalg.norm(self.target * hidden), self.target * self.seen
        cube = np.linalg.norm(known @ known.T @ known * hidden)
        infinite = {
            a: moved[i]
            for i, (kind, a, k) in enumerate(cells)
            if kind == "rate" and math.isinf(k)
        }
        for index, (kind, scale, width) in enumerate(cells):
            product = scale if math.isinf(width) else scale * width
            near = min(infinite, key=lambda a: abs(math.log(a / product)))
            gap = moved[index] - infinite[near]
            yield {
                "kind": kind,
                "scale": scale,
                "width": 0.0 if math.isinf(width) else float(width),
                "product": product,
                "moved": float(np.linalg.norm(moved[index] * hidden) / size),
                "law": float(cube / 6 / product**2 / size),
                "excess": float(nuclear(ends[index]) - nuclear(self.target)),
                "to_limit": float(np.linalg.norm(gap) / np.linalg.norm(infinite[near])),
                "left": float(left[index]),
            }


def _ends(
    tasks: Sequence[_Task], which: slice, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of some cells of all tasks, by task, and what is left there."""
    starts = np.stack([task.starts[which] for task in tasks])
    count, cells = starts.shape[:2]
    targets, seen = (
        np.repeat(np.stack(part), cells, axis=0)
        for part in zip(*((task.target, task.seen) for task in tasks), strict=True)
    )
    flat = starts.reshape(-1, *starts.shape[2:])
    ends, left = complete(flat, targets, seen, step=step)
    return ends.reshape(count, cells, DIM, DIM), left.reshape(count, cells)
