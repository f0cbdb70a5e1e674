"""Closed forms at every scale, types and shapes of kernels: exact, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from widthlab.data import DataSpec
from widthlab.kernels import (
    KernelFlow,
    derivative_moment,
    jacobian_kernel,
    mlp,
    moment,
    regression,
)

CLOSED = ["relu", "abs", "linear", "erf", "gelu", "abrelu(0.1,1)"]
SCALES = 10.0 ** np.arange(-12, 15)


def in_both_precisions(function, *numbers):
    """The same float32 numbers in float32 and in float64."""
    given = [np.float32(n) for n in numbers]
    narrow = np.asarray(function(*map(jnp.asarray, given)))
    with jax.enable_x64(True):
        wide = function(*(jnp.asarray(n, jnp.float64) for n in given))
    assert narrow.dtype == np.float32 and np.asarray(wide).dtype == np.float64
    return narrow, np.asarray(wide)


@pytest.mark.parametrize("activation", CLOSED)
@pytest.mark.parametrize("rho", [-1, 0, 0.9, 0.999, 1])
@pytest.mark.parametrize("uneven", [1, 1e4])
def test_closed_forms_have_the_digits_of_their_type_at_every_scale(
    activation, rho, uneven
):
    """Up to the conditioning: what a rounding of the covariance would change."""
    q11, q22 = SCALES, SCALES * uneven
    q12 = rho * np.sqrt(q11 * q22)

    def value(*q):
        return moment(activation, *q)

    def slope(*q):
        return derivative_moment(activation, *q)

    narrow, wide = in_both_precisions(value, q11, q12, q22)
    sizes = [in_both_precisions(value, q, q, q)[1] for q in (q11, q22)]
    assert np.max(np.abs(narrow - wide) / np.sqrt(sizes[0] * sizes[1])) < 1e-6
    narrow, wide = in_both_precisions(slope, q11, q12, q22)
    rounded = [
        in_both_precisions(slope, q11, q12 * (1 + e), q22)[1] for e in (-2e-7, 2e-7)
    ]
    conditioning = np.max(np.abs(np.stack(rounded) - wide), 0)
    allowed = 1e-5 * np.abs(wide).max() + 4 * conditioning
    assert np.all(np.abs(narrow - wide) <= allowed)


@pytest.mark.parametrize("q", [1e5, 1e6, 1e7])
def test_the_slope_of_equal_inputs_is_a_half_far_out(q):
    q = jnp.float32(q)
    assert abs(float(derivative_moment("gelu", q, q, q)) - 0.5) < 1e-3


@pytest.mark.parametrize("activation", CLOSED)
def test_raw_pixels_have_the_kernels_of_float64(activation):
    data = DataSpec("mnist-5k", n_train=40, n_test=0, preprocess="raw01").load()
    x = 255 * data.x_train
    narrow, wide = in_both_precisions(
        lambda x: mlp(x, activation=activation, depth=3, weight_std=1.4).ntk, x
    )
    assert np.abs(narrow - wide).max() < 2e-5 * np.abs(wide).max()


@pytest.mark.parametrize("activation", ["erf", "gelu"])
def test_derivatives_are_those_of_price_at_every_scale(activation):
    with jax.enable_x64(True):
        q = jnp.asarray(10.0 ** np.arange(-6, 7))
        for rho in (-1.0, -0.3, 0.0, 0.8, 1.0):
            slope = jax.vmap(jax.grad(lambda a, b, c: moment(activation, a, b, c), 1))
            found = slope(q, rho * q, q)
            expected = derivative_moment(activation, q, rho * q, q)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


# --- types ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_types_with_few_digits_are_refused(dtype):
    x = jnp.ones((3, 4), dtype)
    q = jnp.ones((), dtype)
    kernel, name = np.eye(3, dtype=dtype), np.dtype(dtype).name
    for call in (
        lambda: mlp(x, activation="relu", depth=1),
        lambda: moment("relu", q, q, q),
        lambda: derivative_moment("gelu", q, q, q),
        lambda: jacobian_kernel(lambda w, x: x @ w, jnp.ones((4, 1), dtype), x),
        lambda: regression(kernel, np.ones(3), np.ones((1, 3))),
        lambda: KernelFlow.fit(kernel, np.ones(3)),
    ):
        with pytest.raises(ValueError, match=f"of type {name}; .*float32"):
            call()


# --- shapes ------------------------------------------------------------


def test_a_kernel_of_integers_is_known_exactly():
    whole = np.array([[2, 1], [1, 2]])
    for y in (np.array([3, 0]), np.array([[3.0], [0.0]])):
        np.testing.assert_array_equal(
            regression(whole, y, whole), regression(whole * 1.0, y, whole * 1.0)
        )
        KernelFlow.fit(whole, y)


def test_a_function_may_return_one_number_for_each_input():
    w, x = jnp.arange(3.0), jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    x = x.astype(w.dtype)
    for outputs in ("mean", "full"):
        found = jacobian_kernel(lambda w, x: jnp.tanh(x @ w), w, x, outputs=outputs)
        column = jacobian_kernel(
            lambda w, x: jnp.tanh(x @ w)[:, None], w, x, outputs=outputs
        )
        np.testing.assert_array_equal(found, column)


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x: (x @ w).sum(),
        lambda w, x: (x @ w, x),
        lambda w, x: (x @ w)[:, None, None],
        lambda w, x: jnp.concatenate([x @ w, x @ w]),
    ],
)
def test_what_has_no_row_for_each_input_is_refused(function):
    with pytest.raises(ValueError, match="one row for each input, or one number"):
        jacobian_kernel(function, jnp.ones(3), jnp.ones((4, 3)))
