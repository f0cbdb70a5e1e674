"""Products with the curvature against dense matrices, and the largest eigenvalue."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from widthlab import parametrization
from widthlab.kernels import empirical
from widthlab.model import MLP, Multiplier, Shape, by_tensor
from widthlab.training.curvature import (
    follow_top,
    gauss_newton_product,
    hessian_product,
    rescaled,
    top_eigenpair,
)
from widthlab.training.losses import LOSSES

SIZES = {"input_dim": 5, "widths": (6, 7), "output_dim": 3, "biases": "input"}
SAMPLES = 9


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


@functools.cache
def network(activation="tanh", loss="mse"):
    """Parameters, their outputs as a function, the loss of outputs, and rates."""
    with jax.enable_x64(True):
        shape = Shape(**SIZES, activation=activation)
        scales = shape.scales(parametrization.get("mup"), lr=0.7, dtype="float64")
        model = MLP(shape, scales, key=jax.random.key(3))
        static, parameters, rest = nnx.split(model, nnx.Param, Multiplier)
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.standard_normal((SAMPLES, 5)))
        y = rng.integers(0, 3, SAMPLES) if loss == "cross-entropy" else None
        y = rng.standard_normal((SAMPLES, 3)) if y is None else y.astype("int32")

        def outputs_of(w):
            return nnx.merge(static, w, rest)(x)

        def loss_of_outputs(f):
            return LOSSES[loss](f, jnp.asarray(y))

        rates = by_tensor(parameters, scales.lr * np.array([1, 2, 0.5, 3]))
        return parameters, outputs_of, loss_of_outputs, rates, model, x


def dense(product, like):
    flat, unravel = ravel_pytree(like)
    return jax.vmap(lambda e: ravel_pytree(product(unravel(e)))[0])(
        jnp.eye(flat.size)
    ).T


def dense_curvatures(loss):
    """The Hessian and the Gauss-Newton matrix from whole Jacobians."""
    parameters, outputs_of, loss_of_outputs, *_ = network(loss=loss)
    flat, unravel = ravel_pytree(parameters)

    @jax.jit
    def matrices(w):
        jacobian = jax.jacobian(lambda w: outputs_of(unravel(w)))(w)
        curved = jax.hessian(loss_of_outputs)(outputs_of(unravel(w)))
        hessian = jax.hessian(lambda w: loss_of_outputs(outputs_of(unravel(w))))(w)
        return jacobian, curved, hessian

    jacobian, curved, hessian = map(np.asarray, matrices(flat))
    jacobian = jacobian.reshape(-1, flat.size)
    curved = curved.reshape(len(jacobian), len(jacobian))
    return hessian, jacobian.T @ curved @ jacobian


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
def test_products_are_those_of_dense_matrices(loss):
    parameters, outputs_of, loss_of_outputs, rates, *_ = network(loss=loss)
    roots = dense(lambda v: jax.tree.map(lambda d, u: d * u, rates, v), parameters)
    roots = np.sqrt(np.diag(np.asarray(roots)))

    def products(w):
        return (
            hessian_product(lambda w: loss_of_outputs(outputs_of(w)), w),
            gauss_newton_product(outputs_of, loss_of_outputs, w),
        )

    @jax.jit
    def found(w):
        start = jax.tree.map(jnp.ones_like, w)
        return [
            (
                dense(product, w),
                dense(rescaled(product, rates), w),
                top_eigenpair(rescaled(product, rates), start, 40),
            )
            for product in products(w)
        ]

    pairs = zip(dense_curvatures(loss), found(parameters), strict=True)
    for matrix, (seen, seen_rescaled, (value, vector)) in pairs:
        np.testing.assert_allclose(seen, matrix, atol=1e-12)
        scaled = roots[:, None] * matrix * roots
        np.testing.assert_allclose(seen_rescaled, scaled, atol=1e-12)
        top = np.linalg.eigvalsh(scaled)[-1]
        assert abs(float(value) / top - 1) < 1e-4  # the contract; in fact rounding
        flat = np.asarray(ravel_pytree(vector)[0])
        np.testing.assert_allclose(np.linalg.norm(flat), 1, rtol=1e-12)
        np.testing.assert_allclose(scaled @ flat, top * flat, atol=1e-4 * top)


def test_gauss_newton_has_the_spectrum_of_the_tangent_kernel():
    parameters, outputs_of, loss_of_outputs, _, model, x = network()
    product = gauss_newton_product(outputs_of, loss_of_outputs, parameters)
    spectrum = np.linalg.eigvalsh(np.asarray(dense(product, parameters)))[
        -SAMPLES * 3 :
    ]
    kernel = np.asarray(empirical(model, x, outputs="full"))
    kernel = kernel.transpose(0, 2, 1, 3).reshape(SAMPLES * 3, SAMPLES * 3)
    np.testing.assert_allclose(
        spectrum, np.linalg.eigvalsh(kernel / SAMPLES), atol=1e-10
    )


def test_layers_of_a_homogeneous_network_share_their_inner_product():
    r"""$\langle \partial L / \partial A_k, A_k \rangle$ is the same for all layers."""
    shape = Shape(5, (6, 7, 8), 3, "relu")
    scales = shape.scales(parametrization.get("mup"), lr=0.7, dtype="float64")
    model = MLP(shape, scales, key=jax.random.key(0))
    static, parameters, rest = nnx.split(model, nnx.Param, Multiplier)
    rng = np.random.default_rng(1)
    x, y = (jnp.asarray(rng.standard_normal((SAMPLES, n))) for n in (5, 3))
    grads = jax.grad(lambda w: LOSSES["mse"](nnx.merge(static, w, rest)(x), y))(
        parameters
    )
    inner = jax.tree.leaves(
        jax.tree.map(lambda g, w: jnp.vdot(g, w), grads, parameters)
    )
    assert len(inner) == 4 and abs(inner[0]) > 1e-3
    np.testing.assert_allclose(inner, inner[0], rtol=1e-10)


@pytest.mark.parametrize("share", [0.98, 1.02])
def test_descent_diverges_where_the_rescaled_curvature_is_above_two(share):
    rng = np.random.default_rng(2)
    factor = rng.standard_normal((6, 6))
    matrix = jnp.asarray(factor @ factor.T)

    def loss(w):
        v = jnp.concatenate([w["a"], w["b"]])
        return v @ matrix @ v / 2

    w = {"a": jnp.ones(2), "b": jnp.ones(4)}
    rates = {"a": 3.0, "b": 0.2}
    top, _ = top_eigenpair(rescaled(hessian_product(loss, w), rates), w, 6)
    rates = {k: share * 2 / float(top) * v for k, v in rates.items()}
    start = float(loss(w))

    @jax.jit
    def step(w):
        return jax.tree.map(lambda v, g, lr: v - lr * g, w, jax.grad(loss)(w), rates)

    for _ in range(400):
        w = step(w)
    assert (float(loss(w)) > 10 * start) == (share > 1)


# --- Lanczos where it breaks down ----------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_invariant_subspaces_end_the_iteration(dtype):
    rng = np.random.default_rng(3)
    basis, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    values = np.arange(-4.0, 16.0)
    matrix = jnp.asarray((basis * values) @ basis.T, dtype)
    diagonal = jnp.diag(jnp.asarray(values, dtype))
    rtol = 1e-5 if dtype == "float32" else 1e-8
    top = jax.jit(
        lambda a, v, n: top_eigenpair(lambda u: a @ u, v, n), static_argnums=2
    )
    for products in (2, 30):
        for places in ([19], [3, 19], [0, 5, 19]):
            rotated = jnp.asarray(basis[:, places].sum(axis=1), dtype)
            exact = jnp.asarray(np.eye(20)[places].sum(axis=0), dtype)
            for a, start in ((matrix, rotated), (diagonal, exact)):
                value, vector = top(a, start, products)
                assert np.all(np.isfinite(vector))
                assert float(value) <= 15 * (1 + rtol)
                if products >= len(places):
                    np.testing.assert_allclose(value, 15, rtol=rtol)
    # On the diagonal there is no rounding that leads out of the subspace.
    value, vector = top_eigenpair(lambda v: diagonal @ v, diagonal[7], 5)
    assert float(value) == 3 and int(jnp.argmax(vector)) == 7


def test_zero_and_negative_operators_and_a_zero_start():
    start = jnp.array([3.0, 4.0, 0.0])
    value, vector = top_eigenpair(jnp.zeros_like, start, 3)
    assert float(value) == 0
    np.testing.assert_allclose(vector, start / 5)
    assert abs(float(top_eigenpair(lambda v: -2 * v, start, 3)[0]) + 2) < 1e-8
    matrix = jnp.diag(jnp.array([1.0, 5.0, 2.0]))
    np.testing.assert_allclose(
        top_eigenpair(lambda v: matrix @ v, 0 * start, 3)[0], 5, rtol=1e-12
    )


def test_what_is_not_finite_is_said_and_ends():
    start = jnp.ones(4)
    assert np.isnan(top_eigenpair(lambda v: v * jnp.nan, start, 3)[0])
    value, _ = follow_top(lambda v: v * jnp.nan, start, 3, (1, 10**9), 1e-4)
    assert np.isnan(value)


def test_rounds_converge_and_none_changes_nothing():
    rng = np.random.default_rng(4)
    matrix = rng.standard_normal((60, 60))
    matrix = jnp.asarray(matrix + matrix.T)
    start = jnp.asarray(rng.standard_normal(60))
    top = np.linalg.eigvalsh(matrix)[-1]

    @jax.jit
    def follow(least, most):
        return follow_top(lambda v: matrix @ v, start, 4, (least, most), 1e-4)

    value, vector = follow(0, 0)
    assert np.isnan(value) and np.all(vector == start)
    errors = [1 - float(follow(1, most)[0]) / top for most in (1, 3, 10, 10**9)]
    assert errors[0] > errors[1] > errors[2] > 0 and errors[0] > 1e-2
    assert errors[3] < 1e-3  # it stopped by itself, at an estimated ten-thousandth
    assert 1 - float(follow(40, 40)[0]) / top < 1e-6
    batch = jax.vmap(lambda n: follow(n, n))(jnp.array([0, 1, 40], jnp.int32))[0]
    assert np.isnan(batch[0]) and batch[1] < batch[2] <= top * (1 + 1e-12)


@pytest.mark.parametrize("scale", [1e-18, 1e-10, 1e10, 1e18, 1e20, 1e25])
def test_eigenvalues_have_the_range_that_is_said(scale):
    """In float32 from 1e-18 to 1e18, and none above."""
    with jax.enable_x64(False):
        diagonal = jnp.asarray(scale * np.arange(1.0, 6.0), jnp.float32)
        start = jnp.ones(5, jnp.float32)

        def top(diagonal):
            return top_eigenpair(lambda v: diagonal * v, start, 5)[0]

        # The level of a program that trains; at 0 squares vanish a little earlier.
        level = {"xla_backend_optimization_level": 1}
        value = jax.jit(top, compiler_options=level)(diagonal)
    expected = 5 * scale if scale <= 1e18 else np.nan
    np.testing.assert_allclose(value, expected, rtol=1e-5)
