r"""A bias-free MLP in Flax NNX whose parameters carry their role.

$h^1 = W^1 \xi$, $h^l = W^l x^{l-1}$, $x^l = \varphi(h^l)$, $f = W^{L+1} x^L$, with
$W^l = m_l w^l$: a fixed multiplier and the trained weights. Matrices are stored as
(fan-in, fan-out) and act from the right on rows of inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from widthlab import activations
from widthlab.parametrization import Parametrization, Role

AnyArray = Array | np.ndarray
"""An array on the device or the host."""


class Scales(NamedTuple):
    """Per-layer numbers of one network, as arrays that may be traced.

    One compiled program serves every parametrization of a shape, since only these
    differ between them.
    """

    std: Float[AnyArray, " layers"]
    multiplier: Float[AnyArray, " layers"]
    lr: Float[AnyArray, " layers"]
    first_lr: Float[AnyArray, " layers"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the shapes of an MLP and its computation.

    Attributes:
        input_dim: size of an input.
        widths: sizes of the hidden layers.
        output_dim: size of the output.
        activation: name of the nonlinearity.
    """

    input_dim: int
    widths: tuple[int, ...]
    output_dim: int
    activation: str

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive and unknown activations."""
        if not self.widths:
            raise ValueError(
                "widths is empty; an MLP here has at least one hidden layer"
            )
        for what, size in (
            ("input_dim", self.input_dim),
            ("output_dim", self.output_dim),
            *(("width", w) for w in self.widths),
        ):
            if size < 1:
                raise ValueError(f"{what} is {size}; it must be at least 1")
        activations.get(self.activation)

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return len(self.widths)

    @property
    def layers(self) -> list[tuple[Role, int, int]]:
        """Role, fan-in and fan-out of every weight matrix, from the input on."""
        sizes = (self.input_dim, *self.widths, self.output_dim)
        roles = [Role.INPUT] + [Role.HIDDEN] * (self.depth - 1) + [Role.OUTPUT]
        return list(zip(roles, sizes[:-1], sizes[1:], strict=True))

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        return sum(fan_in * fan_out for _, fan_in, fan_out in self.layers)

    @property
    def flops(self) -> int:
        """Multiply-adds of matrices, times two, for one step on one example.

        Each matrix is used three times (forward, and the gradients of its input and of
        itself); the first one's input needs no gradient.
        """
        first, *rest = (2 * fan_in * fan_out for _, fan_in, fan_out in self.layers)
        return 2 * first + 3 * sum(rest)

    def scales(
        self,
        parametrization: Parametrization,
        *,
        lr: float,
        base_width: int = 1,
        gains: Sequence[float] = (1.0, 1.0, 1.0),
        adam: bool = False,
        dtype: str = "float32",
    ) -> Scales:
        """Return the numbers that a parametrization assigns to each layer."""
        gain = dict(zip(Role, gains, strict=True))
        rows = [
            parametrization.scales(
                role,
                fan_in=fan_in,
                fan_out=fan_out,
                lr=lr,
                base_width=base_width,
                depth=self.depth,
                gain=gain[role],
                adam=adam,
            )
            for role, fan_in, fan_out in self.layers
        ]
        columns = ("std", "multiplier", "lr", "first_lr")
        values = [np.array([getattr(r, c) for r in rows], dtype) for c in columns]
        return Scales(*values)


class Multiplier(nnx.Variable):
    """The fixed factor of a layer: part of the model, not trained."""


class Features(NamedTuple):
    """What one forward pass computes, layer by layer."""

    preactivations: tuple[Float[Array, "batch width"], ...]
    activations: tuple[Float[Array, "batch width"], ...]
    output: Float[Array, "batch output"]


class Dense(nnx.Module):
    """One matrix with its multiplier; its parameter knows its role and its place."""

    def __init__(self, kernel: Any, multiplier: Any, *, role: Role, layer: int):
        """Hold trained weights of shape (fan-in, fan-out)."""
        self.kernel = nnx.Param(kernel, role=role, layer=layer)
        self.multiplier = Multiplier(multiplier)

    def __call__(
        self, x: Float[AnyArray, "batch fan_in"]
    ) -> Float[Array, "batch fan_out"]:
        """Apply the matrix."""
        return (x @ self.kernel[...]) * self.multiplier[...]


class MLP(nnx.Module):
    """The multilayer perceptron of the wide-network papers.

    Example:
        >>> from widthlab import parametrization
        >>> shape = Shape(input_dim=8, widths=(32, 32), output_dim=3, activation="tanh")
        >>> scales = shape.scales(parametrization.get("mup"), lr=0.1)
        >>> model = MLP(shape, scales, key=jax.random.key(0))
        >>> model(jnp.ones((5, 8))).shape
        (5, 3)
    """

    def __init__(self, shape: Shape, scales: Scales, *, key: Key[Array, ""]):
        r"""Draw the weights of every layer from $N(0, \mathrm{std}^2)$."""
        # One draw for all layers: each generator would be compiled on its own.
        dtype = jnp.asarray(scales.std).dtype
        draws = jax.random.normal(key, (shape.parameters,), dtype)
        self.activation = shape.activation
        layers, start = [], 0
        for i, (role, fan_in, fan_out) in enumerate(shape.layers):
            stop = start + fan_in * fan_out
            kernel = scales.std[i] * draws[start:stop].reshape(fan_in, fan_out)
            layers.append(Dense(kernel, scales.multiplier[i], role=role, layer=i))
            start = stop
        self.layers = nnx.List(layers)

    def __call__(
        self, x: Float[AnyArray, "batch input"]
    ) -> Float[Array, "batch output"]:
        """Return the outputs."""
        return self.features(x).output

    def features(self, x: Float[AnyArray, "batch input"]) -> Features:
        """Return pre-activations and activations of all layers, and the outputs."""
        function = activations.get(self.activation)
        before, after = [], []
        for layer in self.layers[:-1]:
            before.append(layer(x))
            x = function(before[-1])
            after.append(x)
        return Features(tuple(before), tuple(after), self.layers[-1](x))


def by_layer(parameters: Any, values: Float[AnyArray, " layers"]) -> Any:
    """Spread one number a layer over a tree of parameters, by what these say."""

    def pick(variable: Any) -> Any:
        layer = variable.get_metadata().get("layer")
        if layer is None or not isinstance(variable.get_metadata().get("role"), Role):
            raise ValueError(
                f"a parameter of type {type(variable).__name__} names no role and "
                "layer; make it with nnx.Param(..., role=Role..., layer=...)"
            )
        return variable.replace(values[layer])

    return jax.tree.map(pick, parameters, is_leaf=lambda v: isinstance(v, nnx.Variable))
