r"""Columns over particles: growing matrices, and the Gaussian numbers of a layer."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.special import ndtri

DRAWS = ("matched", "gaussian")
"""Kinds of draws: with the limit's second moments, or independent."""

Block = Float[np.ndarray, "particles _"]
"""A few numbers for each particle, one column each."""

_QUASI = 64  # columns that a Sobol sequence gives; more of them gain nothing


class DrawsError(ValueError):
    """There are too few particles for what is drawn for them."""


class Columns:
    """A matrix with a row a particle to which columns are appended.

    Its memory is doubled when it is full, and lies column by column, so that what is
    there already is one piece.
    """

    def __init__(self, particles: int) -> None:
        """Begin without columns."""
        self._memory = np.empty((particles, 16), order="F")
        self._count = 0

    @property
    def now(self) -> Block:
        """The columns so far."""
        return self._memory[:, : self._count]

    def append(self, block: Block) -> None:
        """Add columns."""
        count = self._count + block.shape[1]
        if count > self._memory.shape[1]:
            larger = np.empty((len(block), 2 * count), order="F")
            larger[:, : self._count] = self.now
            self._memory = larger
        self._memory[:, self._count : count] = block
        self._count = count


def without(block: Block, directions: Block) -> Block:
    r"""Take out of columns what lies along directions that are orthonormal.

    In $\langle a, b \rangle = a \cdot b / M$ over the $M$ particles, and twice, so that
    rounding leaves nothing.
    """
    for _ in range(2):
        block = block - directions @ (directions.T @ block / len(block))
    return block


def orthonormal(block: Block) -> Block:
    r"""Return what spans the same, orthonormal in $\langle a, b \rangle$.

    By Cholesky's factor of the Gram matrix, twice: it depends on the block's numbers
    alone, in which no sign is left to choose.
    """
    for _ in range(2):
        factor = np.linalg.cholesky(block.T @ block / len(block))
        block = scipy.linalg.solve_triangular(factor, block.T, lower=True).T
    return block


class Draws:
    r"""Standard Gaussian numbers for the particles of one layer, column by column.

    "gaussian" ones are independent. "matched" ones are exactly orthonormal over the
    particles, to each other and to the constant, from whatever matrix of the layer they
    are asked for; the first 64 come from a scrambled Sobol sequence. So all second
    moments have the values of the limit, and only higher ones fluctuate.
    """

    def __init__(self, particles: int, seed: tuple[int, int], kind: str) -> None:
        """Begin a layer's numbers.

        Args:
            particles: $M$; a power of two for matched draws, as Sobol's are.
            seed: of the repeat, and the layer. Layers have scramblings of their own:
                one sequence in two layers would couple them.
            kind: one of `DRAWS`.
        """
        self._rng = np.random.default_rng(seed)
        self._quasi = np.empty((particles, 0))
        self._made: Columns | None = None
        self._particles = particles
        if kind == "matched":
            self._quasi = self._sobol()
            self._made = Columns(particles)
            self._made.append(np.ones((particles, 1)))

    def _sobol(self) -> Block:
        from scipy.stats import qmc  # takes long to import

        scrambling = np.random.default_rng(self._rng.integers(2**63))
        # Later versions of SciPy call it `rng`, and take this name, too.
        sobol = qmc.Sobol(_QUASI, seed=scrambling)  # pyright: ignore[reportCallIssue]
        points = sobol.random(self._particles)
        return ndtri(points + 2.0**-31)  # the middle of a cell: a point can be 0

    def take(self, count: int) -> Block:
        """Return so many columns, in the order of asking."""
        block = self._quasi[:, :count]
        self._quasi = self._quasi[:, count:]
        rest = self._rng.standard_normal((self._particles, count - block.shape[1]))
        block = np.concatenate([block, rest], axis=1)
        if self._made is None:
            return block
        if 2 * (self._made.now.shape[1] + count) > self._particles:
            raise DrawsError(
                f"{self._made.now.shape[1] + count} directions are drawn for "
                f"{self._particles} particles; take at least four particles a "
                "direction, or fewer inputs or steps"
            )
        block = orthonormal(without(block, self._made.now))
        self._made.append(block)
        return block
