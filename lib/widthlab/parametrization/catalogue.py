"""The parametrizations of the literature, by name."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from attrs import evolve

from widthlab.parametrization.exponents import (
    HALF,
    Exponents,
    Growth,
    Linear,
    ParametrizationError,
    Role,
)
from widthlab.parametrization.table import Parametrization


def _row(a: Any, b: Any, c: Any, c_adam: Any = None, **more: Any) -> Exponents:
    return Exponents(
        Fraction(a),
        Fraction(b),
        Fraction(c),
        c_adam=None if c_adam is None else Fraction(c_adam),
        **more,
    )


def _growth(b: Any = 0, c_in: Any = 0, c_out: Any = 0) -> Growth:
    return Growth(Fraction(b), Fraction(c_in), Fraction(c_out))


def _nup(name: str, label: str, update: int) -> Parametrization:
    r"""Return νP, whose updates shrink like the given power of a layer's own width.

    Row by row: $\gamma = n_1^{-1/2}$ in $f = \gamma z^{L+1}$, and the rate
    $\eta \nu_l / \gamma^2$ of standard normal weights behind $n_{l-1}^{-1/2}$, with
    $\nu_l$ that power of $n_1 / n_l$ ($n_1 / n_L$ for the output), become the powers
    of $r$ by which the matrices themselves differ from μP's.
    """
    half = HALF
    rows = (
        # The first layer is as wide as itself: this is for the biases of later layers.
        _row(-half, half, 0, growth=_growth(c_out=1 + update)),
        _row(0, half, 0, growth=_growth(c_in=1, c_out=update)),
        _row(half, half, 0, growth=_growth(b=-half, c_in=update)),
    )
    return _make(name, label, rows, "Terjék 2025, as reconstructed here")


def _first(const: Any, depth: Any, layer: Any = 0) -> Linear:
    return Linear(Fraction(const), Fraction(depth), Fraction(layer))


def _make(
    name: str,
    label: str,
    rows: Iterable[Exponents],
    source: str,
    max_depth: int | None = None,
    bias: Exponents | None = None,
) -> Parametrization:
    table = tuple(zip(Role, rows, strict=True))
    return Parametrization(name, label, table, bias, max_depth, source)


def catalogue() -> dict[str, Parametrization]:
    """Return every parametrization by name, in the order in which tables print them."""
    return dict(_catalogue())


@functools.cache  # every specification looks its table up
def _catalogue() -> Mapping[str, Parametrization]:
    tp4 = "Yang and Hu 2021, Tensor Programs IV"
    ip = "Hajjar, Chizat and Giraud 2024"
    half = HALF
    mup = (_row(-half, half, 0, half), _row(0, half, 0, 1), _row(half, half, 0, half))
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
                _row(0, 0, -1, c_first=_first(-half, -half)),
                _row(1, 0, -2, c_first=_first(-1, -half)),
                _row(1, 0, -1, c_first=_first(-half, -half)),
            ),
            f"{ip}: large learning rates at the first step",
        ),
        _make(
            "ip-bias",
            "IP-bias",
            (
                _row(0, 0, -1, c_first=_first(-half, -half)),
                _row(1, 0, -2, c_first=_first(-2, -half, half)),
                _row(1, 0, -1),
            ),
            f"{ip}: large learning rates at the first step, for networks with biases",
            bias=_row(0, 0, -1, c_first=_first(-1, -half, half)),
        ),
        _make(
            "ip-non-centred",
            "IP-non-centred",
            (
                _row(0, 0, -1),
                _row(1, 0, -2, mean=Fraction(1)),
                _row(1, 0, -1, mean=Fraction(1)),
            ),
            f"{ip}: integrable parametrization whose weights start with mean one",
        ),
        _make("mup", "μP", mup, f"{tp4}: maximal update; for Adam, IVb, Def. 2.5.1"),
        _make(
            "hp",
            "HP",
            (mup[0], evolve(mup[1], retained=half), mup[2]),
            f"{ip}: μP whose hidden weights shrink to IP's after the first step",
        ),
        _make(
            "hpz",
            "HPZ",
            (mup[0], evolve(mup[1], retained=None), mup[2]),
            f"{ip}: μP whose hidden weights keep only their first update",
        ),
        _nup("nup", "νP", 0),
        _nup("nup-normalised", "νP (normalised)", 1),
    )
    return {p.name: p for p in tables}


def get(name: str) -> Parametrization:
    """Return a parametrization of the catalogue.

    Raises:
        ParametrizationError: there is none of that name.
    """
    tables = _catalogue()
    if name not in tables:
        raise ParametrizationError(
            f"no parametrization is called {name!r}; there are {', '.join(tables)}"
        )
    return tables[name]


def table(names: Iterable[str] | None = None) -> str:
    r"""Print parametrizations as the literature does: $(a, b, c)$ for each role.

    That is for constant width: what a row's `Growth` adds is not shown.

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
