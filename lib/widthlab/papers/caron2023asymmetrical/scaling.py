r"""Node scalings of Caron et al. 2023: how much of the network each node is.

A network $f(x) = \sum_j \sqrt{\lambda_j}\, a_j\, \mathrm{relu}(w_j \cdot x / \sqrt d)$
has masses

$$\lambda_j = \frac{\gamma}{m} + (1 - \gamma)\, z_j, \qquad
  z_j = j^{-1/\alpha} \Big/ \sum_{i \le m} i^{-1/\alpha},$$

which sum to 1. For $\gamma = 1$ all nodes are alike: the NTK parametrization, the
entry "ntk" of `widthlab.parametrization`. Every other $\gamma$ is no row of that
catalogue: there a role has *one* exponent of the width, and here a node has a mass of
its own, which for the first nodes tends to a number and for the last falls as a power
of its rank. So a scaling is data of its own, two numbers, with the same use.
"""

from __future__ import annotations

import attrs
import numpy as np
from jaxtyping import Float
from scipy.special import zeta

from widthlab.fields import number, optional


@attrs.frozen
class NodeScaling:
    r"""Masses of the nodes, for any width.

    Attributes:
        gamma: share $\gamma$ of the mass that all nodes have in equal parts.
        alpha: decay of the rest, $z_j \sim j^{-1/\alpha}$; None where nothing is left
            ($\gamma = 1$). The paper's have $\alpha < 1$, so that $z_j$ is summable.

    Example:
        >>> NodeScaling(0.5, 0.5).masses(2)
        array([0.65, 0.35])
        >>> round(NodeScaling(0.2, 0.5).effective_nodes(), 2)
        3.91
    """

    gamma: float = attrs.field(converter=number(least=0))
    alpha: float | None = attrs.field(
        default=None, converter=optional(number(above=0), "where gamma is 1")
    )

    def __attrs_post_init__(self) -> None:
        if self.gamma > 1:
            raise ValueError(f"gamma is {self.gamma}; it is a share, from 0 to 1")
        if (self.alpha is None) != (self.gamma == 1):
            raise ValueError(
                f"gamma is {self.gamma} and alpha {self.alpha}; alpha says how the "
                "mass 1 - gamma decays, so give it exactly where gamma is below 1"
            )

    @property
    def label(self) -> str:
        """What legends call it."""
        return f"γ = {self.gamma:g}"

    def masses(self, m: int) -> Float[np.ndarray, " m"]:
        r"""Return $\lambda_1 \ge \dots \ge \lambda_m$, with sum 1."""
        uniform = np.full(m, self.gamma / m)
        if self.alpha is None:
            return uniform
        tail = np.arange(1, m + 1) ** (-1 / self.alpha)
        return uniform + (1 - self.gamma) * tail / tail.sum()

    def concentration(self, m: int | None = None) -> float:
        r"""Return $\sum_j \lambda_j^2$, for width $m$ or in the limit (None).

        $$\lim_{m \to \infty} \sum_j \lambda_j^2
          = (1 - \gamma)^2\, \zeta(2/\alpha) / \zeta(1/\alpha)^2,$$

        which is 0 where the decay is not summable ($\alpha \ge 1$).
        """
        if m is not None:
            return float((self.masses(m) ** 2).sum())
        if self.alpha is None or self.alpha >= 1:
            return 0.0
        decay = 1 / self.alpha
        return float((1 - self.gamma) ** 2 * zeta(2 * decay) / zeta(decay) ** 2)

    def effective_nodes(self, m: int | None = None) -> float:
        r"""Return $1 / \sum_j \lambda_j^2$: as many equal nodes are as concentrated."""
        found = self.concentration(m)
        return 1 / found if found else float("inf")


MODELS = (
    NodeScaling(1.0),
    NodeScaling(0.5, 0.7),
    NodeScaling(0.2, 0.5),
    NodeScaling(0.0, 0.4),
)
"""The four scalings of the authors' experiments; the first is the NTK's."""

SPREAD_OUT = NodeScaling(0.5, 2.5)
r"""A broken case: the decay is not summable, so that $\lambda_1 \to 0$."""


def one_big_node(m: int, share: float) -> Float[np.ndarray, " m"]:
    """Return masses of one node with a share of all, and the rest in equal parts.

    Raises:
        ValueError: the share is not from 0 to 1, or there is no node for the rest.
    """
    if not 0 <= share <= 1 or m < 2:
        raise ValueError(
            f"share is {share} and m {m}; a share is from 0 to 1, of two nodes or more"
        )
    return np.concatenate([[share], np.full(m - 1, (1 - share) / (m - 1))])
