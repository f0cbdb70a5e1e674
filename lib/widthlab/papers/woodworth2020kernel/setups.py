"""The paper's own scale: runs for whoever has the hours, each a network of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from widthlab.papers.woodworth2020kernel.nets import ARMS, Circle, Digits
from widthlab.runs import Computed

CHAPTER = "06-kernel-and-rich-regimes"
"""The chapter that these runs belong to."""

MNIST_SCALES = (1.0, 50.0, 10.0, 2.0, 5.0, 20.0, 0.1, 3.0, 4.0, 150.0, 500.0)
r"""$\alpha$ of Figure 6(c), the most telling first."""

RATES = (0.5, 0.05, 0.01)
"""Learning rates that the paper names; which is best for a scale, it chooses."""

SHORT = (1, 2, 5)
"""Passes over the images in the runs that a CPU can do: ours, not the paper's."""

SHORT_SEEDS = (0, 1, 2)
"""Seeds of those runs: a CPU hour in all."""

LONG = (1, 2, 5, 10, 20, 50, 100)
"""Passes over the images after which training should be near its end."""


def mnist(
    seed: int, scale: float, arm: str, rate: float, epochs: tuple[int, ...]
) -> Digits:
    """Return one network of Figure 6(c): 5,000 units, all of MNIST, batches of 256.

    Args:
        seed: draws weights and order.
        scale: alpha.
        arm: "plain", "unbiased", "another's", or "last layer".
        rate: learning rate.
        epochs: passes after which errors are read.
    """
    last = arm == "last layer"
    return Digits(
        seed,
        () if last else (scale,),
        () if last else (arm,),
        (rate,),
        last_layer=last,
        width=5000,
        name="mnist",
        train=60_000,
        test=10_000,
        batch=256,
        epochs=epochs,
    )


def short(seed: int) -> Iterator[Digits]:
    """Yield five passes at scales 1 and 50: a third of a CPU hour for a seed.

    The second rate came after a look at the first.
    """
    yield mnist(seed, 1.0, "plain", RATES[0], SHORT)
    for arm in ARMS[:3]:
        yield mnist(seed, 50.0, arm, RATES[0], SHORT)
    for arm in ARMS[:2]:
        yield mnist(seed, 50.0, arm, RATES[1], SHORT)


def paper_tier() -> Iterator[Computed]:
    """Yield Figure 6(c), short and whole, and Figure 6(a, b) to depth 5.

    One network of Figure 6(c) is about 0.006 petaflop short, and 0.1 whole.
    """
    for seed in SHORT_SEEDS:
        yield from short(seed)
    for depth, scales in (
        (2, (0.01, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 5.0)),
        (3, (0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5)),
        (5, (0.2, 0.5, 1.0, 1.5, 2.0, 2.4, 2.8)),
    ):
        yield Circle(tuple(range(50)), scales, depth=depth, share=0.01, most=4000)
    for seed in range(3):
        for scale, arm in itertools.product(MNIST_SCALES, ARMS[:2]):
            for rate in RATES:
                yield mnist(seed, scale, arm, rate, LONG)
        for rate in RATES:
            yield mnist(seed, 1.0, "last layer", rate, LONG)
