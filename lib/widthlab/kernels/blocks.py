"""A kernel matrix in square blocks, as large as a given memory allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from widthlab.model import AnyArray

Kernel = Float[np.ndarray, "n1 n2"] | Float[np.ndarray, "n1 n2 k k"]
"""One number for each pair of inputs, or a matrix over the outputs."""

OUTPUTS = ("mean", "full")
"""What is kept of the outputs: their mean, or all pairs of them."""


def in_blocks(
    rows: Callable[[Any], Any],
    contract: Callable[[Any, Any], Any],
    x1: Float[AnyArray, "n1 ..."],
    x2: Float[AnyArray, "n2 ..."] | None,
    *,
    row: int,
    outputs: str,
    k: int,
    dtype: Any,
    memory: int,
) -> Kernel:
    """Return a kernel that contracts what each input has, block by block.

    Args:
        rows: maps a block of inputs to what the kernel takes from them.
        contract: maps two such things to a block of the kernel.
        x1: inputs, counted by the first axis.
        x2: other inputs, or None for `x1` again.
        row: bytes that `rows` returns for an input.
        outputs: one of `OUTPUTS`: entries are numbers, or k times k matrices.
        k: number of outputs.
        dtype: type of the kernel's entries.
        memory: bytes to work in.

    Raises:
        ValueError: `outputs` is unknown, or the memory does not suffice for one pair.
    """
    if outputs not in OUTPUTS:
        raise ValueError(f"outputs is {outputs!r}; it is one of {', '.join(OUTPUTS)}")
    entry = (k, k) if outputs == "full" else ()
    most = block_size(row, math.prod(entry) * dtype.itemsize, memory)
    x1 = np.asarray(x1)
    others = x1 if x2 is None else np.asarray(x2)
    n1, n2 = len(x1), len(others)
    out = np.empty((n1, n2, *entry), dtype)
    for start1, stop1, block1 in _blocks(x1, most):
        left = rows(block1)
        for start2, stop2, block2 in _blocks(others, most):
            if x2 is None and start2 < start1:
                continue
            same = x2 is None and start2 == start1
            tile = np.asarray(contract(left, left if same else rows(block2)))
            tile = tile[: stop1 - start1, : stop2 - start2]
            if same:
                tile = (tile + _mirrored(tile)) / 2
            out[start1:stop1, start2:stop2] = tile
            if x2 is None:
                out[start2:stop2, start1:stop1] = _mirrored(tile)
    return out


def block_size(row: int, entry: int, memory: int) -> int:
    """Return how many inputs a block may have.

    Two blocks of inputs are held, and as much again to rearrange them in; of the kernel
    five tiles: a sum, the next summands and their factors. A test compares this with
    what the compiler lays out.

    Raises:
        ValueError: not even one fits.
    """
    size = (math.sqrt(16 * row**2 + 20 * entry * memory) - 4 * row) / (10 * entry)
    if size < 1:
        raise ValueError(
            f"memory is {memory} bytes; a single pair of inputs takes "
            f"{4 * row + 5 * entry}: give at least that"
        )
    return int(size)


def _blocks(x: Any, most: int) -> Iterator[tuple[int, int, Any]]:
    """Split rows evenly; zeros fill the last block, so that all have one shape."""
    count = -(-len(x) // most)
    size = -(-len(x) // count) if count else 0
    for start in range(0, len(x), max(size, 1)):
        stop = min(start + size, len(x))
        block = np.zeros((size, *x.shape[1:]), x.dtype)
        block[: stop - start] = x[start:stop]
        yield start, stop, jnp.asarray(block)


def _mirrored(tile: np.ndarray) -> np.ndarray:
    """Exchange the two inputs, and with them the two outputs."""
    return tile.transpose(1, 0, 3, 2) if tile.ndim == 4 else tile.T
