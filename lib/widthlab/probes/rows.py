"""The rows that probes make on the host, and the numbers in several of them."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

Row = tuple[str, int, float]
"""Quantity, layer, value."""

Rows = list[list[Row]]
"""For each checkpoint, its rows."""


def relative_change(
    before: Float[np.ndarray, "inputs width"], after: Float[np.ndarray, "inputs width"]
) -> float:
    r"""Return the mean over inputs of $\|h_t - h_0\| / \|h_0\|$.

    Inputs with $h_0 = 0$ are left out; it is NaN if there are no others.
    """
    moved = np.linalg.norm(after - before, axis=-1)
    size = np.linalg.norm(before, axis=-1)
    there = size != 0
    return float(np.mean(moved[there] / size[there])) if there.any() else math.nan


def smallest_eigenvalue(features: Float[np.ndarray, "inputs width"]) -> float:
    r"""Return the smallest eigenvalue of $H H^\top / n$, in float64.

    It is the squared smallest singular value of $H / \sqrt n$ (taken from the
    triangular factor of $H^\top$), which is more exact than the product's spectrum.
    """
    if not np.all(np.isfinite(features)):
        return float("nan")
    inputs, width = features.shape
    if width < inputs:
        return 0.0
    triangular = np.linalg.qr(features.T, mode="r")
    return float(np.linalg.svd(triangular, compute_uv=False)[-1] ** 2 / width)


def root_mean_square(values: Float[np.ndarray, " ..."]) -> float:
    r"""Return the root mean square of all entries, $(\frac1N \sum_i v_i^2)^{1/2}$."""
    return float(np.sqrt(np.mean(np.square(values))))
