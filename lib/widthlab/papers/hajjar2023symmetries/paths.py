r"""How fast the odd case's risk falls, and how far its paths are apart.

All of it reads trajectories that `odd.odd_observe` observed; for `apart`, with $w$
beside it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from widthlab.flow.trajectory import Trajectory

_SEEN = 1e-10
"""Share of the first excess below which rounding decides about a rate."""


def least_rate(run: Trajectory) -> float:
    r"""Return the least rate at which $Q - Q^*$ falls, in units of its floor.

    The rate is that between two observations, and the floor $2 \lambda_{\min}(H)
    \lambda_{\min}(C)$ the smaller of both: theory says at least 1.
    """
    excess, floor = run.observed["excess"], run.observed["rate_floor"]
    kept = excess > _SEEN * excess[0]
    rates = -np.diff(np.log(excess[kept])) / np.diff(run.times[kept])
    return float((rates / np.minimum(floor[kept][1:], floor[kept][:-1])).min())


def mean_rate(run: Trajectory) -> float:
    r"""Return the least mean rate from time 0 on, in units of the floor at time 0.

    $$\min_t \frac{1}{t} \log\frac{(Q - Q^*)(0)}{(Q - Q^*)(t)} \Big/
      2 \lambda_{\min}(H(0)) \lambda_{\min}(C)$$

    At least 1 exactly where the excess risk stays below an exponential of that constant
    rate; it does if $H$ does not shrink.
    """
    excess, floor = run.observed["excess"], run.observed["rate_floor"][0]
    kept = excess > _SEEN * excess[0]
    fallen = np.log(excess[0] / excess[kept][1:])
    return float((fallen / (run.times[kept][1:] * floor)).min())


def proved_excess(run: Trajectory) -> Float[np.ndarray, " times"]:
    r"""Return the curve below which $Q - Q^*$ stays, by the floor of its rate."""
    fallen = np.cumsum([0, *(np.diff(run.times) * run.observed["rate_floor"][:-1])])
    return run.observed["excess"][0] * np.exp(-fallen)


def apart(one: Trajectory, other: Trajectory) -> float:
    r"""Return the largest distance of a point of one path of $w$ from the other path.

    Paths are apart that lead elsewhere, not those that are walked at other speeds.
    """
    pairs = one.observed["w"][:, None] - other.observed["w"][None]
    return float(np.linalg.norm(pairs, axis=-1).min(axis=1).max())
