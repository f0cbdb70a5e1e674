r"""The limit of infinite width: a few trained nodes, and a frozen kernel for the rest.

Derived here. As $m$ grows the largest masses tend to numbers, and of all other nodes
each moves ever less. So keep the first $J$ nodes as they are, and replace the others by
the kernel that they have together while they do not move:

$$f = f_{\mathrm{head}}(W_t) + b_t, \qquad
  \dot b = -\frac2n \Big(\sum_{j > J} \lambda_j\Big)\, \Theta^*\, r, \qquad
  \dot w_j = -\nabla_{w_j} L \quad (j \le J),$$

with the residual $r = f - y$ on the training inputs, and $b_0$ what the other nodes put
out at the start. $b$ lives on the training and the test inputs. For $\gamma = 1$ and
$J = 0$ this is training with the frozen limit of the tangent kernel.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.model import AnyArray
from widthlab.papers.caron2023asymmetrical.gram import both_active
from widthlab.papers.caron2023asymmetrical.network import Network, State, step_at

HEAD = 60
"""$J$ of the chapter."""


@functools.partial(
    jax.tree_util.register_dataclass,
    meta_fields=(),
    data_fields=("head", "kernel", "rest"),
)
@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    r"""The limit model of a network with one output: a `flow.Flow`.

    Attributes:
        head: the network of the first $J$ nodes.
        kernel: $\sum_{j > J} \lambda_j\, \Theta^*$, with a row for each training and
            test input and a column for each training input.
        rest: $b_0$, for each training and test input.
    """

    head: Network
    kernel: Float[AnyArray, "... all n"]
    rest: Float[AnyArray, "... all"]

    def initial(self) -> State:
        """Return the head's weights and the rest's outputs at time 0."""
        return {**self.head.initial(), "rest": jnp.asarray(self.rest)}

    def residual(self, state: State) -> Float[Array, " n"]:
        """Return outputs less targets at the training inputs."""
        count = self.head.inputs.shape[0]
        outputs = self.head.outputs(jnp.asarray(state["inner"]), self.head.inputs)
        return outputs[:, 0] + state["rest"][:count] - self.head.targets[:, 0]

    def loss(self, state: State) -> Float[Array, ""]:
        """Return the mean square error over training inputs."""
        return jnp.mean(jnp.square(self.residual(state)))

    def velocity(self, state: State) -> State:
        """Return one step, as `network.Network` does."""
        head, inner = self.head, jnp.asarray(state["inner"])
        residual = self.residual(state)
        slope, step = (2 / residual.size) * residual, step_at(head.steps, state["time"])
        z = head.inputs @ inner.T
        readout = jnp.sqrt(head.masses / head.inputs.shape[1]) * head.outer[:, 0]
        back = jnp.where(z > 0, slope[:, None] * readout, 0)
        return {
            "inner": -step * (back.T @ head.inputs),
            "time": step,
            "rest": -step * (self.kernel @ slope),
        }


def limit_of(network: Network, nodes: int = HEAD) -> Limit:
    """Return the limit model of a network: with its first nodes, masses and start.

    Args:
        network: with one output.
        nodes: $J$, from 1 to one less than the width.

    Raises:
        ValueError: several outputs, or so many nodes that no rest is left.
    """
    outputs = np.shape(network.outer)[-1]
    width = len(network.masses)
    if outputs != 1 or not 1 <= nodes < width:
        raise ValueError(
            f"the network has {outputs} outputs and {width} nodes, and {nodes} shall "
            "be trained; it needs one output and a rest of at least one node"
        )
    x, tests = (np.asarray(v, np.float64) for v in (network.inputs, network.tests))
    every, dim = np.concatenate([x, tests]), x.shape[1]
    agree = both_active(every)[:, : len(x)]
    kernel = network.masses[nodes:].sum() * (every @ x.T / dim) * agree
    readout = np.sqrt(network.masses[nodes:] / dim) * network.outer[nodes:, 0]
    rest = np.maximum(every @ np.asarray(network.inner[nodes:]).T, 0) @ readout
    head = dataclasses.replace(
        network,
        inner=network.inner[:nodes],
        outer=network.outer[:nodes],
        masses=network.masses[:nodes],
        rates=network.rates[:nodes],
    )
    return Limit(head, kernel.astype(np.float32), rest.astype(np.float32))


def observe_limit(limit: Limit, state: State) -> Mapping[str, Array]:
    """Observe risks, outputs, and how far the head's nodes moved."""
    count = limit.head.inputs.shape[0]
    inner = jnp.asarray(state["inner"])
    tested = limit.head.outputs(inner, limit.head.tests)[:, 0] + state["rest"][count:]
    return {
        "clock": jnp.asarray(state["time"]),
        "loss": limit.loss(state),
        "test": jnp.mean(jnp.square(tested - limit.head.answers[:, 0])),
        "output": limit.residual(state) + limit.head.targets[:, 0],
        "tested": tested,
        "moved": jnp.linalg.norm(inner - limit.head.inner, axis=1),
    }


def frozen_outputs(
    start: Float[np.ndarray, " n"],
    targets: Float[np.ndarray, " n"],
    gram: Float[np.ndarray, "n n"],
    time: float,
) -> Float[np.ndarray, " n"]:
    r"""Return the outputs at a time under a kernel that stays what it is.

    $$f(t) = y + e^{-2 \Theta t / n} (f(0) - y)$$

    Args:
        start: $f(0)$ at the training inputs.
        targets: $y$.
        gram: $\Theta$.
        time: $t$.
    """
    values, vectors = np.linalg.eigh(np.asarray(gram, np.float64))
    decay = np.exp(-2 * values * time / len(values))
    return targets + vectors @ (decay * (vectors.T @ (start - targets)))
