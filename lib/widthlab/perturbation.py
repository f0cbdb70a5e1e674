"""Starts moved by rounding: what another processor, or another order of a sum, does.

Where the environment variable `WIDTHLAB_PERTURB` is set, to a number from 1 up, every
training begins at weights that are moved by one unit in the last place, up or down by
random bits that follow from that number. So is every array of a flow: its start, and
what it flows on. A result that changes by more than rounding then rests on rounding.
"""

from __future__ import annotations

import os
from typing import TypeVar

import jax
import numpy as np

PERTURB_VARIABLE = "WIDTHLAB_PERTURB"
"""Environment variable that moves every start by one unit in the last place."""

Tree = TypeVar("Tree")


def chosen() -> int | None:
    """Return which perturbation the environment asks for; None for none.

    Raises:
        ValueError: the variable is not a number from 1 up.
    """
    said = os.environ.get(PERTURB_VARIABLE, "")
    if not said:
        return None
    if not (said.isascii() and said.isdecimal()) or int(said) < 1:
        raise ValueError(
            f"{PERTURB_VARIABLE} is {said!r}; it is a whole number from 1 up, another "
            "perturbation for each, or not set"
        )
    return int(said)


def in_key() -> dict[str, int]:
    """Return what of the key of a record says that it is perturbed: nothing if not."""
    number = chosen()
    return {} if number is None else {"perturbed": number}


def moved(members: Tree, number: int) -> Tree:
    """Return a tree with its floating-point numbers one unit in the last place away.

    Zeros, infinities and whole numbers stay. So does where an array lies.

    Args:
        members: tree of arrays with members in front. All members are moved alike, so
            that a run does not depend on those beside it.
        number: which perturbation.

    Example:
        >>> two = moved(np.ones((2, 3), "float32"), 1)
        >>> sorted(set(((two - 1) / np.finfo("float32").eps).ravel().tolist()))
        [-0.5, 1.0]
        >>> bool((two[0] == two[1]).all())
        True
    """
    leaves, structure = jax.tree.flatten(members)
    return jax.tree.unflatten(
        structure,
        [
            _moved(leaf, np.random.default_rng([number, index]))
            for index, leaf in enumerate(leaves)
        ],
    )


def _moved(leaf: jax.Array | np.ndarray, rng: np.random.Generator) -> object:
    if not np.issubdtype(leaf.dtype, np.floating):
        return leaf
    old = np.asarray(leaf)
    up = rng.integers(2, size=old.shape[1:], dtype=np.uint8) == 1
    ends = np.where(up, np.inf, -np.inf).astype(old.dtype)
    new = np.where((old == 0) | ~np.isfinite(old), old, np.nextafter(old, ends))
    if not isinstance(leaf, jax.Array):
        return new
    # A copy: on CPU the array could lie in NumPy's memory, which training gives up.
    return jax.device_put(new, leaf.sharding, may_alias=False)
