r"""The catapult in two variables (Lewkowycz et al. 2020).

A linear network with one hidden layer, $f = n^{-1/2} v \cdot u\, x$ on the one sample
$x = 1$ with target 0 and loss $f^2 / 2$, has the tangent kernel
$\lambda = (|u|^2 + |v|^2) / n$. Gradient descent with rate $\eta$ closes on these two:

$$f' = \Big(1 - \eta\lambda + \frac{\eta^2 f^2}{n}\Big) f, \qquad
  \lambda' = \lambda + \frac{\eta f^2}{n} (\eta\lambda - 4).$$

While $f$ is small it is multiplied by $1 - \eta\lambda$. So the loss falls from the
start if $\eta\lambda < 2$; it rises first and lowers $\lambda$ until it can fall, if
$2 < \eta\lambda < 4$; and both grow without bound beyond.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.model import AnyArray
from widthlab.training.devices import precision

Numbers = float | Float[AnyArray, " ..."]
"""One number, or an array of them."""


class TwoVariables(NamedTuple):
    r"""Trajectories, steps first.

    Attributes:
        f: output.
        curvature: tangent kernel $\lambda$.
        lr: learning rate $\eta$ of the step that starts from there.
    """

    f: Float[np.ndarray, "times ..."]
    curvature: Float[np.ndarray, "times ..."]
    lr: Float[np.ndarray, "times ..."]


def two_variables(
    f: Numbers,
    curvature: Numbers,
    n: Numbers,
    steps: int,
    *,
    lr: Numbers | None = None,
    c: Numbers | None = None,
) -> TwoVariables:
    r"""Train the model for some steps, from one start or from many at once, in float64.

    Give either a constant rate `lr`, or `c` for the schedule $\eta_t = c / \lambda_t$.
    The latter keeps $\eta\lambda = c$; with $q = f^2 / (n \lambda^2)$ it is

    $$f' = (1 - c + c^2 q) f, \qquad \lambda' = \lambda (1 - c (4 - c) q).$$

    For $2 < c < 4$ a small $q$ grows, and $q \le 1/4$ always, so that $\lambda$ falls
    for ever and $f$ with it: the catapult phase without an end.

    Args:
        f: outputs at the start.
        curvature: tangent kernels $\lambda$ at the start, at least
            $2 |f| n^{-1/2}$ as in any network; with the other numbers they broadcast.
        n: widths.
        steps: number of steps.
        lr: $\eta$.
        c: $\eta\lambda$ of the schedule.

    Returns:
        The start and the state after each step. Where training diverges, what overflows
        is infinite or not a number.

    Raises:
        ValueError: both or neither of `lr` and `c` are given, a number of steps is
            negative, or no network has such a start.

    Example:
        >>> run = two_variables(0.5, 1.0, 4.0, 200, lr=np.array([1.5, 3.0]))
        >>> (run.lr * run.curvature)[-1].round(3).tolist()
        [1.096, 0.161]
    """
    given = lr if c is None else c
    if given is None or (lr is not None and c is not None):
        raise ValueError(f"lr is {lr} and c is {c}; give exactly one of the two")
    if steps < 0:
        raise ValueError(f"steps is {steps}; it must be 0 or more")
    numbers = (np.asarray(v, np.float64) for v in (f, curvature, n, given))
    f0, curvature0, width, rate = np.broadcast_arrays(*numbers)
    if not np.all(width > 0) or not np.all(
        2 * np.abs(f0) <= curvature0 * np.sqrt(width) * (1 + 1e-12)
    ):
        raise ValueError(
            f"f is {f}, the curvature {curvature} and n {n}; in a network n is above 0 "
            "and the curvature at least 2 |f| / sqrt(n)"
        )
    with precision("float64"):
        start = jnp.asarray(f0), jnp.asarray(curvature0)
        start = *start, start[0] / (start[1] * jnp.sqrt(jnp.asarray(width)))
        program = _constant if c is None else _scheduled
        solved = program(start, jnp.asarray(width), jnp.asarray(rate), steps)
        return TwoVariables(*map(np.asarray, solved))


_State = tuple[Array, Array, Array]
"""f, lambda, and f / (sqrt(n) lambda), which only the schedule needs."""


@functools.partial(jax.jit, static_argnames="steps")
def _constant(start: _State, n: Array, lr: Array, steps: int) -> list[Array]:
    def step(state: _State, _: None) -> tuple[_State, tuple[Array, ...]]:
        f, curvature, ratio = state
        sharpness, kick = lr * curvature, lr * f**2 / n
        new = f * (1 - sharpness + lr * kick), curvature + kick * (sharpness - 4)
        return (*new, ratio), (f, curvature, lr)

    return list(jax.lax.scan(step, start, None, length=steps + 1)[1])


@functools.partial(jax.jit, static_argnames="steps")
def _scheduled(start: _State, n: Array, c: Array, steps: int) -> list[Array]:
    del n

    # The ratio is carried along, since f and lambda may fall below the smallest number.
    def step(state: _State, _: None) -> tuple[_State, tuple[Array, ...]]:
        f, curvature, ratio = state
        grow, fall = 1 - c + (c * ratio) ** 2, 1 - c * (4 - c) * ratio**2
        new = f * grow, curvature * fall, ratio * (grow / fall)
        return new, (f, curvature, c / curvature)

    return list(jax.lax.scan(step, start, None, length=steps + 1)[1])
