r"""Hidden weights known by what they do: conditioned on all products so far.

A Gaussian matrix $W_0$ from $M$ particles to $M$ particles has acted on the span of
orthonormal $p_1, p_2, \dots$, with images $u_a = W_0 p_a$, and its transpose on that of
$q_1, q_2, \dots$, with images $v_b = W_0^\top q_b$. Given these, its action on a new
direction $p$ is

$$W_0 p = Q\,\frac{V^\top p}{M} + g \Big(I - \frac{Q Q^\top}{M}\Big) \epsilon, \qquad
  \epsilon \sim N(0, I_M).$$

(Bolthausen's conditioning; Lu 2021 simulates by it.) The first term is the *response*
of Tensor Programs and of dynamical mean-field theory: the projection makes it without
an inverse or a derivative. With independent $\epsilon$ the matrix is in law that of a
network of width $M$. What training adds is $Q S P^\top / M$ with a small core $S$.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from widthlab.limit.draws import Block, Columns, Draws, orthonormal, without

Coefficients = Float[np.ndarray, "_ _"]
"""Vectors by their coefficients in a basis, one a column."""

# Directions are found in Gram matrices, which are blind to less than the root of
# rounding; what is below is junk.
_SMALLEST = 1e-6


class Side:
    """One side of a matrix: a basis of what it has acted on, and the images of it."""

    def __init__(self, draws: Draws, particles: int) -> None:
        """Begin without directions.

        Args:
            draws: numbers of the layer in which images lie.
            particles: how many.
        """
        self.draws = draws
        self.basis, self.images = Columns(particles), Columns(particles)

    def coordinates(self, vectors: Block, least: float) -> tuple[Coefficients, Block]:
        r"""Return coefficients of vectors in the basis, and directions new in it.

        The part outside the basis is divided into its principal directions, longest
        first; those of a root mean square below `least` are left out. Of the vectors
        that loses independent terms of mean zero and that size.
        """
        count, basis = len(vectors), self.basis.now
        inside = basis.T @ vectors / count
        rest = vectors - basis @ inside
        squares, axes = np.linalg.eigh(rest.T @ rest / count)
        kept = np.flatnonzero(squares > least**2)[::-1]
        if not kept.size:
            return inside, np.empty((count, 0))
        axes = axes[:, kept]
        # Which sign an eigenvector has depends on the machine.
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.sign(axes[largest, np.arange(kept.size)])
        fresh = rest @ (axes / np.sqrt(squares[kept]))
        fresh = orthonormal(without(fresh, basis))
        self.basis.append(fresh)
        return np.concatenate([inside, fresh.T @ rest / count]), fresh


class Hidden:
    r"""A hidden matrix: its two sides and the core of what training adds.

    Attributes:
        forward: side on which it acts on activations; images lie in its own layer.
        backward: side on which its transpose acts on gradients; images lie below.
        core: $S$.
        keeps: whether the initial matrix is still there.
    """

    def __init__(
        self, gain: float, forward: Side, backward: Side, *, response: bool = True
    ) -> None:
        """Begin without updates.

        Args:
            gain: $g$.
            forward: side of the activations.
            backward: side of the gradients.
            response: whether the response is there, without which it is no network's.
        """
        self.forward, self.backward = forward, backward
        self.core, self.keeps = np.zeros((0, 0)), True
        self._gain, self._response = gain, response

    def act(self, x: Block, least: float) -> tuple[Block, Coefficients]:
        r"""Return $W x$, and the coefficients of $x$; `least` as for a side."""
        c = self._coordinates(self.forward, self.backward, x, least)
        return self._product(self.forward, self.backward, self.core, c), c

    def act_back(self, d: Block, least: float) -> tuple[Block, Coefficients]:
        r"""Return $W^\top \delta$, and the coefficients of $\delta$."""
        c = self._coordinates(self.backward, self.forward, d, least)
        return self._product(self.backward, self.forward, self.core.T, c), c

    def update(self, rate: float, back: Coefficients, forth: Coefficients) -> None:
        r"""Take a step: $W \leftarrow W - \eta\, \delta x^\top / M$."""
        self.core = self.core - rate * _filled(back, self.core.shape[0]) @ (
            _filled(forth, self.core.shape[1]).T
        )

    def _coordinates(
        self, side: Side, other: Side, vectors: Block, least: float
    ) -> Coefficients:
        """Return coefficients, after drawing the images of directions that are new."""
        c, fresh = side.coordinates(vectors, least)
        if fresh.shape[1] and self.keeps:
            images = self._gain * side.draws.take(fresh.shape[1])
            if self._response:
                known = other.basis.now
                images = without(images, known)
                images += known @ (other.images.now.T @ fresh / len(fresh))
            side.images.append(images)
        sizes = self.backward.basis.now.shape[1], self.forward.basis.now.shape[1]
        larger = np.zeros(sizes)
        larger[: self.core.shape[0], : self.core.shape[1]] = self.core
        self.core = larger
        return c

    def _product(
        self,
        side: Side,
        other: Side,
        core: Float[np.ndarray, "other side"],
        c: Coefficients,
    ) -> Block:
        learnt = other.basis.now @ (core @ c)
        return side.images.now @ c + learnt if self.keeps else learnt


def _filled(c: Coefficients, size: int) -> Coefficients:
    """Return coefficients with zeros for directions that came later."""
    return np.concatenate([c, np.zeros((size - len(c), c.shape[1]))])
