"""Completion of a matrix over widths and scales: what the chapter's C7 measures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Completions(Computed):
    r"""One target of rank one: the cells of Figure 5, and the limit of infinite width.

    Rows are of three kinds: "cell", a cell of the figure; "limit", infinite width at
    some $\alpha^2 k$; "rate", a width at one of three $\alpha^2 k$, with its distance
    to infinite width. What has "moved" is the norm of the change of the entries that
    are not seen, over that of the target there; "law" is the same in the kernel regime,
    $|(Y_O Y_O^\top Y_O) / (6 (\alpha^2 k)^2)|$.

    Attributes:
        seed: draws the target, the entries seen and all starts.
    """

    seed: int

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each cell."""
        rng = np.random.default_rng([self.seed, 5])
        left, right = rng.standard_normal((2, DIM))
        target, seen = np.outer(left, right), np.zeros(DIM * DIM)
        seen[rng.permutation(DIM * DIM)[:SEEN]] = 1
        seen = seen.reshape(DIM, DIM)
        if (number := perturbation.chosen()) is not None:
            target = perturbation.moved(target[None], number)[0]
        cells = [
            *(("cell", a, k) for a in printed.FIGURE_5_SCALES for k in _widths()),
            *(("rate", a, math.inf) for a in _RATE_SCALES),
            *(("rate", a / k, k) for a in _RATE_SCALES for k in _RATE_WIDTHS),
        ]
        curve = [("limit", a, math.inf) for a in LIMIT_SCALES]
        starts, ends, left_over = _ends(cells, target, seen, rng, 0.2)
        # Small steps: in the kernel regime what moves is small beside an error of 2 %.
        exact = _ends(curve, target, seen, rng, 0.05)
        starts, ends, left_over = (
            np.concatenate(pair)
            for pair in zip((starts, ends, left_over), exact, strict=True)
        )
        cells += curve
        moved = ends - starts[:, :DIM, DIM:]
        hidden, size = 1 - seen, float(np.linalg.norm(target * (1 - seen)))
        cube = (target * seen) @ (target * seen).T @ (target * seen) * hidden
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
                "moved": float(np.linalg.norm(moved[index] * hidden)) / size,
                "law": float(np.linalg.norm(cube)) / 6 / product**2 / size,
                "excess": float(nuclear(ends[index]) - nuclear(target)),
                "to_limit": float(np.linalg.norm(gap) / np.linalg.norm(infinite[near])),
                "left": float(left_over[index]),
            }


def _ends(
    cells: list[Any],
    target: np.ndarray,
    seen: np.ndarray,
    rng: np.random.Generator,
    step: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    starts = np.stack([lifted_start(DIM, k, a, rng) for _, a, k in cells])
    return starts, *complete(starts, target, seen, step=step)


def _widths() -> tuple[float, ...]:
    return tuple(map(float, printed.FIGURE_5_WIDTHS))
