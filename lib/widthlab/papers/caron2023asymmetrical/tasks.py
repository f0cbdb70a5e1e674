r"""Data and starts of Caron et al. 2023, after the authors' code.

Seeds are ours: a draw has the law of theirs, and other numbers. A seed draws its own
data and its own network; of two widths the narrower network is the beginning of the
wider, so that both have the same first nodes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from widthlab.data import DataSpec
from widthlab.papers.caron2023asymmetrical.network import Network, Steps

DIM = 50
"""$d$ of the simulated task."""

INPUTS = 100
"""Training inputs of the simulated task, and test inputs."""

HORIZON = 50_000.0
"""Steps of size 1 that the authors take on it."""

WIDTH = 2000
"""$m$ of all their networks."""


class Split(NamedTuple):
    """Inputs and targets to train on, and others to test on."""

    x: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, "n k"]
    x_test: Float[np.ndarray, "q d"]
    y_test: Float[np.ndarray, "q k"]


def simulated(seed: int) -> Split:
    r"""Draw the simulated task: noise is on the test targets too.

    $x$ is uniform on the unit sphere and $y = \frac1d \sum_k 5 \sin(\pi x_k) + 0.1\,
    \xi$ with a standard Gaussian $\xi$.
    """
    rng = np.random.default_rng([seed, 50])
    x = rng.standard_normal((2 * INPUTS, DIM))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    noise = rng.standard_normal((2 * INPUTS, 1))
    y = 5 * np.sin(np.pi * x).mean(axis=1, keepdims=True) + 0.1 * noise
    return Split(x[:INPUTS], y[:INPUTS], x[INPUTS:], y[INPUTS:])


def digits(seed: int, n: int) -> tuple[Split, Split]:
    """Return scikit-learn's digits for training, and the next ones for transfer.

    One-hot targets, pixels between 0 and 1, equal shares of the ten classes; the test
    images of both are the same.

    Args:
        seed: chooses the images.
        n: size of either training set.
    """
    data = DataSpec(
        *("digits", 2 * n, None, "one-hot"), preprocess="raw01", subset_seed=seed
    ).load()
    x, y = np.asarray(data.x_train), np.asarray(data.y_train)
    tests = np.asarray(data.x_test), np.asarray(data.y_test)
    return Split(x[:n], y[:n], *tests), Split(x[n:], y[n:], *tests)


def start(
    m: int, dim: int, outputs: int, seed: int
) -> tuple[Float[np.ndarray, "m d"], Float[np.ndarray, "m k"]]:
    r"""Draw $w_j \sim N(0, 2 I)$ and $a_j = \pm 1$."""
    weights, signs = (np.random.default_rng([seed, dim, i]) for i in (0, 1))
    w = np.sqrt(2) * weights.standard_normal((m, dim))
    return w, signs.choice([-1.0, 1.0], (m, outputs))


def network(
    masses: Float[np.ndarray, " m"],
    data: Split,
    steps: Steps,
    seed: int,
    rates: Float[np.ndarray, " m"] | None = None,
) -> Network:
    """Return a network of these masses on the data, drawn from a seed.

    Args:
        masses: of its nodes.
        data: what it is trained and tested on.
        steps: the schedule of its steps.
        seed: of its weights.
        rates: factor of each node's gradient, where it is not 1.
    """
    w, a = start(len(masses), data.x.shape[1], data.y.shape[1], seed)
    given = np.ones_like(masses) if rates is None else rates
    arrays = [np.asarray(v, np.float32) for v in (w, a, masses, *data, given)]
    return Network(*arrays, steps=steps.numbers)
