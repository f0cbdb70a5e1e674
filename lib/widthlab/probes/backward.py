"""What backpropagation computes: gradients of the loss in the pre-activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import jax
import jax.numpy as jnp

from widthlab import activations
from widthlab.fields import count
from widthlab.model import MLP
from widthlab.probes.device import device_rms
from widthlab.probes.rows import Rows
from widthlab.training.state import Data


@attrs.frozen
class Backward:
    r"""Size of the gradients in the pre-activations $h^l$ of the first training inputs.

    `backward_rms` is, for each hidden layer $l$ of width $n_l$,

    $$\Big(\frac{1}{P n_l} \sum_{i=1}^{P} \sum_{j=1}^{n_l}
    \Big(\frac{\partial \ell_i}{\partial h^l_{ij}}\Big)^2\Big)^{1/2},$$

    where $\ell_i$ is the loss of example $i$ alone, so that the size does not depend on
    the number of examples. At initialisation it falls like $n^{-1-(L-l)/2}$ in an
    integrable parametrization (Hajjar, Chizat and Giraud 2024, Section 3.2).

    Attributes:
        inputs: number $P$ of inputs.
    """

    inputs: int = attrs.field(default=16, converter=count())
    name: ClassVar[str] = "backward"

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return one number for each hidden layer."""
        del initial
        x, y = data.x_train[: self.inputs], data.y_train[: self.inputs]

        def summed_loss(shifts: Any) -> Any:
            return self.inputs * loss(_shifted_outputs(model, x, shifts), y)

        zeros = tuple(jnp.zeros_like(h) for h in model.features(x).preactivations)
        sizes = map(device_rms, jax.grad(summed_loss)(zeros))
        return {"backward_rms": jnp.stack(list(sizes))}

    def rows(self, history: Sequence[Any]) -> Rows:
        """Return one row for each hidden layer."""
        return [
            [
                ("backward_rms", layer, float(size))
                for layer, size in enumerate(measured["backward_rms"], 1)
            ]
            for measured in history
        ]


def _shifted_outputs(model: MLP, x: Any, shifts: Sequence[Any]) -> Any:
    r"""Return the outputs with $h^l + s^l$ in place of every $h^l$.

    The gradient in the shifts at zero is that in the pre-activations, for all layers in
    one backward pass.
    """
    function = activations.get(model.activation)
    for layer, shift in zip(model.layers[:-1], shifts, strict=True):
        x = function(layer(x) + shift)
    return model.layers[-1](x)
