r"""Starts and tasks of Hajjar and Chizat 2023, after the authors' notebooks.

Seeds are ours: a draw has the law of theirs, and other numbers.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from widthlab.papers.hajjar2023symmetries.least_squares import (
    LeastSquares,
    isotropic_moments,
    sample_moments,
)

DIM = 60
"""$d$ of the two tasks with a linear predictor."""

CUBIC_SIZE = math.sqrt(6 * DIM / 5)
"""$|w^*|$ of `cubic`."""


def start(
    m: int, dim: int, seed: int
) -> tuple[Float[np.ndarray, "m d"], Float[np.ndarray, " m"]]:
    r"""Draw $b_j$ uniform on the unit sphere, and $a_j = \pm 1$, half of each sign.

    Args:
        m: number of neurons, even.
        dim: $d$.
        seed: of the draw; other widths and dimensions draw other neurons.

    Raises:
        ValueError: the number of neurons is odd.
    """
    if m % 2:
        raise ValueError(f"m is {m}; it must be even: half of each sign")
    rng = np.random.default_rng([seed, m, dim])
    b = rng.standard_normal((m, dim))
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    return b, rng.permutation(np.repeat([1.0, -1.0], m // 2))


def cubic(seed: int) -> LeastSquares:
    r"""Return the moments of $f^*(x) = C \sum_k z_k x_k^3$ for $x \sim N(0, I/d)$.

    $z$ is Gaussian and $C$ such that $E f^{*2} = 2$. Then $w^*$ is along $z$ with
    $|w^*|^2 = 6d/5$.
    """
    z = np.random.default_rng([seed, 60]).standard_normal(DIM)
    target = CUBIC_SIZE * z / np.linalg.norm(z)
    return isotropic_moments(target, 1 / DIM, 2.0)


def noise(seed: int, n: int = 100) -> LeastSquares:
    r"""Return the moments of $n$ inputs uniform in $[-1, 1]^d$, with labels of noise.

    $y_a = c + \sqrt2\, \xi_a$ with standard Gaussians $c$ and $\xi_a$.
    """
    rng = np.random.default_rng([seed, 100])
    x = rng.uniform(-1, 1, (n, DIM))
    y = rng.standard_normal() + np.sqrt(2) * rng.standard_normal(n)
    return sample_moments(x, y)


def saddle(
    m: int, seed: int
) -> tuple[Float[np.ndarray, "m d"], Float[np.ndarray, " m"], LeastSquares]:
    r"""Return a start from which $H$ shrinks and $w$ ends elsewhere, with its task.

    Inputs are those of `noise`; labels are $u \cdot x$, with $u$ the eigenvector of
    their covariance to the least eigenvalue, so that $w^* = u$. Half of the neurons
    $(a, b)$ are $(1, -u)$, the others $(-1, u)$: closed under $(a, b) \mapsto (-a,
    -b)$, so that the network is linear, with $w = -\frac12 a^2 u$, which tends to 0.

    Args:
        m: number of neurons, even.
        seed: of the inputs.
    """
    covariance = noise(seed).covariance
    values, vectors = np.linalg.eigh(covariance)
    u, least = vectors[:, 0], values[0]
    outer = np.tile([1.0, -1.0], m // 2)
    task = LeastSquares(covariance, least * u, least)
    return -outer[:, None] * u, outer, task
