"""The model in two variables: against the network that it is, and its phases."""

import jax
import numpy as np
import pytest
from flax import nnx
from widthlab.model import MLP, Shape, by_tensor
from widthlab.papers.terjek2025mlps.catapult import two_variables
from widthlab.parametrization import get
from widthlab.training.devices import precision

N = 64


def network(steps, lr=None, c=None):
    """Train the network itself by gradient descent, in float64."""
    shape = Shape(1, (N,), 1, "linear")
    with precision("float64"):
        scales = shape.scales(get("ntk"), lr=1.0, dtype="float64")
        model = MLP(shape, scales, key=jax.random.key(3))
        graph, parameters, rest = nnx.split(model, nnx.Param, ...)
        x = np.ones((1, 1))

        @jax.jit
        def look(parameters):
            def output(p):
                return nnx.merge(graph, p, rest)(x)

            f, slopes = jax.value_and_grad(lambda p: output(p)[0, 0])(parameters)
            loss = jax.grad(lambda p: (output(p) ** 2).sum() / 2)(parameters)
            kernel = sum(jax.tree.leaves(jax.tree.map(lambda g: (g * g).sum(), slopes)))
            return f, kernel, loss

        rates, seen = by_tensor(parameters, scales.lr), []
        for _ in range(steps + 1):
            f, kernel, grads = look(parameters)
            rate = lr if c is None else c / float(kernel)
            seen.append((float(f), float(kernel), rate))
            parameters = jax.tree.map(
                lambda w, g, r, rate=rate: w - rate * r * g, parameters, grads, rates
            )
    return np.array(seen).T


@pytest.mark.parametrize(
    "rule", [{"lr": 0.5}, {"lr": 1.4}, {"c": 1.5}, {"c": 2.5}, {"c": 3.5}], ids=str
)
def test_the_network_is_its_two_variables(rule):
    """For a few steps: the catapult carries rounding to the first digits soon."""
    f, curvature, lr = network(8, **rule)
    found = two_variables(f[0], curvature[0], float(N), 8, **rule)
    np.testing.assert_allclose(found.f, f, rtol=1e-12, atol=1e-12 * np.abs(f).max())
    np.testing.assert_allclose(found.curvature, curvature, rtol=1e-12)
    np.testing.assert_allclose(found.lr, lr, rtol=1e-12)
    assert curvature[0] > 1.5 and abs(f[0]) > 0.05  # not a trivial start


START = (1.0, 1.5)


def test_phases_of_a_constant_rate():
    c = np.array([0.5, 1.5, 1.9, 2.2, 3.0, 3.7, 4.3, 6.0])
    found = two_variables(*START, 256.0, 2000, lr=c / START[1])
    assert found.f.shape == found.curvature.shape == found.lr.shape == (2001, 8)
    with np.errstate(over="ignore"):
        loss = found.f**2 / 2
    lazy, catapult, divergent = slice(0, 3), slice(3, 6), slice(6, 8)
    assert np.all(np.diff(loss[:, lazy], axis=0) <= 0)
    assert np.all(loss[:, catapult].max(axis=0) > 2 * loss[0, catapult])
    assert np.all(loss[-1, :6] < 1e-12)
    # In all that converge the curvature ends below the edge; in the catapult it fell.
    sharpness = (found.lr * found.curvature)[:, :6]
    assert np.all(sharpness[-1] < 2)
    assert np.all(sharpness[-1, catapult] < sharpness[0, catapult] - 0.2)
    assert not np.any(np.isfinite(found.f[-1, divergent]))


@pytest.mark.parametrize("n", [16.0, 1024.0])
def test_a_schedule_that_stays_in_the_catapult(n):
    c = np.array([2.4, 2.5, 3.0, 3.5])
    found = two_variables(*START, n, 4000, c=c)
    alive = np.minimum(found.curvature, np.abs(found.f)) > 1e-290
    curvature, lr = (np.where(alive, v, 1) for v in (found.curvature, found.lr))
    sharpness = np.where(alive, lr * curvature, c)
    np.testing.assert_allclose(sharpness, np.broadcast_to(c, (4001, 4)), rtol=1e-12)
    # Both fall by a factor a step, on long scales, while the loss often rises.
    half = 20 + alive.sum(axis=0) // 2
    for index, end in enumerate(alive.sum(axis=0) - 1):
        assert end > 100
        for values in (found.curvature[:, index], np.abs(found.f[:, index])):
            logs = np.log(values[[half[index] // 2, half[index], end]])
            assert logs[0] - 1 > logs[1] > logs[2] + 1
        rises = np.diff(np.abs(found.f[: end + 1, index])) > 0
        assert 0.2 < rises.mean() < 0.9
        assert np.all(np.diff(found.curvature[: end + 1, index]) < 0)
    # What is left of it never is not a number.
    assert not np.any(np.isnan(found.f)) and not np.any(np.isnan(found.curvature))


def test_a_schedule_below_and_beyond_the_catapult():
    c = np.array([1.5, 4.5])
    found = two_variables(*START, 64.0, 300, c=c)
    assert abs(found.f[-1, 0]) < 1e-12
    # Then q dies out, and the curvature stays.
    np.testing.assert_allclose(found.curvature[-1, 0], found.curvature[100, 0])
    assert found.curvature[100, 0] > 0.9 * START[1]
    assert abs(found.f[-1, 1]) > 1e12 and found.curvature[-1, 1] > 1e12


def test_numbers_and_arrays():
    f = np.array([[0.1], [0.2]])
    found = two_variables(f, np.array([1.0, 2.0, 3.0]), 9.0, 5, lr=0.3)
    assert found.f.shape == found.lr.shape == (6, 2, 3)
    assert {v.dtype for v in found} == {np.dtype("float64")}
    single = two_variables(0.2, 3.0, 9.0, 5, lr=0.3)
    assert single.f.shape == (6,)
    for one, other in zip(single, found, strict=True):
        np.testing.assert_allclose(one, other[:, 1, 2], rtol=1e-14)
    assert two_variables(0.2, 3.0, 9.0, 0, c=1.0).f.tolist() == [0.2]


@pytest.mark.parametrize(
    ("arguments", "rule", "message"),
    [
        ((1.0, 1.5, 64.0, 5), {}, "lr is None and c is None; give exactly one"),
        ((1.0, 1.5, 64.0, 5), {"lr": 1.0, "c": 1.0}, "give exactly one"),
        ((1.0, 1.5, 64.0, -1), {"c": 1.0}, "steps is -1"),
        ((1.0, 0.2, 64.0, 5), {"c": 1.0}, r"f is 1.0, the curvature 0.2 and n 64.0"),
        ((1.0, 1.5, 0.0, 5), {"c": 1.0}, "n is above 0"),
    ],
)
def test_what_is_refused(arguments, rule, message):
    with pytest.raises(ValueError, match=message):
        two_variables(*arguments, **rule)
