"""The paper's own scale: runs that are specified, for whoever has the hours."""

from __future__ import annotations

from collections.abc import Iterator

from widthlab.papers.woodworth2020kernel.nets import Circle, Digits
from widthlab.runs import Computed

MNIST_SCALES = (1.0, 50.0, 10.0, 2.0, 5.0, 20.0, 0.1, 3.0, 4.0, 150.0, 500.0)
r"""$\alpha$ of Figure 6(c), the most telling first."""


def at_paper_scale() -> Iterator[Computed]:
    """Yield Figure 6(c) at 5,000 units on all of MNIST, then Figure 6(a, b) to depth 5.

    Plain and unbiased, three seeds, three rates: for `widthlab.sweep`. They have not
    been run. One scale and seed of the first is about 1.5 petaflop.
    """
    for seed in range(3):
        for scale in MNIST_SCALES:
            yield Digits(
                seed,
                (scale,),
                (0.5, 0.05, 0.01),
                width=5000,
                name="mnist",
                train=60_000,
                test=10_000,
                batch=256,
                epochs=100,
            )
    for depth, scales in (
        (2, (0.01, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 5.0)),
        (3, (0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5)),
        (5, (0.2, 0.5, 1.0, 1.5, 2.0, 2.4, 2.8)),
    ):
        yield Circle(tuple(range(50)), scales, depth=depth, share=0.01, most=4000)
