r"""The numbers of a layer that follow from exponents and widths."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import attrs

from widthlab.parametrization.exponents import _EXACT, ParametrizationError


@attrs.frozen
class Growth:
    r"""Powers of how much wider a layer is than the first, where widths grow.

    With $r_{in} = n_{in} / n_1$ and $r_{out} = n_{out} / n_1$ in units of the first
    hidden width $n_1$, the initial standard deviation is multiplied by $r_{in}^{-b}$
    and the learning rate by $r_{in}^{-c_{in}} r_{out}^{-c_{out}}$. A size that is not a
    width has $r = 1$: those of the data, and the constant 1 that biases act on. So it
    is for every layer of a network of constant width.
    """

    _refusal: ClassVar = ParametrizationError

    b: Fraction = attrs.field(default=Fraction(0), converter=_EXACT)
    c_in: Fraction = attrs.field(default=Fraction(0), converter=_EXACT)
    c_out: Fraction = attrs.field(default=Fraction(0), converter=_EXACT)

    def factors(self, r_in: float, r_out: float) -> tuple[float, float]:
        r"""Return the factors on the standard deviation and on the learning rate.

        They are $r_{in}^{-b}$ and $r_{in}^{-c_{in}} r_{out}^{-c_{out}}$.
        """
        std = r_in ** -float(self.b)
        return std, r_in ** -float(self.c_in) * r_out ** -float(self.c_out)


_NO_GROWTH = Growth()


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
