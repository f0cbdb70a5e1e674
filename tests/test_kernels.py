"""NNGP and NTK in closed form, by series, and what they predict.

`data/golden_kernels.npz` holds kernels of MLPs from neural-tangents 0.6.5 (JAX 0.4.28),
in float64; `data/golden_kernels.json` lists the networks. `nngp_i` and `ntk_i` are case
i's kernels of the inputs `x1` against `x2`, and `nngp_self_i` and `ntk_self_i` those of
`x1` alone. `x2[0]` is `x1[0]`, and `x2[1]` is `-x1[1]`.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from widthlab import activations, kernels
from widthlab.kernels import dual, infinite
from widthlab.kernels.series import Series

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "golden_kernels.json").read_text())
RHO = np.array([-1, -0.99, -0.5, 0, 0.3, 0.9, 0.99, 1])
VARIANCES = ((1.0, 1.0), (0.5, 2.0))
NODES = np.polynomial.legendre.leggauss(80)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def special_inputs(dtype="float64"):
    """Eight inputs, among them duplicates, antipodes, a multiple and zero."""
    x = np.random.default_rng(0).standard_normal((4, 5))
    extra = [x[:1], -x[1:2], 2 * x[2:3], np.zeros((1, 5))]
    return jnp.asarray(np.concatenate([x, *extra]), dtype)


# --- the golden data


def exact_diagonal(x, case):
    """Kernels of every input with itself: there the angles are zero."""
    a, b = (0.3, 1) if "abrelu" in case["activation"] else (0, 1)
    w, bias = case["weight_std"] ** 2, case["bias_std"] ** 2
    sigma = theta = w * np.mean(x**2, axis=1) + bias
    for _ in range(case["hidden_layers"]):
        slope = w * (a**2 + b**2) / 2
        sigma = slope * sigma + bias
        theta = sigma + slope * theta
    return sigma, theta


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["activation"])
@pytest.mark.parametrize("alone", [True, False])
def test_golden(case, alone):
    golden = np.load(DATA / "golden_kernels.npz")
    x1, x2 = golden["x1"], golden["x2"]
    found = kernels.mlp(
        x1,
        None if alone else x2,
        activation=case["activation"],
        depth=case["hidden_layers"],
        weight_std=case["weight_std"],
        bias_std=case["bias_std"],
    )
    same = np.all(x1[:, None] == (x1 if alone else x2), axis=-1)
    for name, kernel in found._asdict().items():
        there = golden[f"{name}{'_self' * alone}_{case['case']}"]
        # The golden NTKs lack half of the digits at duplicates, where an angle of zero
        # is the arc of a rounded cosine. There, what is exact comes by hand.
        noisy = same & (name == "ntk") & (case["activation"] != "erf")
        scale = np.abs(there).max()
        assert np.all(np.abs(kernel - there)[~noisy] < 1e-14 * scale)
        assert np.all(np.abs(kernel - there)[noisy] < 1e-8 * scale)
        if case["activation"] != "erf":
            by_hand = exact_diagonal(x1, case)[name == "ntk"]
            np.testing.assert_allclose(
                np.asarray(kernel)[same], by_hand[np.where(same)[0]], rtol=1e-14
            )


# --- the moments


def phi(name):
    """The activation and its derivative, in NumPy."""
    cdf, erf, logistic = scipy.special.ndtr, scipy.special.erf, scipy.special.expit

    def density(x):
        return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)

    return {
        "relu": (lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0)),
        "abrelu(0.3,1)": (
            lambda x: np.maximum(x, 0.3 * x),
            lambda x: 0.3 + 0.7 * (x > 0),
        ),
        "linear": (lambda x: x, np.ones_like),
        "abs": (np.abs, np.sign),
        "erf": (erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2))),
        "gelu": (lambda x: x * cdf(x), lambda x: cdf(x) + x * density(x)),
        "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
        "sigmoid": (logistic, lambda x: logistic(x) * logistic(-x)),
        "silu": (
            lambda x: x * logistic(x),
            lambda x: logistic(x) * (1 + x * logistic(-x)),
        ),
        "elu": (
            lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
            lambda x: np.exp(np.minimum(x, 0)),
        ),
    }[name]


def quadrature(f, q1, rho, q2):
    """E[f(u) f(v)] in polar coordinates, sector by sector: kinks at 0 do not matter."""
    nodes, weights = NODES
    r = np.concatenate([2 * (nodes + 1), 4 + 4.5 * (nodes + 1)])
    w = np.concatenate([2 * weights, 4.5 * weights]) * r * np.exp(-(r**2) / 2)
    angle = np.arccos(rho)
    edges = np.sort(
        np.mod(np.array([1, -1, 1, -1]) * np.pi / 2 + [0, 0, angle, angle], 2 * np.pi)
    )
    total = 0.0
    for a, b in zip(edges, [*edges[1:], edges[0] + 2 * np.pi], strict=True):
        t = (b - a) / 2 * nodes + (a + b) / 2
        u = np.sqrt(q1) * r[:, None] * np.cos(t)
        v = np.sqrt(q2) * r[:, None] * np.cos(t - angle)
        total += np.sum(w[:, None] * weights * (b - a) / 2 * f(u) * f(v))
    return total / (2 * np.pi)


def compiled(moments):
    return jax.jit(lambda *q: moments(*q))


# What the reference page says of the series, for the value and for the derivative.
ERRORS = {"tanh": (2e-13, 1e-10), "elu": (3e-8, 1e-5)}


@pytest.mark.parametrize(
    "name", ["relu", "abs", "erf", "gelu", "tanh", "elu", "abrelu(0.3,1)"]
)
def test_moments_by_quadrature(name):
    q1, q2 = np.array(VARIANCES).T[:, :, None]
    moments = compiled(dual.rule(name))
    values = moments(*map(jnp.asarray, (q1, np.sqrt(q1 * q2) * RHO, q2)))
    errors = ERRORS.get(name, (2e-13, 2e-13))
    for found, f, error in zip(values, phi(name), errors, strict=True):
        there = [[quadrature(f, a, rho, b) for rho in RHO] for a, b in VARIANCES]
        gap = np.abs(found - np.array(there)) / np.max(np.abs(there))
        assert np.all(gap < error)
        # What the series leaves out falls like a power of rho, kink or not.
        assert np.all(gap[:, np.abs(RHO) < 0.6] < 2e-13)


def test_the_series_is_exact_for_equal_and_opposite_inputs():
    """Whatever the number of terms and the activation."""
    signs = jnp.asarray([1.0, -1.0])
    for terms in (7, 8):
        series = compiled(Series(activations.get("elu").function, terms))
        for found, f in zip(series(signs**2, signs, signs**2), phi("elu"), strict=True):
            there = [quadrature(f, 1, sign, 1) for sign in (1, -1)]
            np.testing.assert_allclose(found, there, atol=1e-14)
    with pytest.raises(ValueError, match="terms is 2; it must be an integer from 3 on"):
        Series(jnp.tanh, 2)


def test_activations_of_ones_own():
    """Any function will do, and a name of the catalogue does not mislead."""
    own = activations.Activation("relu", lambda x: x**3, good=False)
    q1, q12, q2 = jnp.asarray(2.0), jnp.asarray(0.5), jnp.asarray(1.5)
    # Isserlis: E[u^3 v^3] = 9 q1 q12 q2 + 6 q12^3; E[u^2 v^2] = q1 q2 + 2 q12^2.
    value, slope = 9 * 0.5 * 3 + 6 * 0.125, 9 * (3 + 2 * 0.25)
    assert kernels.moment(own, q1, q12, q2) == pytest.approx(value, rel=1e-12)
    assert kernels.derivative_moment(own, q1, q12, q2) == pytest.approx(
        slope, rel=1e-12
    )
    assert dual.rule(activations.abrelu(0, 1)) == dual.rule("relu")
    assert dual.rule(activations.abrelu(-1, 1)) == dual.rule("abs")


# --- properties of the kernels


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float64") for name in ("abrelu(-1,2)", "erf", "gelu", "elu")),
        *((name, "float32") for name in ("relu", "tanh")),
    ],
)
def test_symmetric_and_positive_semidefinite(name, dtype):
    """With duplicates, antipodes and zero, in both precisions."""
    x = special_inputs(dtype)
    for kernel in kernels.mlp(x, activation=name, depth=3, weight_std=1.4):
        k = np.asarray(kernel)
        assert k.dtype == dtype
        np.testing.assert_array_equal(k, k.T)
        least = np.linalg.eigvalsh(k.astype("float64"))[0]
        assert least > -8 * np.finfo(dtype).eps * np.trace(k)
        # Duplicates: the same row.
        np.testing.assert_allclose(k[4], k[0], atol=16 * np.finfo(dtype).eps * k.max())


def test_one_program_serves_equal_shapes():
    x = special_inputs()

    def kernel(**options):
        return kernels.mlp(x, activation="erf", depth=2, **options)

    kernel()
    before = infinite._compiled._cache_size()
    kernel(weight_std=(1.0, 2.0, 3.0), bias_std=0.5)
    kernels.mlp(2 * x, activation="erf", depth=2)
    assert infinite._compiled._cache_size() == before
    kernel(bias_std=(0.0, 0.1, 0.0))


def test_rows_in_blocks(monkeypatch):
    x, std = special_inputs(), jnp.ones(3)

    def compute():
        program = jax.jit(lambda *a: infinite._kernels(*a, dual.rule("relu")))
        return program(x, x[:5], std, std)

    assert infinite._rows(8, 5) == 8
    whole = compute()
    monkeypatch.setattr(infinite, "_BLOCK", 16)
    assert infinite._rows(8, 5) == 3
    for a, b in zip(whole, compute(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15, atol=1e-16)


def test_standard_deviations_of_layers():
    """A depth-1 linear network by hand."""
    x, y = special_inputs(), special_inputs()[1:4]
    w, b = (2.0, 3.0), (0.5, 0.25)
    found = kernels.mlp(x, y, activation="linear", depth=1, weight_std=w, bias_std=b)
    first = 4 * x @ y.T / 5 + 0.25
    np.testing.assert_allclose(found.nngp, 9 * first + 0.0625, rtol=1e-13)
    np.testing.assert_allclose(found.ntk, 2 * 9 * first + 0.0625, rtol=1e-13)


# --- derivatives


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_derivatives_are_finite(name):
    x = special_inputs()
    other = jnp.concatenate([x[:2], -x[:1], x[-1:], 3 + x[2:3]])

    def total(x, y):
        y = None if name == "tanh" else y
        pair = kernels.mlp(x, y, activation=name, depth=1)
        return sum(jnp.sum(jnp.sin(k)) for k in pair)

    gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(x, other)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    if name == "relu":
        forward = jax.jit(lambda *t: jax.jvp(total, (x, other), t)[1])
        there = sum(jnp.sum(g * g) for g in gradients)
        assert forward(*gradients) == pytest.approx(float(there), rel=1e-10)


def test_second_derivatives_are_finite():
    """Forward over reverse, where a loop of JAX would lose our derivatives."""
    x = special_inputs()[jnp.array([0, 1, 4, 5, 7])]

    def total(x):
        return jnp.sum(kernels.mlp(x, activation="relu", depth=1).ntk)

    hessian = jax.jit(jax.hessian(total))(x)
    there = jax.jit(jax.jacfwd(jax.jacfwd(total)))(x)
    np.testing.assert_allclose(hessian, there, atol=1e-10)


@pytest.mark.parametrize("name", ["relu", "erf", "gelu", "tanh"])
def test_derivatives_by_differences(name):
    q = [jnp.asarray(v) for v in (0.8, -0.3, 1.5)]

    def both(*q):
        return jnp.stack(dual.rule(name)(*q))

    found = jax.jit(jax.jacfwd(both, argnums=(0, 1, 2)))(*q)
    both = jax.jit(both)
    for i, derivative in enumerate(found):
        step = [1e-5 * (i == j) for j in range(3)]
        ahead, behind = (
            both(*(v + sign * s for v, s in zip(q, step, strict=True)))
            for sign in (1, -1)
        )
        np.testing.assert_allclose(derivative, (ahead - behind) / 2e-5, atol=1e-9)
    # Price's theorem.
    assert found[1][0] == pytest.approx(float(both(*q)[1]), rel=1e-12)


# --- predictions


def problem():
    x, y = special_inputs()[:4], special_inputs()[[0, 2, 5], ::-1]
    targets = np.random.default_rng(1).standard_normal((4, 2))
    train = np.asarray(kernels.mlp(x, activation="erf", depth=2).ntk)
    return train, targets, np.asarray(kernels.mlp(y, x, activation="erf", depth=2).ntk)


def test_regression():
    k, y, test = problem()
    np.testing.assert_allclose(kernels.regression(k, y, k), y, rtol=1e-9)
    np.testing.assert_allclose(
        kernels.regression(k, y[:, 0], test, ridge=0.3),
        test @ np.linalg.solve(k + 0.3 * np.eye(4), y[:, 0]),
        rtol=1e-12,
    )


def test_the_flow_solves_its_equation():
    """Against classical Runge-Kutta, on training and test inputs at once."""
    k, y, test = problem()
    rng = np.random.default_rng(2)
    f0, f0_test = rng.standard_normal((4, 2)), rng.standard_normal((3, 2))
    both, f = np.vstack([k, test]), np.vstack([f0, f0_test])

    def velocity(f):
        return -both @ (f[:4] - y) / 4

    time, steps = 3.0, 300
    h = time / steps
    for _ in range(steps):
        a = velocity(f)
        b = velocity(f + h / 2 * a)
        c = velocity(f + h / 2 * b)
        f = f + h / 6 * (a + 2 * b + 2 * c + velocity(f + h * c))
    flow = kernels.KernelFlow.fit(k, y, f0)
    np.testing.assert_allclose(flow.train(time), f[:4], rtol=1e-9)
    np.testing.assert_allclose(flow.test(time, test, f0_test), f[4:], rtol=1e-9)
    loss = np.sum((f[:4] - y) ** 2) / 8
    assert flow.loss(time) == pytest.approx(loss, rel=1e-9)


def test_the_flow_at_many_times():
    k, y, test = problem()
    flow = kernels.KernelFlow.fit(k, y[:, 0])
    times = np.array([[0.0, 1.0], [10.0, np.inf]])
    assert flow.train(times).shape == (2, 2, 4)
    assert flow.test(times, test).shape == (2, 2, 3)
    assert flow.loss(times).shape == (2, 2)
    np.testing.assert_array_equal(flow.train(times)[0, 1], flow.train(1.0))
    # It starts from f0 = 0 and ends at the regression.
    np.testing.assert_allclose(flow.train(0.0), 0, atol=1e-12)
    np.testing.assert_allclose(
        flow.test(np.inf, test), kernels.regression(k, y[:, 0], test), rtol=1e-8
    )
    assert flow.loss(np.inf) == 0
    halved = flow.time_to(0.5)
    assert flow.loss(halved) == pytest.approx(flow.loss(0.0) / 2, rel=1e-9)


def test_the_flow_of_a_singular_kernel():
    """Duplicates with different targets: their mean is learned, the rest stays."""
    flow = kernels.KernelFlow.fit(np.ones((2, 2)), np.array([1.0, 3.0]))
    np.testing.assert_allclose(flow.train(np.inf), [2, 2])
    np.testing.assert_allclose(flow.test(np.inf, np.ones((1, 2))), [2])
    assert flow.loss(np.inf) == pytest.approx(0.5)


# --- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"x2": np.ones((2, 3))}, "x1 has 5 columns of float64 and x2 has 3"),
        ({"x2": np.ones((2, 5), "float32")}, "x2 has 5 of float32"),
        (
            {"weight_std": (1.0, 2.0)},
            r"weight_std has shape \(2,\); give one number, or 3",
        ),
        ({"bias_std": (1.0,) * 4}, r"bias_std has shape \(4,\)"),
        ({"activation": "softmax"}, "no activation is called"),
    ],
)
def test_errors_of_mlp(options, message):
    given = {"x2": None, "activation": "relu", "depth": 2, **options}
    with pytest.raises(ValueError, match=message):
        kernels.mlp(special_inputs(), **given)


def test_errors_of_predictions():
    k, y = np.eye(3), np.ones(3)
    with pytest.raises(
        ValueError, match="smallest eigenvalue of the kernel with ridge 0 is"
    ):
        kernels.regression(np.ones((3, 3)), y, k)
    with pytest.raises(ValueError, match="smallest eigenvalue of the kernel is -1"):
        kernels.KernelFlow.fit(-k, y)
    with pytest.raises(ValueError, match=r"y has shape \(2,\); .* 3 training inputs"):
        kernels.KernelFlow.fit(k, y[:2])
    with pytest.raises(ValueError, match=r"k_test has shape \(3, 2\); it needs 3"):
        kernels.regression(k, y, k[:, :2])
    with pytest.raises(ValueError, match="ridge is -1"):
        kernels.regression(k, y, k, ridge=-1)
    with pytest.raises(ValueError, match="times are at least 0"):
        kernels.KernelFlow.fit(k, y).train(-1.0)
