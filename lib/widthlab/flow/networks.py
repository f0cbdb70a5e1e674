r"""Networks whose single trained layer flows: shallow, and partially trained (P-3L).

A specification and a data set make a flow. Both kinds train the weights in front of one
layer of neurons and keep the outer weights $c_i = \pm 1$.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab import activations, parametrization
from widthlab.fields import (
    count,
    either,
    instance,
    optional,
    several,
    text,
    truth,
)
from widthlab.flow.preactivation import Preactivations
from widthlab.kernels import dual
from widthlab.parametrization import Role

_PAIR = several(instance(Fraction, called="a fractions.Fraction"), length=2)


@attrs.frozen(kw_only=True)
class Shallow:
    r"""$f(x) = m^{-b} \sum_i c_i \sigma(z_i \cdot x)$, $z_i \sim N(0, I)$ trained.

    Attributes:
        width: number $m$ of neurons.
        activation: name of $\sigma$.
        parametrization: "mean-field" ($b = 1$) or "ntk" ($b = 1/2$), or any whose
            output layer has such exponents. Time is scaled so that the tangent kernel
            is of order one in all of them.
        paired: start neurons in pairs with equal $z_i$ and opposite $c_i$, so that
            $f = 0$ at time 0.
    """

    width: int = attrs.field(converter=count())
    activation: str = attrs.field(default="smooth-leaky-relu", converter=text())
    parametrization: str = attrs.field(default="mean-field", converter=text())
    paired: bool = attrs.field(default=True, converter=truth())

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be built."""
        _check(self.width, self.activation, self.parametrization, self.paired)

    def flow(self, data: Any, *, seed: int) -> Preactivations:
        """Return the flow on a data set (anything with `load`, one target an input)."""
        x, x_test, y, y_test = _arrays(data)
        rng = np.random.default_rng([seed, 1])
        count, outer = _outer(self.width, self.paired)
        z = _tile(rng.standard_normal((count, x.shape[1])), self.paired)
        return Preactivations(
            activation=self.activation,
            gram=x @ x.T,
            start=x @ z.T,
            outer=outer,
            targets=y,
            test_gram=x_test @ x.T,
            test_start=x_test @ z.T,
            test_targets=y_test,
            **_scales(self.parametrization, self.width),
        )


@attrs.frozen(kw_only=True)
class PartiallyTrained:
    r"""$f = m_2^{-b} \sum_i c_i \sigma(h_i)$, where $h_i = m_1^{-g} W_i \cdot \phi$.

    The first layer $\phi_j(x) = s\,\sigma_1(v_j \cdot x)$, $v_j \sim N(0, I)$, stays as
    it was drawn; the gain $s$ makes $E\,\phi_j^2 = 1$ for inputs of norm one. Only $W$,
    $W_{ij} \sim N(0, 1)$ at time 0, is trained. The exponents are those of the middle
    layer and the read-out of a parametrization with two hidden layers: $b$ is $a + b$
    of its output layer, $g$ that of its hidden layer.

    - "mup": $b = 1$, $g = 1/2$, the paper's scaling, as far as it is known;
    - "ntk": $b = g = 1/2$, its NTK counterpart: lazy;
    - "ip": $b = g = 1$, mean field in both layers.

    Time is scaled by $m_2^{2b-1} m_1^{2g-1}$ so that the tangent kernel is of order one
    in all of them; with $m_1 = m_2$ this is what the exponent $c$ of the hidden layer
    does.

    Attributes:
        width: number $m_2$ of trained neurons.
        inner_width: number $m_1$ of fixed features; None is the limit of infinitely
            many, in which pre-activations start as a Gaussian process.
        activation: name of $\sigma$.
        inner_activation: name of $\sigma_1$.
        parametrization: its name, or a pair $(b, g)$ as fractions.
        paired: start neurons in pairs with equal weights and opposite $c_i$, so that
            $f = 0$ at time 0.
    """

    width: int = attrs.field(converter=count())
    inner_width: int | None = attrs.field(
        converter=optional(count(), "for infinitely many features")
    )
    activation: str = attrs.field(default="relu", converter=text())
    inner_activation: str = attrs.field(default="relu", converter=text())
    parametrization: str | tuple[Fraction, Fraction] = attrs.field(
        default="mup", converter=either(text(), _PAIR)
    )
    paired: bool = attrs.field(default=True, converter=truth())

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be built."""
        _check(self.width, self.activation, self.parametrization, self.paired)
        activations.get(self.inner_activation)
        _, g = _exponents(self.parametrization)
        if self.inner_width is None and g != Fraction(1, 2):
            raise ValueError(
                f"inner_width is None with the exponent g = {g}; pre-activations have "
                "a limit of order one for g = 1/2 only (below it they grow without "
                "bound, above it all neurons start at zero)"
            )

    def flow(self, data: Any, *, seed: int) -> Preactivations:
        """Return the flow on a data set (anything with `load`, one target an input)."""
        x, x_test, y, y_test = _arrays(data)
        both = np.concatenate([x, x_test])
        rng = np.random.default_rng([seed, 2])
        count, outer = _outer(self.width, self.paired)
        if self.inner_width is None:
            gram, start = self._infinite(both, count, rng)
        else:
            gram, start = self._finite(both, count, self.inner_width, rng)
        start, n = _tile(start.T, self.paired).T, len(x)
        return Preactivations(
            activation=self.activation,
            gram=gram[:n, :n],
            start=start[:n],
            outer=outer,
            targets=y,
            test_gram=gram[n:, :n],
            test_start=start[n:],
            test_targets=y_test,
            **_scales(self.parametrization, self.width),
        )

    def limit_kernel(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
        r"""Return the tangent kernel at time 0 of infinitely many features and neurons.

        $K(x, x') = G(x, x')\, E[\sigma'(u) \sigma'(v)]$ with $(u, v)$ Gaussian of
        covariance $G$, for $g = 1/2$; float64. In NTK scaling it is the kernel for all
        time.
        """
        gram = feature_kernel(x, self.inner_activation)
        return gram * _moments(dual.derivative_moment, self.activation, gram)

    def _finite(
        self, x: np.ndarray, count: int, inner: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gram matrix of the features, and pre-activations of `count` neurons."""
        v = rng.standard_normal((inner, x.shape[1]))
        w = rng.standard_normal((count, inner))
        phi = _features(self.inner_activation, x @ v.T)
        _, g = _exponents(self.parametrization)
        return phi @ phi.T / inner, phi @ w.T * float(inner) ** -float(g)

    def _infinite(
        self, x: np.ndarray, count: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        gram = feature_kernel(x, self.inner_activation)
        values, vectors = np.linalg.eigh(gram)
        root = vectors * np.sqrt(np.maximum(values, 0))
        # Triangular: what is drawn for the first inputs does not know of the others.
        lower = np.asarray(np.linalg.qr(root.T, mode="r")).T
        lower *= np.where(np.diagonal(lower) < 0, -1, 1)
        return gram, lower @ rng.standard_normal((len(x), count))


def feature_kernel(
    x: Float[np.ndarray, "n d"], activation: str
) -> Float[np.ndarray, "n n"]:
    r"""Return $E\,\phi(x) \phi(x')$ in the limit of infinitely many features.

    Computed in float64.
    """
    gain = activations.get(activation).gain
    return gain**2 * _moments(dual.moment, activation, x @ x.T)


def _moments(of: Any, activation: str, covariance: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        q = jnp.asarray(covariance, jnp.float64)
        own = jnp.diagonal(q)
        return np.asarray(of(activation, own[:, None], q, own[None, :]))


def _features(name: str, h: np.ndarray) -> np.ndarray:
    activation = activations.get(name)
    with jax.enable_x64(True):
        return activation.gain * np.asarray(activation(jnp.asarray(h, jnp.float64)))


def _exponents(name: str | tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
    """Exponents of the sizes of read-out and hidden layer: $b$ and $g$."""
    if not isinstance(name, str):
        return name
    if name not in ("mup", "ntk", "ip", "mean-field"):
        raise ValueError(
            f"parametrization is {name!r}; the networks of this module follow 'mup', "
            "'ntk', 'ip', for a shallow one 'mean-field', or a pair of exponents (b, g)"
        )
    table = parametrization.get(name)
    output, hidden = table[Role.OUTPUT], table[Role.HIDDEN]
    return output.a + output.b, hidden.a + hidden.b


def _scales(name: str | tuple[Fraction, Fraction], width: int) -> dict[str, np.ndarray]:
    """Readout and speed: their product is $1/m$, that of an average over neurons."""
    b, _ = _exponents(name)
    readout = np.asarray(float(width) ** -float(b))
    return {"readout": readout, "speed": 1 / (width * readout)}


def _check(width: int, activation: str, name: Any, paired: bool) -> None:
    activations.get(activation)
    _exponents(name)
    if paired and width % 2:
        raise ValueError(
            f"width is {width}; it is even for neurons in pairs (paired=False for "
            "others)"
        )


def _outer(width: int, paired: bool) -> tuple[int, np.ndarray]:
    """Neurons to draw, and the signs of all: one half positive, the other negative."""
    count = width // 2 if paired else width
    return count, np.where(np.arange(width) < (width + 1) // 2, 1.0, -1.0)


def _tile(rows: np.ndarray, paired: bool) -> np.ndarray:
    return np.concatenate([rows, rows]) if paired else rows


def _arrays(data: Any) -> tuple[Array | np.ndarray, ...]:
    loaded = data.load()
    out = []
    for x, y in (
        (loaded.x_train, loaded.y_train),
        (loaded.x_test, loaded.y_test),
    ):
        targets = np.asarray(y, np.float64)
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        if targets.ndim != 1 or not np.issubdtype(np.asarray(y).dtype, np.floating):
            raise ValueError(
                f"targets have shape {np.shape(y)} and type {np.asarray(y).dtype}; "
                "these networks have one output: use a Synthetic task, or "
                "DataSpec(targets='parity')"
            )
        out.append((np.asarray(x, np.float64), targets))
    (x, y), (x_test, y_test) = out
    return x, x_test, y, y_test
