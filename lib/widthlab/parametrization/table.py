"""A parametrization as a table: a row of exponents for each role, and more rules."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar

import attrs
from attrs import evolve

from widthlab.fields import count, instance, optional, several, text
from widthlab.parametrization.exponents import (
    Exponents,
    Growth,
    Linear,
    ParametrizationError,
    Role,
)
from widthlab.parametrization.scales import LayerScales

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
