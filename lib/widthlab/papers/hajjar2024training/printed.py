"""Accuracies that Hajjar, Chizat and Giraud 2024 print, and ours beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from widthlab.papers.hajjar2024training.setups import ACTIVATIONS, MODELS, TRIALS

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = {
    ("mnist", "ip"): (0.098, 0.098, 0.098, 0.098),
    ("mnist", "ip-llr"): (0.113, 0.956, 0.964, 0.932),
    ("mnist", "mup"): (0.954, 0.975, 0.928, 0.905),
    ("cifar10", "ip-llr"): (0.100, 0.329, 0.383, 0.284),
    ("cifar10", "mup"): (0.407, 0.419, 0.356, 0.304),
}
"""Test accuracies, for the activations in their order (Tables 3 to 5)."""

PUBLISHED_BEST = {
    ("mnist", "ip-bias"): 0.113,
    ("mnist", "ip-non-centred"): 0.209,
    ("cifar10", "ip-bias"): 0.100,
    ("cifar10", "ip-non-centred"): 0.154,
}
"""Test accuracies of the best activation, where no others are printed (Table 6)."""

CIFAR10_TRIALS = {
    ("ip-llr", "gelu"): (0.310, 0.342, 0.357, 0.341, 0.295),
    ("ip-llr", "elu"): (0.390, 0.377, 0.362, 0.395, 0.391),
    ("ip-llr", "tanh"): (0.307, 0.273, 0.315, 0.237, 0.286),
    ("mup", "relu"): (0.402, 0.404, 0.414, 0.401, 0.414),
    ("mup", "gelu"): (0.412, 0.413, 0.436, 0.411, 0.426),
}
"""Test accuracies of single trials on CIFAR-10, from the authors' notebooks."""

BEST = "best activation"
"""Place of the best activation's accuracy, where no others are printed."""


def printed(images: str) -> dict[tuple[str, str], float]:
    """Return the printed accuracies on a data set by model and activation.

    >>> accuracies = printed("mnist")
    >>> accuracies["mup", "relu"], accuracies["ip-bias", BEST]
    (0.954, 0.113)
    """
    every = {
        (model, activation): accuracy
        for (data, model), accuracies in PUBLISHED.items()
        if data == images
        for activation, accuracy in zip(ACTIVATIONS, accuracies, strict=True)
    }
    best = {(m, BEST): v for (data, m), v in PUBLISHED_BEST.items() if data == images}
    return every | best


def beside(
    trials: Mapping[tuple[str, str], Sequence[float] | np.ndarray], images: str
) -> pd.DataFrame:
    r"""Return the accuracies of our trials beside the printed means.

    Their spread is not printed. Both samples get that of ours, so that differences come
    in units of $s\,(1 / n + 1 / 5)^{1/2}$.

    Args:
        trials: by model and activation; some may be missing.
        images: data set of the printed tables.

    Returns:
        One row for each model and activation; NaN where something is not known.
    """
    import pandas as pd

    known = printed(images)
    rows = []
    for place in [(m, a) for m in MODELS for a in ACTIVATIONS]:
        ours = np.asarray(trials.get(place, ()), float)
        n = len(ours)
        mean = ours.mean() if n else np.nan
        spread = ours.std(ddof=1) * (1 / n + 1 / TRIALS) ** 0.5 if n > 1 else np.nan
        difference = mean - known.get(place, np.nan)
        rows.append(
            {
                "model": place[0],
                "activation": place[1],
                "printed": known.get(place, np.nan),
                "ours": mean,
                "trials": n,
                "lowest": ours.min() if n else np.nan,
                "highest": ours.max() if n else np.nan,
                "difference": difference,
                "in spreads": difference / spread if spread else np.nan,
            }
        )
    return pd.DataFrame(rows)
