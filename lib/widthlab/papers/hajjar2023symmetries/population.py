r"""Two-layer ReLU networks on Gaussian inputs without a sample: exact expectations.

For $x \sim N(0, v I)$ the loss $\frac12 E(f^* - f)^2$ of $f(x) = \frac1m \sum_j a_j
(b_j \cdot x)_+$ is

$$\frac12 E f^{*2} - \frac1m \sum_j a_j\, E[f^*(x) (b_j \cdot x)_+]
  + \frac{v}{4 m^2} \sum_{ij} a_i a_j |b_i| |b_j|\, \kappa_1(\cos\angle(b_i, b_j))$$

with the arc-cosine kernel $\kappa_1$ of Cho and Saul 2009. A target enters through the
middle term alone. One evaluation costs some $m^2$ operations on a matrix; there is no
sampling noise and nothing to generalize from.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.flow.particles import Coordinates, Particles, neurons
from widthlab.kernels.arcs import arccosine, root
from widthlab.model import AnyArray
from widthlab.papers.hajjar2023symmetries.angle_kernels import target_feature
from widthlab.papers.hajjar2023symmetries.least_squares import LeastSquares
from widthlab.papers.hajjar2023symmetries.odd import predictor

_TERMS = 24


def output_variance(state: Coordinates) -> Float[Array, ""]:
    r"""Return $E f^2$ for $x \sim N(0, I)$."""
    a, b = jnp.asarray(state["outer"]), jnp.asarray(state["inner"])
    sizes = _lengths(b)
    units = b / jnp.where(sizes > 0, sizes, 1)[:, None]
    weights = a * sizes / len(a)
    return weights @ arccosine(units @ units.T)[1] @ weights / 2


def odd_energy(state: Coordinates, task: LeastSquares) -> Float[Array, ""]:
    r"""Return the loss for an odd target, of which $E f^* x$ is all that matters.

    $E[f^*(x) (b \cdot x)_+] = \frac12 b \cdot E f^* x$, since $(z)_+ - z/2$ is even.
    """
    linear = task.second_moment / 2 - predictor(state) @ task.correlation
    return jnp.asarray(linear + task.covariance[0, 0] * output_variance(state) / 2)


def gaussian_odd(
    inner: Float[AnyArray, "m d"], outer: Float[AnyArray, " m"], task: LeastSquares
) -> Particles:
    r"""Return the flow of a ReLU network, $f^*$ odd and $x \sim N(0, v I)$.

    Args:
        inner: $b_j$ at time 0.
        outer: $a_j$ at time 0.
        task: the moments, of isotropic inputs.

    Raises:
        ValueError: the inputs are not isotropic.
    """
    covariance = np.asarray(task.covariance)
    if not np.allclose(covariance, covariance[0, 0] * np.eye(len(covariance))):
        raise ValueError(
            "the inputs' covariance is not a multiple of the identity; this loss is "
            "known for isotropic Gaussian inputs, use flow.two_layer on a sample"
        )
    return Particles(odd_energy, neurons(inner, outer), task)


@functools.partial(
    jax.tree_util.register_dataclass,
    meta_fields=("subspace_dim",),
    data_fields=("series",),
)
@dataclass(frozen=True, slots=True, eq=False)
class NormTarget:
    r"""$f^*(x) = |x_H|$ on the first `subspace_dim` coordinates, $x \sim N(0, I)$.

    Attributes:
        subspace_dim: $d_H$.
        series: coefficients of `target_feature` as a polynomial of $4\theta/\pi - 1$,
            lowest degree first.
    """

    subspace_dim: int
    series: Float[AnyArray, "... terms"]


def norm_energy(state: Coordinates, target: NormTarget) -> Float[Array, ""]:
    r"""Return the loss for $f^*(x) = |x_H|$."""
    a, b = jnp.asarray(state["outer"]), jnp.asarray(state["inner"])
    within = _lengths(b[:, : target.subspace_dim])
    across = _lengths(b[:, target.subspace_dim :])
    overlaps = _polynomial(target.series, jnp.arctan2(across, within))
    learnt = jnp.mean(a * jnp.hypot(within, across) * overlaps)
    return (target.subspace_dim + output_variance(state)) / 2 - learnt


def gaussian_norm(
    inner: Float[AnyArray, "m d"], outer: Float[AnyArray, " m"], subspace_dim: int
) -> Particles:
    r"""Return the flow of a ReLU network, $f^*(x) = |x_H|$ and $x \sim N(0, I)$.

    Args:
        inner: $b_j$ at time 0, none of them 0.
        outer: $a_j$ at time 0.
        subspace_dim: $d_H$, below $d$: $H$ is the span of as many coordinates.

    Raises:
        ValueError: $H$ is nothing or the whole space.
    """
    if not 1 <= subspace_dim < np.shape(inner)[1]:
        raise ValueError(
            f"subspace_dim is {subspace_dim} of {np.shape(inner)[1]} dimensions; it is "
            "at least 1, and less than all"
        )
    nodes = np.cos(math.pi * (np.arange(_TERMS) + 0.5) / _TERMS)
    values = target_feature((1 + nodes) * math.pi / 4, subspace_dim)
    # Through Chebyshev's nodes: off by 2e-10 for d_H = 2, by 1e-13 for others.
    fitted = np.polynomial.chebyshev.chebfit(nodes, values, _TERMS - 1)
    series = np.polynomial.chebyshev.cheb2poly(fitted)
    return Particles(
        norm_energy, neurons(inner, outer), NormTarget(subspace_dim, series)
    )


def _lengths(rows: Float[Array, "m k"]) -> Float[Array, " m"]:
    """Norms of rows, with the derivative 0 at 0: by symmetry that of the loss."""
    return root(jnp.sum(jnp.square(rows), axis=1))


def _polynomial(series: Float[AnyArray, " n"], theta: Float[Array, " m"]) -> Array:
    x = 4 / math.pi * theta - 1
    value = jnp.zeros_like(x)
    for index in reversed(range(len(series))):
        value = value * x + series[index]
    return value
