r"""The limit in which features stay: gradient descent with a constant kernel.

$$f_{t+1} = f_t - \Theta \chi_t, \qquad
  \Theta = \eta_o \Phi^L + \sum_{l=2}^{L} \eta_l\, \Phi^{l-1} \circ B^l
    + \eta_1\, \Xi \circ B^1,$$

with the covariances $\Phi^l$ of activations, $\Xi$ of inputs, and
$B^L = \dot\Phi^L$, $B^{l-1} = g_l^2\, B^l \circ \dot\Phi^{l-1}$, where rates are those
of `Canonical` (Jacot, Gabriel and Hongler 2018). Where all rates are 1 it is the NTK
of `widthlab.kernels`. Outputs begin at 0, which is their mean over networks: with the
squared error so it stays, with other losses it is the limit of networks whose outputs
at the start are taken off.
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
    """Train, and return what `Particles.run` does.

    Args:
        problem: whose limit is a kernel's.
        start: outputs at the start on training inputs and all others; 0 by default.
    """
    size, steps, canonical = problem.size, problem.steps, problem.canonical
    of = covariances(problem)
    later = tangent_kernel(problem, canonical.rates, of)
    first = tangent_kernel(problem, canonical.first_rates, of)
    f = np.zeros((len(later), problem.outputs)) if start is None else np.array(start)
    outputs, losses, targets = [f], [], problem.every_target()
    for step in range(steps + 1):
        places = problem.batch(step) if step < steps else np.arange(size)
        loss, errors = loss_and_errors(problem.loss, f[places], targets[places])
        losses.append(loss)
        if step < steps:
            f = f - (later if step else first)[:, places] @ errors
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
