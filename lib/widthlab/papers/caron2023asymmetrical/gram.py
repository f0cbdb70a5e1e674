r"""The Gram matrix of the tangent kernel: random where a few nodes have most mass.

For a network of `scaling` in which the $w_j$ alone are trained,

$$\Theta = \frac{X X^\top}{d} \circ \sum_j \lambda_j s_j s_j^\top, \qquad
  s_{ij} = 1[x_i \cdot w_j > 0],$$

and for Gaussian $w$ the $s_j s_j^\top$ are independent and alike. With $p_{ik}$ the
probability that both $s_{ij}$ and $s_{kj}$ are 1 and masses of sum 1, exactly

$$E\,\Theta = \Theta^*, \quad \Theta^*_{ik} = \frac{x_i \cdot x_k}{d}\, p_{ik},
  \qquad E\, \|\Theta - \Theta^*\|_F^2 = V \sum_j \lambda_j^2, \quad
  V = \sum_{ik} \Big(\frac{x_i \cdot x_k}{d}\Big)^2 p_{ik} (1 - p_{ik}).$$

The law is derived here. The smallest eigenvalue has two bounds: both parts of
$\lambda_j = \gamma/m + (\lambda_j - \gamma/m)$ give a positive semidefinite matrix, so
that $\lambda_{\min}(\Theta) \ge \gamma\, \lambda_{\min}(\Theta_u)$ with the matrix
$\Theta_u$ of equal masses and the same $w$; and $\lambda_{\min}$ is concave, so that
$E\,\lambda_{\min}(\Theta) \le \lambda_{\min}(\Theta^*)$.
"""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Float

from widthlab.compilation import compiled
from widthlab.training.devices import precision


def both_active(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    r"""Return $p_{ik} = (\pi - \angle(x_i, x_k)) / 2\pi$."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    angle = np.arccos(np.clip(unit @ unit.T, -1, 1))
    np.fill_diagonal(angle, 0)  # which rounding would take off it
    return (np.pi - angle) / (2 * np.pi)


def inner_products(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    r"""Return $X X^\top / d$."""
    return x @ x.T / x.shape[1]


def limit_gram(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    r"""Return $\Theta^*$, the mean over $w$ for any masses of sum 1."""
    return inner_products(x) * both_active(x)


def variance(x: Float[np.ndarray, "n d"]) -> float:
    r"""Return $V$: the mean square of $\Theta - \Theta^*$ over $\sum_j \lambda_j^2$."""
    p = both_active(x)
    return float((inner_products(x) ** 2 * p * (1 - p)).sum())


def gram(
    x: Float[np.ndarray, "n d"],
    w: Float[np.ndarray, "m d"],
    masses: Float[np.ndarray, "many m"],
) -> Float[np.ndarray, "many n n"]:
    r"""Return $\Theta$ of one network under several masses.

    The sums are in single precision: what is added is 0 or a mass.
    """
    arrays = (np.asarray(v, np.float32) for v in (x, w, masses))
    with precision("float32"):
        platform = jax.local_devices()[0].platform
        agree = compiled(_agreements, platform, static=(), brief=True)(*arrays)
    return inner_products(np.asarray(x, np.float64)) * np.asarray(agree, np.float64)


def _agreements(x: Array, w: Array, masses: Array) -> Array:
    active = (x @ w.T > 0).astype(x.dtype)
    # One after another: then no product is larger than that of one network.
    return jax.lax.map(lambda row: (active * row) @ active.T, masses)


def least_eigenvalue(
    matrices: Float[np.ndarray, "... n n"],
) -> Float[np.ndarray, " ..."]:
    """Return the smallest eigenvalue of each symmetric matrix, in double precision."""
    return np.linalg.eigvalsh(np.asarray(matrices, np.float64))[..., 0]
