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
from jaxtyping import Float, Int
from scipy.integrate import solve_ivp

from widthlab.model import AnyArray
from widthlab.papers.woodworth2020kernel.potentials import Potential


def descend(
    x: Float[AnyArray, "n d"],
    y: Float[AnyArray, " n"],
    starts: Float[AnyArray, "d starts"],
    *,
    depth: int = 2,
    steps: Float[AnyArray, " starts"],
    counts: Int[AnyArray, "times starts"],
) -> Float[np.ndarray, "times d starts"]:
    r"""Return $\beta$ along gradient descent from several starts $w_+ = w_- = w(0)$.

    Starts share every product with the inputs, and leave when they are done.

    Args:
        x: inputs.
        y: labels.
        starts: $\alpha w_0$, one start a column.
        depth: $D$.
        steps: of the descent from each start.
        counts: how many steps each has taken when it is looked at, increasing.

    Raises:
        ValueError: the descent has diverged; take a smaller step.
    """
    x, labels = np.asarray(x, float), np.asarray(y, float)[:, None]
    starts, counts = np.asarray(starts, float), np.asarray(counts)
    back, found = np.ascontiguousarray(x.T), np.empty((len(counts), *starts.shape))
    going, done = np.arange(starts.shape[1]), 0
    up, down = starts.copy(), starts.copy()
    for count in sorted({*counts.ravel().tolist()}):
        factors = 2 * depth * np.asarray(steps, float)[going]
        up, down = _advance((x, back, labels), up, down, factors, depth, count - done)
        times, which = np.nonzero(counts[:, going] == count)
        found[times, :, going[which]] = (up**depth - down**depth).T[which]
        left, done = counts[-1, going] > count, count
        going, up, down = going[left], up[:, left], down[:, left]
    if not np.isfinite(found[-1]).all():
        raise ValueError(
            f"descent with steps of {max(steps):g} diverged; take smaller steps"
        )
    return found


def _advance(
    task: tuple[Any, Any, Any], up: Any, down: Any, factors: Any, depth: int, count: int
) -> tuple[Any, Any]:
    (x, back, labels), up, down = task, up.copy(), down.copy()
    for _ in range(count):
        pull = back @ (x @ (up**depth - down**depth) - labels)
        pull *= factors
        if depth > 2:
            up -= pull * up ** (depth - 1)
            down += pull * down ** (depth - 1)
        else:
            up -= pull * up
            down += pull * down
    return up, down


def extrapolated(
    x: Any,
    y: Any,
    starts: Float[AnyArray, "d starts"],
    *,
    depth: int = 2,
    step: float,
    times: Float[AnyArray, "times starts"],
) -> tuple[Any, Any, Any]:
    r"""Return $\beta$ of descent with a step, with half of it, and for steps to 0.

    The last is $2 \beta_{h/2} - \beta_h$: descent is off from the flow by $O(h)$.

    Args:
        x: inputs.
        y: labels.
        starts: one a column.
        depth: $D$.
        step: $h$.
        times: at which to look at each start, whole numbers of steps.
    """
    counts, each = np.rint(np.asarray(times) / step).astype(int), np.shape(starts)[1]
    both = descend(
        x,
        y,
        np.tile(starts, 2),
        depth=depth,
        steps=np.repeat([step, step / 2], each),
        counts=np.hstack([counts, 2 * counts]),
    )
    whole, half = both[..., :each], both[..., each:]
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
