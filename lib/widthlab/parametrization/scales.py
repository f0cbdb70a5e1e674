r"""The numbers of a layer that follow from exponents and widths."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerScales:
    r"""The numbers that a weight matrix, or a vector of biases, is trained with.

    The matrix in the forward pass is $W = m w$ with $w_{ij} \sim N(u, \sigma^2)$.

    Attributes:
        std: initial standard deviation $\sigma$ of the trained weights.
        mean: their initial mean $u$.
        multiplier: factor $m$ between the trained weights and the matrix.
        lr: learning rate of the trained weights $w$.
        first_lr: learning rate of the first step.
        retained: share of the initial weights that is left after the first step.
    """

    std: float
    mean: float
    multiplier: float
    lr: float
    first_lr: float
    retained: float
