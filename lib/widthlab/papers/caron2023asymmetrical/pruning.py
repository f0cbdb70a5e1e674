r"""Dropping nodes from a network: smallest masses first, or in a random order.

The authors drop nodes by their score $\lambda_j \sum_k a_{jk}^2$, smallest first,
without rescaling or training again. For $\gamma = 1$ all scores are equal and the
order is whatever a sort returns; here it is random, and that is said.

What a random order leaves is exact. With the contributions $g_j(x)$ of the nodes, $F =
\sum_j g_j$, and a share $q$ of $m$ nodes dropped,

$$E\,(f_q - y)^2 = \big((1 - q) F - y\big)^2
  + q (1 - q) \frac{m}{m - 1} \sum_j \big(g_j - F / m\big)^2 ,$$

the mean and the variance of a sum over a random subset. The law is derived here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def contributions(
    inner: Float[np.ndarray, "m d"],
    outer: Float[np.ndarray, "m k"],
    masses: Float[np.ndarray, " m"],
    x: Float[np.ndarray, "q d"],
) -> tuple[Float[np.ndarray, "q m"], Float[np.ndarray, "m k"]]:
    r"""Return features $\mathrm{relu}(w_j \cdot x)$ and what each adds to the outputs.

    Node $j$ contributes $g_j$, its feature times row $j$ of the second.
    """
    features = np.maximum(x @ inner.T, 0)
    return features, np.sqrt(masses / x.shape[1])[:, None] * outer


def order(
    masses: Float[np.ndarray, " m"],
    outer: Float[np.ndarray, "m k"],
    seed: int,
    *,
    random: bool = False,
) -> Int[np.ndarray, " m"]:
    r"""Return the nodes, the first to be dropped first.

    By $\lambda_j \sum_k a_{jk}^2$, ties in random order; or all in random order.
    """
    shuffled = np.random.default_rng([seed, 7]).permutation(len(masses))
    if random:
        return shuffled
    score = masses * (outer**2).sum(axis=1)
    return shuffled[np.argsort(score[shuffled], kind="stable")]


def pruned_outputs(
    features: Float[np.ndarray, "q m"],
    readout: Float[np.ndarray, "m k"],
    dropped: Int[np.ndarray, " m"],
    counts: Sequence[int],
) -> Float[np.ndarray, "counts q k"]:
    """Return the outputs with the first nodes of an order dropped, for each count."""
    kept = (dropped[count:] for count in counts)
    return np.stack([features[:, nodes] @ readout[nodes] for nodes in kept])


def expected_risk(
    features: Float[np.ndarray, "q m"],
    readout: Float[np.ndarray, "m k"],
    targets: Float[np.ndarray, "q k"],
    share: float,
) -> float:
    """Return the expected mean square error with a share dropped in random order.

    Raises:
        ValueError: the share is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must be from 0 to 1")
    m = len(readout)
    whole = features @ readout
    squares = features**2 @ readout**2 - whole**2 / m
    spread = share * (1 - share) * m / (m - 1) * squares
    return float((((1 - share) * whole - targets) ** 2 + spread).mean())
