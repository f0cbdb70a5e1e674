"""The tangent kernel of finite networks: layer by layer, by Jacobians, in the limit."""

import doctest
import re
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import slope_and_error
from widthlab import kernels, parametrization
from widthlab.kernels import blocks, finite, jacobian
from widthlab.model import MLP, Shape, by_tensor

X = np.random.default_rng(0).standard_normal((7, 5))


def network(shape, name="ntk", seed=0, dtype="float64", **options):
    scales = shape.scales(parametrization.get(name), lr=0.3, dtype=dtype, **options)
    return MLP(shape, scales, key=jax.random.key(seed)), scales


def taken_apart(model):
    """A function of parameters and inputs, and the parameters."""
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)
    return lambda p, x: nnx.merge(graph, p, rest)(x), parameters


@pytest.mark.parametrize(
    ("biases", "name"), [("none", "ntk"), ("input", "ip"), ("all", "mup")]
)
def test_against_the_jacobians(biases, name):
    """For several outputs, all entries, and the rates of each tensor."""
    with jax.enable_x64(True):
        model, scales = network(Shape(5, (4, 6), 3, "tanh", biases), name)
        function, parameters = taken_apart(model)
        lr = by_tensor(parameters, jnp.asarray(scales.lr))
        there = kernels.jacobian_kernel(
            function, parameters, X, X[:3], lr=lr, outputs="full"
        )
        full = kernels.empirical(model, X, X[:3], lr=scales.lr, outputs="full")
        mean = kernels.empirical(model, X, X[:3], lr=scales.lr)
    assert full.shape == (7, 3, 3, 3)
    np.testing.assert_allclose(full, there, rtol=0, atol=1e-14 * np.abs(there).max())
    np.testing.assert_allclose(mean, np.einsum("abii->ab", there) / 3, rtol=1e-12)


def test_gradient_flow_follows_the_kernel():
    """With every tensor at its rate, the outputs move by it, for whatever loss."""
    with jax.enable_x64(True):
        model, scales = network(Shape(5, (4, 6), 3, "tanh", "all"), "mup")
        kernel = kernels.empirical(model, X, lr=scales.lr, outputs="full")
        function, parameters = taken_apart(model)
        slopes = np.random.default_rng(1).standard_normal((7, 3))

        @jax.jit
        def velocity(parameters, x, slopes, rates):
            _, pull = jax.vjp(lambda p: function(p, x), parameters)
            down = jax.tree.map(lambda g, r: -r * g, pull(slopes)[0], rates)
            return jax.jvp(lambda p: function(p, x), (parameters,), (down,))[1]

        rates = by_tensor(parameters, jnp.asarray(scales.lr))
        moved = velocity(parameters, jnp.asarray(X), jnp.asarray(slopes), rates)
    by_kernel = -np.einsum("abij,bj->ai", kernel, slopes)
    np.testing.assert_allclose(moved, by_kernel, atol=1e-13 * np.abs(by_kernel).max())


@pytest.mark.parametrize("outputs", ["mean", "full"])
def test_blocks_do_not_matter(outputs):
    with jax.enable_x64(True):
        model, _ = network(Shape(5, (4, 6), 3, "relu", "all"))
        whole = kernels.empirical(model, X, outputs=outputs)
        # Three rows at a time, so that the last block is filled up.
        with mock.patch.object(blocks, "block_size", return_value=3):
            parts = kernels.empirical(model, X, outputs=outputs)
            pair = kernels.empirical(model, X, X[1:5], outputs=outputs)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-14 * whole.max())
    np.testing.assert_allclose(pair, whole[:, 1:5], rtol=0, atol=1e-14 * whole.max())
    for kernel in (whole, parts):
        mirrored = kernel.swapaxes(0, 1)
        mirrored = mirrored.swapaxes(2, 3) if outputs == "full" else mirrored
        np.testing.assert_array_equal(kernel, mirrored)


def live_bytes(rows, contract, size, shape, dtype):
    """What two blocks and a tile take, from what the compiler has laid out."""
    first = rows.lower(jnp.zeros((size, *shape), dtype)).compile().memory_analysis()
    block = rows(jnp.zeros((size, *shape), dtype))
    second = contract.lower(block, block).compile().memory_analysis()
    work = second.temp_size_in_bytes + second.output_size_in_bytes
    return 2 * first.output_size_in_bytes + max(first.temp_size_in_bytes, work)


@pytest.mark.parametrize("outputs", ["mean", "full"])
@pytest.mark.parametrize("structured", [True, False])
def test_memory_is_bounded(outputs, structured):
    """The block that is chosen for a memory stays within it, and uses a third of it."""
    memory = 20_000_000
    model, _ = network(Shape(30, (50, 60), 4, "tanh"), dtype="float32")
    module = finite if structured else jacobian
    x = np.zeros((2, 30), "float32")
    nothing = np.zeros((2, 2), "float32")
    with mock.patch.object(module, "in_blocks", return_value=nothing) as in_blocks:
        if structured:
            finite.empirical(model, x, outputs=outputs)
        else:
            jacobian.jacobian_kernel(*taken_apart(model), x, outputs=outputs)
    (rows, contract, *_), options = in_blocks.call_args
    entry = 4 * (16 if outputs == "full" else 1)
    size = blocks.block_size(options["row"], entry, memory)
    live = live_bytes(jax.jit(rows), jax.jit(contract), size, (30,), "float32")
    assert memory / 3 < live <= memory
    with pytest.raises(ValueError, match="memory is 1000 bytes; a single pair"):
        blocks.block_size(options["row"], entry, 1000)


def draws(shape, scales, seeds):
    """Networks with weights from NumPy, without a program for each width's draws."""
    model = nnx.eval_shape(lambda: MLP(shape, scales, key=jax.random.key(0)))
    for layer in model.layers:
        for p, factor in (
            (layer.kernel, layer.multiplier),
            (layer.bias, layer.bias_multiplier),
        ):
            if p is not None:
                place = p.get_metadata()["tensor"]
                factor.set_value(jnp.asarray(scales.multiplier[place]))
    parameters = [v for _, v in nnx.iter_graph(model) if isinstance(v, nnx.Param)]
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        for p in parameters:
            std = scales.std[p.get_metadata()["tensor"]]
            p.set_value(jnp.asarray(std * rng.standard_normal(p.shape), "float32"))
        yield model


def test_convergence_to_the_analytic_kernel():
    """At the rate 1/sqrt(n), by a regression over widths for every seed."""
    widths, x = (64, 160, 400, 1024), X.astype("float32")[:5]
    gain = 1.5
    limit = kernels.mlp(
        x,
        activation="relu",
        depth=2,
        weight_std=(gain * 5**0.5, gain, gain),
        bias_std=(gain, 0.0, 0.0),
    ).ntk

    def distance(kernel):
        return np.linalg.norm(kernel - limit) / np.linalg.norm(limit)

    errors = []
    for width in widths:
        shape = Shape(5, (width, width), 1, "relu", "input")
        gains = {"gains": (gain,) * 3, "bias_gains": (gain,) * 3}
        scales = shape.scales(parametrization.get("ntk"), lr=1.0, **gains)
        networks = draws(shape, scales, 24)
        lr = scales.std**2
        errors.append([distance(kernels.empirical(m, x, lr=lr)) for m in networks])
    slope, uncertainty = slope_and_error(widths, np.transpose(errors))
    assert abs(slope + 0.5) < 3 * uncertainty
    # The rates are part of the statement: without them the limit is another kernel.
    without = kernels.empirical(next(draws(shape, scales, 1)), x)
    assert distance(without) > 3 * np.max(errors[-1])


def test_errors():
    model, _ = network(Shape(5, (4,), 2, "relu"), dtype="float32")
    x = X.astype("float32")
    with pytest.raises(
        ValueError, match=r"x2 has shape \(.*3\); the model takes rows of 5"
    ):
        kernels.empirical(model, x, x[:, :3])
    with pytest.raises(
        ValueError, match=r"lr has shape \(3,\); the model has 2 tensors"
    ):
        kernels.empirical(model, x, lr=jnp.ones(3))
    with pytest.raises(ValueError, match="outputs is 'all'; it is one of mean, full"):
        kernels.empirical(model, x, outputs="all")
    with pytest.raises(ValueError, match="lr has 1 numbers for 2 arrays"):
        kernels.jacobian_kernel(*taken_apart(model), x, lr=[1.0])


def test_the_page_of_the_book():
    """Its examples run; fences are not what they print."""
    page = Path(__file__).parents[1] / "library" / "kernels.md"
    text = re.sub(r"^```.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert len(examples.examples) > 20
    assert runner.run(examples).failed == 0
