"""Gram matrices of many random starts, as computations that are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from widthlab.papers.caron2023asymmetrical import gram, tasks
from widthlab.papers.caron2023asymmetrical.scaling import (
    MODELS,
    SPREAD_OUT,
    NodeScaling,
    one_big_node,
)
from widthlab.runs.computed import Computed

BIG = 0.5
"""Mass of the one big node."""

_SCALINGS = {
    **{model.label: model.masses for model in MODELS},
    "not summable": SPREAD_OUT.masses,
    "big node + rest": lambda m: one_big_node(m, BIG),
    "big node alone": lambda m: one_big_node(m, 1.0),
}

CASES = tuple(_SCALINGS)
"""The masses that are compared, under one $w$ each."""


@dataclass(frozen=True)
class GramDraws(Computed):
    r"""Distances and eigenvalues of $\Theta$ at the start, for one data set.

    Rows have the case, the draw, `square` ($\|\Theta - \Theta^*\|_F^2$),
    `law` ($V \sum_j \lambda_j^2$), `least` and `least_uniform` ($\lambda_{\min}$ of
    $\Theta$, and of the matrix of equal masses and the same $w$), and `kappa`
    ($\lambda_{\min}(\Theta^*)$).

    Attributes:
        width: number of nodes.
        draws: of $w$.
        seed: of the data and of all $w$.
    """

    width: int
    draws: int
    seed: int

    def run(self) -> Iterator[Mapping[str, Any]]:
        """Return a row for each case and draw."""
        x = tasks.simulated(self.seed).x
        limit, variance = gram.limit_gram(x), gram.variance(x)
        kappa = float(gram.least_eigenvalue(limit))
        masses = np.stack([make(self.width) for make in _SCALINGS.values()])
        law = variance * (masses**2).sum(axis=1)
        rng = np.random.default_rng([self.seed, self.width, 3])
        for draw in range(self.draws):
            w = rng.standard_normal((self.width, x.shape[1]), np.float32)
            found = gram.gram(x, w, masses)
            square = ((found - limit) ** 2).sum(axis=(1, 2))
            least = gram.least_eigenvalue(found)
            for index, case in enumerate(CASES):
                yield {
                    "case": case,
                    "draw": draw,
                    "square": square[index],
                    "law": law[index],
                    "least": least[index],
                    "least_uniform": least[0],
                    "kappa": kappa,
                }


def shares() -> dict[str, float]:
    r"""Return for each case the share $\gamma$ of equal parts."""
    models: list[NodeScaling] = [*MODELS, SPREAD_OUT]
    names = (*(model.label for model in MODELS), "not summable")
    known = {n: model.gamma for n, model in zip(names, models, strict=True)}
    return known | {"big node + rest": 1 - BIG, "big node alone": 0.0}
