"""The losses that networks are trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def cross_entropy(
    outputs: Float[Array, "batch output"], targets: Int[Array, " batch"]
) -> Float[Array, ""]:
    r"""Return the mean of $-\log \mathrm{softmax}(f)_y$."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()


def mean_squared_error(
    outputs: Float[Array, "batch output"], targets: Float[Array, "batch output"]
) -> Float[Array, ""]:
    r"""Return the mean of $\tfrac12 \|f - y\|^2$, whose error signal is $f - y$."""
    return jnp.mean(jnp.sum((outputs - targets) ** 2, axis=-1)) / 2


LOSSES: dict[str, Callable[..., Any]] = {
    "cross-entropy": cross_entropy,
    "mse": mean_squared_error,
}
"""The losses by name, as functions of outputs and targets."""
