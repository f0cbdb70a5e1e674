r"""Factorised models of finite width: a diagonal one, and completion of a matrix.

Both are $U V^\top$ with $U$ and $V$ of $k$ columns, all entries $N(0, \alpha^2)$ at the
start (Woodworth et al. 2020, Section 6).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from widthlab.model import AnyArray
from widthlab.papers.woodworth2020kernel.potentials import Potential

_ENOUGH = 1e-4  # of the target: what is left of the observed residual

Matrices = Float[np.ndarray, "cells n n"]
"""One square matrix for each cell."""


def diagonal_start(
    dim: int, width: int, mu: float, rng: np.random.Generator
) -> Potential:
    r"""Return the potential of $\beta_i = \sum_j U_{ij} V_{ij}$ at a finite width.

    With $A_i = \frac12 \sum_j (U_{ij} + V_{ij})^2$ and $B_i$ the same of the
    differences, the flow is $\beta_i = \frac12 (A_i e^{z_i} - B_i e^{-z_i})$: exact at
    every width, also for a start that is not 0. $A_i$ and $B_i$ are $\alpha^2$ times
    independent $\chi^2_k$, so that $k$ costs nothing. As $k \to \infty$ at fixed
    $\alpha^2 k = 2 \mu^2$ it is that of scale $\mu$ (Theorem 4).

    Args:
        dim: of the inputs.
        width: $k$.
        mu: $\mu$, from which $\alpha^2 = 2 \mu^2 / k$.
        rng: draws the start.
    """
    up, down = 2 * mu**2 / width * rng.chisquare(width, (2, dim))
    log_scale = 2 * math.log(mu)
    shape = np.sqrt(np.sqrt(up * down) / 2) / mu
    return Potential(2, log_scale, shape, np.log(up / down) / 2)


def lifted_start(
    dim: int, width: float, scale: float, rng: np.random.Generator
) -> Float[np.ndarray, "n n"]:
    r"""Draw $W W^\top$ for $W = (U; V)$: $\alpha^2$ times a Wishart matrix.

    Args:
        dim: rows of $U$ and of $V$.
        width: $k$; infinite for $\alpha^2 k\, I$.
        scale: $\alpha^2$, or $\alpha^2 k$ where the width is infinite.
        rng: draws; from Bartlett's decomposition, so that $k$ costs nothing.
    """
    n = 2 * dim
    if math.isinf(width):
        return scale * np.eye(n)
    if width < n:
        factor = rng.standard_normal((n, int(width)))
    else:
        factor = np.tril(rng.standard_normal((n, n)), -1)
        factor += np.diag(np.sqrt(rng.chisquare(width - np.arange(n))))
    return scale * factor @ factor.T


def complete(
    starts: Matrices,
    targets: Float[np.ndarray, "cells dim dim"],
    seen: Float[np.ndarray, "cells dim dim"],
    *,
    step: float = 0.2,
    most: int = 3000,
) -> tuple[Float[np.ndarray, "cells dim dim"], Float[np.ndarray, " cells"]]:
    r"""Return $U V^\top$ at the end of gradient flow on the seen entries of targets.

    With $M = W W^\top$ and $S = \begin{pmatrix} 0 & R \\ R^\top & 0 \end{pmatrix}$ for
    the residual $R$ on the seen entries, gradient flow of the sum of squares is $\dot M
    = -2 (S M + M S)$: a system of $(2d)^2$ numbers at any width. It is solved by the
    classical Runge-Kutta method, each cell with steps of its own, until $10^{-4}$ of
    the target are left: the rest would come in at the rate of the smallest eigenvalue
    of $M$.

    Args:
        starts: $M(0)$ of each cell.
        targets: the matrix of each cell.
        seen: 1 where an entry is observed, else 0.
        step: of the integrator, over the rate of the fastest mode.
        most: steps after which a cell ends, come what may.

    Returns:
        The predictions, and what is left of the residual, over the target.
    """
    dim = targets.shape[1]
    size = np.sqrt(((targets * seen) ** 2).sum(axis=(1, 2)))
    found, rests = np.empty_like(targets), np.empty(len(starts))
    m, going = np.array(starts), np.arange(len(starts))
    for taken in range(most + 1):
        norm = np.sqrt((_residual(m, targets, seen) ** 2).sum(axis=(1, 2)))
        done = (norm < _ENOUGH * size) | (taken == most)
        if done.any():
            found[going[done]] = m[done, :dim, dim:]
            rests[going[done]] = norm[done] / size[done]
            going, m, norm, size, targets, seen = (
                part[~done] for part in (going, m, norm, size, targets, seen)
            )
        if not len(going):
            break
        rate = np.abs(m).sum(axis=2).max(axis=1) + norm
        m = _advance(m, targets, seen, (step / rate)[:, None, None])
    return found, rests


def _residual(m: Matrices, targets: np.ndarray, seen: np.ndarray) -> np.ndarray:
    dim = targets.shape[1]
    return seen * (m[:, :dim, dim:] - targets)


def _advance(
    m: Matrices, targets: np.ndarray, seen: np.ndarray, h: np.ndarray
) -> Matrices:
    one = _velocity(m, targets, seen)
    two = _velocity(m + h / 2 * one, targets, seen)
    three = _velocity(m + h / 2 * two, targets, seen)
    four = _velocity(m + h * three, targets, seen)
    return m + h / 6 * (one + 2 * two + 2 * three + four)


def _velocity(m: Matrices, targets: np.ndarray, seen: np.ndarray) -> Matrices:
    dim = targets.shape[1]
    residual = _residual(m, targets, seen)
    moved = np.empty_like(m)  # S M, block by block
    moved[:, :dim] = residual @ m[:, dim:]
    moved[:, dim:] = residual.transpose(0, 2, 1) @ m[:, :dim]
    return -2 * (moved + moved.transpose(0, 2, 1))


def least_nuclear(
    target: Float[AnyArray, "dim dim"], seen: Float[AnyArray, "dim dim"]
) -> Float[np.ndarray, "dim dim"]:
    """Return the completion of least nuclear norm, by Douglas and Rachford's splitting.

    Args:
        target: the matrix.
        seen: 1 where an entry is observed, else 0.
    """
    target, seen = np.asarray(target, float), np.asarray(seen, float)
    size = float(np.linalg.norm(target * seen))
    threshold = 0.1 * size
    state = target * seen
    shrunk = state
    for _ in range(20_000):
        shrunk = _shrink(state, threshold)
        mirrored = 2 * shrunk - state
        change = np.where(seen > 0, target, mirrored) - shrunk
        state = state + change
        if np.linalg.norm(change) < 1e-10 * size:
            break
    return np.where(seen > 0, target, shrunk)


def _shrink(matrix: np.ndarray, threshold: float) -> np.ndarray:
    left, values, right = np.linalg.svd(matrix)
    return (left * np.maximum(values - threshold, 0.0)) @ right


def nuclear(matrix: Float[AnyArray, "*cells dim dim"]) -> Any:
    """Return the sum of singular values."""
    return np.linalg.svd(np.asarray(matrix), compute_uv=False).sum(axis=-1)
