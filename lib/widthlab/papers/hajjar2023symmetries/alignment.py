r"""Where neurons stand to a subspace: in a network in $R^d$, and in its reduction.

The target is $f^*(x) = |x_H|$, where $H$ is the span of the first $d_H$ coordinates.
`angle_observe` sees the same quantities in a network of particles with the states
`outer` and `inner`, and in `AngleParticles`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.flow.integrators import Observe
from widthlab.flow.particles import Coordinates
from widthlab.flow.trajectory import Trajectory
from widthlab.model import AnyArray
from widthlab.papers.hajjar2023symmetries.angle_kernels import angle_quantiles, feature
from widthlab.papers.hajjar2023symmetries.angles import AngleParticles, angle_integrals


def angle_particles(
    *,
    width: int,
    dim: int,
    subspace_dim: int,
    seed: int | None = None,
    nodes: int = 48,
    grid: int = 257,
    decay: float = 0.0,
) -> AngleParticles:
    r"""Return the reduced flow of neurons that start uniform on the unit sphere.

    Half of them are positive; masses are 1. The angles are drawn with a seed; without
    one they are the quantiles of equal shares, the same for either sign: infinitely
    many neurons to second order in $1/m$, with $f = 0$ at time 0.

    Args:
        width: number $m$ of particles, even.
        dim: $d$.
        subspace_dim: $d_H$.
        seed: seed of the angles, or None.
        nodes: number of angles of inputs in the quadrature.
        grid: number of angles at which the kernel is tabulated.
        decay: $\lambda$ of weight decay.

    Raises:
        ValueError: the width is not even, or the dimensions are out of range.

    Example:
        >>> one = angle_particles(width=8, dim=20, subspace_dim=5)
        >>> float(one.loss(one.initial()).round(6))
        2.5
    """
    if width < 2 or width % 2:
        raise ValueError(f"width is {width}; it must be even: half of each sign")
    half = width // 2
    if seed is None:
        share = np.tile((np.arange(half) + 0.5) / half, 2)
    else:
        share = np.random.default_rng([seed, 3]).random(width)
    return AngleParticles(
        signs=np.repeat([1.0, -1.0], half),
        mass=np.ones(width),
        angle=angle_quantiles(share, dim, subspace_dim),
        decay=decay,
        **angle_integrals(dim, subspace_dim, nodes, grid),
    )


def angles_of(
    inner: Float[AnyArray, "m d"],
    outer: Float[AnyArray, " m"],
    subspace_dim: int,
    *,
    nodes: int = 48,
    grid: int = 257,
) -> AngleParticles:
    r"""Return the reduced flow that starts with the angles of given neurons.

    Args:
        inner: $b_j$ at time 0.
        outer: $a_j$ at time 0, with $|a_j| = |b_j|$.
        subspace_dim: $d_H$.
        nodes: number of angles of inputs in the quadrature.
        grid: number of angles at which the kernel is tabulated.

    Raises:
        ValueError: a neuron is not balanced, or the dimensions are out of range.
    """
    b, a = np.asarray(inner, np.float64), np.asarray(outer, np.float64)
    gap = np.abs(np.abs(a) - np.linalg.norm(b, axis=1)).max()
    if gap > 1e-6 * np.abs(a).max():
        raise ValueError(
            f"the outer weight and the norm of a neuron differ by {gap:g}; only where "
            "they are equal does the flow close in angles and masses"
        )
    sizes = [np.linalg.norm(part, axis=1) for part in np.split(b, [subspace_dim], 1)]
    return AngleParticles(
        signs=np.where(a > 0, 1.0, -1.0),
        mass=np.abs(a) * np.linalg.norm(b, axis=1),
        angle=np.arctan2(sizes[1], sizes[0]),
        **angle_integrals(b.shape[1], subspace_dim, nodes, grid),
    )


def angle_outputs(
    one: AngleParticles, state: Coordinates, phi: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    r"""Return $\frac1m \sum_j \epsilon_j c_j \Phi(\theta_j; \varphi)$, exactly.

    It is the output on inputs of norm one at the angles $\varphi$, and times its norm
    that on any other: $f(u_H + r e_\perp) = \sqrt{1 + r^2}\, f(\arctan r)$.
    """
    theta = np.clip(np.asarray(state["angle"], np.float64), 0, math.pi / 2)
    share = np.asarray(one.signs) * np.asarray(state["mass"]) / len(theta)
    dims = int(one.dim), int(one.subspace_dim)
    return np.asarray(share @ feature(theta[:, None], phi, *dims))


@functools.lru_cache
def angle_observe(subspace_dim: int) -> Observe:
    r"""Return what observes masses and angles of either sign, and the loss.

    `mass_plus` is $\frac1m \sum_{a_j > 0} c_j$ with $c_j = |a_j| |b_j|$; `angle_plus`
    the root mean square of $\theta_j$ with weights $c_j$, the Wasserstein distance of
    the normalised mass to $H$; `mean_plus` the mean of $\theta_j$. For $a_j < 0$ there
    are `mass_minus`, `angle_minus` (to $\pi/2$, the complement of $H$) and
    `mean_minus`. A sign without mass has no angle: it is not a number.

    Args:
        subspace_dim: $d_H$, by which a network's angles are measured.
    """

    def observe(one: Any, state: Any) -> dict[str, Array]:
        signs, mass, angle = _angles(one, state, subspace_dim)
        observed = {"loss": one.loss(state)}
        for name, sign, goal in (("plus", 1, 0.0), ("minus", -1, math.pi / 2)):
            share = jnp.where(sign * signs > 0, mass, 0) / len(mass)
            total = jnp.sum(share)
            observed[f"mass_{name}"] = total
            squares = share @ jnp.square(angle - goal)
            observed[f"angle_{name}"] = jnp.sqrt(squares / total)
            observed[f"mean_{name}"] = share @ angle / total
        return observed

    return observe


def mass_left(run: Trajectory) -> float:
    r"""Return what negative mass stays for ever, if the loss goes on falling as it did.

    Along the reduced flow $-\dot L = \int (2 G^2 + G'^2)\, d(\tau_+ + \tau_-)$ and
    $\dot m_- = -2 \int G\, d\tau_-$, so that $|\frac{d}{dt} \sqrt{m_-}|$ is at most
    $(-\dot L / 2)^{1/2}$. If $L(t) \le L(T) (T/t)^p$ for all $t \ge T$ with $p > 1$,
    then by Cauchy and Schwarz over $[2^k T, 2^{k+1} T]$

    $$\sqrt{m_-(\infty)} \ge \sqrt{m_-(T)}
      - \frac{\sqrt{T L(T) / 2}}{1 - 2^{-(p - 1)/2}}$$

    (derived here). $T$ is the last time observed and $p$ the exponent between the last
    two. Where the bound says nothing, 0.

    Args:
        run: a run that `angle_observe` observed, without weight decay.
    """
    (before, last), (high, low) = run.times[-2:], run.observed["loss"][-2:]
    exponent = math.log(high / low) / math.log(last / before)
    if exponent <= 1:
        return 0.0
    rest = math.sqrt(last * low / 2) / (1 - 2 ** ((1 - exponent) / 2))
    root = math.sqrt(run.observed["mass_minus"][-1])
    return max(root - rest, 0.0) ** 2


def _angles(one: Any, state: Any, subspace_dim: int) -> tuple[Array, Array, Array]:
    if isinstance(one, AngleParticles):
        angle = jnp.clip(state["angle"], 0, math.pi / 2)
        return jnp.asarray(one.signs), jnp.asarray(state["mass"]), angle
    a, b = jnp.asarray(state["outer"]), jnp.asarray(state["inner"])
    within = jnp.linalg.norm(b[:, :subspace_dim], axis=1)
    across = jnp.linalg.norm(b[:, subspace_dim:], axis=1)
    mass = jnp.abs(a) * jnp.hypot(within, across)
    return jnp.sign(a), mass, jnp.arctan2(across, within)
