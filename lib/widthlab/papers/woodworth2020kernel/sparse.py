r"""Sparse regression: what the linear models are trained on, and how well they do.

$x \sim N(0, I_d)$ and $y = \beta^* \cdot x + \xi$ with noise $\xi$ of variance 0.01,
where $\beta^*$ has $r$ entries $1/\sqrt r$ (Woodworth et al. 2020, Section 4). $d$, $N$
and $r$ are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.fft import dct

from widthlab import perturbation


@dataclass(frozen=True, slots=True)
class Sparse:
    r"""One draw of the task.

    Attributes:
        seed: draws inputs, noise, rotation and signs.
        examples: $N$.
        sparsity: $r$.
        dim: $d$.
        noise: standard deviation of the labels' noise.
        rotated: whether inputs are $Qx$ and the target is $Q \beta^*$, with the same
            labels and a random orthogonal $Q$ (signs, then a cosine transform): the
            same task to whatever does not know the coordinates, and not a sparse one.
    """

    seed: int
    examples: int = 100
    sparsity: int = 5
    dim: int = 1000
    noise: float = 0.1
    rotated: bool = False

    def draw(self) -> tuple[Any, Any, Any]:
        r"""Return inputs, labels and $\beta^*$.

        They are moved by rounding where the environment asks for it.
        """
        rng = np.random.default_rng([self.seed, self.examples])
        x = rng.standard_normal((self.examples, self.dim))
        noise = self.noise * rng.standard_normal(self.examples)
        beta = np.zeros(self.dim)
        beta[: self.sparsity] = self.sparsity**-0.5
        y = x @ beta + noise
        if self.rotated:
            signs = rng.choice([-1.0, 1.0], self.dim)
            x, beta = (np.asarray(dct(v * signs, norm="ortho")) for v in (x, beta))
        if (number := perturbation.chosen()) is not None:
            x, y = (part[0] for part in perturbation.moved((x[None], y[None]), number))
        return x, y, beta

    def plateau(self) -> float:
        r"""Return the mean error of the interpolator of least norm, for any $\beta^*$.

        $$(1 - N/d) |\beta^*|^2 + \sigma^2 \frac{N}{d - N - 1}$$

        The first term is what the examples do not span. Of a single draw it is a
        $\mathrm{Beta}((d - N)/2, N/2)$, whose spread `plateau_spread` is.
        """
        n, d = self.examples, self.dim
        return 1 - n / d + self.noise**2 * n / (d - n - 1)

    def plateau_spread(self) -> float:
        """Return the standard deviation of the unspanned share over draws."""
        n, d = self.examples, self.dim
        return float(np.sqrt(2 * n * (d - n) / (d**2 * (d + 2))))


def error(beta: Float[np.ndarray, " *scales d"], truth: Float[np.ndarray, " d"]) -> Any:
    r"""Return the population error $|\beta - \beta^*|^2$."""
    return ((beta - truth) ** 2).sum(axis=-1)


def distance(one: Any, other: Any) -> float:
    """Return the distance of two vectors, relative to the second."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))
