r"""The Gaussian moments of activations that have them in closed form.

A rule maps the variances $q_{11}, q_{22}$ and the covariance $q_{12}$ of $(u, v)$ to
$F = E[\varphi(u)\varphi(v)]$ and $\dot F = E[\varphi'(u)\varphi'(v)]$, entry by entry
on broadcast arrays. It is exactly symmetric under exchange of $u$ and $v$, and its
derivatives are finite everywhere, also where $u = \pm v$ or one of the two vanishes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthlab.fields import number
from widthlab.kernels.arcs import arccosine, arcsine, root

AnyFloat = Float[Array, " ..."]
"""An array of any shape."""


class Moments(NamedTuple):
    r"""The moments $E[\varphi\varphi]$ and $E[\varphi'\varphi']$ of an activation."""

    value: AnyFloat
    derivative: AnyFloat


@attrs.frozen
class AbRelu:
    r"""The moments of $a \min(x, 0) + b \max(x, 0)$.

    With $\rho = q_{12} / \sqrt{q_{11} q_{22}} = \cos\theta$ and the arc-cosine kernels
    $\kappa_0 = 1 - \theta/\pi$ and
    $\kappa_1 = (\sin\theta + (\pi-\theta)\cos\theta)/\pi$ (Cho and Saul 2009),

    $$F = a b\,q_{12} + \tfrac12 (b-a)^2 \sqrt{q_{11} q_{22}}\,\kappa_1(\rho), \qquad
      \dot F = a b + \tfrac12 (b-a)^2 \kappa_0(\rho).$$

    Where $u$ or $v$ vanishes, $\rho$ has no value; 0 is taken, which gives $\dot F$ the
    mean of its limits from opposite directions.
    """

    a: float = attrs.field(converter=number())
    b: float = attrs.field(converter=number())

    def __call__(self, q11: AnyFloat, q12: AnyFloat, q22: AnyFloat) -> Moments:
        """Return the moments."""
        product, bend = self.a * self.b, (self.b - self.a) ** 2 / 2
        if bend == 0:
            zero = jnp.zeros_like(q11 * q12 * q22)
            return Moments(product * q12 + zero, product + zero)
        norms = root(q11) * root(q22)
        none = norms == 0
        cosine = jnp.where(none, 0, q12 / jnp.where(none, 1, norms))
        kappa0, kappa1 = arccosine(cosine)
        return Moments(product * q12 + bend * norms * kappa1, product + bend * kappa0)


def erf(q11: AnyFloat, q12: AnyFloat, q22: AnyFloat) -> Moments:
    r"""Return the moments of the error function.

    $$F = \frac2\pi \arcsin\frac{2 q_{12}}{\sqrt{(1+2q_{11})(1+2q_{22})}}, \qquad
      \dot F = \frac4\pi \big((1+2q_{11})(1+2q_{22}) - 4q_{12}^2\big)^{-1/2}$$

    (Williams 1997).
    """
    squares = (1 + 2 * q11) * (1 + 2 * q22)
    # Expanded, so that the determinant is at least 1 however large the moments are.
    determinant = 1 + 2 * (q11 + q22) + 4 * _gap(q11, q12, q22)
    angle = arcsine(2 * q12 / jnp.sqrt(squares), determinant / squares)
    return Moments(2 / math.pi * angle, 4 / math.pi / jnp.sqrt(determinant))


def gelu(q11: AnyFloat, q12: AnyFloat, q22: AnyFloat) -> Moments:
    r"""Return the moments of $\varphi(x) = x \Phi(x)$, with $\Phi$ the Gaussian CDF.

    With $P = q_{11} q_{22} - q_{12}^2$, $D = 1 + q_{11} + q_{22} + P$,
    $J = 1/(2\pi\sqrt D)$, $r = q_{12}/\sqrt{(1+q_{11})(1+q_{22})}$ and
    $p_i = 1/(1+q_{ii})$, $p = p_1 + p_2$,

    $$F = J (P + p\,q_{12}^2) + q_{12} G, \quad
      \dot F = G + J q_{12} (2 p - N / D), \quad
      N = p_1 p_2 (q_{11} - q_{22})^2 + p P + 3 - p, \quad
      G = \tfrac14 + \tfrac{1}{2\pi}\arcsin r$$

    (Tsuchida et al. 2021 were the first to find a closed form; in this one nothing
    cancels, however large the moments are).
    """
    gap = _gap(q11, q12, q22)
    determinant = 1 + (q11 + q22) + gap
    density = 1 / (2 * math.pi * jnp.sqrt(determinant))
    p1, p2 = 1 / (1 + q11), 1 / (1 + q22)
    both, squares = p1 + p2, (1 + q11) * (1 + q22)
    angle = arcsine(q12 / jnp.sqrt(squares), determinant / squares)
    g = 1 / 4 + angle / (2 * math.pi)
    lost = p1 * p2 * (q11 - q22) ** 2 + both * gap + (3 - both)
    return Moments(
        density * (gap + both * q12**2) + q12 * g,
        g + density * q12 * (2 * both - lost / determinant),
    )


@jax.custom_jvp
def _gap(q11: AnyFloat, q12: AnyFloat, q22: AnyFloat) -> AnyFloat:
    """Return the determinant of Q; rounding does not make it negative.

    Numbers are split in halves, whose products are exact: a few thousandths of the
    rounding that the difference of two products has. The derivative is that of the
    determinant, also where it is clipped: a maximum would have none there, and half of
    it at duplicates.
    """
    (a, da), (b, db), (c, dc) = map(_halves, (q11, q22, q12))
    gap = (a * b - c * c) + ((a * db - c * dc) + (b * da - c * dc)) + (da * db - dc**2)
    return jnp.maximum(gap, 0)


@_gap.defjvp
def _gap_jvp(
    primals: tuple[AnyFloat, AnyFloat, AnyFloat],
    tangents: tuple[AnyFloat, AnyFloat, AnyFloat],
) -> tuple[AnyFloat, AnyFloat]:
    (q11, q12, q22), (d11, d12, d22) = primals, tangents
    return _gap(q11, q12, q22), (q22 * d11 + q11 * d22) - 2 * q12 * d12


def _halves(q: AnyFloat) -> tuple[AnyFloat, AnyFloat]:
    """Return the upper half of a number's digits, and the rest of it."""
    double = q.dtype == jnp.float64
    upper = jax.lax.reduce_precision(q, 11 if double else 8, 25 if double else 11)
    return upper, q - upper
