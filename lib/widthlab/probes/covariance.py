r"""Split $W x$ into its Gaussian part and its correlation part, at finite width.

In the infinite-width limit (Tensor Programs IVb, Section 2.6) a vector $W_0 x$ has
coordinates $Z^{W_0 x} = \hat Z + \dot Z$. The Gaussian parts keep covariances,
$\mathrm{Cov}(\hat Z^{W_0 x}, \hat Z^{W_0 y}) = E[Z^x Z^y]$, and $\dot Z$ is a
combination of the vectors $y$ that $W_0^\top$ was applied to before:

$$\dot Z^{W_0 x} = Y (Y^\top Y)^{+} E[\hat Z^{W_0^\top Y}\, Z^x].$$

`split` computes both for the matrices of a network in training, in the order in which
the program makes the vectors, with averages over coordinates for expectations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import attrs
import jax
import numpy as np
from jaxtyping import Float

from widthlab.fields import count
from widthlab.model import MLP
from widthlab.probes.rows import Row, Rows
from widthlab.training.state import Data


class Vectors(NamedTuple):
    """Rows of vectors that went through one matrix, and what came out of it."""

    vectors: Float[np.ndarray, "count width_in"]
    images: Float[np.ndarray, "count width_out"]


@attrs.frozen
class CovariancePreservation:
    r"""Do the Gaussian parts of $W_0^l\,\delta x_s$ keep covariances of their inputs?

    Forward vectors are $x_0$ and the increments $\delta x_t = x_t - x_{t-1}$ of the
    layer before matrix `matrix`; backward vectors are $dh_0$ and the increments of
    $dh_t = n\,\partial \ell / \partial h$ behind it. Needs a checkpoint at every step.

    Rows, at the last checkpoint, are relative errors in Frobenius norm of the Gram
    matrix of the images against that of the vectors: `covariance_forward` over all
    forward vectors, `covariance_forward_increments` over those of steps $t \ge 1$, the
    same for `backward`; and each with `_raw` at the end for the images as they are,
    with the correlation part left in.

    Attributes:
        inputs: number of inputs followed.
        matrix: which hidden matrix, 2 being the one between hidden layers 1 and 2.
    """

    inputs: int = attrs.field(default=6, converter=count())
    matrix: int = attrs.field(default=2, converter=count(2))
    name: ClassVar[str] = "covariance-preservation"

    def check(self, experiment: Any) -> None:
        """Refuse matrices that a network has not, and steps without a checkpoint."""
        if self.matrix > experiment.depth:
            raise ValueError(
                f"the probe {self.name!r} is for matrix {self.matrix}; hidden matrices "
                f"at depth {experiment.depth} are 2 to {experiment.depth}"
            )
        if experiment.checkpoints != tuple(range(experiment.steps + 1)):
            raise ValueError(
                f"the probe {self.name!r} needs a checkpoint at every step, "
                f"checkpoints=tuple(range({experiment.steps + 1})), not "
                f"{experiment.checkpoints}"
            )

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return forward and backward vectors with their images under $W_0$."""
        x, y = data.x_train[: self.inputs], data.y_train[: self.inputs]
        before = model.features(x).activations[self.matrix - 2]
        width = before.shape[-1]

        def loss_behind(h: Any) -> Any:
            return self.inputs * loss(_finish(model, self.matrix, h), y)

        here = model.layers[self.matrix - 1]
        behind = width * jax.grad(loss_behind)(here(before))
        first = initial.layers[self.matrix - 1]
        w0 = first.kernel[...] * first.multiplier[...]
        return {
            "forward": before,
            "forward_image": before @ w0,
            "backward": behind,
            "backward_image": behind @ w0.T,
        }

    def rows(self, history: Sequence[Any]) -> Rows:
        """Compare Gram matrices before and after the matrix, at the last checkpoint."""
        forward = _increments(history, "forward")
        backward = _increments(history, "backward")
        last: list[Row] = []
        for side, steps, hats in zip(
            ("forward", "backward"),
            (forward, backward),
            split(forward, backward),
            strict=True,
        ):
            vectors = np.concatenate([v.vectors for v in steps])
            images = np.concatenate([v.images for v in steps])
            for ending, values in (("", hats), ("_raw", images)):
                for name, first in (("", 0), ("_increments", self.inputs)):
                    if vectors[first:].any():  # or there is nothing to be relative to
                        error = gram_error(vectors[first:], values[first:])
                        quantity = f"covariance_{side}{name}{ending}"
                        last.append((quantity, self.matrix, error))
        return [[] for _ in history[:-1]] + [last]


def split(
    forward: Sequence[Vectors], backward: Sequence[Vectors]
) -> tuple[
    Float[np.ndarray, "forward_count width_out"],
    Float[np.ndarray, "backward_count width_in"],
]:
    r"""Return the Gaussian parts of the images of all vectors, step after step.

    At each step the forward vectors pass $W_0$ before the backward ones pass
    $W_0^\top$, and each is corrected by what went the other way before it.

    Args:
        forward: for each step, the vectors that $W_0$ was applied to, and their images.
        backward: the same for $W_0^\top$.
    """
    width_in = forward[0].vectors.shape[1]
    width_out = backward[0].vectors.shape[1]
    seen_forward = np.zeros((0, width_in))
    seen_backward = np.zeros((0, width_out))
    hat_forward = np.zeros((0, width_out))
    hat_backward = np.zeros((0, width_in))
    for fore, back in zip(forward, backward, strict=True):
        hat = _without_correlation(fore, seen_backward, hat_backward)
        seen_forward = np.concatenate([seen_forward, fore.vectors])
        hat_forward = np.concatenate([hat_forward, hat])
        hat = _without_correlation(back, seen_forward, hat_forward)
        seen_backward = np.concatenate([seen_backward, back.vectors])
        hat_backward = np.concatenate([hat_backward, hat])
    return hat_forward, hat_backward


def gram_error(
    vectors: Float[np.ndarray, "count width_in"],
    images: Float[np.ndarray, "count width_out"],
) -> float:
    r"""Return $\|G' - G\|_F / \|G\|_F$ for the Gram matrices, each over its width."""
    before = vectors @ vectors.T / vectors.shape[1]
    after = images @ images.T / images.shape[1]
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


def _without_correlation(
    new: Vectors,
    others: Float[np.ndarray, "count width_out"],
    other_hats: Float[np.ndarray, "count width_in"],
) -> Float[np.ndarray, "new width_out"]:
    if len(others) == 0:
        return new.images
    gram = others @ others.T / others.shape[1]
    overlap = other_hats @ new.vectors.T / new.vectors.shape[1]
    return new.images - (np.linalg.pinv(gram) @ overlap).T @ others


def _increments(history: Sequence[Any], side: str) -> list[Vectors]:
    steps = [
        Vectors(
            np.asarray(measured[side], np.float64),
            np.asarray(measured[f"{side}_image"], np.float64),
        )
        for measured in history
    ]
    later = [
        Vectors(b.vectors - a.vectors, b.images - a.images)
        for a, b in itertools.pairwise(steps)
    ]
    return [steps[0], *later]


def _finish(model: MLP, matrix: int, h: Any) -> Any:
    """Run the rest of the network from the pre-activations behind a matrix."""
    from widthlab import activations

    function = activations.get(model.activation)
    for layer in model.layers[matrix:]:
        h = layer(function(h))
    return h
