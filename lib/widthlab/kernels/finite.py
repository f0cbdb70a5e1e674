r"""The tangent kernel of a finite MLP, layer by layer.

$$\Theta_{ij}(x, x') = \sum_t \eta_t\,
  \langle \partial f_i(x)/\partial w_t,\ \partial f_j(x')/\partial w_t \rangle$$

over the trained tensors $w_t$. Under gradient flow of a loss with learning rates
$\eta_t$ the outputs move by
$\dot f(x) = -\sum_{x'} \Theta(x, x')\,\partial L / \partial f(x')$.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from widthlab import activations
from widthlab.kernels.arcs import check_type
from widthlab.kernels.blocks import Kernel, in_blocks
from widthlab.model import MLP, AnyArray


class _Layer(NamedTuple):
    """A dense layer with its multipliers inside, and the rates of what is trained."""

    matrix: Float[Array, "fan_in fan_out"]
    bias: Float[Array, " fan_out"]
    weight_rate: Float[Array, ""]
    bias_rate: Float[Array, ""]


class _Rows(NamedTuple):
    """What the kernel takes from a block of inputs: every layer's x and df/dh."""

    inputs: list[Array]  # (n, fan-in)
    slopes: list[Array]  # (n, k, fan-out), but for the read-out


def empirical(
    model: MLP,
    x1: Float[AnyArray, "n1 input"],
    x2: Float[AnyArray, "n2 input2"] | None = None,
    *,
    lr: Float[AnyArray, " tensors"] | None = None,
    outputs: str = "mean",
    memory: int = 2**30,
) -> Kernel:
    r"""Return the tangent kernel of an MLP at its present weights.

    A layer $h = m w x + m' b$ adds, without its gradients being formed,

    $$(\eta m^2\,x \cdot x' + \eta' m'^2)\;\delta_i \cdot \delta'_j, \qquad
      \delta_i = \partial f_i / \partial h.$$

    In the parametrization "ntk", the kernel with `lr=scales.std**2` is that of the
    weights $w_t / \sigma_t \sim N(0, 1)$. Its limit is `mlp` with the `weight_std`
    $g_1 \sqrt d, g_2, \dots, g_2, g_3$ for gains $g$ and input dimension $d$, since the
    first layer here has no factor $d^{-1/2}$, and with the gains of the biases, where
    there are any, as `bias_std`. With all gains 1, `lr=None` gives the same kernel.

    Args:
        model: the network. The kernel has the precision of its weights.
        x1: inputs, one a row.
        x2: other inputs; None for `x1` again, and then the kernel is symmetric to the
            last bit.
        lr: $\eta_t$ in the order of `Shape.tensors`, as in `Scales.lr`; None for ones.
        outputs: "mean" averages $\Theta_{ii}$ over the outputs, "full" returns all
            pairs of outputs.
        memory: bytes to work in, besides the model, the inputs and the result.

    Returns:
        The kernel on the host, (n1, n2) or (n1, n2, k, k).

    Raises:
        ValueError: sizes do not fit, or a single pair of inputs takes more memory.

    Example:
        >>> from widthlab import parametrization
        >>> from widthlab.model import Shape
        >>> shape = Shape(input_dim=3, widths=(64, 64), output_dim=2, activation="relu")
        >>> scales = shape.scales(parametrization.get("mup"), lr=0.1)
        >>> model = MLP(shape, scales, key=jax.random.key(0))
        >>> empirical(model, jnp.eye(3), lr=scales.lr).shape
        (3, 3)
    """
    layers = _layers(model, lr)
    fan_in, dtype = layers[0].matrix.shape[0], layers[0].matrix.dtype
    for name, x in (("x1", x1), ("x2", x2)):
        if x is not None and (x.ndim != 2 or x.shape[1] != fan_in):
            raise ValueError(
                f"{name} has shape {x.shape}; the model takes rows of {fan_in} numbers"
            )
    k = layers[-1].matrix.shape[1]
    hidden = sum(layer.matrix.shape[0] for layer in layers[1:])
    return in_blocks(
        functools.partial(_rows, layers, model.activation),
        functools.partial(_contract, layers, outputs),
        np.asarray(x1, dtype),
        None if x2 is None else np.asarray(x2, dtype),
        # A hidden unit has an activation, a derivative, and a slope for each output.
        row=(fan_in + (2 + k) * hidden) * dtype.itemsize,
        outputs=outputs,
        k=k,
        dtype=dtype,
        memory=memory,
    )


def _layers(model: MLP, lr: Float[AnyArray, " tensors"] | None) -> list[_Layer]:
    """Take the model apart, into arrays alone."""
    weights = [(layer.kernel[...], layer.multiplier[...]) for layer in model.layers]
    biases = [
        (layer.bias[...], layer.bias_multiplier[...])
        for layer in model.layers
        if layer.bias is not None and layer.bias_multiplier is not None
    ]
    count, dtype = len(weights) + len(biases), weights[0][0].dtype
    check_type("the model", dtype)
    rates = np.ones(count) if lr is None else np.asarray(lr)
    if rates.shape != (count,):
        raise ValueError(
            f"lr has shape {rates.shape}; the model has {count} tensors, and lr is one "
            "number for each, in the order of Shape.tensors"
        )
    return _scaled(weights, biases, jnp.asarray(rates, dtype))


@jax.jit
def _scaled(
    weights: list[tuple[Array, Array]], biases: list[tuple[Array, Array]], rates: Array
) -> list[_Layer]:
    """Multiply all by their multipliers; the last layers may have no biases."""
    missing = len(weights) - len(biases)
    biases = biases + [
        (jnp.zeros(w.shape[1], w.dtype), jnp.zeros((), w.dtype))
        for w, _ in weights[len(biases) :]
    ]
    rates = jnp.pad(rates, (0, missing))
    return [
        _Layer(w * m, b * n, rates[i] * m**2, rates[len(weights) + i] * n**2)
        for i, ((w, m), (b, n)) in enumerate(zip(weights, biases, strict=True))
    ]


_dot = functools.partial(jnp.einsum, precision="highest")


@functools.partial(jax.jit, static_argnums=1)
def _rows(layers: list[_Layer], activation: str, x: Float[Array, "n input"]) -> _Rows:
    """Go forward once, and backward once for every output."""
    function = activations.get(activation).function
    inputs, gates = [x], []
    for layer in layers[:-1]:
        h = _dot("ai,io->ao", inputs[-1], layer.matrix) + layer.bias
        after, gate = jax.jvp(function, (h,), (jnp.ones_like(h),))
        inputs.append(after)
        gates.append(gate)
    slopes = [layers[-1].matrix.T * gates[-1][:, None, :]]
    for layer, gate in zip(layers[-2:0:-1], gates[-2::-1], strict=True):
        back = _dot("ako,io->aki", slopes[0], layer.matrix)
        slopes.insert(0, back * gate[:, None, :])
    return _Rows(inputs, slopes)


@functools.partial(jax.jit, static_argnums=1)
def _contract(
    layers: list[_Layer], outputs: str, one: _Rows, two: _Rows
) -> Float[Array, "n1 n2 ..."]:
    """Sum over the layers what two blocks of inputs have to do with each other."""
    k, dtype = layers[-1].matrix.shape[1], layers[-1].matrix.dtype
    full = outputs == "full"
    pairs = [
        _dot("ako,blo->abkl", a, b) if full else _dot("ako,bko->ab", a, b) / k
        for a, b in zip(one.slopes, two.slopes, strict=True)
    ]
    pairs.append(jnp.eye(k, dtype=dtype) if full else jnp.ones((), dtype))
    total = jnp.zeros((), dtype)
    for layer, a, b, pair in zip(layers, one.inputs, two.inputs, pairs, strict=True):
        gram = layer.weight_rate * _dot("ai,bi->ab", a, b) + layer.bias_rate
        total += (gram[:, :, None, None] if full else gram) * pair
    return total
