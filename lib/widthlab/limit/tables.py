r"""The numbers of a table that decide its limit: rates, gains, and what is kept.

Of a matrix $W = m w$ with standard deviation $\sigma$ and learning rate $\eta_w$ of
$w$, the limit of infinite width $n$ knows

$$g_1 = m\sigma, \quad g_h = m \sigma \sqrt n, \quad g_o = m \sigma n, \qquad
  \eta_1 = m^2 \eta_w / n, \quad \eta_h = m^2 \eta_w, \quad \eta_o = n\, m^2 \eta_w$$

for the input layer, hidden layers and the read-out. They are read off
`Parametrization.scales` at two widths; what grows between them has no limit, and what
vanishes is 0 in it.
"""

from __future__ import annotations

import math
from typing import ClassVar

import attrs
import numpy as np
from jaxtyping import Float

from widthlab import activations
from widthlab.activations import abrelu_slopes
from widthlab.fields import choice, count, instance, known, number, several, truth
from widthlab.parametrization import Parametrization, Role
from widthlab.parametrization.scales import LayerScales
from widthlab.regimes import Regime, classify

KINDS = ("features", "kernel")
"""Kinds of limit: features that move, or gradient descent with a constant kernel."""

_HOMOGENEOUS = ("relu", "linear", "abs")  # and all (a, b)-ReLUs
_FIRST, _SECOND = 2**12, 2**18  # in units of the base width: powers of it are exact
_SIZES = several(number(least=0), least=2)
_TABLE = instance(
    Parametrization, called='a Parametrization, such as parametrization.get("mup")'
)
_COUNT, _RATE = count(), number(above=0)
_ACTIVATION = known(lambda name: activations.get(name).name, "a name")
_GAINS = several(number(least=0), length=3)


class LimitError(ValueError):
    """There is no limit of infinite width, or none that is computed here."""


@attrs.frozen(kw_only=True)
class Canonical:
    r"""What a limit of infinite width depends on, a number for each of $L+1$ matrices.

    Attributes:
        kind: "features" or "kernel".
        gains: $g$, from the input layer to the read-out. Of a kernel, the read-out's
            is $m \sigma \sqrt n$, the standard deviation of outputs at the start in
            units of the last layer's features; 0 where they vanish with width.
        rates: $\eta$. Of a kernel, what each matrix adds to it:
            $m^2 \eta_w g_o^2$ of the input layer, and $n\, m^2 \eta_w$ times $g_o^2$ of
            a hidden one and times 1 of the read-out.
        first_rates: the same at the first step.
        keeps: whether initial hidden weights are there after the first step.
    """

    _refusal: ClassVar = LimitError

    kind: str = attrs.field(default="features", converter=choice(KINDS))
    gains: tuple[float, ...] = attrs.field(converter=_SIZES)
    rates: tuple[float, ...] = attrs.field(converter=_SIZES)
    first_rates: tuple[float, ...] = attrs.field(converter=_SIZES)
    keeps: bool = attrs.field(default=True, converter=truth())

    def __attrs_post_init__(self) -> None:
        """Refuse numbers that are not of one network."""
        sizes = {len(self.gains), len(self.rates), len(self.first_rates)}
        if len(sizes) > 1:
            raise LimitError(
                f"gains, rates and first_rates are of {sorted(sizes)} matrices; each "
                "has one number for every matrix, the read-out included"
            )

    @property
    def depth(self) -> int:
        """Number $L$ of hidden layers."""
        return len(self.gains) - 1


def canonical(
    parametrization: Parametrization,
    *,
    depth: int,
    activation: str = "tanh",
    lr: float = 1.0,
    base_width: int = 1,
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Canonical:
    r"""Return the numbers that the limit of a table depends on, if it has one.

    A base width $n_0$ is a *laziness*: for μP the numbers are
    $\eta_1 = \eta / n_0$, $\eta_h = \eta$, $\eta_o = \eta n_0$ and
    $g_o = g \sqrt{n_0}$.

    Hidden weights that vanish at the start, as those of integrable parametrizations do,
    are those of a table that drops them after its first step (`keeps`) if the
    activation is positively homogeneous: their size comes out of every layer and goes
    into the rates of the first step (Hajjar, Chizat and Giraud 2024 for IP-LLR and
    HPZ). For other activations that is not so, and no limit is computed.

    Args:
        parametrization: the table.
        depth: number $L$ of hidden layers.
        activation: name of the nonlinearity.
        lr: base learning rate $\eta$.
        base_width: $n_0$.
        gains: factors on the initial standard deviation of the three roles.

    Raises:
        LimitError: the table has no limit of infinite width in which anything moves, or
            one that is not computed here. It says why.
        ValueError: an argument is not what it must be.

    Example:
        >>> from widthlab import parametrization
        >>> lazy = canonical(parametrization.get("mup"), depth=2, lr=0.5, base_width=16)
        >>> lazy.rates, lazy.gains
        ((0.03125, 0.5, 8.0), (1.0, 1.0, 4.0))
    """
    table = _TABLE.take("parametrization", parametrization)
    name = table.name
    depth = _COUNT.take("depth", depth)
    activation = _ACTIVATION.take("activation", activation)
    lr = _RATE.take("lr", lr)
    base_width = _COUNT.take("base_width", base_width)
    gains = _GAINS.take("gains", gains)

    def at(width: int) -> list[LayerScales]:
        sizes = {"fan_in": width, "fan_out": width, "base_width": base_width}
        roles = [Role.INPUT] + [Role.HIDDEN] * (depth - 1) + [Role.OUTPUT]
        rows = zip(roles, (gains[list(Role).index(r)] for r in roles), strict=True)
        return [
            table.scales(role, **sizes, lr=lr, depth=depth, layer=layer, gain=gain)
            for layer, (role, gain) in enumerate(rows, 1)
        ]

    widths = (base_width * _FIRST, base_width * _SECOND)
    tables = [at(width) for width in widths]
    verdict = classify(table, depth)
    if verdict.regime in (Regime.UNSTABLE, Regime.TRIVIAL):
        grows = {"unstable": "something grows with width", "trivial": "nothing moves"}
        raise LimitError(
            f"{name!r} is {verdict.regime} with {depth} hidden layer(s): in the limit "
            f"of infinite width {grows[verdict.regime]} (regimes.classify)"
        )
    if any(row.mean for row in tables[0]):
        raise LimitError(
            f"weights of {name!r} have a mean that is not zero; the limit is computed "
            "for centred weights"
        )
    if verdict.regime is Regime.KERNEL:
        return _kernel(name, widths, tables)
    return _features(name, widths, tables, activation, at(base_width))


def _features(
    name: str,
    widths: tuple[int, int],
    tables: list[list[LayerScales]],
    activation: str,
    base: list[LayerScales],
) -> Canonical:
    """Return the numbers of a limit in which features move."""
    depth = len(base) - 1
    powers = np.array([0.0] + [0.5] * (depth - 1) + [1.0])
    gains, shrunk = _gains(widths, tables, powers), []
    _refuse_vanishing(name, widths, [g[:1] for g in gains])
    # How much smaller hidden weights are than at the base width, where all tables agree
    # (but for a share that shrinks later): 1 in the class of μP.
    at_base = np.array([r.multiplier * r.std for r in base])[1:-1]
    size = at_base * math.sqrt(widths[0] / _FIRST)
    for g in gains:
        shrunk.append(np.where(size > 0, g[1:-1] / np.where(size > 0, size, 1), 1))
        g[1:-1] /= shrunk[-1]
    vanish = bool(np.any(_limits(name, widths, shrunk) == 0))
    if vanish and not (activation in _HOMOGENEOUS or abrelu_slopes(activation)):
        raise LimitError(
            f"hidden weights of {name!r} vanish at the start; its limit is computed "
            "for positively homogeneous activations, such as 'relu', and not for "
            f"{activation!r}, which its first step would see at zero only"
        )
    keeps = _keeps(name, widths, tables) and not vanish
    rates, first = (
        [_rates(t, n, which) for t, n in zip(tables, widths, strict=True)]
        for which in ("lr", "first_lr")
    )
    for f, s in zip(first, shrunk, strict=True):
        # A gradient has the size of all hidden layers but its own.
        f *= np.prod(s) / np.concatenate([[1.0], s, [1.0]])
    found = Canonical(
        gains=tuple(_limits(name, widths, gains)),
        rates=tuple(_limits(name, widths, rates)),
        first_rates=tuple(_limits(name, widths, first)),
        keeps=keeps,
    )
    if not keeps and 0 in found.first_rates[1:-1]:
        raise LimitError(
            f"hidden weights of {name!r} vanish, and some do not move in the first "
            "step: signals behind them vanish too, and their signs have no limit"
        )
    return found


def _keeps(name: str, widths: tuple[int, int], tables: list[list[LayerScales]]) -> bool:
    """Return whether hidden weights are there after the first step, all or none."""
    kept = _limits(name, widths, [np.array([r.retained for r in t]) for t in tables])
    if kept[0] != 1 or kept[-1] != 1 or len({*kept[1:-1]} | {0.0, 1.0}) > 2:
        raise LimitError(
            f"{name!r} shrinks initial weights otherwise than by taking out all hidden "
            "ones in the limit"
        )
    if len({*kept[1:-1]}) > 1:
        raise LimitError(f"{name!r} keeps some of its hidden weights and drops others")
    return bool(np.all(kept == 1))


def _gains(
    widths: tuple[int, int],
    tables: list[list[LayerScales]],
    powers: Float[np.ndarray, " matrices"],
) -> list[Float[np.ndarray, " matrices"]]:
    """Return sizes of initial matrices, times powers of the width, at both widths."""
    return [
        np.array([r.multiplier * r.std for r in t]) * float(n) ** powers
        for t, n in zip(tables, widths, strict=True)
    ]


def _refuse_vanishing(
    name: str, widths: tuple[int, int], gains: list[Float[np.ndarray, " some"]]
) -> None:
    """Refuse gains that vanish as the width grows."""
    if np.any((_limits(name, widths, gains) == 0) & (gains[0] > 0)):
        raise LimitError(
            f"signals of {name!r} vanish at the start as the width grows: its limit is "
            "not computed"
        )


def _kernel(
    name: str, widths: tuple[int, int], tables: list[list[LayerScales]]
) -> Canonical:
    """Return the numbers of a limit in which features stay."""
    depth = len(tables[0]) - 1
    if any(r.retained != 1 for r in tables[0]):
        raise LimitError(f"{name!r} drops initial weights and has a kernel's limit")
    powers = np.array([0.0] + [0.5] * depth)
    gains = _gains(widths, tables, powers)
    _refuse_vanishing(name, widths, [g[:-1] for g in gains])
    units = [np.array([n, *[n] * (depth - 1), 1.0]) for n in widths]
    rates, first = (
        [
            # Every backward signal has the read-out's size, but in its own gradient.
            _rates(t, n, which) * u * np.array([g[-1] ** 2] * depth + [1.0])
            for t, n, u, g in zip(tables, widths, units, gains, strict=True)
        ]
        for which in ("lr", "first_lr")
    )
    return Canonical(
        kind="kernel",
        gains=tuple(_limits(name, widths, gains)),
        rates=tuple(_limits(name, widths, rates)),
        first_rates=tuple(_limits(name, widths, first)),
    )


def _rates(
    table: list[LayerScales], width: int, which: str
) -> Float[np.ndarray, " matrices"]:
    """Return the rates on matrices, in the units of a limit in which features move."""
    units = np.array([1 / width, *[1.0] * (len(table) - 2), float(width)])
    return units * np.array([r.multiplier**2 * getattr(r, which) for r in table])


def _limits(
    name: str, widths: tuple[int, int], values: list[Float[np.ndarray, " some"]]
) -> Float[np.ndarray, " some"]:
    """Return powers of the width at infinity: a constant, or 0."""
    first, second = values
    there = (first > 0) & (second > 0)
    grown = np.log(np.where(there, second / np.where(there, first, 1), 1))
    exponents = grown / math.log(widths[1] / widths[0])
    if np.any(exponents > 1e-9):
        raise LimitError(
            f"a number of {name!r} on which its limit depends grows as the width to "
            f"the {exponents.max():.3g}: it is of no class whose limit is computed here"
        )
    return np.where(exponents < -1e-9, 0.0, first)
