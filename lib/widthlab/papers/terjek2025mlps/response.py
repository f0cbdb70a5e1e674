"""What one infinitesimal step does to untrained networks, measured."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from widthlab.model import MLP, AnyArray, Scales, Shape, by_tensor
from widthlab.training.devices import precision

# Weights of the networks that are held in memory at a time.
_BLOCK = 2**22


def first_response(
    shape: Shape,
    scales: Scales,
    x: Float[AnyArray, " input"],
    keys: Key[Array, " seeds"],
) -> Float[np.ndarray, "seeds layers"]:
    r"""Measure what one infinitesimal step does to every layer of untrained networks.

    The step is $\delta\theta = -D \nabla_\theta f(x)$ with $D$ the learning rates of
    `scales`: descent on one input with error $\chi = 1$. Layers respond by
    $\Delta z_k = \partial z_k\, \delta\theta$, a directional derivative, in float64.

    Args:
        shape: sizes, with one output.
        scales: scales of the network; a learning rate of 1 gives responses per unit.
        x: the input, of norm one in the laws above.
        keys: one for each network.

    Returns:
        $|\Delta z_k| / m_k^{1/2}$ for the hidden layers, then $|\Delta f|$.

    Raises:
        ValueError: the network has several outputs.
    """
    if shape.output_dim != 1:
        raise ValueError(
            f"output_dim is {shape.output_dim}; the response is to the gradient of one "
            "output: give a shape with output_dim=1"
        )
    with precision("float64"):
        scales = Scales(*(jnp.asarray(np.asarray(v), "float64") for v in scales))
        at = jnp.asarray(np.asarray(x), "float64")
        return np.asarray(_responses(shape, scales, at, keys))


@functools.partial(jax.jit, static_argnums=0)
def _responses(shape: Shape, scales: Scales, x: Array, keys: Array) -> Array:
    together = max(1, min(_BLOCK // shape.parameters, len(keys)))
    one = functools.partial(_response, shape, scales, x)
    return jax.lax.map(one, keys, batch_size=together)


def _response(shape: Shape, scales: Scales, x: Array, key: Array) -> Array:
    model = MLP(shape, scales, key=key)
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)

    def signals(parameters: Any) -> list[Array]:
        forward = nnx.merge(graph, parameters, rest).features(x[None])
        return [*forward.preactivations, forward.output]

    slopes = jax.grad(lambda parameters: signals(parameters)[-1][0, 0])(parameters)
    rates = by_tensor(parameters, scales.lr)
    step = jax.tree.map(lambda g, rate: -rate * g, slopes, rates)
    _, moves = jax.jvp(signals, (parameters,), (step,))
    return jnp.stack([jnp.sqrt(jnp.mean(move**2)) for move in moves])
