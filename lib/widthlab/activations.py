r"""The nonlinearities by name, with the Gaussian moments that fix their scales.

For $z \sim N(0, 1)$ an activation $\varphi$ keeps the second moment of wide layers when
the initial weights have the gain $E[\varphi(z)^2]^{-1/2}$ (He et al. 2015 for ReLU).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab.registry import Registry


@dataclass(frozen=True, slots=True)
class Activation:
    r"""A nonlinearity.

    Attributes:
        name: key under which `get` finds it.
        function: the map, on arrays of any shape.
        good: whether it is among the functions that Chen et al. 2025 name as meeting
            their condition "GOOD" (Assumption 4.3: bounded first and second
            derivatives, and generic enough to keep features apart).
    """

    name: str
    function: Callable[[Float[Array, " ..."]], Float[Array, " ..."]]
    good: bool

    def __call__(self, x: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """Apply the nonlinearity."""
        return self.function(x)

    @property
    def second_moment(self) -> float:
        r"""Return $E[\varphi(z)^2]$ for standard Gaussian $z$.

        Example:
            >>> round(get("relu").second_moment, 12)
            0.5
        """
        return _moment(self.name, derivative=False, power=2)

    @property
    def derivative_second_moment(self) -> float:
        r"""Return $E[\varphi'(z)^2]$ for standard Gaussian $z$."""
        return _moment(self.name, derivative=True, power=2)

    @property
    def derivative_kurtosis(self) -> float:
        r"""Return $\kappa_4 = E[\varphi'(z)^4] / E[\varphi'(z)^2]^2$.

        Example:
            >>> [round(get(name).derivative_kurtosis, 12) for name in ("abs", "relu")]
            [1.0, 2.0]
        """
        fourth = _moment(self.name, derivative=True, power=4)
        return fourth / self.derivative_second_moment**2

    @property
    def critical_gain(self) -> float:
        r"""Return $E[\varphi'(z)^2]^{-1/2}$, the gain that keeps gradients.

        That is the edge of chaos. It is `gain` if $\varphi$ is positively homogeneous.
        """
        return self.derivative_second_moment**-0.5

    @property
    def gain(self) -> float:
        r"""Return $E[\varphi(z)^2]^{-1/2}$, the gain that keeps the second moment."""
        return self.second_moment**-0.5


def abrelu(a: float, b: float) -> Activation:
    r"""Return the (a, b)-ReLU $a \min(x, 0) + b \max(x, 0)$.

    It is found again under its name, `abrelu(a,b)`. Where papers write
    $\alpha s + \beta |s|$ (Terjék 2025), it is `abrelu(alpha - beta, alpha + beta)`.
    """
    # All digits, since the name is what a specification keeps.
    slopes = ",".join(repr(float(slope)).removesuffix(".0") for slope in (a, b))
    return Activation(
        f"abrelu({slopes})",
        lambda x: a * jnp.minimum(x, 0) + b * jnp.maximum(x, 0),
        good=False,
    )


def abrelu_slopes(name: str) -> tuple[float, float] | None:
    """Return the slopes that the name of an (a, b)-ReLU holds; None for other names."""
    if name.startswith("abrelu(") and name.endswith(")"):
        with contextlib.suppress(ValueError):
            slopes = [float(slope) for slope in name[len("abrelu(") : -1].split(",")]
            if len(slopes) == 2 and all(map(math.isfinite, slopes)):
                return slopes[0], slopes[1]
    return None


def get(name: str) -> Activation:
    """Return an activation by name.

    Raises:
        ValueError: there is none of that name.
    """
    if slopes := abrelu_slopes(name):
        return abrelu(*slopes)
    try:
        return ACTIVATIONS.find(name)
    except ValueError as error:
        raise ValueError(f"{error}; abrelu(a,b) is there for all a and b") from None


def names() -> tuple[str, ...]:
    """Return the names of the activations without parameters."""
    return tuple(ACTIVATIONS)


def register(
    name: str, function: Callable[[Any], Any] | None = None, *, good: bool = False
) -> Any:
    """Add an activation of one's own, as a function or as a decorator of one.

    Args:
        name: name under which specifications ask for it.
        function: the map on arrays of any shape, which JAX can trace.
        good: whether it meets the condition "GOOD", as for `Activation`.

    Example:
        >>> register("leaky", lambda x: jnp.maximum(x, 0.1 * x))  # doctest: +SKIP
    """
    if function is None:
        return lambda function: register(name, function, good=good)
    if abrelu_slopes(name):
        raise ValueError(f"{name!r} is the name of an (a, b)-ReLU; give another")
    ACTIVATIONS.register(name, Activation(name, function, good))
    return function


def _shifted_softplus(x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    r"""Return $\log(1 + e^x) - \log 2$, a ReLU without a kink that is 0 at 0."""
    return jax.nn.softplus(x) - math.log(2.0)


def _smooth_leaky_relu(x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    r"""Return a smooth map whose slope rises from 0.2 to 1, and is never below 0.2."""
    return 0.2 * x + 0.8 * _shifted_softplus(x)


def _exact_gelu(x: Float[Array, " ..."]) -> Float[Array, " ..."]:
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS = Registry(
    "activation",
    "widthlab.activations.register",
    {
        a.name: a
        for a in (
            Activation("tanh", jnp.tanh, good=True),
            Activation("silu", jax.nn.silu, good=True),
            Activation("sigmoid", jax.nn.sigmoid, good=True),
            Activation("relu", jax.nn.relu, good=False),
            Activation("gelu", _exact_gelu, good=False),
            Activation("elu", jax.nn.elu, good=False),
            Activation("erf", jax.scipy.special.erf, good=False),
            Activation("linear", lambda x: x, good=False),
            Activation("abs", jnp.abs, good=False),
            Activation("shifted-softplus", _shifted_softplus, good=False),
            Activation("smooth-leaky-relu", _smooth_leaky_relu, good=False),
        )
    },
)
"""The activations without parameters by name."""


@lru_cache(maxsize=64)
def _moment(name: str, *, derivative: bool, power: int) -> float:
    z, weights, density = gaussian_quadrature()
    function = get(name).function
    with jax.enable_x64(True):
        nodes = jnp.asarray(z)
        if derivative:
            values = jax.vmap(jax.grad(lambda t: function(t)))(nodes)
        else:
            values = function(nodes)
        total = np.sum(weights * np.asarray(values) ** power * density)
    return float(total)


def gaussian_quadrature() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Return nodes, their weights, and the standard Gaussian density at the nodes.

    $E f(z) \approx \sum_i w_i\, p(z_i)\, f(z_i)$ for $z \sim N(0, 1)$.
    Each half-line is integrated on its own, so that a kink at zero is exact. The
    negative nodes come first, in the order of their mirror images.
    """
    y, weights = np.polynomial.legendre.leggauss(200)
    z = 6.0 * (y + 1.0)  # [0, 12]; the Gaussian tail beyond is below 1e-31
    nodes = np.concatenate([-z, z])
    density = np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    return nodes, np.tile(6.0 * weights, 2), density
