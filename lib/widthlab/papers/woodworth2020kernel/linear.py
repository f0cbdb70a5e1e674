r"""Computations on the linear models: what the chapter's claims C1 to C7 measure.

Each is one replication, kept under its own key, with rows that say what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from widthlab.papers.woodworth2020kernel import printed
from widthlab.papers.woodworth2020kernel.descent import dual_flow, extrapolated
from widthlab.papers.woodworth2020kernel.dual import (
    excess_l1,
    least_l1,
    least_norm,
    minimise,
    path,
)
from widthlab.papers.woodworth2020kernel.potentials import Potential
from widthlab.papers.woodworth2020kernel.sparse import Sparse, distance, error
from widthlab.papers.woodworth2020kernel.width import diagonal_start
from widthlab.runs import Computed

EXPLICIT = 4
r"""Depth whose potential is that of the explicit bias at depth 2 (equations 8, 9).

From a uniform start, that is. From a shape $w_0$ the explicit bias has $\beta_i =
\alpha^2 w_{0i}^2 h_4(z_i)$, and depth four from any shape has another argument.
"""

_TEN = math.log(10)


class Start(NamedTuple):
    """Where a descent begins, and when it ends.

    Attributes:
        scale: alpha.
        time: at which it ends.
        shaped: whether its shape is log-normal in place of uniform.
    """

    scale: float
    time: float
    shaped: bool = False


@dataclass(frozen=True)
class Descents(Computed):
    """Where gradient descent ends, and how far that is from minimisers of potentials.

    "explicit", the nearest interpolator, is among them at depth 2 from a uniform start
    alone: it is the minimiser of `EXPLICIT`'s potential there and nowhere else. Beside
    a shape $w_0$, "depth 3" is the model whose start has the shape $w_0^{2/3}$.

    Attributes:
        seed: draws task and shape.
        starts: from each of which it descends.
        step: of the descents; they are run with half of it too.
        depth: D.
    """

    seed: int
    starts: tuple[Start, ...]
    step: float
    depth: int = 2

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield relative distances, of descent with a step and for steps to 0."""
        x, y, _ = Sparse(self.seed).draw()
        shapes = [self._shape(start, x.shape[1]) for start in self.starts]
        begun = [s.scale * shape for s, shape in zip(self.starts, shapes, strict=True)]
        ends = np.array([start.time for start in self.starts])
        times = np.multiply.outer([1 / 64, 1 / 16, 1 / 4, 1], ends)
        times = np.rint(times / self.step) * self.step
        ways = extrapolated(
            x, y, np.stack(begun, axis=1), depth=self.depth, step=self.step, times=times
        )
        for number, (start, shape) in enumerate(zip(self.starts, shapes, strict=True)):
            potential = Potential(self.depth, self.depth * math.log(start.scale), shape)
            mine = [way[:, :, number] for way in ways]
            found = _distances((x, y), potential, mine, uniform=not start.shaped)
            dual = dual_flow(x, y, potential, times[:, number].tolist())
            gaps = np.linalg.norm(mine[-1] - dual, axis=1)
            found["path"] = float(gaps.max() / np.linalg.norm(dual[-1]))
            for name, value in found.items():
                yield {"start": number, "quantity": name, "value": value}

    def _shape(self, start: Start, dim: int) -> np.ndarray:
        return log_normal(self.seed, dim) if start.shaped else np.ones(dim)


def _distances(
    task: tuple[Any, Any], potential: Potential, ways: list[Any], *, uniform: bool
) -> dict[str, float]:
    """Return how far descents end from the minimiser of a potential, and of others."""
    (x, y), depth, shape = task, potential.depth, potential.shape
    log_scale = potential.log_scale
    others = {
        "twice the scale": Potential(depth, depth * math.log(2) + log_scale, shape),
        "depth 3": Potential(3, log_scale, np.asarray(shape) ** (depth / 3)),
    }
    if depth == 2 and uniform:
        others["explicit"] = Potential(EXPLICIT, log_scale)
    limit, (_, _, flow) = minimise(x, y, potential).beta, ways
    found = {
        name: distance(way[-1], limit)
        for name, way in zip(("step", "half", "flow"), ways, strict=True)
    }
    found["left"] = float(np.linalg.norm(x @ flow[-1] - y) / np.linalg.norm(y))
    for name, other in others.items():
        found[name] = distance(flow[-1], minimise(x, y, other).beta)
    return found


def log_normal(seed: int, dim: int, stream: int = 2) -> np.ndarray:
    r"""Return a shape $w_0$ of independent log-normal entries, of spread 0.7."""
    return np.exp(0.7 * np.random.default_rng([seed, stream]).standard_normal(dim))


@dataclass(frozen=True)
class Limits(Computed):
    """How fast minimisers come to those of least l1 and l2 norm.

    Attributes:
        seed: draws the task.
        depths: D; 4 is the explicit bias at depth 2 too.
        exponents: powers of ten of S.
        noise: standard deviation of the labels' noise.
    """

    seed: int
    depths: tuple[int, ...]
    exponents: tuple[float, ...]
    noise: float = 0.1

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield the relative excess of the l1 norm and the distance to least l2."""
        x, y, _ = Sparse(self.seed, noise=self.noise).draw()
        sparse, certificate = least_l1(x, y)
        flat = least_norm(x, y)
        for depth in self.depths:
            found = path(x, y, depth, _TEN * np.array(self.exponents))
            excess = excess_l1(found, certificate) / np.abs(sparse).sum()
            for exponent, beta, l1 in zip(self.exponents, found, excess, strict=True):
                yield {
                    "depth": depth,
                    "log10_scale": exponent,
                    "excess_l1": float(l1),
                    "to_l2": distance(beta, flat),
                }


@dataclass(frozen=True)
class Bounds(Computed):
    r"""Theorem 2 at its own values of alpha: how much of what it allows is used.

    Attributes:
        seed: draws the task.
        slack: $\epsilon$.
    """

    seed: int
    slack: float = 0.1

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield log10 alpha of each bound, the excess there over what is allowed."""
        x, y, _ = Sparse(self.seed).draw()
        sparse, certificate = least_l1(x, y)
        flat, eps, norm = least_norm(x, y), self.slack, float(np.abs(sparse).sum())
        power = -(2 + eps) / (2 * eps) * math.log(2 * (1 + eps) * norm)
        low = min(power, -x.shape[1] / (eps * norm))
        size = float(np.linalg.norm(flat))
        high = 0.5 * math.log(2 * (1 + eps) * (1 + 2 / eps) * size)
        down = np.concatenate([-np.geomspace(5, -2 * low, 12)])
        excess = excess_l1(path(x, y, 2, down), certificate) / norm / eps
        wide = minimise(x, y, Potential(2, 2 * high)).beta
        used = (float(wide @ wide) / size**2 - 1) / eps
        yield {"bound": "l1", "log10_alpha": low / _TEN, "used": float(excess[-1])}
        yield {"bound": "l2", "log10_alpha": high / _TEN, "used": abs(used)}
        # Where the excess itself is what is allowed: the true thresholds.
        fine = 2 * _TEN * np.linspace(0.5, -4, 46)
        betas = path(x, y, 2, fine)
        l1 = excess_l1(betas, certificate) / norm / eps
        l2 = ((betas**2).sum(axis=1) / size**2 - 1) / eps
        yield {"bound": "l1, true", "log10_alpha": _crossing(fine, l1), "used": 1.0}
        yield {"bound": "l2, true", "log10_alpha": _crossing(fine, l2), "used": 1.0}


def _crossing(log_scales: np.ndarray, ratio: np.ndarray) -> float:
    """Return log10 alpha where a ratio along falling scales is 1."""
    at = int(np.argmax((ratio[:-1] > 1) != (ratio[1:] > 1)))
    logs = np.log(np.abs(ratio[at : at + 2]))
    share = logs[0] / (logs[0] - logs[1])
    between = log_scales[at] + share * (log_scales[at + 1] - log_scales[at])
    return float(between / 2 / _TEN)


@dataclass(frozen=True)
class Errors(Computed):
    """Population errors against alpha, at the alphas of Figure 1(a) and at 0.001.

    Attributes:
        seed: draws the task.
        rotated: whether the coordinates are.
        examples: N.
    """

    seed: int
    rotated: bool = False
    examples: int = 100

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield the error at each alpha, from 0.001 on; infinity is least l2."""
        x, y, truth = Sparse(self.seed, self.examples, rotated=self.rotated).draw()
        alphas = (1e-3, *printed.FIGURE_1A_ALPHA)
        found = error(path(x, y, 2, 2 * np.log(alphas)), truth)
        for alpha, value in zip(alphas, found, strict=True):
            yield {"alpha": alpha, "error": float(value)}
        yield {"alpha": 0.0, "error": float(error(least_l1(x, y)[0], truth))}
        yield {"alpha": 1e9, "error": float(error(least_norm(x, y), truth))}


@dataclass(frozen=True)
class Threshold(Computed):
    r"""The largest $S = \alpha^D$ at which the error is small enough (Figs 1c, 3c).

    Attributes:
        seed: draws the task.
        depth: D.
        examples: N.
        sparsity: r.
        lowest: power of ten below which nothing is tried.
    """

    seed: int
    depth: int
    examples: int
    sparsity: int = 3
    lowest: float = -10.0

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield log10 of it, or `lowest` and False where it is not reached."""
        x, y, truth = Sparse(self.seed, self.examples, self.sparsity).draw()
        near, before, at = None, math.inf, -1.0
        while at >= self.lowest:
            near = minimise(x, y, Potential(self.depth, _TEN * at), near).beta
            now = math.log(float(error(near, truth)) / printed.BOUND)
            if now <= 0:
                share = now / (now - before) if math.isfinite(before) else 0.0
                yield {"log10_scale": at + 0.25 * share, "reached": True}
                return
            before, at = now, at - 0.25
        yield {"log10_scale": self.lowest, "reached": False}


@dataclass(frozen=True)
class Shapes(Computed):
    """What the shape of the start does, at several alphas.

    Attributes:
        seed: draws the task and two shapes.
        alphas: scales.
    """

    seed: int
    alphas: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5)

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield distances to kernel limits, and of the solutions of two shapes."""
        x, y, _ = Sparse(self.seed).draw()
        shapes = [log_normal(self.seed, x.shape[1], stream) for stream in (2, 3)]
        scales = 2 * np.log(self.alphas)
        one, two = (path(x, y, 2, scales, shape) for shape in shapes)
        weighted, plain = least_norm(x, y, shapes[0] ** -2.0), least_norm(x, y)
        for alpha, a, b in zip(self.alphas, one, two, strict=True):
            yield {
                "alpha": alpha,
                "weighted": distance(a, weighted),
                "plain": distance(a, plain),
                "apart": distance(a, b),
            }


@dataclass(frozen=True)
class Widths(Computed):
    r"""The diagonal model of finite width beside its limit (Theorem 4).

    Attributes:
        seed: draws task and starts.
        mu: scale of the limit, $\mu^2 = \alpha^2 k / 2$.
        widths: k.
    """

    seed: int
    mu: float
    widths: tuple[int, ...] = tuple(4**power for power in range(4, 14))

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield distances to the limit, and to what mu without the half would be."""
        x, y, _ = Sparse(self.seed).draw()
        log_scale = 2 * math.log(self.mu)
        limit = minimise(x, y, Potential(2, log_scale)).beta
        wrong = minimise(x, y, Potential(2, log_scale + math.log(2)), limit).beta
        rng = np.random.default_rng([self.seed, 4])
        for width in self.widths:
            start = diagonal_start(x.shape[1], width, self.mu, rng)
            beta = minimise(x, y, start, limit).beta
            far = distance(beta, wrong)
            yield {"width": width, "right": distance(beta, limit), "wrong": far}
