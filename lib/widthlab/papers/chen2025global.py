"""Experiments on the claims of Chen, Yang, Zhao and Gu 2025, in a set-up of our own.

The paper's widths, learning rates, batch sizes and numbers of steps are not known. What
theory expects of them is here too: how far features move, and which errors remain where
the paper's assumptions do not hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from widthlab import parametrization as parametrizations
from widthlab import regimes
from widthlab.data import DataSpec
from widthlab.parametrization import Role
from widthlab.probes import Features
from widthlab.runs.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

CHAPTER = "01-mup-global-convergence"
"""The chapter that these runs belong to."""

FOUR = ("sp-lr/n", "ntk", "ip", "mup")
"""The parametrizations that the paper compares."""

LR = 0.5
"""Base learning rate where all four coincide at a base width of 64."""

PURE_LR = {"sp-lr/n": 40.0, "ntk": 4.0, "ip": 4.0, "mup": 4.0}
"""Base learning rates with pure exponents; those of SP are divided by the width."""


WIDTHS = tuple(2**k for k in range(6, 14))
"""Widths of the paper tier."""

SEEDS = range(5)
"""Seeds of the paper tier."""

DATA = ("mnist", "cifar10")
"""Data sets of the paper tier."""


def paper_tier() -> Iterator[Experiment]:
    """Yield the live tier's comparison at widths to 8192, on MNIST and CIFAR-10.

    Narrow networks come first, then one seed after the other: a tier that is cut short
    has all parametrizations at the widths that it has.
    """
    narrow = [width for width in WIDTHS if width <= 1024]
    wide = [width for width in WIDTHS if width > 1024]
    for widths in (narrow, wide):
        for name, seed in itertools.product(DATA, SEEDS):
            for width, (arm, p) in itertools.product(
                widths, itertools.product(("base width", "pure exponents"), FOUR)
            ):
                yield experiment(name, arm, p, width, seed)
    # One cheap run on images that come with the environment, for anyone to repeat.
    yield experiment("mnist-5k", "base width", "mup", 64, 0)


def experiment(
    data: str, arm: str, parametrization: str, width: int, seed: int
) -> Experiment:
    """Return one run of the paper tier; an arm says at which width all coincide."""
    based = arm == "base width"
    return Experiment(
        data=DataSpec(data, targets="labels"),
        parametrization=parametrization,
        width=width,
        lr=LR if based else PURE_LR[parametrization],
        seed=seed,
        batch_size=256,
        steps=1950,
        checkpoints=(0, 30, 195, 1950),
        base_width=64 if based else 1,
        probes=(Features(inputs=16),),
    )


def relative_change(depth: int) -> dict[tuple[str, int], float]:
    r"""Return exponents of $\|\Delta h^l\| / \|h^l_0\|$ by parametrization and layer.

    IP moves only once it has left its plateau. Then its sizes are those of IP-LLR,
    whose first step leaves it at once.

    Args:
        depth: number $L$ of hidden layers.

    Example:
        >>> change = relative_change(depth=3)
        >>> [change[name, 2] for name in FOUR]
        [-0.5, -0.5, 0.5, 0.0]
    """
    change = {}
    for name in FOUR:
        moving = parametrizations.get("ip-llr" if name == "ip" else name)
        exponents = regimes.classify(moving, depth).relative_change
        change |= {(name, layer): float(e) for layer, e in enumerate(exponents, 1)}
    return change


def initial_speed(name: str, depth: int) -> float:
    r"""Return the exponent of the rate at which the loss begins to fall.

    For small learning rates that is
    $\sum_l \eta_l \|\partial\mathcal{L} / \partial W^l\|_F^2$ at initialisation, and
    it is zero where training starts at a stationary point.

    Args:
        name: of the parametrization.
        depth: number $L$ of hidden layers.

    Example:
        >>> [initial_speed("ip", depth) for depth in (2, 3, 4)]
        [0.0, -1.0, -2.0]
        >>> initial_speed("mup", 4)
        0.0
    """
    table = parametrizations.get(name)
    roles = [Role.INPUT] + [Role.HIDDEN] * (depth - 1) + [Role.OUTPUT]
    updates = regimes.classify(table, depth).first_update
    # An update is a rate n^(-c) times a gradient: u = g - c, and 2 g - c = 2 u + c.
    return float(
        max(
            2 * update + table[role].effective().c
            for role, update in zip(roles, updates, strict=True)
        )
    )


def exponents(frame: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Return least-squares exponents in width: a row a replication, a column a case.

    `widthlab.claims.slope` is their mean with an interval. They are for endpoints that
    take the largest or the least of several cases in each replication.

    Args:
        frame: one value for each case, replication and width.
        by: column or columns that tell cases apart.

    Raises:
        ValueError: a run is missing, or appears twice.

    Example:
        >>> import pandas as pd
        >>> rows = [(n, s, "a", n**-0.5 * (1 + s)) for n in (64, 128) for s in (0, 1)]
        >>> runs = pd.DataFrame(rows, columns=["width", "seed", "layer", "value"])
        >>> exponents(runs, "layer")["a"].round(6).tolist()
        [-0.5, -0.5]
    """
    cases = [by] if isinstance(by, str) else list(by)
    table = frame.pivot(index=["seed", *cases], columns="width", values="value")
    if table.isna().any(axis=None):
        raise ValueError(
            f"runs are missing at some of the widths {[*table.columns]}; an exponent "
            "is one replication's over all of them"
        )
    x = np.log(table.columns.to_numpy(dtype=float))
    x -= x.mean()
    return (np.log(table) @ (x / (x @ x))).unstack(cases)


def error_of_pairs(data: DataSpec) -> float:
    r"""Return the largest error that the best fit of paired inputs leaves.

    A network gives both inputs of a pair one output, up to its sign where the inputs
    are antipodal and the network is odd (no biases, an odd activation). On targets
    $y, y'$ the best fit leaves $\|y - y'\| / 2$, or $\|y + y'\| / 2$, on each.

    Args:
        data: of the variant "duplicate" or "antipodal", whose second half pairs with
            the first.

    Raises:
        ValueError: the variant has no pairs.
    """
    signs = {"duplicate": -1.0, "antipodal": 1.0}
    if data.variant not in signs:
        raise ValueError(
            f"inputs of the variant {data.variant!r} are not paired; take one of "
            f"{', '.join(signs)}"
        )
    first, second = np.split(data.load().y_train.astype(float), 2)
    both = first + signs[data.variant] * second
    return float(np.linalg.norm(both, axis=1).max() / 2)


def linear_error(data: DataSpec) -> float:
    """Return the largest error of least squares, the best that linear networks can do.

    Directions along which inputs vary by less than a millionth of the most count as
    none: centred inputs are linearly dependent, up to the rounding of float32.
    """
    loaded = data.load()
    x, y = loaded.x_train, loaded.y_train
    solution = np.linalg.lstsq(x, y, rcond=1e-6)[0]
    return float(np.linalg.norm(x @ solution - y, axis=1).max())
