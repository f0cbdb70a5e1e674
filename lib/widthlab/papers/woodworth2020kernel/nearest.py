r"""The implicit and the explicit bias at several scales: how far they are apart (C5).

Both are potentials from a uniform start at depth 2: $Q_\alpha$ of gradient flow, and
$R_\alpha$ of the nearest interpolator (Woodworth et al. 2020, equations 8 and 9). Their
minimisers have the same limits, least l2 and least l1, and differ between.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scipy.optimize import minimize_scalar

from widthlab.papers.woodworth2020kernel.dual import minimise
from widthlab.papers.woodworth2020kernel.linear import EXPLICIT
from widthlab.papers.woodworth2020kernel.potentials import Potential
from widthlab.papers.woodworth2020kernel.sparse import Sparse, distance
from widthlab.runs import Computed

_FURTHEST = 3.0  # natural logarithm of how much larger a scale of R is looked at


@dataclass(frozen=True)
class Nearest(Computed):
    r"""Distances between minimisers of $Q_\alpha$ and $R$, relative to the second.

    Attributes:
        seed: draws the task.
        alphas: scales of both.
        rescaled: scales of $Q$, beside which that of $R$ is the one that is nearest,
            looked for between $\alpha^2$ and 20 times that.
    """

    seed: int
    alphas: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)
    rescaled: tuple[float, ...] = (0.1, 0.03)

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield distances: at R's scale that is Q's, and at the nearest one."""
        x, y, _ = Sparse(self.seed).draw()
        for alpha in self.alphas:
            log_scale = 2 * math.log(alpha)
            flow = minimise(x, y, Potential(2, log_scale)).beta
            apart = functools.partial(_apart, x, y, flow, log_scale)
            yield {"alpha": alpha, "times": 1.0, "distance": apart(0.0)}
            if alpha in self.rescaled:
                found: Any = minimize_scalar(
                    apart,
                    bounds=(0, _FURTHEST),
                    method="bounded",
                    options={"xatol": 1e-2},
                )
                times = math.exp(found.x)
                yield {"alpha": alpha, "times": times, "distance": float(found.fun)}


def _apart(x: Any, y: Any, flow: Any, log_scale: float, more: float) -> float:
    """Return the distance of a predictor to the minimiser of R at a larger scale."""
    nearest = minimise(x, y, Potential(EXPLICIT, log_scale + more))
    return distance(flow, nearest.beta)
