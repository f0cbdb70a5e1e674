r"""Networks with asymmetrical nodes, trained by full-batch gradient descent.

$f(x) = \sum_j \sqrt{\lambda_j}\, a_j\, \mathrm{relu}(w_j \cdot x / \sqrt d)$, where
$a_j = \pm 1$ and $\lambda_j$ are frozen and the loss is the mean square error, over
outputs too. Time is the number of steps times their size, as gradient flow has it.

The authors take 50,000 steps of size 1, far inside the limit of stability. A step may
grow with time: what has not been learnt by time $t$ changes slowly from then on.
`Steps` has this schedule, and the clock is a part of the state.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.fields import number
from widthlab.flow import Descent, Trajectory
from widthlab.model import AnyArray
from widthlab.runs.flows import solve

State = Mapping[str, Float[AnyArray, " ..."]]
"""Rows $w_j$ under `inner`, and the time under `time`."""


@attrs.frozen
class Steps:
    r"""Sizes of steps: $\eta(t) = \min(\max(\eta_0, \rho\, t), \eta_1)$.

    Attributes:
        first: $\eta_0$.
        share: $\rho$; 0 for steps of one size.
        largest: $\eta_1$, below the limit of stability, $n k$ over the largest
            eigenvalue of the Gram matrix ($k$ outputs).

    Example:
        >>> Steps(1.0, 0.0, 1.0).until([0, 5, 20])
        [0, 5, 20]
        >>> Steps(1.0, 0.5, 1e9).until([100.0])
        [12]
    """

    first: float = attrs.field(converter=number(above=0))
    share: float = attrs.field(default=0.0, converter=number(least=0))
    largest: float = attrs.field(
        default=np.inf, converter=number(above=0, infinite=True)
    )

    def until(self, times: Any) -> list[int]:
        """Return how many steps it takes to come to each of the times, or past it."""
        wanted, counts, now, count = [*map(float, times)], [], 0.0, 0
        for time in wanted:
            while now < time * (1 - 1e-6):
                now += min(max(self.first, self.share * now), self.largest)
                count += 1
            counts.append(count)
        return counts

    @property
    def numbers(self) -> Float[np.ndarray, " 3"]:
        """The three numbers as a flow holds them."""
        return np.array([self.first, self.share, self.largest], np.float32)


def step_at(
    steps: Float[AnyArray, " 3"], time: Float[AnyArray, ""]
) -> Float[Array, ""]:
    r"""Return $\eta(t)$."""
    first, share, largest = jnp.asarray(steps)
    return jnp.minimum(jnp.maximum(first, share * time), largest)


@functools.partial(
    jax.tree_util.register_dataclass,
    meta_fields=(),
    data_fields=(
        *("inner", "outer", "masses", "inputs", "targets", "tests", "answers"),
        *("rates", "steps"),
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class Network:
    r"""A network and its data: a `flow.Flow`, in which one unit of time is a step.

    Attributes:
        inner: $w_j$ at the start.
        outer: $a_j$, for each output.
        masses: $\lambda_j$.
        inputs: training inputs.
        targets: their targets, for each output.
        tests: test inputs.
        answers: their targets.
        rates: factor of each node's gradient; 1 for gradient descent.
        steps: numbers of a `Steps`.
    """

    inner: Float[AnyArray, "... m d"]
    outer: Float[AnyArray, "... m k"]
    masses: Float[AnyArray, "... m"]
    inputs: Float[AnyArray, "... n d"]
    targets: Float[AnyArray, "... n k"]
    tests: Float[AnyArray, "... q d"]
    answers: Float[AnyArray, "... q k"]
    rates: Float[AnyArray, "... m"]
    steps: Float[AnyArray, "... 3"]

    def initial(self) -> State:
        """Return the weights at time 0."""
        return {"inner": jnp.asarray(self.inner), "time": jnp.zeros_like(self.steps[0])}

    def _parts(self, inner: AnyArray) -> tuple[Array, Array, Array]:
        """Pre-activations, the scaled read-out, and the residual."""
        z = jnp.asarray(self.inputs @ inner.T)
        readout = jnp.sqrt(self.masses / self.inputs.shape[1])[:, None] * self.outer
        return z, readout, jnp.asarray(jnp.maximum(z, 0) @ readout - self.targets)

    def loss(self, state: State) -> Float[Array, ""]:
        """Return the mean square error over training inputs and outputs."""
        return jnp.mean(jnp.square(self._parts(state["inner"])[2]))

    def velocity(self, state: State) -> State:
        r"""Return one step, $-\eta(t)\, \nabla L$, and $\eta(t)$ for the clock."""
        z, readout, residual = self._parts(state["inner"])
        back = jnp.where(z > 0, (2 / residual.size) * residual @ readout.T, 0)
        step = step_at(self.steps, state["time"])
        gradient = back.T @ self.inputs
        return {"inner": -step * self.rates[:, None] * gradient, "time": step}

    def outputs(
        self, inner: Float[AnyArray, "m d"], x: Float[AnyArray, "q d"]
    ) -> Float[Array, "q k"]:
        """Return the network's outputs at other inputs."""
        readout = jnp.sqrt(self.masses / x.shape[1])[:, None] * self.outer
        return jnp.asarray(jnp.maximum(x @ inner.T, 0) @ readout)

    def gram(self, inner: Float[AnyArray, "m d"]) -> Float[Array, "n n"]:
        r"""Return $\Theta$ at some weights."""
        active = (self.inputs @ inner.T > 0).astype(self.inputs.dtype)
        agree = (active * self.masses) @ active.T
        return jnp.asarray(self.inputs @ self.inputs.T / self.inputs.shape[1] * agree)


def observe(net: Network, state: State) -> dict[str, Array]:
    r"""Observe risks, outputs, the Gram matrix, and how far nodes and features moved.

    `feature_change` is $\|\Phi_t - \Phi_0\|_F / \|\Phi_0\|_F$ of the features
    $\sqrt{\lambda_j}\, \mathrm{relu}(w_j \cdot x / \sqrt d)$, and `moved` has
    $\|w_j(t) - w_j(0)\|$ of every node.
    """
    inner = state["inner"]
    scale = jnp.sqrt(net.masses)
    now, then = (
        scale * jnp.maximum(net.inputs @ w.T, 0)
        for w in (inner, jnp.asarray(net.inner))
    )
    tested = net.outputs(inner, net.tests)
    change = jnp.sqrt(jnp.sum(jnp.square(now - then)) / jnp.sum(jnp.square(then)))
    return {
        "clock": jnp.asarray(state["time"]),
        "loss": net.loss(state),
        "test": jnp.mean(jnp.square(tested - net.answers)),
        "output": net.outputs(inner, net.inputs),
        "tested": tested,
        "gram": net.gram(inner),
        "moved": jnp.linalg.norm(inner - net.inner, axis=1),
        "feature_change": change,
    }


def observe_outputs(net: Network, state: State) -> dict[str, Array]:
    """Observe the risk and the outputs at test inputs, where more would be wasted."""
    return {
        "clock": jnp.asarray(state["time"]),
        "loss": net.loss(state),
        "tested": net.outputs(state["inner"], net.tests),
    }


def train(
    networks: list[Any], times: Any, steps: Steps, look: Any = observe
) -> list[Trajectory]:
    """Train flows of one shape, and keep what was observed at some times.

    Args:
        networks: flows whose `steps` are those given.
        times: increasing, in the time of gradient flow.
        steps: the schedule.
        look: what to observe.
    """
    counts = steps.until(times)
    return solve(
        networks,
        np.array(counts, float),
        method=Descent(1.0),
        observe=look,
        dtype="float32",
    )
