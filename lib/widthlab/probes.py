r"""What is measured in a network: features, Gram spectra, coordinates, errors, updates.

A probe works in two halves. `measure` runs on the device, inside the compiled program
of an ensemble, and returns arrays that stay small as the width grows. `rows` runs on
the host, in float64, and turns the arrays of all checkpoints into rows of the record's
table: (quantity, layer, value) at each checkpoint. Layers count from 1 to the number of
hidden layers; what concerns the whole network has layer 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from widthlab.model import MLP
from widthlab.training import Data, mean_squared_error

Row = tuple[str, int, float]
"""Quantity, layer, value."""

Rows = list[list[Row]]
"""For each checkpoint, its rows."""


@dataclass(frozen=True, slots=True)
class Performance:
    """Loss on the training and test sets; accuracy where targets are labels."""

    name: ClassVar[str] = "performance"

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return losses and accuracies as scalars."""
        del initial
        seen = {}
        for split, x, y in (
            ("train", data.x_train, data.y_train),
            ("test", data.x_test, data.y_test),
        ):
            outputs = model(x)
            seen[f"{split}_loss"] = loss(outputs, y)
            labels = y if loss is not mean_squared_error else jnp.argmax(y, axis=-1)
            if outputs.shape[-1] > 1:
                chosen = jnp.argmax(outputs, axis=-1).astype(labels.dtype)
                right = chosen == labels
                seen[f"{split}_accuracy"] = jnp.mean(right, dtype=outputs.dtype)
        return seen

    def rows(self, history: Sequence[Any]) -> Rows:
        """Return one row for each scalar."""
        return [[(k, 0, float(v)) for k, v in seen.items()] for seen in history]


@dataclass(frozen=True, slots=True)
class Features:
    r"""Features of the first training inputs: change, Gram spectrum, coordinates.

    With $H_t \in R^{P \times n}$ the features of $P$ inputs in one layer at step $t$:

    - `feature_change`: mean over inputs of $\|h_t - h_0\| / \|h_0\|$, O(1) in width
      where features are learnt (Chen et al. 2025, first figure);
    - `lambda_min`: smallest eigenvalue of $H_t H_t^\top / n$;
    - `lambda_min_joint`: the same for $[H_0; H_t]$, the $2P$ features of both times;
    - `rms`, `rms_change`: root mean square of the coordinates of $h_t$ and $h_t - h_0$.

    Each is given for activations $x^l$ under these names and for pre-activations $h^l$
    with `pre_` in front. `output_rms` and `output_rms_change` describe the network's
    output.

    Attributes:
        inputs: number $P$ of inputs. Widths must be at least $2P$, or the joint Gram
            matrix is singular for want of dimensions.
    """

    inputs: int = 16
    name: ClassVar[str] = "features"

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return pre-activations, activations and outputs of the inputs."""
        del initial, loss
        seen = model.features(data.x_train[: self.inputs])
        return {
            "pre_": seen.preactivations,
            "": seen.activations,
            "output": (seen.output,),
        }

    def rows(self, history: Sequence[Any]) -> Rows:
        """Compare each checkpoint with the first one."""
        return [list(self._rows_at(history[0], seen)) for seen in history]

    def _rows_at(self, first: Any, now: Any) -> Iterator[Row]:
        for kind in ("pre_", ""):
            for layer, (start, end) in enumerate(
                zip(first[kind], now[kind], strict=True), 1
            ):
                before = np.asarray(start, np.float64)
                after = np.asarray(end, np.float64)
                yield f"{kind}feature_change", layer, relative_change(before, after)
                yield f"{kind}lambda_min", layer, smallest_eigenvalue(after)
                joint = np.concatenate([before, after])
                yield f"{kind}lambda_min_joint", layer, smallest_eigenvalue(joint)
                yield f"{kind}rms", layer, root_mean_square(after)
                yield f"{kind}rms_change", layer, root_mean_square(after - before)
        before = np.asarray(first["output"][0], np.float64)
        after = np.asarray(now["output"][0], np.float64)
        yield "output_rms", 0, root_mean_square(after)
        yield "output_rms_change", 0, root_mean_square(after - before)


@dataclass(frozen=True, slots=True)
class Updates:
    r"""Size of the accumulated update of each matrix.

    `update_norm` is $\|W_t - W_0\|_F$ and `relative_update` the same over $\|W_0\|_F$,
    for the effective matrices (multiplier included). Layer $L + 1$ is the output.
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
        for seen in history:
            pairs = list(enumerate(zip(seen["update"], seen["start"], strict=True), 1))
            out.append(
                [("update_norm", layer, float(u)) for layer, (u, _) in pairs]
                + [("relative_update", layer, float(u / s)) for layer, (u, s) in pairs]
            )
        return out


@dataclass(frozen=True, slots=True)
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
        return [[(k, 0, float(v)) for k, v in seen.items()] for seen in history]


def relative_change(
    before: Float[np.ndarray, "inputs width"], after: Float[np.ndarray, "inputs width"]
) -> float:
    r"""Return the mean over inputs of $\|h_t - h_0\| / \|h_0\|$."""
    moved = np.linalg.norm(after - before, axis=-1)
    return float(np.mean(moved / np.linalg.norm(before, axis=-1)))


def smallest_eigenvalue(features: Float[np.ndarray, "inputs width"]) -> float:
    r"""Return the smallest eigenvalue of $H H^\top / n$, in float64.

    It is the squared smallest singular value of $H / \sqrt n$ (taken from the
    triangular factor of $H^\top$), which is more exact than the product's spectrum.
    """
    if not np.all(np.isfinite(features)):
        return float("nan")
    inputs, width = features.shape
    if width < inputs:
        return 0.0
    triangular = np.linalg.qr(features.T, mode="r")
    return float(np.linalg.svd(triangular, compute_uv=False)[-1] ** 2 / width)


def root_mean_square(values: Float[np.ndarray, " ..."]) -> float:
    """Return the root mean square of all entries."""
    return float(np.sqrt(np.mean(np.square(values))))


def to_json(probe: Any) -> dict[str, Any]:
    """Return a probe as plain JSON values."""
    return {"probe": probe.name, **asdict(probe)}


def from_json(data: Mapping[str, Any]) -> Any:
    """Read what `to_json` wrote."""
    from widthlab.tensor_program import CovariancePreservation

    known = (Performance, Features, Updates, Stationarity, CovariancePreservation)
    kinds = {kind.name: kind for kind in known}
    settings = dict(data)
    name = settings.pop("probe")
    if name not in kinds:
        raise ValueError(f"no probe is called {name!r}; there are {list(kinds)}")
    return kinds[name](**settings)
