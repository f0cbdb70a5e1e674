"""What is read off a trained network: rates, kernels, and how far nodes moved."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from widthlab.flow import Trajectory
from widthlab.papers.caron2023asymmetrical.gram import least_eigenvalue

__all__ = [
    "kernel_change",
    "least_eigenvalue",
    "least_rate",
    "mean_rate",
    "movement_slope",
    "relative_kernel_change",
    "risk_at",
]

_SEEN = 1e-9
"""Share of the first risk below which single precision decides about a rate."""


def kernel_change(run: Trajectory) -> float:
    r"""Return $\|\Theta_T - \Theta_0\|_2^{1/2}$, as the authors' figures have it.

    Their axis says norm, and what is drawn is its square root.
    """
    grams = run.observed["gram"]
    return float(np.sqrt(np.linalg.norm(grams[-1] - grams[0], 2)))


def relative_kernel_change(run: Trajectory) -> float:
    r"""Return $\|\Theta_T - \Theta_0\|_F / \|\Theta_0\|_F$."""
    grams = run.observed["gram"]
    return float(np.linalg.norm(grams[-1] - grams[0]) / np.linalg.norm(grams[0]))


def least_rate(run: Trajectory) -> float:
    r"""Return the least rate at which the risk falls, in units of its bound.

    Of gradient flow $-\frac{d}{dt} \ln L \ge \frac4n \lambda_{\min}(\Theta_t)$ at every
    time. The rate is that between two observations, and the eigenvalue the smaller of
    both.
    """
    clock, risk = run.observed["clock"], run.observed["loss"]
    eigenvalue, count = least_eigenvalue(run.observed["gram"]), _inputs(run)
    kept = risk > _SEEN * risk[0]
    rates = -np.diff(np.log(risk[kept])) / np.diff(clock[kept])
    floor = np.minimum(eigenvalue[kept][1:], eigenvalue[kept][:-1])
    return float((rates * count / (4 * floor)).min())


def mean_rate(run: Trajectory, eigenvalue: float) -> float:
    r"""Return the mean rate of the risk in units of $\frac4n \mu$.

    At least 1 exactly where $L(T) \le L(0)\, e^{-4 \mu T / n}$.

    Args:
        run: a trajectory.
        eigenvalue: $\mu$, such as $\gamma\, \lambda_{\min}(\Theta^*)$.
    """
    clock, risk = run.observed["clock"], run.observed["loss"]
    fallen = np.log(risk[0] / risk[-1])
    return float(fallen * _inputs(run) / (4 * eigenvalue * clock[-1]))


def movement_slope(
    run: Trajectory, masses: Float[np.ndarray, " m"], nodes: int
) -> float:
    r"""Return the slope of $\ln \|\Delta w_j\|$ against $\ln \lambda_j$.

    By least squares over the first nodes, at the end.
    """
    moved = run.observed["moved"][-1][:nodes]
    return float(np.polyfit(np.log(masses[:nodes]), np.log(moved), 1)[0])


def risk_at(run: Trajectory, time: float) -> float:
    """Return the risk at a time, between two observations by its logarithm.

    The steps of a schedule seldom end exactly where one wants to look.
    """
    clock, risk = run.observed["clock"], run.observed["loss"]
    return float(np.exp(np.interp(time, clock, np.log(risk))))


def _inputs(run: Trajectory) -> int:
    return run.observed["gram"].shape[-1]
