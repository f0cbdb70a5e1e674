r"""What a kernel predicts from data: kernel regression, and gradient flow of the MSE.

In the limit of infinite width a network in the NTK parametrization is linear in its
weights. Gradient flow of $L = \frac{1}{2n}\sum_i \|f(x_i) - y_i\|^2$ then moves its
outputs by $\dot f = -\Theta (f - y) / n$ with a constant kernel (Jacot, Gabriel and
Hongler 2018; Lee et al. 2019).

All is computed on the host in float64, whatever the kernel's precision, since solutions
depend on eigenvalues that are far smaller than the largest one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Float, Real

from widthlab.kernels.arcs import check_type
from widthlab.model import AnyArray

# Sizes that are checked below have names of their own, so that the message comes from
# there whether or not annotations are checked.
Targets = Real[AnyArray, " rows"] | Real[AnyArray, "rows k"]
"""One number or one vector for each training input."""

Predictions = Float[np.ndarray, " ..."]
"""The same for test inputs, behind axes of time where there are several times."""


def regression(
    k_train: Real[AnyArray, "n n"],
    y: Targets,
    k_test: Real[AnyArray, "m columns"],
    *,
    ridge: float = 0.0,
) -> Predictions:
    r"""Return $K_* (K + \lambda I)^{-1} y$, by Cholesky factorisation.

    With an NNGP kernel this is the posterior mean under observation noise of variance
    $\lambda$. With an NTK and $\lambda = 0$ it is where `KernelFlow` ends if it starts
    from zero.

    Args:
        k_train: kernel of the training inputs.
        y: targets, (n,) or (n, k).
        k_test: kernel of the test inputs (rows) with the training inputs (columns).
        ridge: $\lambda$, added to the diagonal as it is.

    Returns:
        Predictions at the test inputs, (m,) or (m, k).

    Raises:
        ValueError: sizes do not fit, or the matrix is singular within the rounding of
            its entries. Nothing but the ridge is ever added to it.

    Example:
        >>> k = np.array([[2.0, 1.0], [1.0, 2.0]])
        >>> print(regression(k, np.array([3.0, 0.0]), np.array([[1.0, 1.0]])))
        [1.]
    """
    kernel, targets, least = _training(k_train, y)
    test = _matrix("k_test", k_test, len(kernel))
    if not ridge >= 0:
        raise ValueError(f"ridge is {ridge}; it must be at least 0")
    regular = kernel + ridge * np.eye(len(kernel))
    factor = _factor(regular)
    if factor is None or factor.diagonal().min() ** 2 <= least:
        smallest = scipy.linalg.eigvalsh(regular)[0]
        raise ValueError(
            f"the smallest eigenvalue of the kernel with ridge {ridge:g} is "
            f"{smallest:.2g}, and its entries are known to {least:.2g} only: inputs "
            "are equal, or too close for the kernel's type. Take such inputs out, "
            "compute the kernel in float64, or give a larger ridge"
        )
    return test @ scipy.linalg.cho_solve((factor, True), targets)


@dataclass(frozen=True, slots=True)
class KernelFlow:
    r"""Gradient flow of the mean squared error with a constant kernel, in closed form.

    With $\Theta = V \Lambda V^T$ on $n$ training inputs, the outputs are

    $$f(t) = y + V e^{-\Lambda t / n} V^T (f_0 - y), \qquad
      f_*(t) = f_{*,0} + \Theta_* V\,\frac{1 - e^{-\Lambda t / n}}{\Lambda}\,
      V^T (y - f_0)$$

    (Lee et al. 2019). Eigenvalues within the rounding of the kernel's entries count as
    zero: nothing moves in these directions, at any time.

    Attributes:
        eigenvalues: $\Lambda$, ascending.
        vectors: $V$, one eigenvector a column.
        residual: $V^T (y - f_0)$.
        targets: $y$.

    Example:
        >>> flow = KernelFlow.fit(np.eye(2), np.array([1.0, 3.0]))
        >>> print(flow.train(np.inf), flow.loss([0.0, np.inf]))
        [1. 3.] [2.5 0. ]
    """

    eigenvalues: Float[np.ndarray, " n"]
    vectors: Float[np.ndarray, "n n"]
    residual: Targets
    targets: Targets

    @classmethod
    def fit(
        cls, k_train: Real[AnyArray, "n n"], y: Targets, f0: Any = 0.0
    ) -> KernelFlow:
        r"""Diagonalise the kernel, $\Theta = V \Lambda V^T$.

        Args:
            k_train: kernel of the training inputs.
            y: targets, (n,) or (n, k).
            f0: outputs at the start, of the targets' shape or a number.

        Raises:
            ValueError: sizes do not fit, or the kernel has negative eigenvalues.
        """
        kernel, targets, least = _training(k_train, y)
        values, vectors = scipy.linalg.eigh(kernel)
        if values[0] < -least:
            raise ValueError(
                f"the smallest eigenvalue of the kernel is {values[0]:.2g}, and its "
                f"entries are known to {least:.2g}; a kernel is positive semidefinite"
            )
        residual = vectors.T @ (targets - np.asarray(f0, float))
        return cls(np.where(values > least, values, 0), vectors, residual, targets)

    def train(self, t: Any) -> Predictions:
        """Return the training outputs $f(t)$ at a time, or at an array of times.

        Times are numbers from 0 to infinity; their axes come first in the result.
        """
        left = self._spread(np.exp(self._exponents(t)))
        return self.targets - np.einsum("ij,...jk->...ik", self.vectors, left).reshape(
            *np.shape(t), *self.targets.shape
        )

    def test(
        self, t: Any, k_test: Real[AnyArray, "m columns"], f0_test: Any = 0.0
    ) -> Predictions:
        """Return the outputs $f_*(t)$ at test inputs, likewise.

        Args:
            t: times.
            k_test: kernel of the test inputs (rows) with the training inputs (columns).
            f0_test: outputs at the start, (m,) or (m, k), or a number.
        """
        test = _matrix("k_test", k_test, len(self.targets)) @ self.vectors
        moving = np.where(self.eigenvalues > 0, self.eigenvalues, 1)
        moved = self._spread(-np.expm1(self._exponents(t)) / moving)
        change = np.einsum("ij,...jk->...ik", test, moved)
        shape = (*np.shape(t), len(test), *self.targets.shape[1:])
        return np.asarray(f0_test, float) + change.reshape(shape)

    def loss(self, t: Any) -> Predictions:
        r"""Return $\frac{1}{2n}\sum_i \|f(x_i) - y_i\|^2$ at a time, or times."""
        left = self._spread(np.exp(self._exponents(t)))
        return np.asarray(np.sum(left**2, axis=(-2, -1)) / (2 * len(self.targets)))

    def time_to(self, share: float) -> float:
        """Return the $t$ with $L(t) = s L(0)$, for a share $s$ of the initial loss.

        Raises:
            ValueError: the share is not between 0 and 1, or the loss stays above it.
        """
        if not 0 < share < 1:
            raise ValueError(f"share is {share}; it lies between 0 and 1")
        first, last = (float(self.loss(t)) for t in (0.0, np.inf))
        if not last < share * first:
            raise ValueError(
                f"the loss falls from {first:.3g} to {last:.3g} and no further; a "
                f"share of {share:g} is never reached"
            )
        end = 1.0
        while float(self.loss(end)) > share * first:
            end *= 2
        root: Any = scipy.optimize.brentq(
            lambda t: self.loss(t) - share * first, 0.0, end
        )
        return float(root)

    def _exponents(self, t: Any) -> Float[np.ndarray, "... n"]:
        """Return minus the eigenvalues times t/n; zero times infinity is zero."""
        times = np.asarray(t, float)
        if not np.all(times >= 0):
            raise ValueError(f"t is {t}; times are at least 0")
        moving = self.eigenvalues > 0
        out = np.zeros((*times.shape, len(moving)))
        out[..., moving] = -times[..., None] * self.eigenvalues[moving] / len(moving)
        return out

    def _spread(
        self, factors: Float[np.ndarray, "... n"]
    ) -> Float[np.ndarray, "... n k"]:
        """Multiply the residual of every eigenvector, one column an output."""
        return factors[..., None] * self.residual.reshape(len(self.residual), -1)


def _factor(matrix: np.ndarray) -> np.ndarray | None:
    """Return the lower Cholesky factor, if there is one."""
    try:
        return scipy.linalg.cholesky(matrix, lower=True)
    except scipy.linalg.LinAlgError:
        return None


def _training(
    k_train: Real[AnyArray, "n n"], y: Targets
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return kernel and targets in float64, and what the kernel's rounding adds up to.

    Entries are off by a rounding at least, so eigenvalues by up to n times as much.
    """
    given = np.asarray(k_train)
    if given.dtype.kind in "iu":  # known exactly
        given = given.astype(float)
    check_type("k_train", given.dtype)
    kernel = _matrix("k_train", given, len(given) if given.ndim else 0)
    targets = np.asarray(y, float)
    if targets.ndim not in (1, 2) or len(targets) != len(kernel):
        raise ValueError(
            f"y has shape {targets.shape}; it has one number or one row for each of "
            f"{len(kernel)} training inputs"
        )
    eps = np.finfo(given.dtype).eps
    return kernel, targets, float(len(kernel) * eps * kernel.diagonal().max())


def _matrix(name: str, kernel: Any, columns: int) -> np.ndarray:
    """Return a kernel in float64."""
    matrix = np.asarray(kernel, float)
    if matrix.ndim != 2 or matrix.shape[1] != columns:
        raise ValueError(
            f"{name} has shape {matrix.shape}; it needs {columns} columns, one for "
            "each training input"
        )
    return matrix
