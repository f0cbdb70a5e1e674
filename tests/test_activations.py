"""Nonlinearities: Gaussian moments against closed forms and sampling, gains, names."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from widthlab import activations
from widthlab.activations import abrelu, get, names

SAMPLES = 200_000
EVERY = (*names(), "abrelu(0.1,1)", "abrelu(-1,2)")


def test_the_catalogue():
    expected = {"relu", "gelu", "silu", "elu", "tanh", "erf", "linear", "sigmoid"}
    expected |= {"shifted-softplus", "smooth-leaky-relu", "abs"}
    assert set(names()) == expected
    # Chen et al. 2025, Assumption 4.3: the three that they name.
    assert {name for name in EVERY if get(name).good} == {"sigmoid", "tanh", "silu"}


@pytest.mark.parametrize(
    ("name", "value", "slope"),
    [
        ("linear", 1.0, 1.0),
        ("relu", 1 / 2, 1 / 2),
        ("abs", 1.0, 1.0),
        ("abrelu(0.1,1)", (0.01 + 1) / 2, (0.01 + 1) / 2),
        ("abrelu(-1,2)", (1 + 4) / 2, (1 + 4) / 2),
        # Williams 1997: E erf(z)^2 = 2/pi asin(2/3); E erf'(z)^2 = 4/pi E e^(-2 z^2).
        ("erf", 2 / math.pi * math.asin(2 / 3), 4 / math.pi / math.sqrt(5)),
    ],
)
def test_moments_in_closed_form(name, value, slope):
    assert get(name).second_moment == pytest.approx(value, rel=1e-12)
    assert get(name).derivative_second_moment == pytest.approx(slope, rel=1e-12)


def test_elu_in_closed_form():
    def tail(k):  # E[e^(kz); z < 0]
        return math.exp(k * k / 2) * math.erfc(k / math.sqrt(2)) / 2

    value = 1 / 2 + tail(2) - 2 * tail(1) + 1 / 2
    assert get("elu").second_moment == pytest.approx(value, rel=1e-12)
    assert get("elu").derivative_second_moment == pytest.approx(
        1 / 2 + tail(2), rel=1e-12
    )


@pytest.mark.parametrize("name", EVERY)
def test_moments_by_sampling(name):
    """Five standard errors of the sample mean, from the sample itself."""
    z = np.random.default_rng(0).standard_normal(SAMPLES)
    activation = get(name)
    with jax.enable_x64(True):
        values = np.asarray(activation(jax.numpy.asarray(z))) ** 2
        slope = jax.vmap(jax.grad(lambda t: activation(t)))
        slopes = np.asarray(slope(jax.numpy.asarray(z))) ** 2
    for sample, exact in (
        (values, activation.second_moment),
        (slopes, activation.derivative_second_moment),
    ):
        error = sample.std() / math.sqrt(SAMPLES)
        assert abs(sample.mean() - exact) <= 5 * error + 1e-12


@pytest.mark.parametrize("name", EVERY)
def test_the_gain_keeps_second_moments(name):
    """A wide layer after another: E[phi(g z x)^2] = 1 with x of second moment 1."""
    assert get(name).gain ** 2 * get(name).second_moment == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "kurtosis"),
    [
        ("linear", 1.0),
        ("abs", 1.0),
        ("relu", 2.0),
        # Half of the Gaussian has one slope, half the other.
        ("abrelu(-1,2)", (1 + 16) / 2 / ((1 + 4) / 2) ** 2),
        # E e^(-k z^2) = (1 + 2k)^(-1/2), with k = 4 and k = 2.
        ("erf", (1 / 3) / (1 / math.sqrt(5)) ** 2),
    ],
)
def test_the_kurtosis_of_slopes(name, kurtosis):
    assert get(name).derivative_kurtosis == pytest.approx(kurtosis, rel=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_the_critical_gain_keeps_gradients(name):
    here = get(name)
    slope = here.derivative_second_moment
    assert here.critical_gain**2 * slope == pytest.approx(1, rel=1e-12)
    homogeneous = name.startswith("abrelu") or name in ("relu", "abs", "linear")
    assert homogeneous == (abs(here.critical_gain - here.gain) < 1e-12)


def test_the_papers_slopes_of_an_abrelu():
    """alpha s + beta |s| in the slopes of this library."""
    x = jnp.linspace(-2.0, 2.0, 9)
    for alpha, beta in ((0.0, 1.0), (0.5, 0.5), (0.3, -0.7)):
        here = abrelu(alpha - beta, alpha + beta)
        np.testing.assert_allclose(here(x), alpha * x + beta * jnp.abs(x), atol=1e-6)
    np.testing.assert_array_equal(get("abs")(x), abrelu(-1, 1)(x))


def test_moments_do_not_depend_on_the_precision_in_use():
    activations._moment.cache_clear()
    with jax.enable_x64(True):
        double = get("gelu").second_moment
    activations._moment.cache_clear()
    assert get("gelu").second_moment == double


def test_dtype_is_kept():
    for name in EVERY:
        assert get(name)(jax.numpy.ones(3, "float32")).dtype == "float32"


def test_abrelu_is_found_by_its_name():
    here = abrelu(-0.5, 2)
    assert here.name == "abrelu(-0.5,2)"
    x = jax.numpy.array([-2.0, 0.0, 3.0], "float32")
    np.testing.assert_array_equal(here(x), [1.0, 0.0, 6.0])
    np.testing.assert_array_equal(get(here.name)(x), here(x))
    # A name that rounded its slopes would name another function.
    for slope in (1 / 3, 1e-9, 0.1234567890123):
        again = get(abrelu(slope, 1).name)
        np.testing.assert_array_equal(again(x), abrelu(slope, 1)(x))
        assert again.second_moment == pytest.approx((slope**2 + 1) / 2, rel=1e-12)


@pytest.mark.parametrize("wrong", ["Relu", "", "abrelu", "abrelu(1)", "abrelu(1,2,3)"])
def test_an_unknown_name_lists_the_known_ones(wrong):
    with pytest.raises(ValueError, match="no activation is called") as error:
        get(wrong)
    assert repr(wrong) in str(error.value)
    assert all(name in str(error.value) for name in (*names(), "abrelu(a,b)"))


@pytest.mark.parametrize("wrong", ["abrelu(1,x)", "abrelu(,)", "abrelu(nan,1)"])
def test_slopes_must_be_numbers(wrong):
    with pytest.raises(ValueError, match="no activation is called"):
        get(wrong)


def test_smooth_versions_of_relu():
    assert float(get("smooth-leaky-relu")(jnp.float32(0))) == 0
    with jax.enable_x64(True):
        x = jnp.linspace(-40.0, 40.0, 81)
        slope = np.asarray(jax.vmap(jax.grad(get("smooth-leaky-relu")))(x))
        shifted = np.asarray(get("shifted-softplus")(x))
    assert shifted[40] == 0
    assert 0.2 <= slope.min() and slope.max() <= 1 and np.all(np.diff(slope) >= 0)
    np.testing.assert_allclose(shifted + math.log(2), np.maximum(x, 0), atol=0.7)
