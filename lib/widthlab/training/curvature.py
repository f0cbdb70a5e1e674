r"""Curvature of the loss without matrices: products, and the largest eigenvalue.

Products of the Hessian $H$ and of the Gauss-Newton matrix $G = J^\top (\partial_f^2
\ell) J$ with trees of the parameters' form share one linearisation. For the mean
squared error on $n$ inputs, $G = J^\top J / n$ has the nonzero spectrum of the tangent
kernel over $n$. Rescaled by learning rates, the largest eigenvalue says whether
gradient descent is stable on the quadratic model: it is where that is below 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int
from matfree import decomp

from widthlab.model import AnyArray

Product = Callable[[Any], Any]
r"""A symmetric linear map of trees of one form, such as $v \mapsto Hv$."""

Count = Int[AnyArray, ""] | int
"""A number of rounds or products, which may be traced."""


def hessian_product(loss_of: Callable[[Any], Any], parameters: Any) -> Product:
    r"""Return $v \mapsto Hv$ for a loss at these parameters, linearised once.

    Example:
        >>> product = hessian_product(lambda w: w[0] ** 2 * w[1], jnp.array([1.0, 3.0]))
        >>> product(jnp.array([1.0, 0.0])).tolist()
        [6.0, 2.0]
    """
    return jax.linearize(jax.grad(loss_of), parameters)[1]


def gauss_newton_product(
    outputs_of: Callable[[Any], Any],
    loss_of_outputs: Callable[[Any], Any],
    parameters: Any,
) -> Product:
    r"""Return $v \mapsto J^\top (\partial_f^2 \ell)\, J v$, linearised once.

    Args:
        outputs_of: outputs $f$ on the whole batch, of the parameters.
        loss_of_outputs: the loss $\ell$ of these outputs.
        parameters: where both are taken.
    """
    outputs, forward = jax.linearize(outputs_of, parameters)
    backward = jax.linear_transpose(forward, parameters)
    curved = hessian_product(loss_of_outputs, outputs)
    return lambda v: backward(curved(forward(v)))[0]


def rescaled(product: Product, rates: Any) -> Product:
    r"""Return $v \mapsto D^{1/2} A D^{1/2} v$, with learning rates $D$.

    This is $A$ in the coordinates $w / \sqrt{\eta_w}$, in which gradient descent with
    these rates is plain gradient descent at rate 1.

    Args:
        product: $A$ in the coordinates of the parameters.
        rates: tree of learning rates, one number for each tensor.
    """
    roots = jax.tree.map(jnp.sqrt, rates)
    return lambda v: _scaled(roots, product(_scaled(roots, v)))


def _scaled(numbers: Any, tree: Any) -> Any:
    return jax.tree.map(jnp.multiply, numbers, tree)


def top_eigenpair(
    product: Product, start: Any, products: int
) -> tuple[Float[Array, ""], Any]:
    r"""Return the largest eigenvalue of a symmetric map, and its unit Ritz vector.

    Lanczos with full reorthogonalisation: after $k$ products

    $$\lambda = \max_{v \in K, \|v\| = 1} v^\top A v, \qquad
      K = \operatorname{span}\{b, A b, \dots, A^{k-1} b\},$$

    for the map $A$ and the start $b$, never above the largest eigenvalue of $A$ but for
    rounding. Where $K$ is invariant it is the largest of $A$ on $K$. Not a number if a
    product is not finite, or the square of its length. In float32 the size of
    eigenvalues may be from some $10^{-18}$ to $10^{18}$: of smaller ones squares vanish
    and the value is too low.

    Args:
        product: the map.
        start: tree of any length in the domain; ones stand in for zeros.
        products: how often to apply the map; the dimension at most.

    Example:
        >>> value, vector = top_eigenpair(lambda v: 3 * v, jnp.array([4.0, 0.0]), 2)
        >>> float(value), vector.tolist()
        (3.0, [1.0, 0.0])
    """
    ritz = _ritz(product, start, products, _orthogonalised)
    return ritz.value, ritz.vector


def follow_top(
    product: Product,
    start: Any,
    products: int,
    rounds: tuple[Count, Count],
    tolerance: float,
    used: Count | None = None,
) -> tuple[Float[Array, ""], Any]:
    """Return `top_eigenpair`'s result of rounds that start where the last one ended.

    Between steps of training, the vector found before is a good start, and one round of
    few products does: so few that they are not orthogonalised again, which would cost
    as much as the products. All numbers but `products` may be traced.

    Args:
        product: the map.
        start: where the first round starts.
        products: how often a round may apply the map.
        rounds: the least and the largest number of them. Without any, the value is not
            a number and the vector is the start.
        tolerance: relative error, estimated from the residual, at which to stop.
        used: how often a round does apply the map, if less often.
    """
    least, most = rounds
    lanczos = functools.partial(_short, used=products if used is None else used)

    def go_on(carry: tuple[Any, _Ritz]) -> Any:
        count, ritz = carry
        return (count < least) | ((count < most) & (ritz.error > tolerance))

    def go(carry: tuple[Any, _Ritz]) -> Any:
        count, ritz = carry
        return count + 1, _ritz(product, ritz.vector, products, lanczos)

    dtype = ravel_pytree(start)[0].dtype
    unknown = _Ritz(jnp.array(jnp.nan, dtype), start, jnp.array(jnp.inf, dtype))
    _, ritz = jax.lax.while_loop(go_on, go, (jnp.int32(0), unknown))
    return ritz.value, ritz.vector


class _Ritz(NamedTuple):
    """An approximate eigenpair, and an estimate of its eigenvalue's relative error."""

    value: Float[Array, ""]
    vector: Any
    error: Float[Array, ""]


class _Krylov(NamedTuple):
    """What Lanczos leaves: a basis in rows, the small matrix, what is beyond them.

    Of these only as many rows are filled as products were taken.
    """

    basis: Float[Array, "k n"]
    small: Float[Array, "k k"]
    beyond: Float[Array, ""]
    filled: Count


def _ritz(product: Product, start: Any, products: int, lanczos: Callable) -> _Ritz:
    """Return the top of what a Lanczos iteration finds from a start."""
    flat, unravel = ravel_pytree(start)
    size = jnp.max(jnp.abs(flat))
    flat = jnp.where(size > 0, flat / size, jnp.ones_like(flat))
    krylov = lanczos(
        lambda v: ravel_pytree(product(unravel(v)))[0], flat, min(products, flat.size)
    )
    kept = _before_breakdown(krylov.basis)
    values, weights = _spectrum(krylov.small, kept)
    basis = jnp.where(kept[:, None], krylov.basis, jnp.zeros_like(krylov.basis))
    vector = weights[:, -1] @ basis
    last = krylov.filled - 1
    norm = krylov.beyond * jnp.abs(weights[last, -1])
    residual = jnp.where(kept[last], norm, jnp.zeros_like(norm))
    gap = values[-1] - values[-2] if len(values) > 1 else jnp.zeros_like(norm)
    error = jnp.where(residual < gap, residual**2 / gap, residual)
    unit = unravel(vector / jnp.linalg.norm(vector))
    return _Ritz(values[-1], unit, error / jnp.abs(values[-1]))


def _orthogonalised(product: Product, start: Float[Array, " n"], steps: int) -> _Krylov:
    tridiagonal = decomp.tridiag_sym(steps, custom_vjp=False)(product, start)
    beyond = jnp.linalg.norm(tridiagonal.residual)
    return _Krylov(
        jnp.asarray(tridiagonal.Q_tall), jnp.asarray(tridiagonal.J_small), beyond, steps
    )


def _short(
    product: Product, start: Float[Array, " n"], steps: int, used: Count
) -> _Krylov:
    """Take few steps of the plain recurrence, at a third of the time beside products.

    Orthogonality is lost only as the eigenvector is found, which is noticed later on.
    (matfree has this recurrence too, and takes every product twice in it.)
    """

    def step(i: Array, carry: Any) -> Any:
        basis, small, before, v, beta = carry
        w = product(v)
        alpha = jnp.vdot(v, w)
        w = w - alpha * v - beta * before
        # At 0 this writes zeros into a corner, which later steps fill.
        small = small.at[i, i - 1].set(beta).at[i - 1, i].set(beta).at[i, i].set(alpha)
        beta = jnp.linalg.norm(w)
        return basis.at[i].set(v), small, v, w / beta, beta

    zero = jnp.zeros((), start.dtype)
    basis = jnp.zeros((steps, start.size), start.dtype)
    small = jnp.zeros((steps, steps), start.dtype)
    unit = start / jnp.linalg.norm(start)
    carry = (basis, small, jnp.zeros_like(start), unit, zero)
    filled = min(used, steps) if isinstance(used, int) else jnp.minimum(used, steps)
    basis, small, *_, beyond = jax.lax.fori_loop(0, filled, step, carry)
    return _Krylov(basis, small, beyond, filled)


def _before_breakdown(basis: Float[Array, "k n"]) -> Bool[Array, " k"]:
    """Tell which of the first vectors are a basis, in which the small matrix is right.

    Past the end of an invariant subspace they are rounding errors, normalised or
    divided by zero: not orthonormal to those before.
    """
    overlaps = jnp.abs(basis @ basis.T - jnp.eye(len(basis), dtype=basis.dtype))
    good = jnp.max(jnp.tril(overlaps), axis=1) < jnp.finfo(basis.dtype).eps ** 0.5
    return jnp.cumprod(good.at[0].set(True)).astype(bool)


def _spectrum(
    small: Float[Array, "k k"], kept: Bool[Array, " k"]
) -> tuple[Float[Array, " k"], Float[Array, "k k"]]:
    """Return the eigenpairs of the leading block, behind others that are below them."""
    block = jnp.where(kept[:, None] & kept, small, jnp.zeros_like(small))
    finite = jnp.all(jnp.isfinite(block))
    block = jnp.where(finite, block, jnp.zeros_like(block))
    below = -1 - 2 * jnp.linalg.norm(block)
    block = block + jnp.diag(jnp.where(kept, jnp.zeros_like(below), below))
    values, vectors = jnp.linalg.eigh(block)
    return jnp.where(finite, values, jnp.nan), vectors
