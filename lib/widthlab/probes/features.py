"""What a network computes: features of inputs layer by layer, and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from widthlab.fields import count, truth
from widthlab.model import MLP
from widthlab.probes.rows import (
    Row,
    Rows,
    relative_change,
    root_mean_square,
    smallest_eigenvalue,
)
from widthlab.training.state import Data


@attrs.frozen
class Features:
    r"""Features of the first training inputs: change, Gram spectrum, coordinates.

    With $H_t \in R^{P \times n}$ the features of $P$ inputs in one layer at step $t$:

    - `feature_change`: mean over inputs of $\|h_t - h_0\| / \|h_0\|$, $O(1)$ in width
      where features are learnt (Chen et al. 2025, first figure);
    - `lambda_min`: smallest eigenvalue of $H_t H_t^\top / n$;
    - `lambda_min_joint`: the same for $[H_0; H_t]$, the $2P$ features of both times;
    - `rms`, `rms_change`: root mean square of the coordinates of $h_t$ and $h_t - h_0$.

    Each is given for activations $x^l$ under these names and for pre-activations $h^l$
    with `pre_` in front. `output_rms` and `output_rms_change` describe the network's
    output. Inputs with $h_0 = 0$ are left out of `feature_change`, which has no row
    where there are no others.

    Attributes:
        inputs: number $P$ of inputs. Widths must be at least $2P$, or the joint Gram
            matrix is singular for want of dimensions.
        spectra: whether to take eigenvalues, by far the slowest part.
    """

    inputs: int = attrs.field(default=16, converter=count())
    spectra: bool = attrs.field(default=True, converter=truth())
    name: ClassVar[str] = "features"

    def check(self, experiment: Any) -> None:
        """Refuse widths for which the joint Gram matrix is singular."""
        if self.spectra and min(experiment.shape.widths) < 2 * self.inputs:
            raise ValueError(
                f"width {experiment.width} is too small for the features of "
                f"{self.inputs} inputs: the joint Gram matrix needs at least "
                f"{2 * self.inputs} dimensions; widen the network, or use "
                "Features(inputs=..., spectra=False)"
            )

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return pre-activations, activations and outputs of the inputs."""
        del initial, loss
        signals = model.features(data.x_train[: self.inputs])
        return {
            "pre_": signals.preactivations,
            "": signals.activations,
            "output": (signals.output,),
        }

    def rows(self, history: Sequence[Any]) -> Rows:
        """Compare each checkpoint with the first one."""
        return [list(self._rows_at(history[0], measured)) for measured in history]

    def _rows_at(self, first: Any, now: Any) -> Iterator[Row]:
        for kind in ("pre_", ""):
            for layer, (start, end) in enumerate(
                zip(first[kind], now[kind], strict=True), 1
            ):
                before = np.asarray(start, np.float64)
                after = np.asarray(end, np.float64)
                if before.any():
                    change = relative_change(before, after)
                    yield f"{kind}feature_change", layer, change
                if self.spectra:
                    yield f"{kind}lambda_min", layer, smallest_eigenvalue(after)
                    joint = np.concatenate([before, after])
                    yield f"{kind}lambda_min_joint", layer, smallest_eigenvalue(joint)
                yield f"{kind}rms", layer, root_mean_square(after)
                yield f"{kind}rms_change", layer, root_mean_square(after - before)
        before = np.asarray(first["output"][0], np.float64)
        after = np.asarray(now["output"][0], np.float64)
        yield "output_rms", 0, root_mean_square(after)
        yield "output_rms_change", 0, root_mean_square(after - before)


@attrs.frozen
class Outputs:
    """The outputs $f(x_i)$ of the network on the first training inputs.

    Rows are `output[i,k]`, coordinate $k$ of the output on input $i$, both counted from
    0, and `output_mean_abs`, the mean of $|f_k(x_i)|$ over both. Their layer is 0.

    Attributes:
        inputs: number of inputs.
    """

    inputs: int = attrs.field(default=16, converter=count())
    name: ClassVar[str] = "outputs"

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return the outputs."""
        del initial, loss
        return {"output": model(data.x_train[: self.inputs])}

    def rows(self, history: Sequence[Any]) -> Rows:
        """Return a row for each number, and their mean magnitude."""
        out: Rows = []
        for measured in history:
            values = np.asarray(measured["output"], np.float64)
            rows: list[Row] = [
                (f"output[{i},{k}]", 0, float(value))
                for (i, k), value in np.ndenumerate(values)
            ]
            rows.append(("output_mean_abs", 0, float(np.mean(np.abs(values)))))
            out.append(rows)
        return out
