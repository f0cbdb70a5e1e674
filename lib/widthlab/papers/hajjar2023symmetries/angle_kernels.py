r"""What a neuron at one angle with a subspace says of an input at another angle.

Inputs $x \in R^d$ have a rotation-invariant law with $E|x|^2 = d$, and $H$ is the span
of the first $d_H$ coordinates. An input at the angle $\varphi$ with $H$ and a neuron of
norm one at the angle $\theta$, both otherwise uniform, meet in

$$\Phi(\theta; \varphi) = E\,(\cos\theta \cos\varphi\, r
  + \sin\theta \sin\varphi\, s)_+ ,$$

where $r$ and $s$ are one coordinate of uniform points on the unit spheres of $R^{d_H}$
and $R^{d_\perp}$, $d_\perp = d - d_H$.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.special import betaincinv, hyp2f1, roots_jacobi

MOST = 150
"""Dimensions up to which the hypergeometric function is exact to twelve digits."""

Angles = Float[np.ndarray, " ..."]
"""Angles, or numbers that depend on them, in an array of any shape."""


def alpha(subspace_dim: int) -> float:
    r"""Return the mass $\alpha$ that, uniform on the sphere of $H$, gives $|x_H|$.

    $$\alpha = \frac{2\sqrt\pi\,\Gamma((d_H + 1)/2)}{\Gamma(d_H/2)}
      = 1 / E\,(u_1)_+, \quad u \text{ uniform on the sphere of } R^{d_H}$$

    It is where Hajjar and Chizat 2023 see the positive mass tend.

    Example:
        >>> round(alpha(5), 4)
        5.3333
    """
    return 2 / _mean_size(subspace_dim)


def feature(theta: Angles, phi: Angles, dim: int, subspace_dim: int) -> Angles:
    r"""Return $\Phi(\theta; \varphi)$, in closed form.

    With $p = \cos\theta \cos\varphi$ and $q = \sin\theta \sin\varphi \le p$,

    $$\Phi = \frac{p}{2}\, E|r|\; {}_2F_1\Big(-\frac12, \frac{1 - d_H}{2};
      \frac{d_\perp}{2}; \frac{q^2}{p^2}\Big),$$

    and the same with the roles exchanged for $q > p$ (derived here: a
    Weber-Schafheitlin integral of the characteristic functions of $r$ and $s$).
    """
    _check(dim, subspace_dim)
    p, q = np.cos(theta) * np.cos(phi), np.sin(theta) * np.sin(phi)
    large, z, (mean, b, c) = _branch(p, q, dim, subspace_dim)
    return np.asarray(large * mean / 2 * hyp2f1(-0.5, b, c, z))


def feature_slope(theta: Angles, phi: Angles, dim: int, subspace_dim: int) -> Angles:
    r"""Return $\partial_\theta \Phi(\theta; \varphi)$, in closed form."""
    _check(dim, subspace_dim)
    p, q = np.cos(theta) * np.cos(phi), np.sin(theta) * np.sin(phi)
    dp, dq = -np.sin(theta) * np.cos(phi), np.cos(theta) * np.sin(phi)
    _, z, (mean, b, c) = _branch(p, q, dim, subspace_dim)
    inner, value = q <= p, hyp2f1(-0.5, b, c, z)
    slope = -b / (2 * c) * hyp2f1(0.5, b + 1, c + 1, z)
    # d(L F(S^2/L^2)) = (F - 2 z F') dL + 2 (S/L) F' dS, of the larger and the smaller.
    d_large, d_small = np.where(inner, dp, dq), np.where(inner, dq, dp)
    total = (value - 2 * z * slope) * d_large + 2 * np.sqrt(z) * slope * d_small
    return np.asarray(mean / 2 * total)


def target_feature(theta: Angles, subspace_dim: int) -> Angles:
    r"""Return $E[|x_H|\,(b \cdot x)_+]$ for a neuron $b$ of norm one at $\theta$.

    $$\frac{\Gamma((d_H + 1)/2)}{\sqrt\pi\, \Gamma(d_H/2)}\;
      {}_2F_1\Big(-\frac12, -\frac12; \frac{d_H}{2}; \cos^2\theta\Big)$$

    It is $d\,E_\varphi[\cos\varphi\,\Phi(\theta; \varphi)]$ for all $d$ (derived here).
    """
    scale = alpha(subspace_dim) / (2 * math.pi)
    series = hyp2f1(-0.5, -0.5, subspace_dim / 2, np.square(np.cos(theta)))
    return np.asarray(scale * series)


def angle_quantiles(
    share: Float[np.ndarray, " n"], dim: int, subspace_dim: int
) -> Float[np.ndarray, " n"]:
    r"""Return the angles with $H$ that a share of all directions stays below.

    $\cos^2$ of the angle has the law Beta$(d_H/2, d_\perp/2)$: the angle's density is
    proportional to $\cos^{d_H - 1} \sin^{d_\perp - 1}$.
    """
    _check(dim, subspace_dim)
    squares = betaincinv((dim - subspace_dim) / 2, subspace_dim / 2, share)
    return np.asarray(np.arcsin(np.sqrt(squares)))


def input_angles(
    nodes: int, dim: int, subspace_dim: int
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    r"""Return angles $\varphi_k$ and weights of a quadrature over inputs.

    It is Gauss and Jacobi's in $\varphi$ itself, for the weight $\varphi^{d_\perp - 1}
    (\pi/2 - \varphi)^{d_H - 1}$; what the density has beyond is smooth and goes into
    the weights. In $\cos^2\varphi$, whose law is Beta, $\Phi$ has square roots at the
    ends, and nodes help little. $\Phi$ bends at $\varphi = \pi/2 - \theta$ in its
    derivative of order $d/2$ alone: from $d = 6$ on, 48 nodes give six digits.
    """
    _check(dim, subspace_dim)
    inside, across = subspace_dim - 1, dim - subspace_dim - 1
    x, weights = roots_jacobi(nodes, inside, across)
    phi = (1 + x) * math.pi / 4
    rest = across * np.log(np.sin(phi) / phi)
    rest += inside * np.log(np.cos(phi) / (math.pi / 2 - phi))
    weights = weights * np.exp(rest - rest.max())
    return phi, weights / weights.sum()


def _mean_size(dim: int) -> float:
    """Mean of |u_1| for u uniform on the unit sphere."""
    ratio = math.exp(math.lgamma(dim / 2) - math.lgamma((dim + 1) / 2))
    return ratio / math.sqrt(math.pi)


def _branch(p: Angles, q: Angles, dim: int, subspace_dim: int) -> tuple:
    """The larger of p and q, the square of their ratio, and the series' parameters."""
    p, q = np.broadcast_arrays(p, q)
    inner, (h, k) = q <= p, (subspace_dim, dim - subspace_dim)
    large, small = np.maximum(p, q), np.minimum(p, q)
    # Both vanish only for a neuron in H and an input across it, or the reverse.
    z = np.square(small / np.where(large > 0, large, 1))
    mean = np.where(inner, _mean_size(h), _mean_size(k))
    b, c = np.where(inner, 1 - h, 1 - k) / 2, np.where(inner, k, h) / 2
    return large, z, (mean, b, c)


def _check(dim: int, subspace_dim: int) -> None:
    if not 1 <= subspace_dim < dim or not 3 <= dim <= MOST:
        raise ValueError(
            f"dim is {dim} and subspace_dim {subspace_dim}; dim is from 3 to {MOST}, "
            "and subspace_dim from 1 to below dim"
        )
