r"""Rates and set-ups for Chen, Vanden-Eijnden and Bruna 2022.

Networks of which one layer flows, with the Gram matrix $G$ of its inputs, lose at least

$$-\frac{d}{dt} \log L \ge \frac2n \lambda_{\min}(K_t) \ge
  \frac2n \lambda_{\min}(G) \min_a \frac1m \sum_i c_i^2 \sigma'(h_i(x_a))^2 .
  \tag{B}$$

What is read of solutions here is one number for each of them, in their order. The
paper's own widths, learning rates and data are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab import flow, kernels, runs
from widthlab.claims import Estimate, extent
from widthlab.data import Synthetic
from widthlab.flow import PartiallyTrained, Preactivations, Trajectory, windows

if TYPE_CHECKING:
    import pandas as pd

FIT = 1e-4
"""Share of the initial loss at which networks that are compared stop."""

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


def ranges(
    cases: Mapping[Any, Iterable[Any]], of: Callable[..., Numbers], *what: str
) -> dict[Any, Estimate]:
    """Return for each case the range, over seeds, of what is read off its solutions.

    Args:
        cases: solutions or flows in order of seeds, for each case.
        of: `left`, `least`, `late` or `smallest`.
        *what: what these take besides.
    """
    return {case: extent(of(by_seed, *what)) for case, by_seed in cases.items()}


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
    tasks: Sequence[Any],
    *,
    share: float = 1.5,
    steps: int = 100_000,
    must_fit: bool = True,
) -> pd.DataFrame:
    r"""Train a network for each task by gradient descent, to one share of the loss.

    Args:
        model: the network.
        tasks: data with test inputs, for one seed after the other from 0 on; weights
            have the same seed.
        share: step in units of $n / \lambda_{\max}(G)$; below 2 it is stable at all
            times, for $|\sigma'| \le 1$.
        steps: number of steps, at most.
        must_fit: refuse a network whose loss stays above `FIT` of the initial one.

    Returns:
        Columns `seed`, `quantity` and `value`, with what `compared` observes at the end
        and `aligned`, the alignment of the kernel after training over that before.

    Raises:
        RuntimeError: a network does not fit.
    """
    import pandas as pd

    flows = [model.flow(task, seed=seed) for seed, task in enumerate(tasks)]
    sizes = [share * one.stable_step() for one in flows]
    solved = runs.solve(
        flows,
        [[0.0, steps * size] for size in sizes],
        method=flow.Descent(sizes),
        observe=compared,
        stop_below=FIT,
        dtype="float32",
    )
    above = [seed for seed, run in enumerate(solved) if run.status != "stopped"]
    if above and must_fit:
        raise RuntimeError(
            f"seeds {above} are above {FIT:g} of their initial loss after {steps} "
            "steps; allow more steps, or say must_fit=False"
        )
    last = pd.DataFrame(run.last for run in solved).astype(float)
    before = np.array([run.observed["alignment"][0] for run in solved])
    last = last.assign(seed=range(len(tasks)), aligned=last["alignment"] / before)
    return last.melt("seed", var_name="quantity")


def compared(one: Preactivations, state: Float[Array, "n m"]) -> dict[str, Array]:
    """Observe what `flow.learning` does, and how neurons of equal outer weight differ.

    `spread` is the standard deviation over those of weight 1, relative to the size of
    their pre-activations.
    """
    h = one.preactivations(state)
    alike = h[:, : h.shape[1] // 2]  # the first half has the outer weight 1
    spread = jnp.sqrt(jnp.mean(jnp.var(alike, axis=1)) / jnp.mean(alike**2))
    return flow.learning(one, state) | {"spread": spread}


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
        """Return the test error, in units of the targets' mean square."""
        sample, n = self.data.load(), self.data.n_train
        model = PartiallyTrained(width=2, inner_width=None, parametrization="ntk")
        both = np.concatenate([sample.x_train, sample.x_test])
        kernel = model.limit_kernel(both)
        learnt = kernels.KernelFlow.fit(kernel[:n, :n], sample.y_train)
        outputs = learnt.test(learnt.time_to(self.share), kernel[n:, :n])
        error = np.mean((outputs - sample.y_test) ** 2) / np.mean(sample.y_test**2)
        return [{"task": self.data.task, "examples": n, "test_error": float(error)}]
