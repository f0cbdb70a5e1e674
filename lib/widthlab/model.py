r"""An MLP in Flax NNX whose parameters carry their role.

$h^1 = W^1 \xi$, $h^l = W^l x^{l-1}$, $x^l = \varphi(h^l)$, $f = W^{L+1} x^L$, with
$W^l = m_l w^l$: a fixed multiplier and the trained weights. Matrices are stored as
(fan-in, fan-out) and act from the right on rows of inputs. The first or all of the
layers may add biases, which have a multiplier and scales of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from widthlab import activations
from widthlab.fields import choice, count, several, text
from widthlab.parametrization import Parametrization, Role
from widthlab.parametrization.exponents import BIASES, layers_with_biases

AnyArray = Array | np.ndarray
"""An array on the device or the host."""


def _tf32(x: Array) -> Array:
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=10)


def _bfloat16(x: Array) -> Array:
    # XLA may skip a conversion forth and back, but not a reduction of precision.
    reduced = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
    return reduced.astype(jnp.bfloat16)


ROUNDINGS: dict[str, Callable[[Any], Any]] = {"tf32": _tf32, "bfloat16": _bfloat16}
"""What operands of matrix products can be rounded to, by name."""


def product(
    x: Float[AnyArray, "batch fan_in"],
    w: Float[AnyArray, "fan_in fan_out"],
    rounding: str = "none",
) -> Float[Array, "batch fan_out"]:
    r"""Return $x w$, with operands and result rounded, also in derivatives.

    $\rho(\rho(x)\,\rho(w))$, where $\rho$ keeps 10 ("tf32") or 7 ("bfloat16") bits of a
    float32's mantissa, and sums are accumulated in float32: what tensor cores compute,
    and the same numbers (but for the order of sums) on devices without them. Weights
    and everything between products keep the type they have.
    """
    if rounding == "none":
        return jnp.matmul(x, w)
    rounded = ROUNDINGS[rounding]
    # The operands are rounded already: the fastest precision loses nothing more.
    with jax.default_matmul_precision("default"):
        return rounded(jnp.matmul(rounded(x), rounded(w))).astype(w.dtype)


class Scales(NamedTuple):
    """The numbers of one network's tensors, as arrays that may be traced.

    Entries are in the order of `Shape.tensors`; `LayerScales` says what they are. One
    compiled program serves every parametrization of a shape, since only these differ
    between them.
    """

    std: Float[AnyArray, " tensors"]
    mean: Float[AnyArray, " tensors"]
    multiplier: Float[AnyArray, " tensors"]
    lr: Float[AnyArray, " tensors"]
    first_lr: Float[AnyArray, " tensors"]
    retained: Float[AnyArray, " tensors"]


class Tensor(NamedTuple):
    """A trained array: the matrix of a layer (counted from 1), or its biases."""

    role: Role
    layer: int
    fan_in: int
    fan_out: int
    bias: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return (self.fan_out,) if self.bias else (self.fan_in, self.fan_out)


@attrs.frozen
class Shape:
    r"""What decides the shapes of an MLP and its computation.

    Attributes:
        input_dim: size $d$ of an input.
        widths: sizes $n_1, \dots, n_L$ of the hidden layers.
        output_dim: size of the output.
        activation: name of the nonlinearity.
        biases: which layers add biases: "none", "input" (the first) or "all".
        rounding: of matrix products: "none" or a key of `ROUNDINGS`.
    """

    input_dim: int = attrs.field(converter=count())
    widths: tuple[int, ...] = attrs.field(converter=several(count(), least=1))
    output_dim: int = attrs.field(converter=count())
    activation: str = attrs.field(converter=text())
    biases: str = attrs.field(default="none", converter=choice(BIASES))
    rounding: str = attrs.field(default="none", converter=choice(("none", *ROUNDINGS)))

    def __attrs_post_init__(self) -> None:
        """Refuse unknown activations."""
        activations.get(self.activation)

    @property
    def depth(self) -> int:
        """Number $L$ of hidden layers."""
        return len(self.widths)

    @property
    def layers(self) -> list[tuple[Role, int, int]]:
        """Role, fan-in and fan-out of every weight matrix, from the input on."""
        sizes = (self.input_dim, *self.widths, self.output_dim)
        roles = [Role.INPUT] + [Role.HIDDEN] * (self.depth - 1) + [Role.OUTPUT]
        return list(zip(roles, sizes[:-1], sizes[1:], strict=True))

    @property
    def tensors(self) -> list[Tensor]:
        """Every trained array: the matrices from the input on, then the biases."""
        matrices = [
            Tensor(role, layer, fan_in, fan_out, False)
            for layer, (role, fan_in, fan_out) in enumerate(self.layers, 1)
        ]
        count = layers_with_biases(self.biases, len(matrices))
        return matrices + [t._replace(bias=True) for t in matrices[:count]]

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def flops(self) -> int:
        r"""Multiply-adds of matrices, times two, for one step on one example.

        $$4\, d\, n_1 + 6 \sum_{l=2}^{L+1} n_{l-1} n_l, \qquad
          n_{L+1} \text{ the size of the output}$$

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
        bias_gains: Sequence[float] = (1.0, 1.0, 1.0),
        adam: bool = False,
        dtype: str = "float32",
    ) -> Scales:
        """Return the numbers that a parametrization assigns to each tensor."""
        gain = {
            (role, bias): factor
            for bias, factors in ((False, gains), (True, bias_gains))
            for role, factor in zip(Role, factors, strict=True)
        }
        rows = [
            parametrization.scales(
                t.role,
                fan_in=t.fan_in,
                fan_out=t.fan_out,
                lr=lr,
                base_width=base_width,
                depth=self.depth,
                layer=t.layer,
                gain=gain[t.role, t.bias],
                adam=adam,
                bias=t.bias,
                first_width=self.widths[0],
            )
            for t in self.tensors
        ]
        columns = ([getattr(r, name) for r in rows] for name in Scales._fields)
        return Scales(*(np.array(column, dtype) for column in columns))


class Multiplier(nnx.Variable):
    """The fixed factor of a layer: part of the model, not trained."""


class Signals(NamedTuple):
    r"""What one forward pass computes: $h^l$ and $x^l$ layer by layer, and $f$."""

    preactivations: tuple[Float[Array, "batch width"], ...]
    activations: tuple[Float[Array, "batch width"], ...]
    output: Float[Array, "batch output"]


class Dense(nnx.Module):
    r"""A matrix, and biases if there are any, each with its multiplier.

    $x \mapsto m\, x w + m_b\, b$ for rows of inputs.

    A parameter knows its role, and its place in `Shape.tensors`.
    """

    def __init__(
        self,
        kernel: tuple[nnx.Param, Any],
        bias: tuple[nnx.Param, Any] | None,
        rounding: str = "none",
    ):
        """Hold weights (fan-in, fan-out) and biases (fan-out,), with multipliers."""
        self.rounding = rounding
        self.kernel, multiplier = kernel
        self.multiplier = Multiplier(multiplier)
        self.bias, multiplier = (None, None) if bias is None else bias
        self.bias_multiplier = None if bias is None else Multiplier(multiplier)

    def __call__(
        self, x: Float[AnyArray, "batch fan_in"]
    ) -> Float[Array, "batch fan_out"]:
        """Apply the matrix and add the biases."""
        h = product(x, self.kernel[...], self.rounding) * self.multiplier[...]
        if self.bias is None or self.bias_multiplier is None:
            return h
        return h + self.bias[...] * self.bias_multiplier[...]


class MLP(nnx.Module):
    r"""The multilayer perceptron of the wide-network papers.

    $$h^1 = W^1 \xi, \qquad x^l = \varphi(h^l), \qquad h^{l+1} = W^{l+1} x^l, \qquad
      f = W^{L+1} x^L, \qquad W^l = m_l w^l,$$

    and biases where the shape has them.

    Example:
        >>> from widthlab import parametrization
        >>> shape = Shape(input_dim=8, widths=(32, 32), output_dim=3, activation="tanh")
        >>> scales = shape.scales(parametrization.get("mup"), lr=0.1)
        >>> model = MLP(shape, scales, key=jax.random.key(0))
        >>> model(jnp.ones((5, 8))).shape
        (5, 3)
    """

    def __init__(self, shape: Shape, scales: Scales, *, key: Key[Array, ""]):
        r"""Draw the entries of every tensor from $N(u, \mathrm{std}^2)$."""
        # One draw for all tensors: each generator would be compiled on its own.
        dtype = jnp.asarray(scales.std).dtype
        draws = jax.random.normal(key, (shape.parameters,), dtype)
        self.activation = shape.activation
        parts, start = {}, 0
        for i, tensor in enumerate(shape.tensors):
            stop = start + math.prod(tensor.shape)
            values = scales.std[i] * draws[start:stop].reshape(tensor.shape)
            param = nnx.Param(scales.mean[i] + values, role=tensor.role, tensor=i)
            parts[tensor.layer, tensor.bias] = param, scales.multiplier[i]
            start = stop
        self.layers = nnx.List(
            Dense(parts[layer, False], parts.get((layer, True)), shape.rounding)
            for layer in range(1, shape.depth + 2)
        )

    def __call__(
        self, x: Float[AnyArray, "batch input"]
    ) -> Float[Array, "batch output"]:
        """Return the outputs."""
        return self.features(x).output

    def features(self, x: Float[AnyArray, "batch input"]) -> Signals:
        """Return $h^l$ and $x^l$ of all layers, and the outputs $f$."""
        function = activations.get(self.activation)
        before, after = [], []
        for layer in self.layers[:-1]:
            before.append(layer(x))
            x = function(before[-1])
            after.append(x)
        return Signals(tuple(before), tuple(after), self.layers[-1](x))


def by_tensor(parameters: Any, values: Float[AnyArray, " tensors"]) -> Any:
    """Spread one number a tensor over a tree of parameters, by what these say."""

    def pick(variable: Any) -> Any:
        place = variable.get_metadata().get("tensor")
        if place is None or not isinstance(variable.get_metadata().get("role"), Role):
            raise ValueError(
                f"a parameter of type {type(variable).__name__} names no role and "
                "place; make it with nnx.Param(..., role=Role..., tensor=...)"
            )
        return variable.replace(values[place])

    return jax.tree.map(pick, parameters, is_leaf=lambda v: isinstance(v, nnx.Variable))
