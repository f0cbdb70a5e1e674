"""What is known of a limit from several repeats: means, and how far they are off."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from widthlab.claims.estimates import LEVEL, ClaimError, Estimate, exact
from widthlab.limit.problem import Problem

Many = Float[np.ndarray, "..."]
"""An array of any shape."""


class Mean(NamedTuple):
    """Numbers with their standard errors, from independent repeats.

    Attributes:
        value: the mean over repeats; of an eigenvalue, that of the mean matrix.
        error: its standard error; 0 where nothing is drawn, and NaN where something is
            and there is one repeat: its error is not known.
        repeats: how many there are.
    """

    value: Many
    error: Many
    repeats: int

    def estimate(self, *place: int) -> Estimate:
        """Return one of the numbers with Student's interval.

        Args:
            *place: its index.

        Raises:
            ClaimError: of one repeat, the error of what is drawn is not known.
        """
        value, error = float(self.value[place]), float(self.error[place])
        if self.repeats < 2 and math.isnan(error):
            raise ClaimError(
                "there is one repeat, and what is drawn has no error that is known; "
                "solve with seeds=2 or more"
            )
        if self.repeats < 2:
            return exact(value)
        half = error * float(stdtrit(self.repeats - 1, (1 + LEVEL) / 2))
        return Estimate(value, value - half, value + half, self.repeats)


@dataclass(frozen=True, eq=False)
class Trajectory:
    r"""Training at infinite width, step by step, from repeats.

    Where features move, outputs are the same of all wide networks. Where the limit is a
    kernel's they are random, and outputs and losses here are means over networks:
    `Problem.centred` takes the start off.

    Attributes:
        problem: what was trained.
        all_outputs: of each repeat, step, input (training inputs first) and output.
        losses: of each repeat and step: of the step's batch before its update, and
            after the last step of all examples.
        grams: of each repeat, step, layer and kind (pre-activations 0, activations 1),
            $\langle H, H \rangle$ for the $2P$ features $[H_0; H_t]$ of the training
            inputs.
        ranks: of each repeat and hidden matrix, directions forward and backward.
    """

    problem: Problem
    all_outputs: Float[np.ndarray, "repeats steps inputs outputs"]
    losses: Float[np.ndarray, "repeats steps"]
    grams: Float[np.ndarray, "repeats steps depth 2 both both"]
    ranks: Int[np.ndarray, "repeats hidden 2"]

    @property
    def outputs(self) -> Mean:
        """Outputs on the training inputs: step, input, output; of a kernel, means."""
        return self._mean(self.all_outputs[:, :, : self.problem.size])

    @property
    def tested(self) -> Mean:
        """Outputs on the other inputs."""
        return self._mean(self.all_outputs[:, :, self.problem.size :])

    @property
    def loss(self) -> Mean:
        """Loss of each step: of a kernel, its mean over networks."""
        return self._mean(self.losses)

    def gram(self, layer: int, *, pre: bool = False, joint: bool = False) -> Mean:
        """Return a layer's Gram matrix at each step.

        Args:
            layer: from 1 on.
            pre: of pre-activations, and not of activations.
            joint: of the features at the start and then, $2P$ in all.
        """
        return self._mean(self._grams(layer, pre, joint))

    def lambda_min(self, layer: int, *, pre: bool = False, joint: bool = False) -> Mean:
        """Return the smallest eigenvalue of the mean Gram matrix at each step.

        Its error is the jackknife's. Arguments are those of `gram`.
        """
        return jackknife(
            lambda grams: np.linalg.eigvalsh(grams)[..., 0],
            self._grams(layer, pre, joint),
            drawn=self._drawn,
        )

    def feature_change(self, layer: int, *, pre: bool = False) -> Mean:
        r"""Return the mean over inputs of $\|h_t - h_0\| / \|h_0\|$ at each step."""
        return self._mean(feature_changes(self._grams(layer, pre, True)))

    @property
    def _drawn(self) -> bool:
        return self.problem.canonical.kind != "kernel"

    def _mean(self, values: Many) -> Mean:
        return mean(values, drawn=self._drawn)

    def _grams(self, layer: int, pre: bool, joint: bool) -> Many:
        if not 1 <= layer <= self.problem.depth:
            raise ValueError(
                f"layer is {layer}; hidden layers are counted from 1 to "
                f"{self.problem.depth}"
            )
        grams = self.grams[:, :, layer - 1, 0 if pre else 1]
        now = slice(None) if joint else slice(self.problem.size, None)
        return grams[..., now, now]


def mean(values: Many, *, drawn: bool = True) -> Mean:
    """Return means over the first axis, which has independent repeats.

    Args:
        values: of each repeat.
        drawn: whether repeats differ; if not, one of them has no error.
    """
    repeats = len(values)
    centre = np.mean(values, axis=0)
    if repeats < 2:
        return _alone(centre, drawn)
    return Mean(centre, np.std(values, axis=0, ddof=1) / math.sqrt(repeats), repeats)


def jackknife(
    function: Callable[[Many], Many], values: Many, *, drawn: bool = True
) -> Mean:
    """Return a function of the mean over repeats, with its standard error.

    Repeats are left out one by one: an eigenvalue of one matrix alone would be biased.
    Arguments are as for `mean`.
    """
    repeats, centre = len(values), np.mean(values, axis=0)
    found = function(centre)
    if repeats < 2:
        return _alone(found, drawn)
    without = [function((repeats * centre - v) / (repeats - 1)) for v in values]
    spread = np.std(without, axis=0) * math.sqrt(repeats - 1)
    return Mean(found, spread, repeats)


def _alone(value: Many, drawn: bool) -> Mean:
    return Mean(value, np.full_like(value, math.nan if drawn else 0.0), 1)


def feature_changes(joint: Float[np.ndarray, "... both both"]) -> Many:
    r"""Return the mean of $\|h_t - h_0\| / \|h_0\|$ from Gram matrices of both.

    Inputs with $h_0 = 0$ are left out.
    """
    size = joint.shape[-1] // 2
    squares = np.diagonal(joint, axis1=-2, axis2=-1)
    then, now = squares[..., :size], squares[..., size:]
    both = np.diagonal(joint[..., :size, size:], axis1=-2, axis2=-1)
    there = then > 0
    moved = np.maximum(now + then - 2 * both, 0) / np.where(there, then, 1)
    return np.sum(np.sqrt(moved) * there, axis=-1) / np.maximum(there.sum(axis=-1), 1)


def gathered(problem: Problem, repeats: Sequence[dict[str, np.ndarray]]) -> Trajectory:
    """Return what several repeats of a problem found, as one trajectory."""
    names = ("outputs", "loss", "gram", "ranks")
    return Trajectory(
        problem, *(np.stack([r[name] for r in repeats]) for name in names)
    )
