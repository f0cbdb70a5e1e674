r"""Transfer from few features: heads trained on the nodes of greatest mass.

The authors give a small network the $k$ features $\sqrt{\lambda_j}\,
\mathrm{relu}(w_j \cdot x / \sqrt d)$ of greatest mass, and train it by gradient descent
with steps of one size. So what differs between scalings is also how *large* its inputs
are: of order $m^{-1/2}$ for $\gamma = 1$. `standardised` takes that away.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.flow import Descent
from widthlab.model import AnyArray
from widthlab.papers.caron2023asymmetrical.tasks import Split
from widthlab.runs.flows import solve

State = Mapping[str, Float[AnyArray, " ..."]]

HIDDEN = 32
"""Units in each of a head's two hidden layers."""


@functools.partial(
    jax.tree_util.register_dataclass,
    meta_fields=(),
    data_fields=("start", "inputs", "targets", "tests"),
)
@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A head with two hidden layers and biases: a `flow.Flow` of the mean square error.

    Attributes:
        start: weights and biases.
        inputs: features of the training inputs.
        targets: their targets.
        tests: features of the test inputs.
    """

    start: State
    inputs: Float[AnyArray, "... n k"]
    targets: Float[AnyArray, "... n c"]
    tests: Float[AnyArray, "... q k"]

    def initial(self) -> State:
        """Return the start."""
        return jax.tree.map(jnp.asarray, dict(self.start))

    def outputs(self, state: State, x: Float[AnyArray, "n k"]) -> Float[Array, "n c"]:
        """Return the head's outputs."""
        for layer in (0, 1):
            x = jnp.maximum(x @ state[f"w{layer}"] + state[f"b{layer}"], 0)
        return jnp.asarray(x @ state["w2"] + state["b2"])

    def loss(self, state: State) -> Float[Array, ""]:
        """Return the mean square error."""
        return jnp.mean(jnp.square(self.outputs(state, self.inputs) - self.targets))

    def velocity(self, state: State) -> State:
        """Return the negative gradient."""
        return jax.tree.map(jnp.negative, jax.grad(self.loss)(dict(state)))


def observe_head(head: Head, state: State) -> Mapping[str, Array]:
    """Observe the risk, and the outputs at test inputs."""
    return {"loss": head.loss(state), "tested": head.outputs(state, head.tests)}


def head_on(data: Split, seed: int, hidden: int = HIDDEN) -> Head:
    r"""Return a head on features, with weights uniform in $\pm$ fan-in$^{-1/2}$."""
    rng = np.random.default_rng([seed, 64])
    sizes = (data.x.shape[1], hidden, hidden, data.y.shape[1])
    start = {}
    for layer, (fan_in, out) in enumerate(itertools.pairwise(sizes)):
        bound = fan_in**-0.5
        start[f"w{layer}"] = rng.uniform(-bound, bound, (fan_in, out))
        start[f"b{layer}"] = rng.uniform(-bound, bound, out)
    arrays = (start, data.x, data.y, data.x_test)
    return Head(*jax.tree.map(lambda v: np.asarray(v, np.float32), arrays))


def features(
    inner: Float[np.ndarray, "m d"],
    masses: Float[np.ndarray, " m"],
    data: Split,
    k: int,
) -> Split:
    """Return the data with the features of greatest mass as inputs.

    Masses fall, so that these are the first `k`.
    """
    scale = np.sqrt(masses[:k] / data.x.shape[1])
    x, tests = (scale * np.maximum(v @ inner[:k].T, 0) for v in (data.x, data.x_test))
    return Split(x, data.y, tests, data.y_test)


def standardised(data: Split) -> Split:
    """Return features with mean 0 and standard deviation 1 over the training inputs.

    A feature that is the same for all of them stays 0.
    """
    mean, spread = data.x.mean(axis=0), data.x.std(axis=0)
    size = np.where(spread > 0, spread, 1)
    x, tests = ((v - mean) / size for v in (data.x, data.x_test))
    return Split(x, data.y, np.where(spread > 0, tests, 0), data.y_test)


def accuracy(
    outputs: Float[np.ndarray, "... q c"], answers: Float[np.ndarray, "q c"]
) -> Float[np.ndarray, " ..."]:
    """Return the share of inputs whose largest output is that of the right class."""
    right = outputs.argmax(axis=-1) == answers.argmax(axis=-1)
    return np.asarray(right.mean(axis=-1))


def head_accuracies(
    data: Sequence[Split],
    seeds: Sequence[int],
    times: Sequence[float],
    size: float = 1.0,
) -> Float[np.ndarray, "heads times"]:
    """Return the test accuracies of heads at some times of their training.

    Args:
        data: features and targets of each.
        seeds: of their starts.
        times: steps times their size.
        size: of each step.
    """
    heads = [head_on(*pair) for pair in zip(data, seeds, strict=True)]
    found = solve(
        heads,
        np.asarray(times, float),
        method=Descent(size),
        observe=observe_head,
        dtype="float32",
    )
    pairs = zip(found, data, strict=True)
    return np.stack([accuracy(run.observed["tested"], d.y_test) for run, d in pairs])


def ridge_accuracy(data: Split, penalty: float = 1e-3) -> float:
    r"""Return the test accuracy of a linear head by ridge regression.

    Minimises $\frac1n \|X B - Y\|^2 + \rho \|B\|^2$ after centring, in double
    precision. It sees the scale of features only where $\rho$ matters.
    """
    x, y = (np.asarray(v, np.float64) for v in (data.x, data.y))
    mean, level = x.mean(axis=0), y.mean(axis=0)
    x = x - mean
    gram = x.T @ x / len(x) + penalty * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (y - level) / len(x))
    return float(accuracy((data.x_test - mean) @ weights + level, data.y_test))
