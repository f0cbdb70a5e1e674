r"""The flow that the potentials are about: on the weights, and in the dual variables.

On the weights it is gradient descent on the sum of squares, $w_\pm' = \mp 2 D
w_\pm^{D-1} \odot X^\top (X \beta - y)$ with steps of some size. In the dual variables
it is one equation for each example,

$$\dot\nu = -c_D (X \beta(\nu) - y), \qquad c_2 = 8, \quad
  c_D = 2 D (D - 2) \alpha^{D-2},$$

with $\beta(\nu) = \beta(X^\top \nu)$ of `potentials`: mirror descent in
continuous time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

from widthlab.model import AnyArray
from widthlab.papers.woodworth2020kernel.potentials import Potential


def descend(
    x: Float[AnyArray, "n d"],
    y: Float[AnyArray, " n"],
    starts: Float[AnyArray, "d starts"],
    *,
    depth: int = 2,
    step: float,
    times: Sequence[float],
) -> Float[np.ndarray, "times d starts"]:
    r"""Return $\beta$ along gradient descent from several starts $w_+ = w_- = w(0)$.

    Args:
        x: inputs.
        y: labels.
        starts: $\alpha w_0$, one start a column.
        depth: $D$.
        step: of the descent.
        times: increasing; each is a whole number of steps.

    Raises:
        ValueError: the descent has diverged; take a smaller step.
    """
    x, labels = np.asarray(x, float), np.asarray(y, float)[:, None]
    back = np.ascontiguousarray(x.T)
    up = np.array(starts, float)
    down, found, done = up.copy(), [], 0
    factor = 2 * depth * step
    for time in times:
        for _ in range(round(time / step) - done):
            pull = back @ (x @ (up**depth - down**depth) - labels)
            pull *= factor
            if depth > 2:
                up -= pull * up ** (depth - 1)
                down += pull * down ** (depth - 1)
            else:
                up -= pull * up
                down += pull * down
        done = round(time / step)
        found.append(up**depth - down**depth)
    if not np.isfinite(found[-1]).all():
        raise ValueError(f"descent with steps of {step:g} diverged; take smaller steps")
    return np.stack(found)


def extrapolated(
    x: Any, y: Any, starts: Any, *, depth: int = 2, step: float, times: Sequence[float]
) -> tuple[Any, Any, Any]:
    r"""Return $\beta$ of descent with a step, with half of it, and for steps to 0.

    The last is $2 \beta_{h/2} - \beta_h$: descent is off from the flow by $O(h)$.

    Args:
        x: inputs.
        y: labels.
        starts: one a column.
        depth: $D$.
        step: $h$.
        times: at which to look.
    """
    whole, half = (
        descend(x, y, starts, depth=depth, step=h, times=times)
        for h in (step, step / 2)
    )
    return whole, half, 2 * half - whole


def dual_flow(
    x: Float[AnyArray, "n d"],
    y: Float[AnyArray, " n"],
    potential: Potential,
    times: Sequence[float],
) -> Float[np.ndarray, "times d"]:
    r"""Return $\beta$ along the flow, solved in the dual variables.

    Args:
        x: inputs.
        y: labels.
        potential: depth, scale and shape of the start.
        times: increasing.

    Raises:
        ValueError: the solver gave up.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    depth, rate = potential.depth, 8.0
    if depth > 2:
        log_alpha = potential.log_scale / depth
        rate = 2 * depth * (depth - 2) * math.exp((depth - 2) * log_alpha)

    def velocity(_: float, nu: Any) -> Any:
        return -rate * (x @ potential.predictor(x.T @ nu) - y)

    def jacobian(_: float, nu: Any) -> Any:
        return -rate * (x * potential.slope(x.T @ nu)) @ x.T

    solved = solve_ivp(
        velocity,
        (0.0, times[-1]),
        np.zeros(len(y)),
        method="BDF",
        jac=jacobian,
        t_eval=times,
        rtol=1e-8,
        atol=1e-9,
    )
    if not solved.success:
        raise ValueError(f"the dual flow was not solved: {solved.message}")
    return np.stack([potential.predictor(x.T @ nu) for nu in solved.y.T])
