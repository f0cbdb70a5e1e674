r"""The angle of updates to the path so far, in the optimizer's metric.

With $D$ the learning rates, one for each tensor, lengths are those of
$D^{-1/2} \theta$.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

NO_RATIO = -2.0
"""What stands for a ratio to zero: no cosine and no length is as small.

`JAX_DEBUG_NANS` would stop at a NaN that stands for nothing.
"""


class CosineState(NamedTuple):
    r"""What `track_cosine` remembers, in the optimizer's metric.

    Attributes:
        moved: the sum $U_t = \theta_t - \theta_0$ of all updates, this one included.
        size: $\|\theta_0\|$.
        change: $\|U_t\| / \|\theta_0\|$ before the last update.
        whole: the cosine of the whole network.
        each: tree of cosines, one for each tensor.
    """

    moved: Any
    size: Float[Array, ""]
    change: Float[Array, ""]
    whole: Float[Array, ""]
    each: Any


def track_cosine(rates: Any) -> optax.GradientTransformation:
    r"""Follow the angle between each update and the path so far; chained last.

    $$\cos_t = \frac{\langle u_t, U_t \rangle}{\|u_t\|\,\|U_t\|}, \qquad
    U_t = \theta_t - \theta_0 = \sum_{s < t} u_s,$$

    with lengths of $D^{-1/2} u$. On a quadratic, steps along a mode of curvature
    $\lambda$ turn back at once where $\lambda > 2$ and go on where $\lambda < 1$. Where
    either vector is zero, as $U_0$ is, it is `NO_RATIO`.

    Args:
        rates: tree of learning rates $D$, one number for each tensor.

    Example:
        >>> rule = optax.chain(optax.sgd(0.5), track_cosine({"w": 0.5}))
        >>> w = {"w": jnp.array([4.0, 0.0])}
        >>> state = rule.init(w)
        >>> for grad in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]):
        ...     updates, state = rule.update({"w": jnp.array(grad)}, state, w)
        ...     print(f"{state[-1].whole:.2f}", f"{state[-1].change:.2f}")
        -2.00 0.00
        0.00 0.12
        1.00 0.18
    """

    def init(params: Any) -> CosineState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        size = jnp.sqrt(_total(_products(rates, params, params)))
        unknown = jax.tree.map(lambda v: jnp.full((), NO_RATIO, v.dtype), params)
        whole = jnp.full_like(size, NO_RATIO)
        return CosineState(zeros, size, jnp.zeros_like(size), whole, unknown)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, CosineState]:
        del params
        pairs = ((updates, state.moved), (updates, updates), (state.moved, state.moved))
        each = [_products(rates, a, b) for a, b in pairs]
        across, steps, path = map(_total, each)
        return updates, CosineState(
            moved=optax.tree.add(state.moved, updates),
            size=state.size,
            change=_ratio(jnp.sqrt(path), state.size),
            whole=_cosine(across, steps, path),
            each=jax.tree.map(_cosine, *each),
        )

    return optax.GradientTransformation(init, update)


def _products(rates: Any, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda d, u, v: jnp.sum(u * v) / d, rates, one, other)


def _total(tree: Any) -> Array:
    return jnp.asarray(optax.tree.sum(tree))


def _cosine(across: Array, one: Array, other: Array) -> Array:
    # Roots first: the product of two squared lengths could overflow or vanish.
    return _ratio(across, jnp.sqrt(one) * jnp.sqrt(other))


def _ratio(above: Array, below: Array) -> Array:
    """Divide, but by zero; what is no number stays none."""
    return jnp.where(below == 0, jnp.full_like(above, NO_RATIO), above / below)
