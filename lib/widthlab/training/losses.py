"""The losses that networks are trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from widthlab.registry import Registry


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


@dataclass(frozen=True)
class Loss:
    """A loss.

    Attributes:
        function: from outputs and targets to one number, the mean over a batch.
        targets: what it compares outputs with: "labels", the indices of classes, or
            "values", one number an output.
    """

    function: Callable[[Any, Any], Any]
    targets: str

    def __post_init__(self) -> None:
        """Refuse other kinds of targets."""
        if self.targets not in ("labels", "values"):
            raise ValueError(
                f"targets of a loss are {self.targets!r}; they are 'labels' or 'values'"
            )

    def __call__(self, outputs: Any, targets: Any) -> Any:
        """Return the loss of a batch."""
        return self.function(outputs, targets)


LOSSES: Registry[Loss] = Registry(
    "loss",
    "widthlab.training.losses.register",
    {
        "cross-entropy": Loss(cross_entropy, "labels"),
        "mse": Loss(mean_squared_error, "values"),
    },
)
"""The losses by name, as functions of outputs and targets."""


def register(
    name: str, function: Callable[[Any, Any], Any] | None = None, *, targets: str
) -> Any:
    """Add a loss of one's own, as a function or as a decorator of one.

    Args:
        name: name under which specifications ask for it.
        function: the loss of a batch, which JAX can trace and differentiate.
        targets: "labels" or "values", as for `Loss`.
    """
    if function is None:
        return lambda function: register(name, function, targets=targets)
    LOSSES.register(name, Loss(function, targets))
    return function
