r"""The explicit bias: the interpolator nearest to the start in parameter space.

Woodworth et al. 2020 compare gradient flow at depth 2, from a uniform start, with
$R_\alpha(\beta) = \min \{|w - w(0)|^2 : w_+^2 - w_-^2 = \beta\} =
\alpha^2 \sum_i r(\beta_i / \alpha^2)$ (equations 8 and 9). Here $r$ is
found from its definition.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from widthlab.model import AnyArray


def explicit(z: Float[AnyArray, " n"]) -> Float[np.ndarray, " n"]:
    r"""Return $\min \{(a - 1)^2 + (b - 1)^2 : a^2 - b^2 = z\}$, found directly.

    It is even in $z$; the minimum over $b$ is found between 0 and 1.

    Args:
        z: predictors, over $\alpha^2$.
    """

    def one(size: float) -> float:
        def cost(b: float) -> float:
            # a - 1, without cancellation where z and b - 1 are small.
            up = np.expm1(np.log1p(size + (b - 1) * (b + 1)) / 2)
            return float(up**2 + (b - 1) ** 2)

        options = {"xatol": 1e-12}
        found = minimize_scalar(cost, bounds=(0, 1), method="bounded", options=options)
        return float(found.fun)

    return np.array([one(abs(float(value))) for value in np.asarray(z)])
