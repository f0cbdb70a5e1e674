"""Exact exponents of the width, and the roles of layers that have them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar

import attrs
from attrs import evolve

from widthlab.fields import instance, optional

HALF = Fraction(1, 2)
"""The exponent of a standard deviation: exactly one half."""


class ParametrizationError(ValueError):
    """A parametrization was asked for, or put together, that has no meaning."""


class Role(enum.StrEnum):
    """What a weight matrix does, which alone decides how it scales with width."""

    INPUT = "input"
    """From finitely many coordinates to $n$."""

    HIDDEN = "hidden"
    """From $n$ coordinates to $n$."""

    OUTPUT = "output"
    """From $n$ coordinates to finitely many."""

    def width(self, fan_in: int, fan_out: int) -> int:
        """Return the dimension of a layer with this role that grows with width."""
        return fan_out if self is Role.INPUT else fan_in


_EXACT = instance(Fraction, called="exact, a fractions.Fraction")


BIASES = ("none", "input", "all")
"""Which layers of a network add biases."""


def layers_with_biases(biases: str, layers: int) -> int:
    """Return how many of so many layers, from the first on, add biases.

    Raises:
        ParametrizationError: `biases` is not one of `BIASES`.
    """
    if biases not in BIASES:
        raise ParametrizationError(
            f"biases is {biases!r}; it must be one of {', '.join(BIASES)}"
        )
    return {"none": 0, "input": 1, "all": layers}[biases]


@attrs.frozen
class Linear:
    r"""An exponent that depends on depth and place, `const + depth * L + layer * l`.

    $L$ is the number of hidden layers, and $l$ counts matrices from 1 to $L + 1$.
    """

    _refusal: ClassVar = ParametrizationError

    const: Fraction = attrs.field(converter=_EXACT)
    depth: Fraction = attrs.field(default=Fraction(0), converter=_EXACT)
    layer: Fraction = attrs.field(default=Fraction(0), converter=_EXACT)

    def at(self, depth: int, layer: int) -> Fraction:
        """Return the exponent of matrix `layer` in a network of that depth."""
        return self.const + self.depth * depth + self.layer * layer


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


@attrs.frozen
class Exponents:
    r"""The exponents of one role, and what happens to its weights at the first step.

    Attributes:
        a: multiplier $n^{-a}$.
        b: initial standard deviation $n^{-b}$.
        c: learning rate $\eta n^{-c}$ under SGD.
        c_first: exponent of the very first step, where it differs (IP-LLR).
        c_adam: learning-rate exponent under Adam and other entrywise-normalised
            updates, where the literature gives one.
        depth_multiplier: multiplier $L^{-p}$ in the number of hidden layers.
        depth_lr: learning rate $L^{-q}$ in the number of hidden layers.
        mean: initial mean $u$ in units of $n^{-b}$, as in $w = n^{-b} (z + u)$.
        retained: after the first step, initial weights shrink by $n^{-k}$ while the
            update stays, $W \leftarrow n^{-k} W_0 + \Delta W$: 0 leaves them as they
            are, and None takes all of them out (HP and HPZ of Hajjar et al. 2024).
        growth: what the layer gets more or less of where it is wider than the first.
    """

    _refusal: ClassVar = ParametrizationError

    a: Fraction = attrs.field(converter=_EXACT)
    b: Fraction = attrs.field(converter=_EXACT)
    c: Fraction = attrs.field(converter=_EXACT)
    c_first: Linear | None = attrs.field(
        default=None, converter=optional(instance(Linear))
    )
    c_adam: Fraction | None = attrs.field(default=None, converter=optional(_EXACT))
    depth_multiplier: Fraction = attrs.field(default=Fraction(0), converter=_EXACT)
    depth_lr: Fraction = attrs.field(default=Fraction(0), converter=_EXACT)
    mean: Fraction = attrs.field(default=Fraction(0), converter=_EXACT)
    retained: Fraction | None = attrs.field(
        default=Fraction(0), converter=optional(_EXACT)
    )
    growth: Growth = attrs.field(default=_NO_GROWTH, converter=instance(Growth))

    def shifted(self, theta: Fraction) -> Exponents:
        r"""Return $(a+\theta, b-\theta, c-2\theta)$: the same SGD training.

        Under Adam the learning rate moves by one $\theta$ only, since its update does
        not see the size of the gradient.
        """
        first = self.c_first
        return evolve(
            self,
            a=self.a + theta,
            b=self.b - theta,
            # The multiplier is in the gradient, and in what an update then does.
            c=self.c - 2 * theta,
            c_first=first and evolve(first, const=first.const - 2 * theta),
            c_adam=None if self.c_adam is None else self.c_adam - theta,
        )

    def effective(self) -> Exponents:
        r"""Return the member of the equivalence class without multiplier, $a = 0$.

        Its `b` is the exponent of the standard deviation of the matrix that multiplies
        the activations, and its `c` that of the learning rate on that matrix.
        """
        return self.shifted(-self.a)

    def first(self, depth: int, layer: int) -> Fraction:
        """Return the learning-rate exponent of the first step of matrix `layer`."""
        return self.c if self.c_first is None else self.c_first.at(depth, layer)

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values, with fractions as text.

        A row without growth is what it was before there was growth: stored results are
        found by their text.
        """
        row = {f.name: getattr(self, f.name) for f in attrs.fields(type(self))}
        # These hold several exponents each, and are written out below.
        del row["c_first"], row["growth"]
        out: dict[str, Any] = {k: None if v is None else str(v) for k, v in row.items()}
        first = self.c_first
        out["c_first"] = first and [
            str(first.const),
            str(first.depth),
            str(first.layer),
        ]
        if self.growth != _NO_GROWTH:
            growth = self.growth
            out["growth"] = [str(growth.b), str(growth.c_in), str(growth.c_out)]
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Exponents:
        """Read what `to_json` wrote."""
        row = dict(data)
        first = row.pop("c_first", None)
        growth = Growth(*map(Fraction, row.pop("growth", ())))
        numbers: dict[str, Any] = {
            k: None if v is None else Fraction(v) for k, v in row.items()
        }
        linear = first and Linear(*map(Fraction, first))
        return cls(c_first=linear, growth=growth, **numbers)
