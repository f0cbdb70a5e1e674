r"""Parametrizations of an MLP as data: tables of exact width exponents.

A layer's weights are $W = n^{-a} w$ with $w_{ij} \sim N(0, n^{-2b})$ and learning
rate $\eta n^{-c}$ on $w$ (the abc-parametrization of Yang and Hu, Tensor Programs IV,
Definition 2.1), one triple $(a, b, c)$ for each `Role`. The width $n$ of a layer is the
dimension that grows: fan-out for the input layer, fan-in for the others.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

HALF = Fraction(1, 2)


class ParametrizationError(ValueError):
    """A parametrization was asked for, or put together, that has no meaning."""


class Role(enum.StrEnum):
    """What a weight matrix does, which alone decides how it scales with width."""

    INPUT = "input"  # finite -> n
    HIDDEN = "hidden"  # n -> n
    OUTPUT = "output"  # n -> finite

    def width(self, fan_in: int, fan_out: int) -> int:
        """Return the dimension of a layer with this role that grows with width."""
        return fan_out if self is Role.INPUT else fan_in


@dataclass(frozen=True, slots=True)
class DepthLinear:
    r"""An exponent that depends on the number of hidden layers, `const + slope * L`."""

    const: Fraction
    slope: Fraction = Fraction(0)

    def at(self, depth: int) -> Fraction:
        """Return the exponent for a network with `depth` hidden layers."""
        return self.const + self.slope * depth


@dataclass(frozen=True, slots=True)
class Exponents:
    r"""The exponents of one role.

    Attributes:
        a: multiplier $n^{-a}$.
        b: initial standard deviation $n^{-b}$.
        c: learning rate $\eta n^{-c}$ under SGD.
        c_first: exponent of the very first step, where it differs (IP-LLR).
        c_adam: learning-rate exponent under Adam and other entrywise-normalised
            updates, where the literature gives one.
        depth_multiplier: multiplier $L^{-p}$ in the number of hidden layers.
        depth_lr: learning rate $L^{-q}$ in the number of hidden layers.
    """

    a: Fraction
    b: Fraction
    c: Fraction
    c_first: DepthLinear | None = None
    c_adam: Fraction | None = None
    depth_multiplier: Fraction = Fraction(0)
    depth_lr: Fraction = Fraction(0)

    def shifted(self, theta: Fraction) -> Exponents:
        r"""Return $(a+\theta, b-\theta, c-2\theta)$: the same SGD training.

        Under Adam the learning rate moves by one $\theta$ only, since its update does
        not see the size of the gradient.
        """
        first = self.c_first
        return replace(
            self,
            a=self.a + theta,
            b=self.b - theta,
            c=self.c - 2 * theta,
            c_first=first and DepthLinear(first.const - 2 * theta, first.slope),
            c_adam=None if self.c_adam is None else self.c_adam - theta,
        )

    def effective(self) -> Exponents:
        r"""Return the member of the equivalence class without multiplier, $a = 0$.

        Its `b` is the exponent of the standard deviation of the matrix that multiplies
        the activations, and its `c` that of the learning rate on that matrix.
        """
        return self.shifted(-self.a)

    def first(self, depth: int) -> Fraction:
        """Return the learning-rate exponent of the first step."""
        return self.c if self.c_first is None else self.c_first.at(depth)


@dataclass(frozen=True, slots=True)
class LayerScales:
    """The numbers that a layer is trained with.

    Attributes:
        std: initial standard deviation of the trained weights.
        multiplier: factor between the trained weights and the matrix in the forward
            pass.
        lr: learning rate of the trained weights.
        first_lr: learning rate of the first step.
    """

    std: float
    multiplier: float
    lr: float
    first_lr: float


@dataclass(frozen=True, slots=True)
class Parametrization:
    """A named table of exponents, one row for each role.

    Attributes:
        name: key in the catalogue.
        label: how figures and tables call it.
        exponents: the rows, as (role, exponents) pairs in the order of `Role`.
        max_depth: largest number of hidden layers for which it is defined.
        source: where the table stands in the literature.
    """

    name: str
    label: str
    exponents: tuple[tuple[Role, Exponents], ...]
    max_depth: int | None = None
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Refuse a table that lacks a role or names one twice."""
        roles = [role for role, _ in self.exponents]
        if roles != list(Role):
            raise ParametrizationError(
                f"parametrization {self.name!r} has rows {[str(r) for r in roles]}; "
                f"it needs exactly one row for each of {[str(r) for r in Role]}, "
                "in this order"
            )
        for role, row in self.exponents:
            for letter in "abc":
                if not isinstance(getattr(row, letter), Fraction):
                    raise ParametrizationError(
                        f"exponent {letter} of the {role} layer in {self.name!r} is "
                        f"{getattr(row, letter)!r}; exponents are exact: "
                        "give a fractions.Fraction"
                    )

    def __getitem__(self, role: Role) -> Exponents:
        """Return the exponents of a role."""
        return dict(self.exponents)[role]

    def shifted(self, theta: Mapping[Role, Fraction]) -> Parametrization:
        r"""Move each role by its own $\theta$ along the equivalence class."""
        rows = tuple(
            (r, e.shifted(theta.get(r, Fraction(0)))) for r, e in self.exponents
        )
        return replace(self, exponents=rows)

    def canonical(self) -> Parametrization:
        """Return the representative without multipliers ($a = 0$ for every role)."""
        return replace(
            self, exponents=tuple((r, e.effective()) for r, e in self.exponents)
        )

    def equivalent(self, other: Parametrization) -> bool:
        """Tell whether SGD trains the same functions under both tables."""
        return self.canonical().exponents == other.canonical().exponents

    def mutated(self, role: Role, **changes: Fraction) -> Parametrization:
        """Return a copy with some exponents of one role replaced, as a control."""
        rows = tuple(
            (r, replace(e, **changes) if r is role else e) for r, e in self.exponents
        )
        edits = ", ".join(f"{k}={v}" for k, v in changes.items())
        return replace(
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
        gain: float = 1.0,
        adam: bool = False,
    ) -> LayerScales:
        r"""Return what a layer of this role is trained with at a given size.

        With $s = n / n_0$ the width in units of the base width,

        $$\sigma = g\,\sigma_0 s^{-b}, \quad m = s^{-a} L^{-p}, \quad
          \eta_l = \eta s^{-c} L^{-q},$$

        where $\sigma_0 = n_0^{-1/2}$ for hidden and output layers and 1 for the input
        layer (inputs are taken to have norm of order one). All parametrizations
        coincide at $n = n_0$; with $n_0 = 1$ they are the pure exponents of the table.

        Args:
            role: role of the layer.
            fan_in: size of its input.
            fan_out: size of its output.
            lr: base learning rate $\eta$.
            base_width: width $n_0$ at which all parametrizations coincide.
            depth: number $L$ of hidden layers of the network.
            gain: factor $g$ on the initial standard deviation.
            adam: take the learning-rate exponents for entrywise-normalised updates.

        Raises:
            ParametrizationError: a size is not positive, the network is deeper than the
                table allows, or it has no exponents for Adam.

        Example:
            >>> mup = get("mup")
            >>> mup.scales(Role.OUTPUT, fan_in=256, fan_out=10, base_width=64).std
            0.0625
        """
        for what, size in (
            ("fan_in", fan_in),
            ("fan_out", fan_out),
            ("base_width", base_width),
            ("depth", depth),
        ):
            if size < 1:
                raise ParametrizationError(f"{what} is {size}; it must be at least 1")
        if self.max_depth is not None and depth > self.max_depth:
            raise ParametrizationError(
                f"{self.name!r} is defined for at most {self.max_depth} hidden "
                f"layer(s), not {depth}; deeper mean-field networks are 'ip' or "
                "'ip-llr'"
            )
        row = self[role]
        c, c_first = row.c, row.first(depth)
        if adam:
            if row.c_adam is None:
                allowed = [
                    k for k, p in catalogue().items() if p[role].c_adam is not None
                ]
                raise ParametrizationError(
                    f"no exponents for Adam are known for {self.name!r}; use SGD, or "
                    f"one of {allowed}"
                )
            c = c_first = row.c_adam
        s = role.width(fan_in, fan_out) / base_width
        base_std = 1.0 if role is Role.INPUT else base_width**-0.5
        slower = depth ** -float(row.depth_lr)
        return LayerScales(
            std=gain * base_std * s ** -float(row.b),
            multiplier=s ** -float(row.a) * depth ** -float(row.depth_multiplier),
            lr=lr * s ** -float(c) * slower,
            first_lr=lr * s ** -float(c_first) * slower,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain JSON values, with fractions as text."""
        rows = {}
        for role, e in self.exponents:
            first = e.c_first and [str(e.c_first.const), str(e.c_first.slope)]
            rows[str(role)] = {
                "a": str(e.a),
                "b": str(e.b),
                "c": str(e.c),
                "c_first": first,
                "c_adam": None if e.c_adam is None else str(e.c_adam),
                "depth_multiplier": str(e.depth_multiplier),
                "depth_lr": str(e.depth_lr),
            }
        return {
            "name": self.name,
            "label": self.label,
            "max_depth": self.max_depth,
            "exponents": rows,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Parametrization:
        """Read what `to_json` wrote."""
        rows = []
        for role in Role:
            e = dict(data["exponents"][str(role)])
            first = e.pop("c_first")
            numbers = {k: None if v is None else Fraction(v) for k, v in e.items()}
            linear = first and DepthLinear(*map(Fraction, first))
            rows.append((role, Exponents(c_first=linear, **numbers)))  # pyright: ignore[reportArgumentType]
        return cls(data["name"], data["label"], tuple(rows), data["max_depth"])


def _row(a: Any, b: Any, c: Any, c_adam: Any = None, first: Any = None) -> Exponents:
    linear = None if first is None else DepthLinear(*map(Fraction, first))
    adam = None if c_adam is None else Fraction(c_adam)
    return Exponents(Fraction(a), Fraction(b), Fraction(c), linear, adam)


def _make(
    name: str,
    label: str,
    rows: Iterable[Exponents],
    source: str,
    max_depth: int | None = None,
) -> Parametrization:
    return Parametrization(
        name, label, tuple(zip(Role, rows, strict=True)), max_depth, source
    )


def catalogue() -> dict[str, Parametrization]:
    """Return every parametrization by name, in the order in which tables print them."""
    tp4 = "Yang and Hu 2021, Tensor Programs IV"
    ip = "Hajjar, Chizat and Giraud 2024"
    half = HALF
    tables = (
        _make(
            "sp",
            "SP",
            (_row(0, 0, 0, 0), _row(0, half, 0, 0), _row(0, half, 0, 0)),
            f"{tp4}: standard parametrization, learning rate constant in width",
        ),
        _make(
            "sp-lr/n",
            "SP (lr/n)",
            (_row(0, 0, 1), _row(0, half, 1), _row(0, half, 1)),
            f"{tp4}: standard parametrization, largest stable learning rate",
        ),
        _make(
            "ntk",
            "NTP",
            (_row(0, 0, 0, half), _row(half, 0, 0, 1), _row(half, 0, 0, half)),
            "Jacot, Gabriel and Hongler 2018; for Adam, Tensor Programs IVb, 2.4.1",
        ),
        _make(
            "mean-field",
            "MF",
            (_row(0, 0, -1, 0), _row(1, 0, -2), _row(1, 0, -1, 0)),
            "mean-field parametrization, one hidden layer",
            max_depth=1,
        ),
        _make(
            "ip",
            "IP",
            (_row(0, 0, -1), _row(1, 0, -2), _row(1, 0, -1)),
            f"{ip}: integrable parametrization",
        ),
        _make(
            "ip-llr",
            "IP-LLR",
            (
                _row(0, 0, -1, first=(-half, -half)),
                _row(1, 0, -2, first=(-1, -half)),
                _row(1, 0, -1, first=(-half, -half)),
            ),
            f"{ip}: large learning rates at the first step",
        ),
        _make(
            "mup",
            "μP",
            (
                _row(-half, half, 0, half),
                _row(0, half, 0, 1),
                _row(half, half, 0, half),
            ),
            f"{tp4}: maximal update parametrization; for Adam, IVb, Def. 2.5.1",
        ),
    )
    return {p.name: p for p in tables}


def get(name: str) -> Parametrization:
    """Return a parametrization of the catalogue.

    Raises:
        ParametrizationError: there is none of that name.
    """
    tables = catalogue()
    if name not in tables:
        raise ParametrizationError(
            f"no parametrization is called {name!r}; there are {', '.join(tables)}"
        )
    return tables[name]


def table(names: Iterable[str] | None = None) -> str:
    r"""Print parametrizations as the literature does: $(a, b, c)$ for each role.

    Example:
        >>> print(table(["ntk", "mup"]))
        parametrization  input (a, b, c)   hidden (a, b, c)  output (a, b, c)
        NTP              (0, 0, 0)         (1/2, 0, 0)       (1/2, 0, 0)
        μP               (-1/2, 1/2, 0)    (0, 1/2, 0)       (1/2, 1/2, 0)
    """
    chosen = [get(name) for name in (catalogue() if names is None else names)]
    rows = [["parametrization", *(f"{role} (a, b, c)" for role in Role)]]
    rows += [
        [p.label, *(f"({e.a}, {e.b}, {e.c})" for _, e in p.exponents)] for p in chosen
    ]
    return "\n".join(f"{r[0]:<17}{r[1]:<18}{r[2]:<18}{r[3]}".rstrip() for r in rows)
