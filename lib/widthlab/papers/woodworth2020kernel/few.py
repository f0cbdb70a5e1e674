r"""Gradient flow of a network on a few examples, to its end.

With few examples the stiff part of the flow is small: for the Jacobian $J$ of the
outputs and the tangent kernel $K = J J^\top$, the flow of $\frac12 |f - y|^2$ with $J$
held fixed moves the weights in a time $\tau$ by

$$\delta\theta = -J^\top K^{-1} (1 - e^{-\tau K}) (f - y) .$$

Steps of this kind, each as long as no layer moves by more than a small share of its
size, follow the flow however small an eigenvalue of $K$ is: a lazy network is there in
one step, where descent takes a million. The error is that of a first-order method in
this share.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Outputs = Callable[[Any, Array], Array]
"""Outputs of a network, one for each input, from its weights and inputs."""


class End(NamedTuple):
    r"""Where a flow has come to.

    Attributes:
        weights: the weights, a list of arrays.
        loss: mean square of what is left of the labels.
        steps: how many were taken.
    """

    weights: Any
    loss: Float[Array, ""]
    steps: Array


def relu_network(weights: list[Array], x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Return outputs of a ReLU network without biases."""
    for matrix in weights[:-1]:
        x = jax.nn.relu(x @ matrix.T)
    return (x @ weights[-1].T)[:, 0]


def biased_network(weights: list[Array], x: Float[Array, "n 1"]) -> Float[Array, " n"]:
    """Return outputs of a two-layer ReLU network on numbers, with inner biases."""
    inner, bias, outer = weights
    return jax.nn.relu(x * inner + bias) @ outer


def follow(
    outputs: Outputs,
    weights: list[Array],
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    *,
    share: float,
    most: int,
    enough: float = 1e-12,
) -> End:
    """Follow the flow of one network until its mean square loss is small.

    Args:
        outputs: the network.
        weights: at time 0.
        x: inputs.
        y: labels.
        share: of its own norm, by which each layer moves in a step at most.
        most: steps.
        enough: loss at which the flow ends.
    """

    def left(weights: list[Array]) -> Array:
        return outputs(weights, x) - y

    def going(end: End) -> Array:
        return (end.loss > enough) & (end.steps < most)

    def advance(end: End) -> End:
        jacobian = jax.jacrev(left)(end.weights)
        moved = _step(jacobian, end.weights, left(end.weights), share)
        return End(moved, jnp.mean(left(moved) ** 2), end.steps + 1)

    first = jnp.mean(left(weights) ** 2)
    start = End(weights, first, jnp.zeros_like(first, jnp.int32))
    return jax.lax.while_loop(going, advance, start)


def _step(
    jacobian: list[Array], weights: list[Array], left: Array, share: float
) -> Any:
    """Move along the flow of the linearised network as far as is allowed."""
    flat = [layer.reshape(len(left), -1) for layer in jacobian]
    grams = jnp.stack([layer @ layer.T for layer in flat])
    values, vectors = jnp.linalg.eigh(grams.sum(axis=0))
    values = jnp.maximum(values, 1e-14 * values[-1])
    coordinates = vectors.T @ left
    # In the eigenvectors of K, what each layer's move costs.
    within = jnp.einsum("ai,lab,bj->lij", vectors, grams, vectors)
    sizes = jnp.stack([jnp.sum(w**2) for w in weights])

    def combination(log_time: Array) -> Array:
        return -coordinates * jnp.expm1(-values * jnp.exp(log_time)) / values

    def too_far(log_time: Array) -> Array:
        g = combination(log_time)
        moved = jnp.einsum("i,lij,j->l", g, within, g)
        return jnp.any(moved > share**2 * sizes)

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        far = too_far(middle)
        return jnp.where(far, low, middle), jnp.where(far, middle, high)

    # From a thousandth of the fastest mode's time to where the slowest has ended.
    ends = jnp.log(1e-6 / values[-1]), jnp.log(40 / values[0])
    low, _ = jax.lax.fori_loop(0, 40, halve, ends)
    g = vectors @ combination(low)
    moves = [
        (g @ layer).reshape(w.shape) for layer, w in zip(flat, weights, strict=True)
    ]
    return [w - move for w, move in zip(weights, moves, strict=True)]


def turned(
    outputs: Outputs, first: list[Array], last: list[Array], x: Float[Array, "n d"]
) -> Float[Array, ""]:
    r"""Return the distance of tangent features, the mean of $1 - \cos$ over inputs.

    Args:
        outputs: the network.
        first: weights at time 0.
        last: weights at the end.
        x: inputs.
    """
    before, after = (
        jnp.concatenate(
            [layer.reshape(len(x), -1) for layer in jax.jacrev(outputs)(weights, x)],
            axis=1,
        )
        for weights in (first, last)
    )
    sizes = jnp.linalg.norm(before, axis=1) * jnp.linalg.norm(after, axis=1)
    return jnp.mean(1 - jnp.sum(before * after, axis=1) / sizes)


@functools.cache
def many(outputs: Outputs, share: float, most: int, enough: float = 1e-12) -> Any:
    """Return `follow` for many networks at once, each with inputs and labels."""
    one = functools.partial(follow, outputs, share=share, most=most, enough=enough)
    return jax.jit(jax.vmap(one))
