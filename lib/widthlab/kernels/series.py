r"""Moments of any activation, by its Hermite series and one-dimensional quadrature.

With the normalised Hermite polynomials $h_k$, Mehler's formula gives

$$E[\varphi(u)\varphi(v)] = \sum_k a_k(q_{11})\,a_k(q_{22})\,\rho^k, \qquad
  a_k(q) = E[\varphi(\sqrt q z)\,h_k(z)], \qquad
  \rho = q_{12} / \sqrt{q_{11} q_{22}}$$

(Daniely, Frostig and Singer 2016). The coefficients belong to single inputs, so that a
pair costs one multiplication and addition a term, where a two-dimensional quadrature
would evaluate $\varphi$ at thousands of nodes. A truncated series is the kernel of a
feature map: it stays positive semidefinite, and smooth at $\rho = \pm 1$.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.activations import gaussian_quadrature
from widthlab.fields import count, instance
from widthlab.kernels.arcs import root

AnyFloat = Float[Array, " ..."]
"""An array of any shape."""

Function = Callable[[AnyFloat], AnyFloat]
"""An activation, applied to each entry."""


@attrs.frozen
class Series:
    r"""The moments of an activation as a series, for a dual activation's rule.

    The last two of the terms are what the others leave of $E[\varphi(u)^2]$, of even
    and of odd powers each, so that inputs that are equal up to sign are exact.

    Attributes:
        function: the activation, on arrays of any shape.
        terms: number of terms.
    """

    function: Function = attrs.field(converter=instance(Callable, called="a function"))
    terms: int = attrs.field(default=128, converter=count(3))

    def __call__(
        self, q11: AnyFloat, q12: AnyFloat, q22: AnyFloat
    ) -> tuple[AnyFloat, AnyFloat]:
        r"""Return $E[\varphi(u)\varphi(v)]$ and $E[\varphi'(u)\varphi'(v)]$."""
        return mixed_moment(self, 0, 0, q11, q12, q22), mixed_moment(
            self, 1, 1, q11, q12, q22
        )

    def variance(self, q: AnyFloat) -> AnyFloat:
        r"""Return $E[\varphi(u)^2]$ by quadrature alone.

        The value is that of the series, whose derivative converges slowly at $u = v$.
        """
        nodes, basis = _rule(1)
        values = self.function(root(q)[..., None] * jnp.asarray(nodes, q.dtype))
        return jnp.matmul(
            values**2, jnp.asarray(basis[:, 0], q.dtype), precision="highest"
        )

    def coefficients(self, order: int, q: AnyFloat) -> Float[Array, "terms ..."]:
        r"""Return $E[\varphi^{(m)}(\sqrt q z)\,h_k(z)]$ for all $k$ and the order $m$.

        Orders above one come from the first by Stein's lemma, $\sqrt q\,E[f' h_k] =
        \sqrt{k+1}\,E[f h_{k+1}]$, so that a kink of $\varphi$ does no harm.
        """
        shift = max(order - 1, 0)
        kept = self.terms - 2
        nodes, basis = _rule(kept + shift)
        z, basis = jnp.asarray(nodes, q.dtype), jnp.asarray(basis, q.dtype)
        function = _derivative(self.function, min(order, 1))
        values = function(jnp.sqrt(jnp.maximum(q, 0))[..., None] * z)
        coefficients = jnp.moveaxis(
            jnp.matmul(values, basis, precision="highest"), -1, 0
        )
        if shift == 0:
            # h_0 = 1: its column holds the weights of the nodes.
            rest = _rest(values, coefficients, basis[:, 0])
            return jnp.concatenate([coefficients, rest])
        ladder = _ladder(kept, shift).astype(q.dtype)
        tiny = q <= jnp.finfo(q.dtype).eps
        scale = jnp.where(tiny, 1, q) ** (-shift / 2)
        coefficients = coefficients[shift:] * scale * ladder.reshape(-1, *[1] * q.ndim)
        at_zero = _derivative(self.function, order)(jnp.zeros((1,), q.dtype))[0]
        first = jnp.zeros_like(coefficients).at[0].set(at_zero)
        coefficients = jnp.where(tiny, first, coefficients)
        return jnp.concatenate([coefficients, jnp.zeros_like(coefficients[:2])])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def mixed_moment(
    series: Series, i: int, j: int, q11: AnyFloat, q12: AnyFloat, q22: AnyFloat
) -> AnyFloat:
    r"""Return $E[\varphi^{(i)}(u)\,\varphi^{(j)}(v)]$.

    Its derivatives are by Price's theorem $\partial/\partial q_{12} = (i+1, j+1)$,
    $\partial/\partial q_{11} = \frac12 (i+2, j)$ and
    $\partial/\partial q_{22} = \frac12 (i, j+2)$.
    """
    norms = jnp.sqrt(jnp.maximum(q11, 0)) * jnp.sqrt(jnp.maximum(q22, 0))
    cosine = jnp.where(norms > 0, q12 / jnp.where(norms > 0, norms, 1), 0)
    cosine = jnp.clip(cosine, -1, 1)
    factors = series.coefficients(i, q11), series.coefficients(j, q22)

    def add(total: AnyFloat, pair: tuple[AnyFloat, AnyFloat]) -> Any:
        return total * cosine + pair[0] * pair[1], None

    # Horner's rule; unrolled, so that a sweep over memory serves several terms.
    zero = jnp.zeros_like(cosine)
    return jax.lax.scan(add, zero, factors, reverse=True, unroll=16)[0]


@mixed_moment.defjvp
def _mixed_moment_jvp(
    series: Series, i: int, j: int, primals: Any, tangents: Any
) -> tuple[AnyFloat, AnyFloat]:
    d11, d12, d22 = tangents
    slope = mixed_moment(series, i + 1, j + 1, *primals) * d12
    slope += mixed_moment(series, i + 2, j, *primals) / 2 * d11
    slope += mixed_moment(series, i, j + 2, *primals) / 2 * d22
    return mixed_moment(series, i, j, *primals), slope


def _derivative(function: Function, order: int) -> Function:
    """Return a derivative of an elementwise function, by forward differentiation."""
    if order == 0:
        return function
    lower = _derivative(function, order - 1)
    return lambda x: jax.jvp(lower, (x,), (jnp.ones_like(x),))[1]


def _rest(
    values: Float[Array, "... nodes"],
    coefficients: Float[Array, "terms ..."],
    weights: Float[Array, " nodes"],
) -> Float[Array, "2 ..."]:
    """Return the root of the second moment that the terms lack, by parity of powers."""
    mirrored = jnp.roll(values, values.shape[-1] // 2, -1)
    parts = ((values + mirrored) / 2, (values - mirrored) / 2)
    masses = [jnp.matmul(part**2, weights, precision="highest") for part in parts]
    lacking = [
        mass - jnp.sum(coefficients[parity::2] ** 2, 0)
        for parity, mass in enumerate(masses)
    ]
    if len(coefficients) % 2:
        lacking = lacking[::-1]
    return jnp.sqrt(jnp.maximum(jnp.stack(lacking), 0))


def _ladder(terms: int, shift: int) -> np.ndarray:
    r"""Return $\sqrt{(k+1) \cdots (k+s)}$ for every $k$ and the shift $s$."""
    k = np.arange(terms)
    return np.sqrt(np.prod([k + 1.0 + step for step in range(shift)], axis=0))


@functools.lru_cache(maxsize=16)
def _rule(terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes, and weights times density times normalised Hermite polynomials.

    `_rest` relies on the order of the nodes.
    """
    z, weights, density = gaussian_quadrature()
    columns = [weights * density]
    columns.append(z * columns[0])
    for k in range(1, max(terms - 1, 1)):
        following = z * columns[-1] - math.sqrt(k) * columns[-2]
        columns.append(following / math.sqrt(k + 1))
    return z, np.stack(columns, 1)
