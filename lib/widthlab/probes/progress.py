"""How training stands: performance, size of updates, distance from stationarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import jax
import jax.numpy as jnp

from widthlab.model import MLP
from widthlab.probes.rows import Rows
from widthlab.training.state import Data


@attrs.frozen
class Performance:
    """Loss on the training and test sets; accuracy where targets are labels."""

    name: ClassVar[str] = "performance"

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return losses and accuracies as scalars."""
        del initial
        measured = {}
        for split, x, y in (
            ("train", data.x_train, data.y_train),
            ("test", data.x_test, data.y_test),
        ):
            outputs = model(x)
            measured[f"{split}_loss"] = loss(outputs, y)
            are_labels = jnp.issubdtype(y.dtype, jnp.integer)
            labels = y if are_labels else jnp.argmax(y, axis=-1)
            if outputs.shape[-1] > 1:
                chosen = jnp.argmax(outputs, axis=-1).astype(labels.dtype)
                right = chosen == labels
                measured[f"{split}_accuracy"] = jnp.mean(right, dtype=outputs.dtype)
        return measured

    def rows(self, history: Sequence[Any]) -> Rows:
        """Return one row for each scalar."""
        return [[(k, 0, float(v)) for k, v in measured.items()] for measured in history]


@attrs.frozen
class Updates:
    r"""Size of the accumulated update of each matrix.

    `update_norm` is $\|W_t - W_0\|_F$ and `relative_update` the same over $\|W_0\|_F$,
    for the effective matrices (multiplier included). Layer $L + 1$ is the output. A
    matrix that starts from zero has no relative update, and no row of it.
    """

    name: ClassVar[str] = "updates"

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return the norms of updates and of initial weights."""
        del data, loss
        updates, starts = [], []
        for now, start in zip(model.layers, initial.layers, strict=True):
            scale = start.multiplier[...]
            updates.append(
                jnp.linalg.norm(scale * (now.kernel[...] - start.kernel[...]))
            )
            starts.append(jnp.linalg.norm(scale * start.kernel[...]))
        return {"update": jnp.stack(updates), "start": jnp.stack(starts)}

    def rows(self, history: Sequence[Any]) -> Rows:
        """Return two rows for each matrix."""
        out: Rows = []
        for measured in history:
            pairs = list(
                enumerate(zip(measured["update"], measured["start"], strict=True), 1)
            )
            out.append(
                [("update_norm", layer, float(u)) for layer, (u, _) in pairs]
                + [
                    ("relative_update", layer, float(u / s))
                    for layer, (u, s) in pairs
                    if s != 0
                ]
            )
        return out


@attrs.frozen
class Stationarity:
    r"""How far training is from a stationary point, and from zero error there.

    `error_max` and `error_rms` are the largest and root mean square over training
    examples of $\|\chi_i\|$, the gradient of example $i$'s loss in the output.
    `gradient` is the largest over layers of
    $\|\partial L / \partial W^l\|_F \|W^l\|_F$: the change of the loss for a unit
    relative change of a matrix, the same number for every member of an equivalence
    class of parametrizations.
    """

    name: ClassVar[str] = "stationarity"

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return the three scalars."""
        from flax import nnx

        del initial
        x, y = data.x_train, data.y_train
        errors = x.shape[0] * jax.grad(loss)(model(x), y)
        sizes = jnp.linalg.norm(errors, axis=-1)
        graph, parameters, rest = nnx.split(model, nnx.Param, ...)

        def whole_loss(parameters: Any) -> Any:
            return loss(nnx.merge(graph, parameters, rest)(x), y)

        slopes = jax.grad(whole_loss)(parameters)
        products = jax.tree.map(
            lambda g, w: jnp.linalg.norm(g) * jnp.linalg.norm(w), slopes, parameters
        )
        return {
            "error_max": jnp.max(sizes),
            "error_rms": jnp.sqrt(jnp.mean(sizes**2)),
            "gradient": jnp.max(jnp.stack(jax.tree.leaves(products))),
        }

    def rows(self, history: Sequence[Any]) -> Rows:
        """Return one row for each scalar."""
        return [[(k, 0, float(v)) for k, v in measured.items()] for measured in history]
