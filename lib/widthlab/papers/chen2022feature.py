r"""Rates and set-ups for Chen, Vanden-Eijnden and Bruna 2022.

Networks of which one layer flows, with the Gram matrix $G$ of its inputs, lose at least

$$-\frac{d}{dt} \log L \ge \frac2n \lambda_{\min}(K_t) \ge
  \frac2n \lambda_{\min}(G) \min_a \frac1m \sum_i c_i^2 \sigma'(h_i(x_a))^2 .
  \tag{B}$$

What is read of solutions here is one number for each of them, in their order. The
paper's own widths, learning rates and data are not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import attrs
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab import flow, kernels, runs
from widthlab.data import DataSpec, Synthetic
from widthlab.data.synthetic import Sample
from widthlab.fields import instance
from widthlab.flow import PartiallyTrained, Trajectory, windows
from widthlab.flow.preactivation import Preactivations, learning

if TYPE_CHECKING:
    import pandas as pd

FIT = 1e-4
"""Share of the initial loss at which networks that are compared stop."""

_ROUNDING = 1e-12
"""A change of log L below which it is float64's, and not the flow's."""

Numbers = Float[np.ndarray, " runs"]


# --- bound (B) ---------------------------------------------------------------


def promised(flows: Iterable[Preactivations], least_slope: float) -> Numbers:
    r"""Return the rates that (B) promises before training starts.

    Args:
        flows: the flows, with outer weights of size one.
        least_slope: $\delta$ with $|\sigma'| \ge \delta$ everywhere; the rate is
            $\frac2n \lambda_{\min}(G)\, \delta^2$.
    """
    return np.array(
        [
            2 * np.linalg.eigvalsh(one.gram)[0] * least_slope**2 / len(one.targets)
            for one in flows
        ]
    )


def smallest(flows: Iterable[Preactivations]) -> Numbers:
    r"""Return $\lambda_{\min}(G)$ of each flow."""
    return np.array([np.linalg.eigvalsh(one.gram)[0] for one in flows])


def left(solved: Iterable[Trajectory]) -> Numbers:
    """Return log10 of the share of the loss that is left where each solution ends."""
    losses = [run.observed["loss"] for run in solved]
    reached = [loss[np.isfinite(loss)] for loss in losses]
    return np.log10([loss[-1] / loss[0] for loss in reached])


def sustained(solved: Iterable[Trajectory]) -> Numbers:
    r"""Return how much of its rate each solution keeps, to the end $T$ of its times.

    The mean of $-d \log L / dt$ over the second half of the times, $[T/2, T]$, divided
    by that over the quarter before it, $[T/4, T/2]$. It tends to 1 where the loss
    decays exponentially, is 1/2 for every power law, $L \propto t^{-p}$, and tends to 0
    where the loss stalls; it is 0 where that quarter leaves the loss as it was.
    """
    return np.array([_sustained(run) for run in solved])


def _sustained(run: Trajectory) -> float:
    reached = np.isfinite(run.observed["loss"])
    times, logs = run.times[reached], np.log(run.observed["loss"][reached])
    quarter, half, end = np.interp(times[-1] / np.array([4, 2, 1]), times, logs)
    fall = quarter - half
    return (half - end) / 2 / fall if fall > _ROUNDING else 0.0


def least(solved: Iterable[Trajectory], quantity: str) -> Numbers:
    """Return the least value over windows of time, such as of "rate / bound".

    Args:
        solved: solutions that were observed with `flow.progress`.
        quantity: a column of `flow.windows`, or an expression in its columns.
    """
    return np.array([windows(run).eval(quantity).min() for run in solved])


def late(solved: Iterable[Trajectory], quantity: str) -> Numbers:
    """Return the value in the last window of time, likewise."""
    return np.array([windows(run).eval(quantity).iloc[-1] for run in solved])


def decay(run: Trajectory, unit: float = 1.0) -> pd.DataFrame:
    r"""Return what of the loss is left as time goes on, as measured and as predicted.

    Args:
        run: a solution that was observed with `flow.progress`.
        unit: of time.

    Returns:
        At each `time`, $\exp(-\int r\, dt)$ for each rate $r$ of `flow.windows`, under
        `rate` the loss itself, under `bound` all that (B) leaves at most.
    """
    import pandas as pd

    decays = windows(run)
    times = run.times[np.isfinite(run.observed["loss"])]
    shares = {
        name: np.exp(-np.cumsum([0.0, *np.diff(times) * decays[name]]))
        for name in decays.columns.drop("time")
    }
    return pd.DataFrame({"time": times / unit, **shares})


@attrs.frozen
class RawPixels:
    """Images as they are, with inputs of mean square norm one; data of a flow.

    Pixels are divided by one number and no mean is subtracted, so that images which
    are linearly independent stay so. Centred by their own mean, as by the default of
    `DataSpec`, $n$ images span $n - 1$ dimensions at most, and their Gram matrix is
    singular.

    Attributes:
        images: which images, with which targets.
    """

    images: DataSpec = attrs.field(converter=instance(DataSpec))

    def load(self) -> Sample:
        """Return the arrays, inputs in float64."""
        loaded = attrs.evolve(self.images, preprocess="raw01").load()
        x, x_test = (np.asarray(x, float) for x in (loaded.x_train, loaded.x_test))
        size = np.sqrt(np.mean(np.sum(x**2, axis=1)))
        y, y_test = (
            np.asarray(y, float)[:, 0] for y in (loaded.y_train, loaded.y_test)
        )
        return Sample(x / size, y, x_test / size, y_test, loaded.sha256)


def equal_inputs(flows: Iterable[Preactivations]) -> list[Preactivations]:
    """Return flows with the second input made equal to the first.

    The targets of the two stay different, so that no network fits them.
    """

    def merged(one: Preactivations) -> Preactivations:
        gram, start = np.array(one.gram), np.array(one.start)
        gram[1], start[1] = gram[0], start[0]
        gram[:, 1] = gram[:, 0]
        return replace(one, gram=gram, start=start)

    return [merged(one) for one in flows]


# --- what is learnt ----------------------------------------------------------


def fit(
    model: PartiallyTrained,
    tasks: Mapping[int, Any],
    *,
    share: float = 1.5,
    steps: int = 100_000,
    stop: float = FIT,
    must_fit: bool = True,
) -> pd.DataFrame:
    r"""Train a network for each task by gradient descent, to one share of the loss.

    Args:
        model: the network.
        tasks: data with test inputs, by the seed of the weights.
        share: step in units of $n / \lambda_{\max}(G)$; below 2 it is stable at all
            times, for $|\sigma'| \le 1$.
        steps: number of steps, at most.
        stop: share of the initial loss at which training ends.
        must_fit: refuse a network whose loss stays above that.

    Returns:
        Columns `seed`, `quantity` and `value`, with what `compared` observes at the end
        and `aligned`, the alignment of the kernel after training over that before.

    Raises:
        RuntimeError: a network does not fit.
    """
    import pandas as pd

    flows = [model.flow(task, seed=seed) for seed, task in tasks.items()]
    sizes = [share * one.stable_step() for one in flows]
    solved = runs.solve(
        flows,
        [[0.0, steps * size] for size in sizes],
        method=flow.Descent(sizes),
        observe=compared,
        stop_below=stop,
        dtype="float32",
    )
    pairs = zip(tasks, solved, strict=True)
    above = [seed for seed, run in pairs if run.status != "stopped"]
    if above and must_fit:
        raise RuntimeError(
            f"seeds {above} are above {stop:g} of their initial loss after {steps} "
            "steps; allow more steps, or say must_fit=False"
        )
    last = pd.DataFrame(run.last for run in solved).astype(float)
    before = np.array([run.observed["alignment"][0] for run in solved])
    last = last.assign(seed=[*tasks], aligned=last["alignment"] / before)
    return last.melt("seed", var_name="quantity")


def compared(one: Preactivations, state: Float[Array, "n m"]) -> dict[str, Array]:
    """Observe `widthlab.flow.preactivation.learning`, and how like neurons differ.

    `spread` is the standard deviation over those of outer weight 1, relative to the
    size of their pre-activations.
    """
    h = one.preactivations(state)
    alike = h[:, : h.shape[1] // 2]  # the first half has the outer weight 1
    spread = jnp.sqrt(jnp.mean(jnp.var(alike, axis=1)) / jnp.mean(alike**2))
    return learning(one, state) | {"spread": spread}


@dataclass(frozen=True)
class KernelRegression(runs.Computed):
    """Regression with the kernel of infinitely wide P-3L in NTK scaling.

    Attributes:
        data: the task.
        share: share of the initial loss at which it stops.
    """

    data: Synthetic
    share: float = FIT

    def run(self) -> list[dict[str, Any]]:
        """Return test errors, in units of the targets' mean square.

        `test_error` at the share of the loss; `best_error` at the time at which it is
        least, which takes the test targets to know.
        """
        sample, n = self.data.load(), self.data.n_train
        model = PartiallyTrained(width=2, inner_width=None, parametrization="ntk")
        both = np.concatenate([sample.x_train, sample.x_test])
        kernel = model.limit_kernel(both)
        learnt = kernels.KernelFlow.fit(kernel[:n, :n], sample.y_train)
        end = learnt.time_to(self.share)
        outputs = learnt.test(
            np.append(np.geomspace(end / 1e6, 1e3 * end, 361), end), kernel[n:, :n]
        )
        errors = np.mean((outputs - sample.y_test) ** 2, axis=1)
        errors /= np.mean(sample.y_test**2)
        return [
            {
                "task": self.data.task,
                "examples": n,
                "seed": self.data.seed,
                "test_error": float(errors[-1]),
                "best_error": float(errors.min()),
            }
        ]
