"""Experiments on the claims of Chen, Yang, Zhao and Gu 2025, in a set-up of our own.

The paper's widths, learning rates, batch sizes and numbers of steps are not known.
"""

from __future__ import annotations

from collections.abc import Iterator

from widthlab.data import DataSpec
from widthlab.experiment import Experiment
from widthlab.probes import Features

FOUR = ("sp-lr/n", "ntk", "ip", "mup")
"""The parametrizations that the paper compares."""

LR = 0.5
"""Base learning rate where all four coincide at a base width of 64."""

PURE_LR = {"sp-lr/n": 40.0, "ntk": 4.0, "ip": 4.0, "mup": 4.0}
"""Base learning rates with pure exponents; those of SP are divided by the width."""


def paper_tier() -> Iterator[Experiment]:
    """Yield the live tier's comparison at widths to 8192, on CIFAR-10 and MNIST."""
    for name in ("cifar10", "mnist"):
        for parametrization in FOUR:
            for lr, base_width in ((LR, 64), (PURE_LR[parametrization], 1)):
                for width in (2**k for k in range(6, 14)):
                    for seed in range(5):
                        yield Experiment(
                            data=DataSpec(name, targets="labels"),
                            parametrization=parametrization,
                            width=width,
                            lr=lr,
                            seed=seed,
                            batch_size=256,
                            steps=1950,
                            checkpoints=(0, 30, 195, 1950),
                            base_width=base_width,
                            probes=(Features(inputs=16),),
                        )
