"""Numerical ranks of the matrices of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import jax.numpy as jnp
from jaxtyping import Array, Float

from widthlab.fields import count
from widthlab.model import MLP
from widthlab.probes.rows import Rows
from widthlab.training.state import Data

FLOAT32_EPS = 2.0**-23
"""Distance from 1 to the next number in single precision."""


@attrs.frozen
class Rank:
    r"""Numerical rank of the features of the first training inputs, layer by layer.

    `pre_rank` and `rank` are, for the $P \times n$ matrices of pre-activations and of
    activations, the number of singular values
    $\sigma_i > \sigma_{\max} \max(P, n)\, \varepsilon$ with $\varepsilon = 2^{-23}$:
    the rule of `torch.matrix_rank` in float32, which Hajjar, Chizat and Giraud 2024
    count ranks with (Figure 3). The same $\varepsilon$ holds for training in float64,
    or ranks in the two precisions could not be compared.

    Attributes:
        inputs: number $P$ of inputs.
    """

    inputs: int = attrs.field(default=1000, converter=count())
    name: ClassVar[str] = "rank"

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return two numbers for each hidden layer."""
        del initial, loss
        signals = model.features(data.x_train[: self.inputs])
        return {
            "pre_rank": jnp.stack([numerical_rank(h) for h in signals.preactivations]),
            "rank": jnp.stack([numerical_rank(x) for x in signals.activations]),
        }

    def rows(self, history: Sequence[Any]) -> Rows:
        """Return two rows for each hidden layer."""
        return [
            [
                (quantity, layer, float(value))
                for quantity, values in measured.items()
                for layer, value in enumerate(values, 1)
            ]
            for measured in history
        ]


def numerical_rank(matrix: Float[Array, "inputs width"]) -> Float[Array, ""]:
    r"""Return the number of singular values above rounding; NaN if not finite.

    They are not taken from the Gram matrix, although its spectrum is cheaper: it holds
    their squares, and rounding of the largest one hides all
    $\sigma_i < \sigma_{\max} \sqrt\varepsilon$. That is above the tolerance here
    whenever $\max(P, n) < \varepsilon^{-1/2} \approx 2900$.
    """
    values = jnp.linalg.svd(matrix, compute_uv=False)
    largest = jnp.max(values)
    above = values > largest * (max(matrix.shape) * FLOAT32_EPS)
    count = jnp.sum(above, dtype=matrix.dtype)
    return jnp.where(jnp.isfinite(largest), count, jnp.nan)
