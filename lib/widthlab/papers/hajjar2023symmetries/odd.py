r"""The odd case: a two-layer ReLU network that stays a linear predictor.

If $f^*(-x) = -f^*(x)$, inputs have a symmetric law, and that of the neurons $(a, b)$ is
invariant under $(a, b) \mapsto (-a, -b)$, then $f(x) = w \cdot x$ at all times, with
$w = \frac{1}{2m} \sum_j a_j b_j$, and with $Q(w) = \frac12 E(f^*(x) - w \cdot x)^2$

$$\dot a = \tfrac12\, b \cdot g, \qquad \dot b = \tfrac12\, a\, g, \qquad
  g = -\nabla Q(w), \qquad \dot w = H g, \qquad
  H = \frac{1}{4m} \sum_j (a_j^2 I + b_j b_j^\top).$$

Hence $Q - Q^*$ falls at a rate of at least $2 \lambda_{\min}(H) \lambda_{\min}(C)$,
$C = E\,xx^\top$ (Hajjar and Chizat 2023; this form derived here). `odd_predictor` is
this system, `LinearDescent` is gradient flow on $Q$ itself, and `IsotropicOdd` is the
limit of infinitely many neurons for isotropic inputs: one equation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.flow.particles import Coordinates, Particles, Regression, neurons
from widthlab.model import AnyArray
from widthlab.papers.hajjar2023symmetries.least_squares import (
    LeastSquares,
    LinearDescent,
    Number,
    sample_moments,
)


def predictor(state: Coordinates) -> Float[Array, " d"]:
    r"""Return $w = \frac{1}{2m} \sum_j a_j b_j$."""
    a, b = jnp.asarray(state["outer"]), jnp.asarray(state["inner"])
    return a @ b / (2 * len(a))


def operator(state: Coordinates) -> Float[Array, "d d"]:
    r"""Return $H = \frac{1}{4m} \sum_j (a_j^2 I + b_j b_j^\top)$."""
    a, b = jnp.asarray(state["outer"]), jnp.asarray(state["inner"])
    return (a @ a * jnp.eye(b.shape[1], dtype=b.dtype) + b.T @ b) / (4 * len(a))


def predictor_risk(state: Coordinates, task: LeastSquares) -> Float[Array, ""]:
    """Return $Q(w)$ of particles."""
    return task.risk(predictor(state))


def odd_predictor(
    inner: Float[AnyArray, "m d"], outer: Float[AnyArray, " m"], task: LeastSquares
) -> Particles:
    r"""Return the reduced dynamics of the odd case, of particles $(a_j, b_j)$.

    It is the flow of the two-layer network with the activation $z/2$. The states have
    the names of `two_layer`.
    """
    return Particles(predictor_risk, neurons(inner, outer), task)


@functools.partial(
    jax.tree_util.register_dataclass,
    meta_fields=(),
    data_fields=("size", "variance", "second_moment", "spread"),
)
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IsotropicOdd:
    r"""Infinitely many neurons and inputs with $C = v I$; a `flow.Flow` of one number.

    $$\dot\Lambda = 1 - \frac{V \sinh(v |w^*| \Lambda)}{4 |w^*|}, \qquad
      w = \frac V4 \sinh(v |w^*| \Lambda)\, \frac{w^*}{|w^*|}, \qquad \Lambda(0) = 0$$

    (Hajjar and Chizat 2023, after their code; derived again here.)

    Attributes:
        size: $|w^*|$.
        variance: $v$.
        second_moment: $E f^{*2}$.
        spread: $V = E a^2 + E |b|^2 / d$ at time 0, where $a b$ has mean 0 and $b$ an
            isotropic law; $1 + 1/d$ for signs $a$ and $b$ on the unit sphere.
    """

    size: Number
    variance: Number
    second_moment: Number
    spread: Number

    def initial(self) -> Float[Array, ""]:
        r"""Return $\Lambda = 0$."""
        return jnp.asarray(0.0 * self.size)

    def velocity(self, state: Float[Array, ""]) -> Float[Array, ""]:
        r"""Return $\dot\Lambda$, which is $1 - |w| / |w^*|$."""
        return jnp.asarray(1 - self.norm(state) / self.size)

    def loss(self, state: Float[Array, ""]) -> Float[Array, ""]:
        r"""Return the risk $Q^* + \frac v2 |w - w^*|^2$."""
        return jnp.asarray(self.floor() + self.excess(state))

    def norm(self, state: Float[Array, ""]) -> Float[Array, ""]:
        r"""Return $|w|$."""
        return jnp.asarray(self.spread * jnp.sinh(self._phase(state)) / 4)

    def excess(self, state: Float[Array, ""]) -> Float[Array, ""]:
        r"""Return $Q - Q^* = \frac v2 |w - w^*|^2$."""
        return jnp.asarray(self.variance * (self.norm(state) - self.size) ** 2 / 2)

    def floor(self) -> Number:
        r"""Return $Q^*$."""
        return (self.second_moment - self.variance * self.size**2) / 2

    def rate_floor(self, state: Float[Array, ""]) -> Float[Array, ""]:
        r"""Return $2 \lambda_{\min}(H)\, v = \frac{Vv}2 \cosh^2(v |w^*| \Lambda / 2)$.

        $H$ has this eigenvalue across $w^*$ (derived here).
        """
        grown = jnp.cosh(self._phase(state) / 2) ** 2
        return jnp.asarray(self.variance * self.spread * grown / 2)

    def bound(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        r"""Return $|w^*| e^{-V v t / 4}$, which $|w - w^*|$ stays below."""
        rate = np.asarray(self.spread) * np.asarray(self.variance) / 4
        return np.asarray(self.size) * np.exp(-rate * times)

    def _phase(self, state: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.asarray(self.variance * self.size * state)


def odd_observe(one: Any, state: Any) -> dict[str, Array]:
    r"""Observe the same of a ReLU network and of each of its reductions.

    `loss`; `risk` $Q(w)$; `excess` $Q(w) - Q^*$; `distance` $|w - w^*|$; `norm` $|w|$;
    `gap` $2 (L - Q(w))$, which for symmetric inputs and odd targets is
    $E(f(x) - w \cdot x)^2$; and `rate_floor` $2 \lambda_{\min}(H) \lambda_{\min}(C)$,
    with $H = I$ for a linear predictor trained as such.

    Args:
        one: particles of `two_layer` (ReLU), `odd_predictor` or `gaussian_odd`; a
            `LinearDescent`; or an `IsotropicOdd`.
        state: its state.
    """
    loss = one.loss(state)
    if isinstance(one, IsotropicOdd):
        norm, excess = one.norm(state), one.excess(state)
        risk, distance, rate = loss, jnp.abs(norm - one.size), one.rate_floor(state)
    else:
        task, w, lowest = _linear_part(one, state)
        best, slowest = task.solution()
        apart = w - best
        excess = apart @ (task.covariance @ apart) / 2
        risk, rate = task.risk(w), 2 * lowest * slowest
        distance, norm = jnp.linalg.norm(apart), jnp.linalg.norm(w)
    return {
        "loss": loss,
        "risk": risk,
        "excess": excess,
        "distance": distance,
        "norm": norm,
        "gap": 2 * (loss - risk),
        "rate_floor": rate,
    }


def _linear_part(one: Any, state: Any) -> tuple[LeastSquares, Array, Any]:
    """Moments, linear predictor, and the least eigenvalue of H."""
    if isinstance(one, LinearDescent):
        return one.task, state, 1.0
    task = one.parameters
    if isinstance(task, Regression):
        task = sample_moments(task.inputs, task.targets)
    return task, predictor(state), jnp.linalg.eigvalsh(operator(state))[0]
