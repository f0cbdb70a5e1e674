r"""Least squares by a linear predictor, as moments, and gradient flow on them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.model import AnyArray

Number = float | Float[AnyArray, " ..."]
"""A number or an array of them."""


@functools.partial(
    jax.tree_util.register_dataclass,
    meta_fields=(),
    data_fields=("covariance", "correlation", "second_moment"),
)
@dataclass(frozen=True, slots=True, eq=False)
class LeastSquares:
    r"""All that $Q(w) = \frac12 E y^2 - w \cdot X + \frac12 w^\top C w$ depends on.

    Attributes:
        covariance: $C = E\,xx^\top$.
        correlation: $X = E\,y x$.
        second_moment: $E y^2$.
    """

    covariance: Float[AnyArray, "... d d"]
    correlation: Float[AnyArray, "... d"]
    second_moment: Number

    def risk(self, w: Float[Array, " d"]) -> Float[Array, ""]:
        """Return $Q(w)$."""
        quadratic = w @ (self.covariance @ w) / 2
        return jnp.asarray(self.second_moment / 2 - w @ self.correlation + quadratic)

    def descent(self, w: Float[Array, " d"]) -> Float[Array, " d"]:
        r"""Return $g = -\nabla Q(w) = X - C w$."""
        return jnp.asarray(self.correlation - self.covariance @ w)

    def solution(self) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        r"""Return $w^*$, of least norm if there are many, and $\lambda_{\min}(C)$."""
        values, vectors = jnp.linalg.eigh(jnp.asarray(self.covariance))
        least = values[-1] * len(values) * jnp.finfo(values.dtype).eps
        visible = values > least  # in other directions w changes no output
        inverse = jnp.where(visible, 1 / jnp.where(visible, values, 1), 0)
        w = vectors @ (inverse * (self.correlation @ vectors))
        return jnp.asarray(w), values[0]


def sample_moments(x: Float[AnyArray, "n d"], y: Float[AnyArray, " n"]) -> LeastSquares:
    r"""Return the moments of a sample.

    $C = \frac1n \sum_a x_a x_a^\top$, $X = \frac1n \sum_a y_a x_a$, and the mean of
    $y_a^2$.
    """
    return LeastSquares(x.T @ x / len(x), x.T @ y / len(x), y @ y / len(x))


def isotropic_moments(
    target: Float[np.ndarray, " d"], variance: float, second_moment: float
) -> LeastSquares:
    r"""Return the moments of inputs with $C = v I$ whose best predictor is $w^*$.

    Args:
        target: $w^*$.
        variance: $v$.
        second_moment: $E f^{*2}$, at least $v |w^*|^2$.
    """
    covariance = variance * np.eye(len(target))
    return LeastSquares(covariance, variance * target, np.asarray(second_moment))


@functools.partial(
    jax.tree_util.register_dataclass, meta_fields=(), data_fields=("start", "task")
)
@dataclass(frozen=True, slots=True, eq=False)
class LinearDescent:
    r"""Gradient flow on $Q$: $\dot w = X - C w$; a `flow.Flow` with the state $w$.

    Attributes:
        start: $w$ at time 0.
        task: the moments.
    """

    start: Float[AnyArray, "... d"]
    task: LeastSquares

    def initial(self) -> Float[Array, " d"]:
        """Return $w$ at time 0."""
        return jnp.asarray(self.start)

    def velocity(self, state: Float[Array, " d"]) -> Float[Array, " d"]:
        r"""Return $-\nabla Q$."""
        return self.task.descent(state)

    def loss(self, state: Float[Array, " d"]) -> Float[Array, ""]:
        """Return $Q$."""
        return self.task.risk(state)
