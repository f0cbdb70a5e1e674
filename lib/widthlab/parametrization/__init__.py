r"""Parametrizations of an MLP as data: tables of exact width exponents.

A layer's weights are $W = n^{-a} w$ with $w_{ij} \sim N(0, n^{-2b})$ and learning
rate $\eta n^{-c}$ on $w$ (the abc-parametrization of Yang and Hu, Tensor Programs IV,
Definition 2.1), one triple $(a, b, c)$ for each `Role`. The width $n$ of a layer is the
dimension that grows: fan-out for the input layer, fan-in for the others. `Growth` adds
what changes where the hidden layers are not all as wide as the first.
"""

from widthlab.parametrization.catalogue import catalogue, get, table
from widthlab.parametrization.exponents import Exponents, Linear, Role
from widthlab.parametrization.table import Parametrization

__all__ = [
    "Exponents",
    "Linear",
    "Parametrization",
    "Role",
    "catalogue",
    "get",
    "table",
]
