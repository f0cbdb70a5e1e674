"""How much coordinates, inputs and the entries of updates differ from each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import attrs
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.fields import count
from widthlab.model import MLP
from widthlab.probes.device import scaled
from widthlab.probes.rows import Row, Rows
from widthlab.training.state import Data


class Ratio(NamedTuple):
    """Standard deviations, and the root mean squares that they are compared with."""

    deviation: Any
    size: Any


class Moments(NamedTuple):
    """What is kept of one matrix of features."""

    coordinates: Ratio
    inputs: Ratio
    mean: Any


@attrs.frozen
class Spread:
    r"""How far coordinates and inputs differ: 0 where a layer has collapsed, at most 1.

    With $H \in R^{P \times n}$ the features of $P$ inputs in one layer, an index under
    mean and std for what they are taken over, and rms over all that is left:

    - `coordinate_spread`: $\mathrm{mean}_i (\mathrm{std}_j H_{ij} /
      \mathrm{rms}_j H_{ij})$; 0 if the coordinates of each input are equal, 1 if their
      mean is 0;
    - `input_spread`: $\mathrm{rms}(\mathrm{std}_i H_{ij}) / \mathrm{rms}(H)$; 0 if the
      layer has forgotten the input, 1 if the mean over inputs is 0;
    - `coordinate_mean`: the mean of all $H_{ij}$;
    - `update_spread`, for the matrices $l = 1, \dots, L + 1$:
      $\mathrm{std}(\Delta) / \mathrm{rms}(\Delta)$ over the entries of
      $\Delta = W^l_t - W^l_0$.

    The first three are given for activations under these names and for pre-activations
    with `pre_` in front; `output_input_spread` is that of the network's output. What is
    exactly zero has no spread: such an input is left out of the mean, such a matrix has
    no row (no update has one at step 0). An update that is small against the weights is
    seen through their rounding, which spreads it.

    Attributes:
        inputs: number $P$ of inputs, at least 2.
    """

    inputs: int = attrs.field(default=16, converter=count(2))
    name: ClassVar[str] = "spread"

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return standard deviations and root mean squares."""
        del loss
        signals = model.features(data.x_train[: self.inputs])
        # A matrix's multiplier is in both parts of the ratio.
        updates = [
            now.kernel[...] - start.kernel[...]
            for now, start in zip(model.layers, initial.layers, strict=True)
        ]
        return {
            "pre_": tuple(map(_moments, signals.preactivations)),
            "": tuple(map(_moments, signals.activations)),
            "output": _over_inputs(scaled(signals.output)[0]),
            "update": tuple(_over_all(scaled(u)[0]) for u in updates),
        }

    def rows(self, history: Sequence[Any]) -> Rows:
        """Return the ratios that are defined, and the means."""
        return [list(_rows_at(measured)) for measured in history]


def _moments(features: Float[Array, "inputs width"]) -> Moments:
    unit = scaled(features)[0]
    within = Ratio(jnp.std(unit, axis=1), jnp.sqrt(jnp.mean(unit**2, axis=1)))
    return Moments(within, _over_inputs(unit), jnp.mean(features))


def _over_inputs(values: Float[Array, "inputs width"]) -> Ratio:
    between = jnp.sqrt(jnp.mean(jnp.var(values, axis=0)))
    return Ratio(between, jnp.sqrt(jnp.mean(values**2)))


def _over_all(values: Float[Array, "fan_in fan_out"]) -> Ratio:
    return Ratio(jnp.std(values), jnp.sqrt(jnp.mean(values**2)))


def _rows_at(measured: Any) -> Iterator[Row]:
    for kind in ("pre_", ""):
        for layer, moments in enumerate(measured[kind], 1):
            yield from _ratio(f"{kind}coordinate_spread", layer, moments.coordinates)
            yield from _ratio(f"{kind}input_spread", layer, moments.inputs)
            yield f"{kind}coordinate_mean", layer, float(moments.mean)
    yield from _ratio("output_input_spread", 0, measured["output"])
    for layer, ratio in enumerate(measured["update"], 1):
        yield from _ratio("update_spread", layer, ratio)


def _ratio(quantity: str, layer: int, ratio: Ratio) -> Iterator[Row]:
    """Give the mean ratio over what is not zero, or no row."""
    deviation = np.atleast_1d(np.asarray(ratio.deviation, np.float64))
    size = np.atleast_1d(np.asarray(ratio.size, np.float64))
    there = size != 0  # what is not finite stays, and gives NaN
    if np.any(there):
        yield quantity, layer, float(np.mean(deviation[there] / size[there]))
