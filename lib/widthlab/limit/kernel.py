r"""The limit in which features stay: gradient descent with a constant kernel.

$$f_{t+1} = f_t - \Theta \chi_t, \qquad
  \Theta = \eta_o \Phi^L + \sum_{l=2}^{L} \eta_l\, \Phi^{l-1} \circ B^l
    + \eta_1\, \Xi \circ B^1,$$

with the covariances $\Phi^l$ of activations, $\Xi$ of inputs, and
$B^L = \dot\Phi^L$, $B^{l-1} = g_l^2\, B^l \circ \dot\Phi^{l-1}$, where rates are those
of `Canonical` (Jacot, Gabriel and Hongler 2018). Where all rates are 1 it is the NTK
of `widthlab.kernels`.

Networks of this limit have random outputs at the start at every width, Gaussian with
the covariance $g_o^2 \Phi^L$ (the NNGP: Lee et al. 2018), and so different losses.
Here **outputs are their mean over networks**, which begins at 0, and so is the loss:
with the squared error the centred outputs are Gaussian at every step,

$$f_t - E f_t \sim N(0, K_t), \qquad K_0 = g_o^2 \Phi^L, \quad
  K_{t+1} = A_t K_t A_t^\top, \quad A_t = I - \tfrac{1}{|B_t|} \Theta_{\cdot B_t},$$

and the mean loss is that of the mean and $\frac{1}{2}$ of the mean of $K_t$ over the
batch, for each output (Lee et al. 2019, section 2.3). With other losses the mean over
networks has no equation of its own, and is refused. Both end where $g_o$ is 0: a
problem that is `centred` is of networks whose outputs at the start are taken off, all
of which have the same outputs and the same loss.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from widthlab.kernels.dual import derivative_moment, moment
from widthlab.limit.particles import loss_and_errors
from widthlab.limit.problem import Problem
from widthlab.limit.tables import LimitError

Square = Float[np.ndarray, "all all"]
"""A kernel on training inputs and all others."""


class Covariances(NamedTuple):
    r"""Covariances at the start, layer by layer.

    Attributes:
        before: $\Sigma^l$, of pre-activations.
        after: $\Phi^l$, of activations.
        slopes: $\dot\Phi^l$, of slopes.
    """

    before: list[Square]
    after: list[Square]
    slopes: list[Square]


def covariances(problem: Problem) -> Covariances:
    """Return the covariances of all layers on all inputs, in float64."""
    inputs = problem.every_input()
    gains, found = problem.canonical.gains, Covariances([], [], [])
    last = inputs @ inputs.T
    for gain in gains[:-1]:
        sigma = gain**2 * last
        q = np.diag(sigma)
        with jax.enable_x64(True):
            entries = [jnp.asarray(m) for m in (q[:, None], sigma, q[None])]
            last, slope = (
                np.asarray(function(problem.activation, *entries))
                for function in (moment, derivative_moment)
            )
        for kept, matrix in zip(found, (sigma, last, slope), strict=True):
            kept.append(matrix)
    return found


def tangent_kernel(
    problem: Problem, rates: tuple[float, ...], of: Covariances
) -> Square:
    r"""Return $\Theta$ for the rates of a step."""
    inputs, gains = problem.every_input(), problem.canonical.gains
    below = [inputs @ inputs.T, *of.after]
    back = np.ones_like(below[0])
    kernel = rates[-1] * of.after[-1]
    for layer in range(problem.depth - 1, -1, -1):
        back = back * of.slopes[layer]
        kernel = kernel + rates[layer] * below[layer] * back
        back = back * gains[layer] ** 2
    return kernel


def descend(
    problem: Problem, start: Float[np.ndarray, "all outputs"] | None = None
) -> dict[str, np.ndarray]:
    """Train, and return what `Particles.run` does: means over networks.

    Args:
        problem: whose limit is a kernel's.
        start: outputs at the start on training inputs and all others, of one network;
            by default those of all, with mean 0 and the covariance of the limit.

    Raises:
        LimitError: outputs at the start are random, and the loss is such that their
            mean over networks is not computed.
    """
    size, steps, canonical = problem.size, problem.steps, problem.canonical
    of = covariances(problem)
    later = tangent_kernel(problem, canonical.rates, of)
    first = tangent_kernel(problem, canonical.first_rates, of)
    f = np.zeros((len(later), problem.outputs)) if start is None else np.array(start)
    spread = _spread(problem, of) if start is None else np.zeros((len(f), 0))
    outputs, losses, targets = [f], [], problem.every_target()
    for step in range(steps + 1):
        places = problem.batch(step) if step < steps else np.arange(size)
        loss, errors = loss_and_errors(problem.loss, f[places], targets[places])
        centred = spread[places]
        around = np.sum(centred**2) * problem.outputs / (2 * len(places))
        losses.append(loss + around)
        if step < steps:
            moved = (later if step else first)[:, places]
            f = f - moved @ errors
            spread = spread - moved @ centred / len(places)
            outputs.append(f)
    pairs = zip(of.before, of.after, strict=True)
    grams = np.array(
        [[np.tile(m[:size, :size], (2, 2)) for m in pair] for pair in pairs]
    )
    return {
        "outputs": np.array(outputs),
        "loss": np.array(losses),
        "gram": np.broadcast_to(grams, (steps + 1, *grams.shape)),
        "ranks": np.zeros((problem.depth - 1, 2), int),
    }


def _spread(problem: Problem, of: Covariances) -> Float[np.ndarray, "all some"]:
    """Return a root of the covariance of outputs at the start, without columns if 0."""
    gain = problem.canonical.gains[-1]
    if gain == 0:
        return np.zeros((len(of.after[-1]), 0))
    if problem.loss != "mse":
        raise LimitError(
            f"the limit of {problem.name!r} is a kernel's: outputs at the start are "
            f"random at every width (of deviation {gain:.3g} in units of the last "
            f"layer's features), and with loss {problem.loss!r} their mean over "
            "networks is not computed; take `problem.centred()`, the limit of "
            "networks whose outputs at the start are taken off, or loss 'mse'"
        )
    values, vectors = np.linalg.eigh(of.after[-1])
    return gain * vectors * np.sqrt(np.maximum(values, 0))
