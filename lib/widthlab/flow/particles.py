r"""Systems of $m$ exchangeable particles that descend an energy of their distribution.

$$\dot\theta_i = -m\, \nabla_{\theta_i} F(\theta_1, \dots, \theta_m)$$

If $F$ depends on the empirical measure $\mu = \frac1m \sum_i \delta_{\theta_i}$ alone,
the factor $m$ makes this the Wasserstein gradient flow of $F(\mu)$, whatever $m$.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab import activations
from widthlab.model import AnyArray

Coordinates = Mapping[str, Float[AnyArray, "m ..."]]
"""Coordinates of the particles by name, each with the particles in front."""


@functools.partial(
    jax.tree_util.register_dataclass,
    meta_fields=("energy", "fixed"),
    data_fields=("start", "parameters"),
)
@dataclass(frozen=True, slots=True, eq=False)
class Particles:
    r"""Particles in the energy $F$; a `flow.Flow` whose state is their coordinates.

    Attributes:
        energy: $F$ of coordinates and parameters. It is compiled in: a function of a
            module or a class, not one that is made anew for each system.
        start: coordinates at time 0.
        parameters: what else $F$ depends on, such as data.
        fixed: names of coordinates that do not move.
    """

    energy: Callable[[Any, Any], Float[Array, ""]]
    start: Coordinates
    parameters: Any
    fixed: frozenset[str] = frozenset()

    def initial(self) -> Coordinates:
        """Return the coordinates at time 0."""
        return jax.tree.map(jnp.asarray, dict(self.start))

    def velocity(self, state: Coordinates) -> Coordinates:
        r"""Return $-m \nabla F$, and 0 for fixed coordinates."""
        gradient = jax.grad(self.energy)(dict(state), self.parameters)
        return {
            name: jnp.zeros_like(slope) if name in self.fixed else -len(slope) * slope
            for name, slope in gradient.items()
        }

    def loss(self, state: Coordinates) -> Float[Array, ""]:
        """Return the energy."""
        return self.energy(dict(state), self.parameters)


@functools.partial(
    jax.tree_util.register_dataclass,
    meta_fields=("activation",),
    data_fields=("inputs", "targets"),
)
@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """The data of a network of particles, and its activation."""

    activation: str
    inputs: Float[AnyArray, "... n d"]
    targets: Float[AnyArray, "... n"]


def neurons(
    inner: Float[AnyArray, "m d"], outer: Float[AnyArray, " m"]
) -> dict[str, np.ndarray]:
    """Return the coordinates of neurons: $z_i$ under `inner`, $c_i$ under `outer`."""
    return {"outer": np.asarray(outer), "inner": np.asarray(inner)}


def two_layer_outputs(
    state: Coordinates, x: Float[AnyArray, "k d"], activation: str
) -> Float[Array, " k"]:
    r"""Return $f(x) = \frac1m \sum_i c_i\, \sigma(z_i \cdot x)$."""
    c, z = state["outer"], state["inner"]
    return activations.get(activation)(jnp.asarray(x @ z.T)) @ c / len(c)


def two_layer_loss(state: Coordinates, data: Regression) -> Float[Array, ""]:
    r"""Return $\frac{1}{2n} \sum_a (f(x_a) - y_a)^2$."""
    outputs = two_layer_outputs(state, data.inputs, data.activation)
    return jnp.mean(jnp.square(outputs - data.targets)) / 2


def two_layer(
    inner: Float[AnyArray, "m d"],
    outer: Float[AnyArray, " m"],
    x: Float[AnyArray, "n d"],
    y: Float[AnyArray, " n"],
    *,
    activation: str = "relu",
    train_outer: bool = True,
) -> Particles:
    r"""Return the mean-field two-layer network with particles $\theta_i = (c_i, z_i)$.

    Args:
        inner: $z_i$ at time 0.
        outer: $c_i$ at time 0.
        x: training inputs.
        y: their targets.
        activation: name of $\sigma$.
        train_outer: whether the $c_i$ move.

    Raises:
        ValueError: shapes do not fit.
    """
    shapes = [np.shape(v) for v in (inner, outer, x, y)]
    (m, d), (n, _) = shapes[0], shapes[2]
    if shapes != [(m, d), (m,), (n, d), (n,)]:
        raise ValueError(
            f"inner, outer, x and y have shapes {shapes}; they must be (m, d), (m,), "
            "(n, d) and (n,)"
        )
    return Particles(
        two_layer_loss,
        neurons(inner, outer),
        Regression(activation, np.asarray(x), np.asarray(y)),
        frozenset() if train_outer else frozenset({"outer"}),
    )
