"""Numbers of the authors' figures, read off the vector graphics in their repository.

From the figure files of `juho-lee/asymmetrical_scaling`, to about a thousandth of an
axis; means over five starts on one data set. Which of them became which figure of the
paper is not known to us. Each row has the models in the order of `scaling.MODELS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

STARTS = 5
"""Starts behind each printed mean."""

SIMULATED = {
    "least eigenvalue, end": (0.003755, 0.003069, 0.001483, 0.000215),
    "root of kernel change": (0.0276, 0.1044, 0.1787, 0.2221),
    "train risk, t = 15,000": (6.2e-4, 9.1e-4, 3.9e-3, 0.0141),
    "train risk, end": (1.5e-6, 4.7e-6, 1.4e-4, 3.1e-3),
    "test risk, end": (0.0377, 0.0414, 0.0424, 0.0476),
    "node that moved most": (0.919, 7.42, 11.5, 24.4),
}
"""The simulated task, at its end (50,000 steps) unless a time is given."""

MNIST_PRUNED = {
    100: (0.877, 0.881, 0.854, 0.760),
    600: (0.775, 0.815, 0.819, 0.760),
    900: (0.653, 0.758, 0.777, 0.759),
    1500: (0.391, 0.582, 0.587, 0.759),
    1700: (0.290, 0.511, 0.519, 0.759),
}
"""Test accuracy on MNIST by nodes dropped, of 2,000."""

MNIST_TRANSFER = {
    10: (0.27, 0.48, 0.61, 0.85),
    20: (0.34, 0.67, 0.76, 0.90),
    50: (0.48, 0.81, 0.84, 0.90),
    100: (0.66, 0.86, 0.85, 0.90),
}
"""Test accuracy of a head on the features of greatest mass, by their number."""

UCI_PRUNED = {
    "concrete": (0.92, 1.10, 0.74, 0.175),
    "energy": (0.91, 1.07, 0.27, 0.030),
    "airfoil": (1.20, 1.12, 1.22, 0.337),
    "plant": (0.55, 0.43, 0.30, 0.062),
}
"""Test risk with 1,700 of 2,000 nodes dropped; 1 is the risk of no network at all."""


def beside(
    ours: Mapping[str, Sequence[Sequence[float]]],
    printed: Mapping[str, Sequence[float]],
    models: Sequence[str],
) -> pd.DataFrame:
    r"""Return medians and quartiles of ours beside printed means.

    The spread behind the printed numbers is that of five starts on one data set, and
    not known to us; ours is of starts and data sets. Differences of logarithms come in
    units of our log-spread $s$ times $(1/n + 1/5)^{1/2}$.

    Args:
        ours: for each quantity, the values of each model's runs.
        printed: for each quantity, the printed values of the models.
        models: names of the models.
    """
    import pandas as pd

    rows = []
    for quantity, by_model in ours.items():
        for name, values, known in zip(
            models, by_model, printed[quantity], strict=True
        ):
            logs = np.log(np.asarray(values, float))
            error = logs.std(ddof=1) * (1 / len(logs) + 1 / STARTS) ** 0.5
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            rows.append(
                {
                    "quantity": quantity,
                    "model": name,
                    "printed": known,
                    "median": middle,
                    "quartiles": f"{low:.3g} to {high:.3g}",
                    "in spreads": (logs.mean() - np.log(known)) / error,
                }
            )
    return pd.DataFrame(rows)
