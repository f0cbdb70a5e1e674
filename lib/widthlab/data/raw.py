"""Decoded integer content of a data set, and orders that never drift.

Everything up to preprocessing is integer arithmetic, and every order is a sort by
SHA-256, so subsets and hashes are the same on every platform and NumPy version.
"""

import dataclasses
import functools
import hashlib

import numpy as np
from jaxtyping import Integer, Real


class DataError(RuntimeError):
    """A data file is missing, truncated, changed, or cannot be stored."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """Decoded images (one flat row each) and labels, before any preprocessing.

    Attributes:
        x_train: Integer pixels of the training split (for data of a chapter's own:
            numbers).
        y_train: Class indices of the training split.
        x_test: Integer pixels of the test split.
        y_test: Class indices of the test split.
    """

    x_train: Real[np.ndarray, "n d"]
    y_train: Integer[np.ndarray, " n"]
    x_test: Real[np.ndarray, "m d"]
    y_test: Integer[np.ndarray, " m"]

    def __post_init__(self) -> None:
        """Make the arrays read-only: they are cached and shared."""
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            array.setflags(write=False)


@functools.lru_cache(maxsize=64)  # half a megabyte each, at most, of what seeds ask for
def stable_order(count: int, tag: str) -> Integer[np.ndarray, " n"]:
    """Permute `range(count)` in a fixed way: indices sorted by SHA-256 of "tag/index".

    Random generators may change their streams between versions; this cannot. The array
    is read-only.

    Examples:
        >>> stable_order(6, "a").tolist()
        [2, 3, 1, 5, 4, 0]
    """
    keys = [hashlib.sha256(f"{tag}/{i}".encode()).digest() for i in range(count)]
    order = np.array(sorted(range(count), key=keys.__getitem__), dtype=np.int64)
    order.setflags(write=False)
    return order


def balanced_order(
    labels: Integer[np.ndarray, " n"], tag: str
) -> Integer[np.ndarray, " n"]:
    """Return a fixed order whose every prefix is as class-balanced as the labels allow.

    Within a class the order is `stable_order`'s; the classes then take turns.

    Examples:
        >>> labels = np.array([0, 0, 0, 1, 1, 2])
        >>> labels[balanced_order(labels, "a")].tolist()
        [0, 1, 2, 0, 1, 0]
    """
    order = stable_order(len(labels), tag)
    shuffled = labels[order]
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(shuffled):
        members = np.flatnonzero(shuffled == label)
        turn[members] = np.arange(len(members))
    return order[np.lexsort((shuffled, turn))]
