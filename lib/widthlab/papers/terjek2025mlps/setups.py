"""Set-ups for Terjék (2025). They are ours: of the paper, the abstract is known."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pandas as pd

from widthlab import activations, parametrization
from widthlab.data import DataSpec
from widthlab.model import Shape
from widthlab.papers.terjek2025mlps.depth import (
    mean_square_response,
    one_step_law,
)
from widthlab.papers.terjek2025mlps.response import first_response
from widthlab.parametrization import Parametrization
from widthlab.probes import Performance
from widthlab.runs import Computed, Experiment

DIGITS = DataSpec("digits", n_train=200)
"""The images of most runs."""

BASE = {0: 48, 1: 24, 2: 12}
"""First width of trained networks, by growth."""

UNTRAINED = 0.45
"""Loss of the output 0: half of 1 - 1/10."""

_FIRST = {0: 96, 1: 32, 2: 16}  # first width where single steps are measured


def network(
    layers: int,
    *,
    table: str = "nup",
    growth: int = 1,
    activation: str = "abs",
    **more: Any,
) -> Experiment:
    """Return full-batch gradient descent at the edge of chaos.

    Args:
        layers: number of matrices.
        table: name of the parametrization.
        growth: exponent of the widths in the layer.
        activation: name of the activation, whose critical gain is taken.
        **more: further fields of the experiment, or others for its defaults here.
    """
    gain = activations.get(activation).critical_gain
    fields: dict[str, Any] = {
        "data": DIGITS,
        "width": BASE[growth],
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
        **(fields | more),
    )


def tangent_network(
    layers: int, activation: str, preprocess: str, **more: Any
) -> Experiment:
    """Return gradient descent of an NTK network of width 256 on 128 digits.

    The first gain makes pre-activations of size one whatever the images' norms.
    """
    data = DataSpec("digits", n_train=128, preprocess=preprocess)
    norms = np.linalg.norm(data.load().x_train, axis=1)
    gain = activations.get(activation).critical_gain
    return network(
        layers,
        table="ntk",
        growth=0,
        activation=activation,
        width=256,
        steps=120,
        data=data,
        gains=(float(np.mean(norms**2) ** -0.5), gain, gain),
        **more,
    )


def law_of_moves(layers: int, table: str, growth: int) -> float:
    """Return the largest $R_k$ over layers that the one-step law gives at rate 1."""
    widths = [BASE[growth] * k**growth for k in range(1, layers)]
    normalised = table == "nup-normalised"
    rates = [widths[0] / w if normalised else 1.0 for w in widths]
    return float(np.sqrt(one_step_law(widths, 1.0, rates).max()))


@dataclasses.dataclass(frozen=True)
class FirstSteps(Computed):
    """What one infinitesimal step does to untrained networks, beside the exact law.

    Attributes:
        layers: number of matrices.
        growth: exponent of the widths in the layer.
        table: the parametrization.
        activation: name of the activation.
        lr: learning rate.
        draws: number of initialisations; the first of 1,024.
    """

    layers: int
    growth: int
    table: str | Parametrization = "nup"
    activation: str = "abs"
    lr: float = 1.0
    draws: int = 256

    def run(self) -> pd.DataFrame:
        """Return the measured square and the law, by draw and hidden layer."""
        widths = (_FIRST[self.growth] * k**self.growth for k in range(1, self.layers))
        shape = Shape(64, tuple(widths), 1, self.activation)
        gain = activations.get(self.activation).critical_gain
        table = self.table
        if isinstance(table, str):
            table = parametrization.get(table)
        gains = (1, gain, gain)
        scales = shape.scales(table, lr=self.lr, gains=gains, dtype="float64")
        x = np.random.default_rng(0).standard_normal(64)
        keys = jax.random.split(jax.random.key(1), 1024)[: self.draws]
        x /= np.linalg.norm(x)
        squares = first_response(shape, scales, x, keys)[:, :-1] ** 2
        law = mean_square_response(shape, scales)[:-1]
        draw, layer = np.indices(squares.shape)
        return pd.DataFrame(
            {
                "draw": draw.ravel(),
                "layer": layer.ravel() + 1,
                "square": squares.ravel(),
                "law": np.broadcast_to(law, squares.shape).ravel(),
            }
        )
