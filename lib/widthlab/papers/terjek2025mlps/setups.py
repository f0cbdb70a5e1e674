"""Set-ups for Terjék (2025). They are ours: of the paper, the abstract is known."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from widthlab import activations, parametrization
from widthlab.data import DataSpec
from widthlab.model import Scales, Shape
from widthlab.papers.terjek2025mlps.depth import mean_square_response
from widthlab.papers.terjek2025mlps.response import first_response
from widthlab.probes import Performance
from widthlab.runs import Computed, Experiment

IMAGES = 50
"""Images of a run: five of each digit."""

UNTRAINED = 0.45
"""Loss of the output 0: half of 1 - 1/10."""


def images(seed: int, count: int = IMAGES, preprocess: str = "unit-norm") -> DataSpec:
    """Return the digits of one replication: a subset that its seed chooses."""
    return DataSpec("digits", n_train=count, preprocess=preprocess, subset_seed=seed)


def growing(layers: int, first: int, growth: int = 1) -> list[int]:
    """Return the sizes of the hidden layers of a network of so many matrices."""
    return [first * k**growth for k in range(1, layers)]


def parameters(widths: Sequence[int]) -> int:
    """Return how many parameters a network on digits has."""
    return sum(itertools.starmap(operator.mul, itertools.pairwise((64, *widths, 10))))


def matched_width(layers: int, first: int, growth: int = 0) -> int:
    """Return the first width at which a network has as many parameters as νP's.

    Args:
        layers: number of matrices.
        first: first width of νP with growth 1.
        growth: growth of the network; 0 for constant width.

    Example:
        >>> [matched_width(layers, 16) for layers in (3, 6, 12)]
        [20, 46, 104]
    """
    wanted = parameters(growing(layers, first))

    def missing(width: int) -> int:
        sizes = [max(1, round(width * k**growth)) for k in range(1, layers)]
        return abs(parameters(sizes) - wanted)

    return min(range(1, 4 * first * layers), key=missing)


def network(
    layers: int,
    *,
    table: str = "nup",
    growth: int = 1,
    activation: str = "abs",
    seed: int = 0,
    **more: Any,
) -> Experiment:
    """Return full-batch gradient descent at the edge of chaos, on the seed's images.

    Args:
        layers: number of matrices.
        table: name of the parametrization.
        growth: exponent of the widths in the layer.
        activation: name of the activation, whose critical gain is taken.
        seed: decides the weights, and which images are learned.
        **more: further fields of the experiment, or others for its defaults here.
    """
    gain = activations.get(activation).critical_gain
    fields: dict[str, Any] = {
        "data": images(seed),
        "width": 16,
        "loss": "mse",
        "lr": 1.0,
        "steps": 200,
        "gains": (1.0, gain, gain),
        "probes": (Performance(),),
    }
    return Experiment(
        parametrization=table,
        depth=layers - 1,
        growth=growth,
        activation=activation,
        seed=seed,
        **(fields | more),
    )


def tangent_network(
    layers: int, activation: str, preprocess: str, *, seed: int, **more: Any
) -> Experiment:
    """Return gradient descent of an NTK network of width 256 on the seed's images.

    The first gain makes pre-activations of size one whatever the images' norms.
    """
    data = images(seed, preprocess=preprocess)
    norms = np.linalg.norm(data.load().x_train, axis=1)
    gain = activations.get(activation).critical_gain
    fields: dict[str, Any] = {"width": 256, "steps": 120, "data": data}
    return network(
        layers,
        table="ntk",
        growth=0,
        activation=activation,
        seed=seed,
        gains=(float(np.mean(norms**2) ** -0.5), gain, gain),
        **(fields | more),
    )


@dataclasses.dataclass(frozen=True)
class FirstSteps(Computed):
    """What one infinitesimal step does to untrained networks, beside the exact law.

    Attributes:
        seed: decides the input and all networks.
        layers: number of matrices.
        growth: exponent of the widths in the layer.
        width: size of the first hidden layer.
        table: name of the parametrization.
        activation: name of the activation.
        off: factor on the gain of the edge of chaos; the law is that of the edge.
        draws: number of networks.
    """

    seed: int
    layers: int = 5
    growth: int = 1
    width: int = 16
    table: str = "nup"
    activation: str = "abs"
    off: float = 1.0
    draws: int = 1024

    def run(self) -> pd.DataFrame:
        """Return by hidden layer the mean square, the law, and the law if wide."""
        widths = growing(self.layers, self.width, self.growth)
        shape = Shape(64, tuple(widths), 1, self.activation)
        gain = activations.get(self.activation).critical_gain

        def scales(gain: float) -> Scales:
            table = parametrization.get(self.table)
            gains = (1, gain, gain)
            return shape.scales(table, lr=1.0, gains=gains, dtype="float64")

        x = np.random.default_rng(self.seed).standard_normal(64)
        x /= np.linalg.norm(x)
        keys = jax.random.split(jax.random.key(self.seed), self.draws)
        moves = first_response(shape, scales(self.off * gain), x, keys)
        laws = {
            name: mean_square_response(shape, scales(gain), exact=exact)[:-1]
            for name, exact in (("law", True), ("wide", False))
        }
        layer = np.arange(1, self.layers)
        square = np.mean(moves[:, :-1] ** 2, axis=0)
        return pd.DataFrame({"layer": layer, "square": square} | laws)
