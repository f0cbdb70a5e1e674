"""The tangent kernel of any differentiable function, by contracting its Jacobians."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthlab.kernels.arcs import check_type
from widthlab.kernels.blocks import Kernel, in_blocks
from widthlab.model import AnyArray

Function = Callable[[Any, Float[Array, "n ..."]], Float[Array, "n ..."]]
"""From parameters and inputs to outputs."""


def jacobian_kernel(
    function: Function,
    parameters: Any,
    x1: Float[AnyArray, "n1 ..."],
    x2: Float[AnyArray, "n2 ..."] | None = None,
    *,
    lr: Any = None,
    outputs: str = "mean",
    memory: int = 2**30,
) -> Kernel:
    r"""Return the tangent kernel of any function, by contracting its Jacobians.

    An input's Jacobian has $k P$ numbers with $P$ parameters and $k$ outputs; for an
    MLP, `empirical` does without it.

    Args:
        function: maps parameters and a batch of inputs to $k$ outputs each, or to one
            number each. An input's outputs must not depend on the rest of the batch. A
            function object is compiled once for each shape of a block.
        parameters: tree of arrays, all trained.
        x1: inputs, counted by the first axis.
        x2: other inputs; None for `x1` again.
        lr: tree of one learning rate for each array of the parameters; None for ones.
        outputs: "mean" or "full", as in `empirical`.
        memory: bytes to work in, besides the parameters, the inputs and the result.

    Returns:
        The kernel on the host, (n1, n2) or (n1, n2, k, k).

    Raises:
        ValueError: sizes do not fit, or a single pair of inputs takes more memory.

    Example:
        >>> def linear(w, x):
        ...     return x @ w
        >>> x = jnp.array([[1.0, 2.0], [0.0, 3.0]])
        >>> print(jacobian_kernel(linear, jnp.ones((2, 1)), x))
        [[5. 6.]
         [6. 9.]]
    """
    leaves = jax.tree.leaves(parameters)
    rates = [1.0] * len(leaves) if lr is None else jax.tree.leaves(lr)
    if len(rates) != len(leaves):
        raise ValueError(
            f"lr has {len(rates)} numbers for {len(leaves)} arrays of parameters; give "
            "one for each"
        )
    dtype = jnp.result_type(x1)
    shape = jax.eval_shape(
        function, parameters, jax.ShapeDtypeStruct((1, *x1.shape[1:]), dtype)
    )
    sizes = getattr(shape, "shape", None)
    if sizes is None or len(sizes) not in (1, 2) or sizes[0] != 1:
        raise ValueError(
            f"the function returns {shape} for a batch of one input; it returns an "
            "array with one row for each input, or one number"
        )
    check_type("the function's output", shape.dtype)
    k = sizes[1] if len(sizes) == 2 else 1
    return in_blocks(
        functools.partial(_jacobians, function, parameters),
        functools.partial(
            _contract,
            [jnp.asarray(r, leaf.dtype) for r, leaf in zip(rates, leaves, strict=True)],
            outputs,
        ),
        x1,
        x2,
        row=k * sum(leaf.nbytes for leaf in leaves),
        outputs=outputs,
        k=k,
        dtype=shape.dtype,
        memory=memory,
    )


@functools.partial(jax.jit, static_argnums=0)
def _jacobians(
    function: Function, parameters: Any, x: Float[Array, "n ..."]
) -> list[Array]:
    """Return every input's Jacobian (n, k, size) in each array of the parameters."""

    def one(x: Array) -> Any:
        return jax.jacrev(lambda p: function(p, x[None])[0])(parameters)

    leaves = jax.tree.leaves(jax.vmap(one)(x))
    sizes = [leaf.size for leaf in jax.tree.leaves(parameters)]
    return [
        leaf.reshape(len(x), -1, size) for leaf, size in zip(leaves, sizes, strict=True)
    ]


@functools.partial(jax.jit, static_argnums=1)
def _contract(
    rates: list[Float[Array, ""]],
    outputs: str,
    one: list[Array],
    two: list[Array],
) -> Float[Array, "n1 n2 ..."]:
    total = jnp.zeros((), one[0].dtype)
    for rate, a, b in zip(rates, one, two, strict=True):
        pattern = "ako,blo->abkl" if outputs == "full" else "ako,bko->ab"
        total += rate * jnp.einsum(pattern, a, b, precision="highest")
    return total if outputs == "full" else total / one[0].shape[1]
