"""What a model's modules put out when its loss is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from widthlab.scaling.errors import ScalingError
from widthlab.scaling.survey import Path

ModelLoss = Callable[[Any, Any], Any]
"""`loss(model, batch)`, a number."""

MODEL = "model"
"""What the output of the whole model is called."""


def outputs(model: nnx.Module, batch: Any, loss: ModelLoss) -> dict[str, Any]:
    """Return the output of each submodule by its path, and what the model sows.

    A module that runs several times has several, stacked; what is no array of
    floating-point numbers is left out.
    """
    return observed(model, batch, loss)[1]


def observed(model: nnx.Module, batch: Any, loss: ModelLoss) -> Any:
    """Return the loss, and outputs by path.

    Raises:
        ScalingError: a module inside a loop cannot be watched.
    """

    def run(model: Any) -> Any:
        return loss(model, batch)

    forward = nnx.capture(run, nnx.Intermediate, method_outputs=nnx.Intermediate)
    try:
        lost, sown = forward(model)
    except TypeError as error:
        if "__captures__" not in str(error):
            raise
        raise ScalingError(
            "what a module puts out cannot be seen where nnx.scan, or nnx.RNN, carries "
            "it from step to step: write that loop in Python"
        ) from error
    found: dict[str, Any] = {}
    for path, variable in nnx.to_flat_state(sown):
        for place, leaf in enumerate(_floats(variable.get_value())):
            name = _name(path)
            found[name if not place else f"{name}[{place}]"] = leaf
    return lost, found


def unwatched(model: nnx.Module, batch: Any, loss: ModelLoss) -> Any:
    """Return the loss, and no outputs; what the model sows is taken away, as above.

    To watch, flax changes the methods of classes for as long as it takes: whoever
    builds or runs a model in another thread meanwhile meets them changed.
    """
    lost = loss(model, batch)
    nnx.pop(model, nnx.Intermediate)
    return lost, {}


def _floats(value: Any) -> list[Any]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(value)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _name(path: Path) -> str:
    parts = path[:-1] if path[-1] == "__call__" else path
    return ".".join(map(str, parts)) or MODEL
