"""Experiments on the claims of Chen, Yang, Zhao and Gu 2025, in a set-up of our own.

The paper's widths, learning rates, batch sizes and numbers of steps are not known.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from widthlab.data import DataSpec
from widthlab.probes import Features
from widthlab.runs.experiment import Experiment

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
