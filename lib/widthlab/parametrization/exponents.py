"""The table of exponents, and the numbers that it gives the layers of one network."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import attrs
from attrs import evolve

from widthlab.fields import count, instance, optional, several, text

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


# A vector of biases is a matrix that acts on the constant input 1. Behind the output
# layer it has finitely many entries, so nothing in it scales with width.
_ROWS = several(several(instance(Role, Exponents), length=2))
_OUTPUT_BIAS = Exponents(Fraction(0), Fraction(0), Fraction(0), c_adam=Fraction(0))


@attrs.frozen
class Parametrization:
    """A named table of exponents, one row for each role.

    Attributes:
        name: key in the catalogue.
        label: how figures and tables call it.
        exponents: the rows, as (role, exponents) pairs in the order of `Role`.
        bias: exponents of the biases of hidden layers; by default those of the input
            layer, since a vector of biases is a matrix that acts on the constant 1.
        max_depth: largest number of hidden layers for which it is defined.
        source: where the table stands in the literature.
    """

    _refusal: ClassVar = ParametrizationError

    name: str = attrs.field(converter=text())
    label: str = attrs.field(converter=text())
    exponents: tuple[tuple[Role, Exponents], ...] = attrs.field(converter=_ROWS)
    bias: Exponents | None = attrs.field(
        default=None, converter=optional(instance(Exponents))
    )
    max_depth: int | None = attrs.field(default=None, converter=optional(count()))
    source: str = attrs.field(
        default="", eq=False, converter=instance(str, called="a text")
    )

    def __attrs_post_init__(self) -> None:
        """Refuse a table that lacks a role or names one twice."""
        roles = [role for role, _ in self.exponents]
        if roles != list(Role):
            raise ParametrizationError(
                f"parametrization {self.name!r} has rows {[str(r) for r in roles]}; "
                f"it needs exactly one row for each of {[str(r) for r in Role]}, "
                "in this order"
            )

    def __getitem__(self, role: Role) -> Exponents:
        """Return the exponents of a role."""
        return dict(self.exponents)[role]

    def biases(self, role: Role) -> Exponents:
        """Return the exponents of the biases that are added behind a role's matrix."""
        if role is Role.OUTPUT:
            return evolve(_OUTPUT_BIAS, depth_lr=self[role].depth_lr)
        return self.bias or self[Role.INPUT].effective()

    def shifted(self, theta: Mapping[Role, Fraction]) -> Parametrization:
        r"""Move each role by its own $\theta$ along the equivalence class."""
        rows = tuple(
            (r, e.shifted(theta.get(r, Fraction(0)))) for r, e in self.exponents
        )
        return evolve(self, exponents=rows, bias=self.biases(Role.INPUT))

    def canonical(self) -> Parametrization:
        """Return the representative without multipliers ($a = 0$ for every role)."""
        return self.shifted({r: -e.a for r, e in self.exponents})

    def equivalent(self, other: Parametrization) -> bool:
        """Tell whether SGD trains the same functions under both tables."""
        mine, others = self.canonical(), other.canonical()
        return mine.exponents == others.exponents and mine.bias == others.bias

    def slowed(self, q: Fraction) -> Parametrization:
        r"""Return the table with learning rates $L^{-q}$ times these, as a control.

        $L$ is the number of hidden layers. All roles and all biases slow down alike.

        Example:
            >>> from widthlab.parametrization import get
            >>> get("mup").slowed(Fraction(3, 2)).name
            'mup[lr L^-3/2]'
        """
        if not isinstance(q, Fraction):
            raise ParametrizationError(
                f"q is {q!r}; exponents are exact: give a fractions.Fraction"
            )

        def slow(row: Exponents) -> Exponents:
            return evolve(row, depth_lr=row.depth_lr + q)

        return evolve(
            self,
            name=f"{self.name}[lr L^{-q}]",
            label=f"{self.label}, lr L^{-q}",
            exponents=tuple((role, slow(row)) for role, row in self.exponents),
            bias=self.bias and slow(self.bias),
        )

    def mutated(
        self, role: Role, **changes: Fraction | Linear | Growth | None
    ) -> Parametrization:
        """Return a copy with some exponents of one role replaced, as a control."""
        rows = tuple(
            (r, evolve(e, **changes) if r is role else e) for r, e in self.exponents
        )
        edits = ", ".join(f"{k}={v}" for k, v in changes.items())
        return evolve(
            self,
            name=f"{self.name}[{role}:{edits}]",
            label=f"{self.label}, {role} {edits}",
            exponents=rows,
        )

    def scales(
        self,
        role: Role,
        *,
        fan_in: int,
        fan_out: int,
        lr: float = 1.0,
        base_width: int = 1,
        depth: int = 1,
        layer: int = 1,
        gain: float = 1.0,
        adam: bool = False,
        bias: bool = False,
        first_width: int | None = None,
    ) -> LayerScales:
        r"""Return what a layer of this role is trained with at a given size.

        With $s = n / n_0$ the width in units of the base width,

        $$\sigma = g\,\sigma_0 s^{-b} \rho_b, \quad u = \sigma_0^2 s^{-b} \rho_b u_0,
          \quad m = s^{-a} L^{-p}, \quad \eta_l = \eta s^{-c} L^{-q} \rho_c,$$

        where $\sigma_0 = n_0^{-1/2}$ for hidden and output layers and 1 for the input
        layer (inputs are taken to have norm of order one) and for biases, and
        $\rho_b, \rho_c$ are the factors of the row's `Growth`, which depend on ratios
        of widths only. All parametrizations coincide where every width is $n_0$, but
        for a mean that is not zero; with $n_0 = 1$ they are the pure exponents of the
        table.

        Args:
            role: role of the layer.
            fan_in: size of its input.
            fan_out: size of its output.
            lr: base learning rate $\eta$.
            base_width: width $n_0$ at which all parametrizations coincide.
            depth: number $L$ of hidden layers of the network.
            layer: place of the layer, from 1 to $L + 1$.
            gain: factor $g$ on the initial standard deviation.
            adam: take the learning-rate exponents for entrywise-normalised updates.
            bias: return the scales of the layer's biases, not of its matrix.
            first_width: size of the first hidden layer; None where all are as wide.

        Raises:
            ParametrizationError: a size is not positive, the network is deeper than the
                table allows, or it has no exponents for Adam.

        Example:
            >>> from widthlab.parametrization import Role, get
            >>> mup = get("mup")
            >>> mup.scales(Role.OUTPUT, fan_in=256, fan_out=10, base_width=64).std
            0.0625
        """
        for what, size in (
            ("fan_in", fan_in),
            ("fan_out", fan_out),
            ("base_width", base_width),
            ("depth", depth),
            ("first_width", first_width),
        ):
            if size is not None and size < 1:
                raise ParametrizationError(f"{what} is {size}; it must be at least 1")
        if self.max_depth is not None and depth > self.max_depth:
            raise ParametrizationError(
                f"{self.name!r} is defined for at most {self.max_depth} hidden "
                f"layer(s), not {depth}; deeper mean-field networks are 'ip' or "
                "'ip-llr'"
            )
        row = self.biases(role) if bias else self[role]
        c, c_first = row.c, row.first(depth, layer)
        if adam:
            if row.c_adam is None:
                raise ParametrizationError(
                    f"no exponents for Adam are known for {self.name!r}; use SGD, or "
                    "a table whose rows give c_adam, such as 'mup' or 'ntk'"
                )
            c = c_first = row.c_adam
        # Biases have the width of the layer that they are added to.
        width = fan_out if bias else role.width(fan_in, fan_out)
        s = width / base_width
        plain = bias or role is Role.INPUT
        base_std = 1.0 if plain else base_width**-0.5
        kept = 0.0 if row.retained is None else s ** -float(row.retained)
        r_in = 1.0 if plain else fan_in / (first_width or fan_in)
        r_out = 1.0 if role is Role.OUTPUT else fan_out / (first_width or fan_out)
        wider, faster = row.growth.factors(r_in, r_out)
        spread = base_std * s ** -float(row.b) * wider
        slower = depth ** -float(row.depth_lr) * faster
        return LayerScales(
            std=gain * spread,
            mean=float(row.mean) * base_std * spread,
            multiplier=s ** -float(row.a) * depth ** -float(row.depth_multiplier),
            lr=lr * s ** -float(c) * slower,
            first_lr=lr * s ** -float(c_first) * slower,
            retained=kept,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain JSON values, with fractions as text."""
        return {
            "name": self.name,
            "label": self.label,
            "max_depth": self.max_depth,
            "exponents": {str(role): row.to_json() for role, row in self.exponents},
            "bias": self.bias and self.bias.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Parametrization:
        """Read what `to_json` wrote."""
        rows = data["exponents"]
        return cls(
            name=data["name"],
            label=data["label"],
            exponents=tuple((r, Exponents.from_json(rows[str(r)])) for r in Role),
            bias=Exponents.from_json(data["bias"]) if data.get("bias") else None,
            max_depth=data["max_depth"],
        )
