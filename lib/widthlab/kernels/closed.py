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
    norms = jnp.sqrt((1 + 2 * q11) * (1 + 2 * q22))
    # Expanded, so that the determinant is at least 1 however large the moments are.
    determinant = 1 + 2 * (q11 + q22) + 4 * _gap(q11, q12, q22)
    return Moments(
        2 / math.pi * arcsine(2 * q12 / norms), 4 / math.pi / jnp.sqrt(determinant)
    )


def gelu(q11: AnyFloat, q12: AnyFloat, q22: AnyFloat) -> Moments:
    r"""Return the moments of $\varphi(x) = x \Phi(x)$, with $\Phi$ the Gaussian CDF.

    With $D = (1+q_{11})(1+q_{22}) - q_{12}^2$, $J = 1/(2\pi\sqrt D)$,
    $r = q_{12}/\sqrt{(1+q_{11})(1+q_{22})}$ and
    $C = 1/(1+q_{11}) + 1/(1+q_{22}) - 1$,

    $$F = J B + q_{12} G, \quad
      \dot F = G + J q_{12} (1 + 2 C + B / D), \quad
      B = q_{11} q_{22} + C q_{12}^2, \quad
      G = \tfrac14 + \tfrac{1}{2\pi}\arcsin r$$

    (Tsuchida et al. 2021 were the first to find a closed form).
    """
    determinant = 1 + (q11 + q22) + _gap(q11, q12, q22)
    density = 1 / (2 * math.pi * jnp.sqrt(determinant))
    c = 1 / (1 + q11) + 1 / (1 + q22) - 1
    b = q11 * q22 + c * q12**2
    angle = arcsine(q12 / jnp.sqrt((1 + q11) * (1 + q22)))
    g = 1 / 4 + angle / (2 * math.pi)
    return Moments(
        density * b + q12 * g,
        g + density * q12 * (1 + 2 * c + b / determinant),
    )


def _gap(q11: AnyFloat, q12: AnyFloat, q22: AnyFloat) -> AnyFloat:
    """Return the determinant of Q; rounding does not make it negative.

    Its derivative is that of the determinant, also where it is clipped: a maximum would
    have none there, and half of it at duplicates.
    """
    gap = q11 * q22 - q12**2
    return gap + jax.lax.stop_gradient(jnp.maximum(-gap, 0))
