r"""The reduced dynamics of learning $|x_H|$: a mass and an angle for each particle.

The target is $f^*(x) = |x_H|$, with $H$ the span of the first $d_H$ coordinates. The
laws of inputs and of neurons at time 0 are invariant under rotations, and $|a_j| =
|b_j|$ at time 0, hence always. Then the flow of infinitely many neurons of $f(x) =
\frac1m \sum_j a_j (b_j \cdot x)_+$ closes in their angles $\theta_j$ with $H$, masses
$c_j = |a_j| |b_j|$ and signs $\epsilon_j$ of $a_j$:

$$\dot c_j = 2 \epsilon_j c_j\, G(\theta_j), \qquad
  \dot\theta_j = \epsilon_j\, G'(\theta_j), \qquad
  G(\theta) = d\, E_\varphi[R(\varphi)\, \Phi(\theta; \varphi)],$$

$$R(\varphi) = \cos\varphi - \frac1m \sum_j \epsilon_j c_j\, \Phi(\theta_j; \varphi),
  \qquad L = \frac d2\, E_\varphi R^2$$

(the one-dimensional system of Hajjar and Chizat 2023; $\Phi$ is in `angle_kernels`).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.flow.particles import Coordinates
from widthlab.model import AnyArray
from widthlab.papers.hajjar2023symmetries.angle_kernels import (
    feature,
    feature_slope,
    input_angles,
)

Number = Float[AnyArray, " ..."]
"""A number or an array of them."""


@functools.partial(
    jax.tree_util.register_dataclass,
    meta_fields=(),
    data_fields=(
        *("signs", "mass", "angle"),
        *("values", "slopes", "cosines", "weights", "dim", "subspace_dim", "decay"),
    ),
)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AngleParticles:
    r"""The flow above; a `flow.Flow` whose state is `mass`, $c_j$, and `angle`.

    $\Phi$ is interpolated by cubics that meet its values and slopes at equidistant
    angles, and $G'$ is the slope of the interpolated $G$: at any resolution, what is
    solved is a gradient flow of its own loss. Masses are spread over the grid first, so
    that a step costs three products with the table whatever $m$, and some tens of
    operations for each particle.

    An angle that a step left outside $[0, \pi/2]$ acts as the end that it passed.

    Attributes:
        signs: $\epsilon_j = \pm 1$.
        mass: $c_j$ at time 0.
        angle: $\theta_j$ at time 0.
        values: $\Phi(\theta_i; \varphi_k)$ on the grid of the interpolation.
        slopes: its derivative in $\theta$ there.
        cosines: $\cos\varphi_k$ at the nodes of the quadrature.
        weights: of the nodes.
        dim: $d$.
        subspace_dim: $d_H$.
        decay: $\lambda$ of weight decay: of the penalty $\frac{\lambda}{2m} \sum_j
            (a_j^2 + |b_j|^2)$, which is $\frac{\lambda}{m} \sum_j c_j$, in the loss.
    """

    signs: Float[AnyArray, "... m"]
    mass: Float[AnyArray, "... m"]
    angle: Float[AnyArray, "... m"]
    values: Float[AnyArray, "... grid k"]
    slopes: Float[AnyArray, "... grid k"]
    cosines: Float[AnyArray, "... k"]
    weights: Float[AnyArray, "... k"]
    dim: Number
    subspace_dim: Number
    decay: float | Number = 0.0

    def initial(self) -> dict[str, Float[Array, " m"]]:
        """Return masses and angles at time 0."""
        return {"mass": jnp.asarray(self.mass), "angle": jnp.asarray(self.angle)}

    def velocity(self, state: Coordinates) -> dict[str, Float[Array, " m"]]:
        r"""Return $\dot c_j$ and $\dot\theta_j$."""
        cell, places = self._places(state["angle"])
        pull = self.dim * self.weights * self.residual(state)
        grid = self.values @ pull, self._spacing * (self.slopes @ pull)
        corners = [part[cell + shift] for shift in (0, 1) for part in grid]
        height = sum(map(jnp.multiply, _cubics(places), corners))
        slope = sum(map(jnp.multiply, _cubic_slopes(places), corners))
        return {
            "mass": jnp.asarray(2 * state["mass"] * (self.signs * height - self.decay)),
            "angle": jnp.asarray(self.signs * slope / self._spacing),
        }

    def loss(self, state: Coordinates) -> Float[Array, ""]:
        r"""Return $\frac d2 E_\varphi R^2$, $d_H/2$ where $f = 0$, and the penalty."""
        squares = jnp.square(self.residual(state))
        penalty = self.decay * jnp.mean(jnp.asarray(state["mass"]))
        return jnp.asarray(self.dim * (self.weights @ squares) / 2 + penalty)

    def residual(self, state: Coordinates) -> Float[Array, " k"]:
        r"""Return $R(\varphi_k)$ at the nodes of the quadrature."""
        cell, places = self._places(state["angle"])
        share = self.signs * state["mass"] / len(state["mass"])
        left, left_slope, right, right_slope = (share * c for c in _cubics(places))
        nothing = jnp.zeros_like(self.values[:, 0])
        heights = nothing.at[cell].add(left).at[cell + 1].add(right)
        slopes = nothing.at[cell].add(left_slope).at[cell + 1].add(right_slope)
        outputs = heights @ self.values + self._spacing * (slopes @ self.slopes)
        return jnp.asarray(self.cosines) - outputs

    @property
    def _spacing(self) -> float:
        return math.pi / 2 / (self.values.shape[-2] - 1)

    def _places(self, angle: Float[AnyArray, " m"]) -> tuple[Array, Array]:
        """Cell of the grid, and place in it from 0 to 1."""
        last = self.values.shape[-2] - 1
        place = jnp.clip(jnp.asarray(angle) / self._spacing, 0, last)
        cell = jnp.minimum(place.astype(jnp.int32), last - 1)
        return cell, place - cell.astype(place.dtype)


def _cubics(t: Array) -> tuple[Array, ...]:
    """Hermite's: left value and slope, right value and slope."""
    u = 1 - t
    return (1 + 2 * t) * u * u, t * u * u, (1 + 2 * u) * t * t, -u * t * t


def _cubic_slopes(t: Array) -> tuple[Array, ...]:
    u = 1 - t
    return -6 * t * u, u * (u - 2 * t), 6 * t * u, t * (t - 2 * u)


@functools.lru_cache(maxsize=32)
def angle_integrals(
    dim: int, subspace_dim: int, nodes: int, grid: int
) -> dict[str, np.ndarray]:
    """Return the arrays of `AngleParticles` that depend on dimensions alone; kept."""
    phi, weights = input_angles(nodes, dim, subspace_dim)
    theta = np.linspace(0, math.pi / 2, grid)[:, None]
    arrays = {
        "values": feature(theta, phi, dim, subspace_dim),
        "slopes": feature_slope(theta, phi, dim, subspace_dim),
        "cosines": np.cos(phi),
        "weights": weights,
        "dim": np.asarray(float(dim)),
        "subspace_dim": np.asarray(float(subspace_dim)),
    }
    for array in arrays.values():  # flows share them
        array.setflags(write=False)
    return arrays
