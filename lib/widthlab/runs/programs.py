"""A function of arrays by what it computes: a hash of its program.

Functions that a notebook defines close over arrays and other functions, which their
source does not show. What JAX traces of them shows everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core

from widthlab.canonical import content_sha256
from widthlab.source import without_addresses


def program_hash(function: Callable[..., Any], *arguments: Any) -> str:
    """Return a hash of what a function computes of arrays like these.

    It covers operations and constants, captured arrays among them; equal programs have
    equal hashes with one version of JAX.

    Args:
        function: a function that JAX can trace.
        *arguments: pytrees of arrays, or of their shapes and types.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.arange(3.0)
        >>> scale = 2.0
        >>> doubled = program_hash(lambda x: scale * x, x)
        >>> doubled == program_hash(lambda x: 2.0 * x, x)
        True
        >>> scale = 3.0
        >>> doubled == program_hash(lambda x: scale * x, x)
        False
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    # Without colours, which JAX writes into the text in a notebook and nowhere else.
    text = closed.pretty_print(use_color=False)
    # Functions inside are printed with their address, which every process has its own.
    hashed = hashlib.sha256(without_addresses(text).encode())
    hashed.update(str(jax.tree.structure(shapes)).encode())
    # The text above shortens large arrays, so their content counts on its own.
    for constant in _constants(closed):
        hashed.update(content_sha256(np.asarray(constant)).encode())
    return hashed.hexdigest()


def _constants(closed: core.ClosedJaxpr) -> Iterator[Any]:
    """Walk over all numbers of a program that its text may shorten."""
    yield from closed.consts
    yield from _literals(closed.jaxpr)


def _literals(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield from (v.val for v in equation.invars if isinstance(v, core.Literal))
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda v: isinstance(v, core.ClosedJaxpr) or hasattr(v, "eqns"),
        ):
            if isinstance(inner, core.ClosedJaxpr):
                yield from _constants(inner)
            elif hasattr(inner, "eqns"):
                yield from _literals(inner)
