r"""The potentials whose minimum a homogeneous linear model's gradient flow selects.

The model is $\beta = w_+^D - w_-^D$ with $w_\pm(0) = \alpha w_0$, on the loss $|X \beta
- y|^2$. With $S = \alpha^D$ and a vector $\nu$ that moves in the span of the examples,
its flow is, coordinate by coordinate (Woodworth et al. 2020, equations 15 to 21 and
Theorem 3),

$$\beta_i = S\, w_{0i}^D\, h_D(w_{0i}^{D-2} z_i), \qquad z = X^\top \nu,$$

$$h_2(z) = 2 \sinh z, \qquad h_D(z) = (1 - z)^{-p} - (1 + z)^{-p}, \quad
  p = \frac{D}{D - 2}.$$

So a limit that interpolates minimises $\sum_i S\, q_D(\beta_i / S)$ with $q_D' =
h_D^{-1}$. That, written with $H_D' = h_D$, is $q_D(b) = b u - H_D(u)$ at $u =
h_D^{-1}(b)$. All is float64 and NumPy; $\log S$ is the argument, so that $S =
10^{-400}$ is as good as any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from widthlab.model import AnyArray

Numbers = Float[np.ndarray, " ..."] | float
"""An array of numbers, or one."""


@dataclass(frozen=True, slots=True, eq=False)
class Potential:
    r"""$h_D$, $H_D$ and $q_D$ at one scale and shape of the start.

    Attributes:
        depth: $D$, at least 2.
        log_scale: $\log S = D \log \alpha$, natural.
        shape: $w_0$; a number for a uniform one.
        offset: $z$ of the start, at depth 2: 0 where $\beta(0) = 0$.
    """

    depth: int = 2
    log_scale: float = 0.0
    shape: Float[AnyArray, " d"] | float = 1.0
    offset: Float[AnyArray, " d"] | float = 0.0

    def __post_init__(self) -> None:
        if self.depth < 2:
            raise ValueError(f"depth is {self.depth}; the model has one from 2 up")
        if np.any(np.asarray(self.shape) <= 0):
            raise ValueError("shape has entries that are not positive; w_0 is positive")
        if self.depth > 2 and np.any(np.asarray(self.offset)):
            raise ValueError("only depth 2 may start at another predictor than 0")

    @property
    def wall(self) -> Any:
        """Where $|z|$ must stay below: infinite for depth 2."""
        if self.depth == 2:
            return np.inf
        return 1 / np.asarray(self.shape) ** (self.depth - 2)

    def predictor(self, z: Numbers) -> Any:
        r"""Return $\beta = S w_0^D h_D(w_0^{D-2} z)$."""
        up, down = self._terms(z)
        return up - down

    def slope(self, z: Numbers) -> Any:
        r"""Return $d\beta / dz > 0$."""
        if self.depth == 2:
            up, down = self._terms(z)
            return up + down
        inner = np.asarray(self.shape) ** (self.depth - 2)
        logs = self._logs(inner * z)
        scale = self._log_factor + np.log(self._power * inner)
        up, down = (np.exp(scale - (self._power + 1) * log) for log in logs)
        return up + down

    def energy(self, z: Numbers) -> Any:
        r"""Return the integral of `predictor` from 0, $S w_0^2 H_D(w_0^{D-2} z)$."""
        if self.depth == 2:
            up, down = self._terms(z)
            return up + down - 2 * np.exp(self._log_factor)
        inner, p = np.asarray(self.shape) ** (self.depth - 2), self._power
        factor = np.exp(self._log_factor) / inner / (p - 1)
        # p - 1 is 2 / (D - 2): small for deep models, where differences would cancel.
        return factor * sum(np.expm1((1 - p) * log) for log in self._logs(inner * z))

    def inverse(self, beta: Numbers) -> Any:
        r"""Return $z$ with `predictor(z)` equal to $\beta$."""
        beta = np.asarray(beta, float)
        with np.errstate(divide="ignore"):
            log_size = np.log(np.abs(beta)) - self._log_factor
        if self.depth == 2:
            return np.sign(beta) * _asinh_half_exp(log_size) - self.offset
        inner = np.asarray(self.shape) ** (self.depth - 2)
        return np.sign(beta) * _invert(log_size, self._power) / inner

    def value(self, beta: Numbers) -> Any:
        r"""Return the potential itself, $S q_D(\beta / S)$ for a uniform shape."""
        z = self.inverse(beta)
        return beta * z - self.energy(z)

    @property
    def _power(self) -> float:
        return self.depth / (self.depth - 2)

    @property
    def _log_factor(self) -> Any:
        return self.log_scale + self.depth * np.log(self.shape)

    def _terms(self, z: Numbers) -> tuple[Any, Any]:
        """Return $w_+^D$ and $w_-^D$, that is, both halves of the predictor."""
        if self.depth == 2:
            at: Any = z + self.offset
            return np.exp(self._log_factor + at), np.exp(self._log_factor - at)
        up, down = self._logs(np.asarray(self.shape) ** (self.depth - 2) * z)
        factor, p = self._log_factor, self._power
        return np.exp(factor - p * up), np.exp(factor - p * down)

    @staticmethod
    def _logs(z: Numbers) -> tuple[Any, Any]:
        return np.log1p(-z), np.log1p(z)


def _asinh_half_exp(log_size: Numbers) -> Any:
    r"""Return $\mathrm{asinh}(e^l / 2)$, where $e^l$ may overflow."""
    small = np.arcsinh(np.exp(np.minimum(log_size, 40.0)) / 2)
    return np.where(log_size > 40.0, log_size, small)


def _invert(log_size: Numbers, p: float) -> Any:
    r"""Return $u$ in $[0, 1)$ with $(1-u)^{-p} - (1+u)^{-p} = e^l$, by Newton's method.

    In $t = -\log(1 - u)$ and the logarithm of the equation, which is concave and nearly
    straight at both ends.
    """
    finite = np.where(np.isfinite(log_size), log_size, 0.0)
    size = np.exp(np.minimum(finite, 700.0))
    t = np.log1p(np.minimum(size, 1e300) ** (1 / p) / (1 + 2 * p / (1 + size)))
    t = np.maximum(np.where(finite > 700.0, finite / p, t), 1e-300)
    t = np.where(size < 1e-3, size / (2 * p), t)
    for _ in range(60):
        u = -np.expm1(-t)
        rise = p * (np.log1p(u) + t)
        step = (_log_h(t, u, p) - finite) / _log_h_slope(rise, u, p)
        new = np.where(t - step > 0, t - step, t / 2)
        done = np.all(np.abs(new - t) <= 1e-15 * t)
        t = new
        if done:
            break
    return np.where(np.isfinite(log_size), -np.expm1(-t), 0.0)


def _log_h(t: Numbers, u: Numbers, p: float) -> Any:
    """Return log h at u = 1 - exp(-t)."""
    return p * t + np.log(-np.expm1(-p * (np.log1p(u) + t)))


def _log_h_slope(rise: Numbers, u: Numbers, p: float) -> Any:
    """Return its derivative in t, with rise = p log((1 + u) / (1 - u))."""
    return p + p * (1 + (1 - u) / (1 + u)) / np.expm1(rise)
