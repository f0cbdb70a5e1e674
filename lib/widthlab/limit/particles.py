r"""Training in the limit, by particles: one repeat.

With $\langle a, b \rangle$ the mean over the particles of a layer, $\chi_{t,i}$ the
derivative of the loss by $f_t(\xi_i)$, and $\delta^l$ the derivative by $h^l$ in units
of one particle's share,

$$\begin{aligned}
h^1_t(\xi) &= W^1_0 \xi - \eta_1 \sum_{s<t,\,j} \delta^1_{s,j} (\xi_j \cdot \xi), &
h^l_t(\xi) &= W^l_0 x^{l-1}_t(\xi) - \eta_l \sum_{s<t,\,j} \delta^l_{s,j}
  \langle x^{l-1}_{s,j}, x^{l-1}_t(\xi) \rangle, \\
z^L_{t,i} &= v_t \cdot \chi_{t,i}, &
z^l_{t,i} &= W^{l+1\top}_0 \delta^{l+1}_{t,i} - \eta_{l+1} \sum_{s<t,\,j} x^l_{s,j}
  \langle \delta^{l+1}_{s,j}, \delta^{l+1}_{t,i} \rangle, \\
v_t &= v_0 - \eta_o \sum_{s<t,\,j} x^L_{s,j} \chi_{s,j}, &
\delta^l &= \varphi'(h^l)\, z^l, \qquad x^l = \varphi(h^l), \qquad
f_t(\xi) = \langle v_t, x^L_t(\xi) \rangle .
\end{aligned}$$

These are the equations of Yang and Hu (Tensor Programs IV, 2021) and of Bordelon and
Pehlevan (2022) for discrete time, with errors taken into the backward signals, of which
there is one an example, however many outputs there are.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from widthlab import activations
from widthlab.limit.draws import Block, Draws, without
from widthlab.limit.problem import Problem
from widthlab.limit.weights import _SMALLEST, Hidden, Side
from widthlab.training.losses import LOSSES


class Particles:
    r"""One repeat: particles, weights, and what training leaves.

    Attributes:
        problem: what is trained.
        coordinates: all inputs in an orthonormal basis of their span, a row each.
        first: $W^1$ in this basis.
        hidden: $W^2, \dots, W^L$.
        out: $v$, or None before the first forward pass.
    """

    def __init__(
        self,
        problem: Problem,
        particles: int,
        seed: int = 0,
        *,
        draws: str = "matched",
        tolerance: float = 1e-3,
        response: bool = True,
    ) -> None:
        """Draw what is known before any step; arguments as for `LimitRun`."""
        self.problem, self.tolerance = problem, tolerance
        self.matched = draws == "matched"
        depth, gains = problem.depth, problem.canonical.gains
        self.draws = [Draws(particles, (seed, layer), draws) for layer in range(depth)]
        self.coordinates = _spanned(problem.every_input())
        self.first = gains[0] * self.draws[0].take(self.coordinates.shape[1])
        self.hidden = [
            Hidden(
                gain, Side(above, particles), Side(below, particles), response=response
            )
            for gain, below, above in zip(
                gains[1:-1], self.draws[:-1], self.draws[1:], strict=True
            )
        ]
        self.out: Block | None = None
        # How far features have moved, and how large gradients were: what is left out
        # is small beside these.
        self.start: list[tuple[Block, Block]] = []
        self.moved, self.steepest = np.zeros(depth), np.zeros(depth)

    def run(self) -> dict[str, np.ndarray]:
        r"""Train, and return what is observed at every step.

        Returns:
            `outputs` (step, input, output), `loss` (step: of its batch, and after the
            last of all examples), and `gram` (step, layer, kind, ...): the mean over
            particles of the products of $[H_0; H_t]$ for the $2P$ features of the
            training inputs at both times, of pre-activations (0) and activations (1).
            `ranks` are those of forward and backward signals of each hidden matrix.
        """
        problem = self.problem
        steps, size, depth = problem.steps, problem.size, problem.depth
        outputs = np.empty((steps + 1, len(self.coordinates), problem.outputs))
        losses, grams = (
            np.empty(steps + 1),
            np.empty((steps + 1, depth, 2, *[2 * size] * 2)),
        )
        targets = problem.every_target()
        for step in range(steps + 1):
            signals, slopes, known = self.forward()
            outputs[step] = self.read_out(signals[-1][1])
            grams[step] = self._grams(signals)
            places = problem.batch(step) if step < steps else np.arange(size)
            losses[step], errors = loss_and_errors(
                problem.loss, outputs[step, places], targets[places]
            )
            if step < steps:
                self.step(step, places, errors, signals, slopes, known)
        ranks = [
            [side.basis.now.shape[1] for side in (matrix.forward, matrix.backward)]
            for matrix in self.hidden
        ]
        return {
            "outputs": outputs,
            "loss": losses,
            "gram": grams,
            "ranks": np.array(ranks, int).reshape(depth - 1, 2),
        }

    def forward(self) -> tuple[list[tuple[Block, Block]], list[Block], list[Any]]:
        """Return $(h, x)$ and the slopes of each layer, and coefficients of the x."""
        h = self.first @ self.coordinates.T
        signals, slopes, known = [], [], []
        for layer in range(self.problem.depth):
            x, slope = activated(self.problem.activation, h)
            signals.append((h, x))
            slopes.append(slope)
            if layer < len(self.hidden):
                h, c = self.hidden[layer].act(x, self._least(layer, x))
                known.append(c)
        self.start = self.start or signals
        return signals, slopes, known

    def read_out(self, x: Block) -> Float[np.ndarray, "inputs outputs"]:
        """Return the outputs; before the first step, draw the read-out."""
        if self.out is None:
            gain = self.problem.canonical.gains[-1]
            out = gain * self.draws[-1].take(self.problem.outputs)
            # In the limit the outputs vanish at the start.
            self.out = without(out, _basis(x)) if self.matched else out
        return x.T @ self.out / len(x)

    def step(
        self,
        step: int,
        places: np.ndarray,
        errors: Float[np.ndarray, "batch outputs"],
        signals: list[tuple[Block, Block]],
        slopes: list[Block],
        known: list[Any],
    ) -> None:
        """Take a step of gradient descent: all layers see the weights before it."""
        assert self.out is not None
        canonical = self.problem.canonical
        rates = canonical.rates if step else canonical.first_rates
        d = slopes[-1][:, places] * (self.out @ errors.T)
        self.out = self.out - rates[-1] * signals[-1][1][:, places] @ errors
        for layer in range(len(self.hidden), 0, -1):
            matrix = self.hidden[layer - 1]
            self.steepest[layer] = max(self.steepest[layer], _size(d))
            least = self.tolerance * self.steepest[layer]
            z, back = matrix.act_back(d, least)
            matrix.update(rates[layer], back, known[layer - 1][:, places])
            matrix.keeps = canonical.keeps
            d = slopes[layer - 1][:, places] * z
        self.first = self.first - rates[0] * d @ self.coordinates[places]

    def _least(self, layer: int, x: Block) -> float:
        """Return the size of what may be left out of a layer's features."""
        floor = _SMALLEST * _size(x)
        if not self.start:
            return floor
        moved = _size(x - self.start[layer][1])
        self.moved[layer] = max(self.moved[layer], moved)
        return max(floor, self.tolerance * self.moved[layer])

    def _grams(
        self, signals: list[tuple[Block, Block]]
    ) -> Float[np.ndarray, "depth 2 both both"]:
        size = self.problem.size
        found = []
        for before, now in zip(self.start, signals, strict=True):
            pairs = zip(before, now, strict=True)
            both = [
                np.concatenate([a[:, :size], b[:, :size]], axis=1) for a, b in pairs
            ]
            found.append([f.T @ f / len(f) for f in both])
        return np.array(found)


def _size(block: Block) -> float:
    """Return the largest root mean square over particles."""
    return float(np.sqrt(np.mean(block**2, axis=0)).max())


def _basis(block: Block) -> Block:
    """Return an orthonormal basis over particles of what columns span."""
    q, r = np.linalg.qr(block)
    sizes = np.abs(np.diag(r))
    return q[:, sizes > _SMALLEST * sizes.max()] * np.sqrt(len(block))


def _spanned(
    inputs: Float[np.ndarray, "inputs input"],
) -> Float[np.ndarray, "inputs rank"]:
    """Return coordinates in an orthonormal basis, the leading direction first."""
    left, sizes, _ = np.linalg.svd(inputs, full_matrices=False)
    kept = sizes > sizes[0] * len(inputs) * np.finfo(float).eps
    left = left[:, kept]
    largest = np.abs(left).argmax(axis=0)
    signs = np.sign(left[largest, np.arange(left.shape[1])])
    return left * signs * sizes[kept]


def activated(name: str, h: Block) -> tuple[Block, Block]:
    r"""Return $\varphi(h)$ and $\varphi'(h)$ in float64."""
    with jax.enable_x64(True):
        value, slope = _activated(name, jnp.asarray(h.T))
        return np.asarray(value).T, np.asarray(slope).T


@functools.partial(jax.jit, static_argnums=0)
def _activated(name: str, h: Any) -> Any:
    return jax.jvp(activations.get(name).function, (h,), (jnp.ones_like(h),))


def loss_and_errors(
    name: str, outputs: Float[np.ndarray, "batch output"], targets: np.ndarray
) -> tuple[float, Float[np.ndarray, "batch output"]]:
    r"""Return the loss of a batch and its derivatives $\chi$ by the outputs."""
    with jax.enable_x64(True):
        value, slope = _loss_and_errors(
            name, jnp.asarray(outputs), jnp.asarray(targets)
        )
        return float(value), np.asarray(slope)


@functools.partial(jax.jit, static_argnums=0)
def _loss_and_errors(name: str, outputs: Any, targets: Any) -> Any:
    return jax.value_and_grad(LOSSES[name].function)(outputs, targets)
