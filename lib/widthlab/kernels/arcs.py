r"""Arcs of cosines and roots of variances, with finite derivatives where they end.

The compiler takes arcs from the C library, entry by entry; the rational approximations
below vectorise and are some fifty times as fast, to the last two digits as exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

AnyFloat = Float[Array, " ..."]
"""An array of any shape."""

# asin(s) = s + s^3 P(s^2) / Q(s^2) for |s| <= 1/2: the coefficients of FreeBSD's msun
# (e_asin.c and e_asinf.c), lowest degree first.
_DOUBLE = (
    (
        *(1.66666666666666657415e-01, -3.25565818622400915405e-01),
        *(2.01212532134862925881e-01, -4.00555345006794114027e-02),
        *(7.91534994289814532176e-04, 3.47933107596021167570e-05),
    ),
    (
        *(1.0, -2.40339491173441421878, 2.02094576023350569471),
        *(-6.88283971605453293030e-01, 7.70381505559019352791e-02),
    ),
)
_SINGLE = (
    (1.6666586697e-01, -4.2743422091e-02, -8.6563630030e-03),
    (1.0, -7.0662963390e-01),
)
# The cosine of an input with itself is off by a few roundings, up to ten at a thousand
# dimensions, and the angle by the square root: what is so close to 1 counts as 1.
_SNAP = 32


def check_type(what: str, dtype: Any) -> None:
    """Refuse types in which these formulas have too few digits, or none.

    Raises:
        ValueError: the type is neither float32 nor float64.
    """
    if dtype not in (jnp.float32, jnp.float64):
        raise ValueError(
            f"{what} is of type {dtype}; kernels are computed in float32 or float64: "
            "convert it"
        )


@jax.custom_jvp
def arccosine(cosine: AnyFloat) -> tuple[AnyFloat, AnyFloat]:
    r"""Return the arc-cosine kernels $\kappa_0$ and $\kappa_1$ of $\cos\theta$.

    $$\kappa_0 = 1 - \theta/\pi, \qquad
      \kappa_1 = (\sin\theta + (\pi - \theta)\cos\theta)/\pi, \qquad
      \kappa_1' = \kappa_0, \qquad \kappa_0' = 1/(\pi\sin\theta)$$

    (Cho and Saul 2009). Cosines within a few roundings of 1 or -1, or beyond, count as
    such. There $\kappa_0'$ is infinite; 0 is taken, the mean over opposite directions.
    """
    size, complement = _snapped(cosine)
    acute = _arcs(size, complement)[1] / math.pi
    kappa0 = jnp.where(cosine < 0, acute, 1 - acute)
    sine = jnp.sqrt(complement * (1 + size))
    return kappa0, sine / math.pi + kappa0 * jnp.copysign(size, cosine)


@arccosine.defjvp
def _arccosine_jvp(
    primals: tuple[AnyFloat], tangents: tuple[AnyFloat]
) -> tuple[tuple[AnyFloat, AnyFloat], tuple[AnyFloat, AnyFloat]]:
    (cosine,), (tangent,) = primals, tangents
    kappa0, kappa1 = arccosine(cosine)
    size, complement = _snapped(cosine)
    squared = complement * (1 + size)
    safe = jnp.where(squared > 0, squared, 1)
    slope = jnp.where(squared > 0, 1 / (math.pi * jnp.sqrt(safe)), 0)
    return (kappa0, kappa1), (slope * tangent, kappa0 * tangent)


@jax.custom_jvp
def arcsine(sine: AnyFloat, squared: AnyFloat) -> AnyFloat:
    r"""Return the arcsine, given $1 - s^2$ of the sine $s$ as well.

    Near one a sine's rounding would be the angle's squared.
    """
    size = jnp.minimum(jnp.abs(sine), 1)
    return jnp.copysign(_arcs(size, squared / (1 + size))[0], sine)


@arcsine.defjvp
def _arcsine_jvp(
    primals: tuple[AnyFloat, AnyFloat], tangents: tuple[AnyFloat, AnyFloat]
) -> tuple[AnyFloat, AnyFloat]:
    # The derivative in the sine is the whole one: both numbers are of one angle.
    (sine, squared), (tangent, _) = primals, tangents
    least = jnp.finfo(sine.dtype).tiny
    return arcsine(sine, squared), tangent / jnp.sqrt(jnp.maximum(squared, least))


def root(q: AnyFloat) -> AnyFloat:
    """Return the square root, with derivative 0 at 0."""
    return jnp.where(q > 0, jnp.sqrt(jnp.where(q > 0, q, 1)), 0)


def _snapped(cosine: AnyFloat) -> tuple[AnyFloat, AnyFloat]:
    """Return |cosine|, at most 1, and its difference to 1."""
    size = jnp.abs(cosine)
    size = jnp.where(size > 1 - _SNAP * jnp.finfo(cosine.dtype).eps, 1, size)
    return size, 1 - size


def _arcs(size: AnyFloat, complement: AnyFloat) -> tuple[AnyFloat, AnyFloat]:
    """Return arcsine and arccosine of numbers from 0 to 1, given 1 less these."""
    above, below = _DOUBLE if size.dtype == jnp.float64 else _SINGLE
    small = size < 0.5
    # asin(y) = pi/2 - 2 asin(sqrt((1 - y)/2)) beyond one half.
    square = jnp.where(small, size * size, complement / 2)
    root = jnp.where(small, size, jnp.sqrt(square))
    arc = root + root * square * _polynomial(above, square) / _polynomial(below, square)
    quarter = math.pi / 2
    sine = jnp.where(small, arc, quarter - 2 * arc)
    return sine, jnp.where(small, quarter - arc, 2 * arc)


def _polynomial(coefficients: Sequence[float], x: AnyFloat) -> AnyFloat:
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value
