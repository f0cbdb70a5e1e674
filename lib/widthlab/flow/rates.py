r"""Rates of exponential convergence, from what `progress` observed.

Over a window $[s, t]$ between two observations the measured rate is
$(\log L(s) - \log L(t)) / (t - s)$. It uses losses alone, so that it can be compared
with kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from widthlab.flow.trajectory import Trajectory

if TYPE_CHECKING:
    import pandas as pd


def windows(run: Trajectory) -> pd.DataFrame:
    r"""Return the measured rate in each window, and what theory says of it there.

    The measured rate of the window $[s, t]$ is $(\log L(s) - \log L(t)) / (t - s)$.

    Returns:
        One row for each window that the run reached, with `time` (its middle), `rate`
        (measured), `gradient_rate` (the mean of its ends), and `kernel_rate` and
        `bound` (the smaller of theirs).

    Raises:
        ValueError: the run was not observed with `progress`, or has no window.
    """
    import pandas as pd

    if missing := set(_BESIDE) - set(run.observed):
        raise ValueError(
            f"the run has no {sorted(missing)}; solve with observe=flow.progress"
        )
    reached = np.isfinite(run.observed["loss"])
    times, loss = run.times[reached], run.observed["loss"][reached]
    if len(times) < 2:
        raise ValueError(
            f"the run was observed {len(times)} times before it ended ({run.status} at "
            f"{run.reached:g}); ask for earlier times"
        )
    ends = {name: _ends(run.observed[name][reached]) for name in _BESIDE}
    return pd.DataFrame(
        {
            "time": (times[1:] + times[:-1]) / 2,
            "rate": -np.diff(np.log(loss)) / np.diff(times),
            "gradient_rate": ends["gradient_rate"].mean(axis=0),
            "kernel_rate": ends["kernel_rate"].min(axis=0),
            "bound": ends["bound"].min(axis=0),
        }
    )


_BESIDE = ("gradient_rate", "kernel_rate", "bound")


def _ends(values: np.ndarray) -> np.ndarray:
    return np.stack([values[:-1], values[1:]])


def explained(run: Trajectory) -> float:
    r"""Return the decrease of $\log L$ as a share of $\int$ `gradient_rate` $dt$.

    It is 1 for a differentiable velocity, up to the trapezoidal rule between
    observations: observe densely where the rate changes fast.
    """
    reached = np.isfinite(run.observed["loss"])
    times, loss = run.times[reached], run.observed["loss"][reached]
    predicted = np.trapezoid(run.observed["gradient_rate"][reached], times)
    return float(np.log(loss[0] / loss[-1]) / predicted)
