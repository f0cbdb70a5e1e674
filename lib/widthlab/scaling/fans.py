"""Which axes of a parameter are summed over and which are produced, by layer type.

Axes are counted from the end, so that layers stacked in front (`nnx.vmap`, `nnx.scan`)
have the same. Subclasses are covered by the rule of their base class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
from flax import nnx

from widthlab.fields import count, several
from widthlab.scaling.errors import ScalingError

_AXES = several(count(-32, -1), least=0)


@attrs.frozen
class Fan:
    """The axes of a parameter, as negative numbers; all others stack layers.

    Attributes:
        inputs: axes that the layer sums over.
        outputs: axes of what the layer returns.

    Example:
        >>> Fan(inputs=(-2,), outputs=(-1,))  # a matrix that acts from the right
        Fan(inputs=(-2,), outputs=(-1,))
    """

    _refusal: ClassVar = ScalingError

    inputs: tuple[int, ...] = attrs.field(converter=_AXES)
    outputs: tuple[int, ...] = attrs.field(converter=_AXES)


VECTOR = Fan((), (-1,))
"""Gains and biases: a layer of its own that acts on the constant 1."""

_MATRIX = Fan((-2,), (-1,))


def _general(layer: Any) -> dict[str, Fan]:
    outs, ins = len(layer.out_features), len(layer.in_features)
    outputs = tuple(range(-outs, 0))
    return {
        "kernel": Fan(tuple(range(-outs - ins, -outs)), outputs),
        "bias": Fan((), outputs),
    }


def _conv(layer: Any) -> dict[str, Fan]:
    # A window has a fixed size, so that only the channels can grow.
    window = tuple(range(-2 - len(layer.kernel_size), -2))
    return {"kernel": Fan((*window, -2), (-1,)), "bias": VECTOR}


def _transposed(layer: Any) -> dict[str, Fan]:
    found = _conv(layer)
    if layer.transpose_kernel:
        found["kernel"] = Fan((*found["kernel"].inputs[:-1], -1), (-2,))
    return found


def _einsum(layer: Any) -> dict[str, Fan]:
    # What is in the input, the kernel and the result is a batch, as stacked layers are.
    operands, result = layer.einsum_str.split("->")
    source, kernel = operands.split(",")
    places = {letter: place - len(kernel) for place, letter in enumerate(kernel)}
    inputs = tuple(at for letter, at in places.items() if letter not in result)
    outputs = tuple(
        at for letter, at in places.items() if letter in result and letter not in source
    )
    found = {"kernel": Fan(inputs, outputs)}
    if layer.bias_shape is not None:
        found["bias"] = Fan((), tuple(range(-len(layer.bias_shape), 0)))
    return found


def _norm(layer: Any) -> dict[str, Fan]:
    axes = getattr(layer, "feature_axes", None) or getattr(layer, "feature_axis", -1)
    number = len(axes) if isinstance(axes, tuple) else 1
    found = Fan((), tuple(range(-number, 0)))
    return {"scale": found, "bias": found}


_NORMS = (nnx.LayerNorm, nnx.RMSNorm, nnx.BatchNorm, nnx.GroupNorm, nnx.InstanceNorm)

_RULES: dict[type, Callable[[Any], dict[str, Fan]]] = {
    nnx.Linear: lambda layer: {"kernel": _MATRIX, "bias": VECTOR},
    nnx.LinearGeneral: _general,
    nnx.Conv: _conv,
    nnx.ConvTranspose: _transposed,
    nnx.Einsum: _einsum,
    # A token is a vector with a single one: rows are read, and never summed.
    nnx.Embed: lambda layer: {"embedding": _MATRIX},
    nnx.LoRA: lambda layer: {"lora_a": _MATRIX, "lora_b": _MATRIX},
    nnx.PReLU: lambda layer: {"negative_slope": Fan((), ())},
    **dict.fromkeys(_NORMS, _norm),
}


def covered() -> list[str]:
    """Return the names of the layer types that have a rule, sorted.

    Attention, LSTM and GRU cells are made of these.
    """
    return sorted(layer.__name__ for layer in _RULES)


def fan_of(layer: Any, name: str) -> Fan | None:
    """Return the axes of a layer's parameter; None where no rule covers it.

    Example:
        >>> convolution = nnx.Conv(3, 8, (5, 5), rngs=nnx.Rngs(0))
        >>> fan_of(convolution, "kernel")
        Fan(inputs=(-4, -3, -2), outputs=(-1,))
    """
    for kind in type(layer).__mro__:
        if kind in _RULES:
            return _RULES[kind](layer).get(name)
    return None
