r"""The kernels of infinitely wide MLPs in closed form: NNGP and NTK.

A dense layer is $h = \sigma_w d^{-1/2} W x + \sigma_b \beta$ with fan-in $d$, and the
entries of $W$ and $\beta$, all of them trained, start from $N(0, 1)$: the NTK
parametrization (Jacot, Gabriel and Hongler 2018). As the widths grow, with the moments
$F$ and $\dot F$ of the activation (`widthlab.kernels.dual`),

$$\Sigma^1 = \Theta^1 = \sigma_w^2\,x \cdot x'/d + \sigma_b^2, \qquad
  \Sigma^{l+1} = \sigma_w^2 F(\Sigma^l) + \sigma_b^2, \qquad
  \Theta^{l+1} = \Sigma^{l+1} + \sigma_w^2 \dot F(\Sigma^l)\,\Theta^l,$$

where $F(\Sigma)$ at $(x, x')$ reads $\Sigma(x, x)$, $\Sigma(x, x')$ and
$\Sigma(x', x')$. Every dense layer has its own $\sigma_w$ and $\sigma_b$.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthlab.activations import Activation
from widthlab.kernels.arcs import check_type
from widthlab.kernels.dual import Rule, rule
from widthlab.kernels.series import Series
from widthlab.model import AnyArray

# Entries of the matrices that are worked on at a time: those that a cache holds.
_BLOCK = 2**18


class Kernels(NamedTuple):
    r"""The kernels of an infinitely wide network, the same for each of its outputs.

    Between different outputs both vanish: with $k$ outputs, the kernels are these times
    the $k \times k$ identity.

    Attributes:
        nngp: $\Sigma^{L+1}$, the covariance of an output over initialisations.
        ntk: $\Theta^{L+1}$, the limit of
            $\sum_w \partial_w f(x)\,\partial_w f(x')$ over all trained weights $w$.
    """

    nngp: Float[Array, "n1 n2"]
    ntk: Float[Array, "n1 n2"]


def mlp(
    x1: Float[AnyArray, "n1 input"],
    x2: Float[AnyArray, "n2 input2"] | None = None,
    *,
    activation: str | Activation,
    depth: int,
    weight_std: float | Sequence[float] = 1.0,
    bias_std: float | Sequence[float] = 0.0,
    terms: int = 128,
) -> Kernels:
    r"""Return the kernels of an MLP whose hidden layers are infinitely wide.

    Results have the inputs' precision. One program is compiled for each shape,
    activation and depth; standard deviations are traced. The results are
    differentiable in the inputs, as often as one likes, with finite derivatives at
    duplicate, antipodal and zero inputs.

    How a finite `widthlab.model.MLP` relates to this is told at `empirical`.

    Args:
        x1: inputs, one a row.
        x2: other inputs; None for `x1` again, and then the results are symmetric to the
            last bit.
        activation: the nonlinearity, or its name.
        depth: number $L$ of hidden layers.
        weight_std: $\sigma_w$, one for all or one for each of the $L + 1$ dense layers.
        bias_std: $\sigma_b$, likewise.
        terms: length of the series that serves an activation without closed form.

    Raises:
        ValueError: sizes do not fit, or there is no hidden layer.

    Example:
        >>> import numpy as np
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> kernels = mlp(x, activation="relu", depth=1, weight_std=2.0)
        >>> print(np.round(kernels.nngp[0], 3))
        [4.    1.273 0.   ]
    """
    x1 = _inputs("x1", x1)
    x2 = None if x2 is None else _inputs("x2", x2)
    if x2 is not None and (x1.shape[1], x1.dtype) != (x2.shape[1], x2.dtype):
        raise ValueError(
            f"x1 has {x1.shape[1]} columns of {x1.dtype} and x2 has {x2.shape[1]} of "
            f"{x2.dtype}; inputs of one network have the same size and precision"
        )
    if depth < 1:
        raise ValueError(f"depth is {depth}; an MLP has at least one hidden layer")
    std = _per_layer("weight_std", weight_std, depth, x1.dtype)
    bias = _per_layer("bias_std", bias_std, depth, x1.dtype)
    return _compiled(x1, x2, std, bias, rule(activation, terms))


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _kernels(
    x1: Array, x2: Array | None, std: Array, bias_std: Array, moments: Rule
) -> Kernels:
    return _recursion(x1, x2, std, bias_std, moments, jax.lax.scan)


@_kernels.defjvp
def _kernels_jvp(moments: Rule, primals: Any, tangents: Any) -> Any:
    # A loop of JAX loses the derivatives given to functions inside it when its
    # linearisation is differentiated once more, as in a Hessian.
    plain = functools.partial(_recursion, moments=moments, loop=_unrolled)
    return jax.jvp(plain, primals, tangents)


_compiled = jax.jit(_kernels, static_argnums=4)


def _recursion(
    x1: Array,
    x2: Array | None,
    std: Array,
    bias_std: Array,
    moments: Rule,
    loop: Callable[..., Any],
) -> Kernels:
    weight, bias = std**2, bias_std**2
    gram = jnp.matmul(x1, (x1 if x2 is None else x2).T, precision="highest")
    norms = [gram.diagonal()] if x2 is None else [jnp.sum(x * x, 1) for x in (x1, x2)]
    first, later = weight[0] / x1.shape[1], (weight[1:], bias[1:])
    gram = first * gram + bias[0]
    variances = [_variances(first * q + bias[0], later, moments, loop) for q in norms]
    q1, q2 = variances[0], variances[-1]

    def layer(kernels: Any, now: Any) -> Any:
        (sigma, theta), (q1, q2, w, b) = kernels, now
        value, slope = moments(q1, sigma, q2)
        sigma = w * value + b
        return (sigma, sigma + w * slope * theta), None

    def row(now: Any) -> Any:
        sigma, q1 = now
        return loop(layer, (sigma, sigma), (q1, q2, *later))[0]

    if loop is _unrolled or isinstance(moments, Series):
        # In one piece: every block of rows would find the coefficients of x2 again.
        columns = (q1[:, :, None], q2[:, None, :], *later)
        both = loop(layer, (gram, gram), columns)[0]
    else:
        both = jax.lax.map(row, (gram, q1.T), batch_size=_rows(*gram.shape))
    if x2 is None:
        above = jnp.triu(jnp.ones_like(gram, bool))
        both = [jnp.where(above, kernel, kernel.T) for kernel in both]
    return Kernels(*both)


def _variances(
    q: Float[Array, " n"],
    later: tuple[Array, Array],
    moments: Rule,
    loop: Callable[..., Any],
) -> Float[Array, "depth n"]:
    """Return the variance of every hidden layer's pre-activations, from the first's."""

    def layer(q: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        w, b = now
        if isinstance(moments, Series):
            return w * moments.variance(q) + b, q
        return w * moments(q, q, q)[0] + b, q

    return loop(layer, q, later)[1]


def _unrolled(step: Callable[..., Any], carry: Any, xs: Any) -> tuple[Any, Any]:
    """Do what `jax.lax.scan` does, with one copy of the step for each turn."""
    results = []
    for i in range(len(jax.tree.leaves(xs)[0])):
        carry, result = step(carry, jax.tree.map(lambda x, i=i: x[i], xs))
        results.append(result)
    return carry, jax.tree.map(lambda *parts: jnp.stack(parts), *results)


def _rows(n1: int, n2: int) -> int:
    """Return how many rows to work on at a time, the last time hardly fewer."""
    rows = max(1, _BLOCK // max(n2, 1))
    return max(1, -(-n1 // max(1, -(-n1 // rows))))


def _inputs(name: str, x: Float[AnyArray, "n input"]) -> Float[Array, "n input"]:
    array = jnp.asarray(x)
    if array.ndim != 2 or not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{name} is an array of shape {array.shape} and type {array.dtype}; inputs "
            "are the rows of a floating-point matrix"
        )
    check_type(name, array.dtype)
    return array


def _per_layer(
    name: str, values: float | Sequence[float], depth: int, dtype: Any
) -> Float[Array, " layers"]:
    array = jnp.asarray(values, dtype)
    if array.shape not in ((), (depth + 1,)):
        raise ValueError(
            f"{name} has shape {array.shape}; give one number, or {depth + 1}: one for "
            f"each of the {depth} hidden layers and one for the read-out"
        )
    return jnp.broadcast_to(array, (depth + 1,))
