r"""The limit of gradient flow as one convex problem in as many unknowns as examples.

Among all $\beta$ with $X \beta = y$, `potentials.Potential` is least at $\beta(X^\top
\nu)$, where $\nu$ minimises the dual

$$\Phi(\nu) = \sum_i S H_D(x_i^\top \nu) - y^\top \nu ,$$

with $x_i$ the columns of $X$. It is convex and has $N$ unknowns, whatever $d$ is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import linprog

from widthlab.model import AnyArray
from widthlab.papers.woodworth2020kernel.potentials import Potential

_STEPS = 400
_ENOUGH = 1e-11  # of |y|: what is left of X beta - y
_ROUNDED = 1e-8  # where no step helps any more: near the wall 1 - z has few digits
_TO_THE_WALL = 0.95  # how much of the way to where the predictor is infinite


@dataclass(frozen=True, slots=True, eq=False)
class Interpolator:
    r"""The minimiser of a potential among all that interpolate.

    Attributes:
        beta: the minimiser.
        nu: the dual variables, $\beta = \beta(X^\top \nu)$.
        residual: $|X \beta - y| / |y|$.
        steps: of Newton's method.
    """

    beta: Float[np.ndarray, " d"]
    nu: Float[np.ndarray, " n"]
    residual: float
    steps: int


def minimise(
    x: Float[AnyArray, "n d"],
    y: Float[AnyArray, " n"],
    potential: Potential,
    near: Float[AnyArray, " d"] | None = None,
) -> Interpolator:
    r"""Minimise a potential on $\{X \beta = y\}$ by damped Newton steps in its dual.

    Args:
        x: inputs, one a row, of full row rank.
        y: labels.
        potential: what is least.
        near: an interpolator near the minimiser, such as that of another scale; by
            default the one of least norm.

    Raises:
        ValueError: Newton's method did not converge.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if near is None:
        near = x.T @ np.linalg.solve(x @ x.T, y)
    nu = _predicted(x, potential, np.asarray(near, float))
    size, left, before = float(np.linalg.norm(y)), np.inf, np.inf
    for step in range(_STEPS):
        z = x.T @ nu
        beta = potential.predictor(z)
        wrong = x @ beta - y
        left = float(np.linalg.norm(wrong)) / size
        if left < _ENOUGH or before / 2 < left < _ROUNDED:
            return Interpolator(beta, nu, left, step)
        before = left
        move = _solve(x, potential.slope(z), wrong)
        nu = nu - _damping(x, y, potential, nu, move, wrong) * move
    raise ValueError(
        f"Newton's method has left {left:.1e} of the labels after {_STEPS} steps at "
        f"depth {potential.depth} and log S = {potential.log_scale:.4g}; give a nearer "
        "interpolator with near=, that of a larger scale"
    )


def path(
    x: Float[AnyArray, "n d"],
    y: Float[AnyArray, " n"],
    depth: int,
    log_scales: Float[AnyArray, " scales"],
    shape: Float[AnyArray, " d"] | float = 1.0,
) -> Float[np.ndarray, "scales d"]:
    """Return the minimisers at several scales, each found from that of the next larger.

    Args:
        x: inputs.
        y: labels.
        depth: of the model.
        log_scales: natural logarithms of the scales, in any order.
        shape: of the start.
    """
    scales = np.asarray(log_scales, float)
    found, near = np.empty((scales.size, np.shape(x)[1])), None
    for index in np.argsort(-scales):
        potential = Potential(depth, float(scales[index]), shape)
        near = found[index] = minimise(x, y, potential, near).beta
    return found


def least_norm(
    x: Float[AnyArray, "n d"],
    y: Float[AnyArray, " n"],
    weights: Float[AnyArray, " d"] | float = 1.0,
) -> Float[np.ndarray, " d"]:
    r"""Return the interpolator of least $\sum_i c_i \beta_i^2$.

    Args:
        x: inputs.
        y: labels.
        weights: $c_i$; that of the kernel limit is $1 / w_{0i}^2$ at depth 2.
    """
    scaled = np.asarray(x).T / np.broadcast_to(weights, np.shape(x)[1])[:, None]
    return scaled @ np.linalg.solve(np.asarray(x) @ scaled, np.asarray(y))


def least_l1(
    x: Float[AnyArray, "n d"], y: Float[AnyArray, " n"]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    r"""Return the interpolator of least $\ell_1$ norm, with its certificate.

    The certificate is $s = X^\top \mu$ with $|s_i| \le 1$, and $s_i$ the sign of
    $\beta_i$ where that is not 0.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    split: Any = linprog(
        np.ones(2 * x.shape[1]), A_eq=np.hstack([x, -x]), b_eq=y, method="highs"
    )
    if not split.success:
        raise ValueError(f"no least l1 norm was found: {split.message}")
    up, down = np.split(split.x, 2)
    return up - down, x.T @ split.eqlin.marginals


def excess_l1(beta: Float[AnyArray, " *scales d"], certificate: Any) -> Any:
    r"""Return $|\beta|_1 - |\beta_{\ell_1}|_1$ without cancellation.

    It is $\sum_i |\beta_i| (1 - s_i \operatorname{sign} \beta_i)$, since $s$ is in the
    span of the inputs and both interpolate.
    """
    gap = np.maximum(1 - np.asarray(certificate) * np.sign(beta), 0.0)
    gap = np.where(gap < 1e-9, 0.0, gap)  # what the linear program leaves of 0
    return (np.abs(beta) * gap).sum(axis=-1)


def _predicted(x: Any, potential: Potential, near: Any) -> Any:
    """Dual variables whose predictor is near `near`, where it is large above all."""
    z = potential.inverse(near)
    wall = 1 - 1e-12
    weights = potential.slope(np.clip(z, -potential.wall * wall, potential.wall * wall))
    nu = _solve(x, weights, x @ (weights * z))
    reach = np.max(np.abs(x.T @ nu) / potential.wall)
    return nu if reach < 1 else nu * (_TO_THE_WALL / reach)


def _solve(x: Any, weights: Any, right: Any) -> Any:
    """Solve X diag(weights) X' u = right, where weights may span many decades."""
    half = x * np.sqrt(weights)
    hessian = half @ half.T  # of a matrix and its own transpose: half the work
    lift = 0.0
    for _ in range(30):
        try:
            lifted = hessian + lift * np.diag(np.diag(hessian))
            return cho_solve(cho_factor(lifted, lower=True), right)
        except np.linalg.LinAlgError:
            lift = max(1e-15, 10 * lift)
    raise ValueError("X diag(w) X' is not positive definite; are inputs repeated?")


def _damping(x: Any, y: Any, potential: Potential, nu: Any, move: Any, wrong: Any):
    """Halve a step, from the wall inwards, until the dual falls enough."""
    z, dz = x.T @ nu, x.T @ move
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        room = np.where(dz < 0, potential.wall - z, potential.wall + z) / np.abs(dz)
        share = min(1.0, _TO_THE_WALL * float(np.nanmin(room)))
        slope = float(wrong @ move)
        at_start = potential.energy(z)
        noise = 1e-14 * float(np.abs(at_start).sum())  # of the difference below
        for _ in range(60):
            change = (potential.energy(z - share * dz) - at_start).sum()
            change += share * float(y @ move)
            if change <= noise - 1e-4 * share * slope:
                return share
            share /= 2
    return share
