r"""Gaussian moments of an activation, from which the kernels of wide networks are made.

For $(u, v) \sim N(0, Q)$ with $Q = (q_{11}, q_{12}; q_{12}, q_{22})$ they are

$$F = E[\varphi(u)\varphi(v)], \qquad \dot F = E[\varphi'(u)\varphi'(v)] =
  \partial F / \partial q_{12},$$

the last by Price's theorem.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthlab import activations
from widthlab.activations import Activation
from widthlab.kernels.arcs import check_type
from widthlab.kernels.closed import AbRelu, erf, gelu
from widthlab.kernels.series import Series

AnyFloat = Float[Array, " ..."]
"""An array of any shape."""

Rule = Callable[[AnyFloat, AnyFloat, AnyFloat], tuple[AnyFloat, AnyFloat]]
"""What maps $q_{11}, q_{12}, q_{22}$ to the two moments; it compares by value."""


def moment(
    activation: str | Activation,
    q11: AnyFloat,
    q12: AnyFloat,
    q22: AnyFloat,
    *,
    terms: int = 128,
) -> AnyFloat:
    r"""Return $E[\varphi(u)\varphi(v)]$, entry by entry.

    Closed forms are exact to a few roundings of $\sqrt{E[\varphi(u)^2]
    E[\varphi(v)^2]}$ for variances up to $10^{18}$ in float32.

    Args:
        activation: the nonlinearity, or its name.
        q11: variances of $u$.
        q12: covariances; with the variances they must broadcast.
        q22: variances of $v$.
        terms: length of the series that serves an activation without closed form.

    Raises:
        ValueError: a number is neither float32 nor float64.

    Example:
        >>> q = jax.numpy.array([1.0, 4.0])
        >>> print(moment("relu", q, q, q), derivative_moment("relu", q, q, q))
        [0.5 2. ] [0.5 0.5]
    """
    return _checked(rule(activation, terms), 0, q11, q12, q22)


def derivative_moment(
    activation: str | Activation,
    q11: AnyFloat,
    q12: AnyFloat,
    q22: AnyFloat,
    *,
    terms: int = 128,
) -> AnyFloat:
    r"""Return $E[\varphi'(u)\varphi'(v)]$, entry by entry; arguments as in `moment`."""
    return _checked(rule(activation, terms), 1, q11, q12, q22)


def _checked(moments: Rule, which: int, *q: AnyFloat) -> AnyFloat:
    for name, values in zip(("q11", "q12", "q22"), q, strict=True):
        check_type(name, jnp.result_type(values))
    return _moments(moments, which, *q)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _moments(
    moments: Rule, which: int, q11: AnyFloat, q12: AnyFloat, q22: AnyFloat
) -> AnyFloat:
    return moments(q11, q12, q22)[which]


def rule(activation: str | Activation, terms: int = 128) -> Rule:
    """Return the closed form of an activation's moments, or else their series.

    Args:
        activation: the nonlinearity, or its name.
        terms: number of terms of the series, where there is no closed form.
    """
    if isinstance(activation, str):
        activation = activations.get(activation)
    name = activation.name
    if slopes := activations.abrelu_slopes(name):
        return AbRelu(*slopes)
    # An activation of one's own may bear any name.
    if name in _CLOSED and activation == activations.get(name):
        return _CLOSED[name]
    return Series(activation.function, terms)


_CLOSED: dict[str, Rule] = {
    "relu": AbRelu(0.0, 1.0),
    "linear": AbRelu(1.0, 1.0),
    "abs": AbRelu(-1.0, 1.0),
    "erf": erf,
    "gelu": gelu,
}
