"""Potentials and their limits, against direct minimisation and gradient descent."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.optimize import minimize, root
from widthlab.papers.woodworth2020kernel import digits, linear, nearest, nets, setups
from widthlab.papers.woodworth2020kernel.descent import (
    descend,
    dual_flow,
    extrapolated,
)
from widthlab.papers.woodworth2020kernel.dual import (
    excess_l1,
    least_l1,
    least_norm,
    minimise,
    path,
)
from widthlab.papers.woodworth2020kernel.explicit import explicit
from widthlab.papers.woodworth2020kernel.few import follow, relu_network, turned
from widthlab.papers.woodworth2020kernel.potentials import Potential
from widthlab.papers.woodworth2020kernel.rows import rows_of
from widthlab.papers.woodworth2020kernel.sparse import Sparse, distance, error
from widthlab.papers.woodworth2020kernel.width import (
    complete,
    diagonal_start,
    least_nuclear,
    lifted_start,
    nuclear,
)
from widthlab.training.devices import precision

DEPTHS = (2, 3, 4, 5, 10, 100)
SMALL = Sparse(3, examples=12, sparsity=2, dim=40)


@pytest.fixture(scope="module")
def task():
    return SMALL.draw()


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_potential_is_the_integral_of_the_inverse(depth):
    potential = Potential(depth)
    for end in (0.01, 0.7, 30.0, -3.0):
        whole, _ = quad(lambda b: float(potential.inverse(np.array(b))), 0, end)
        assert float(potential.value(np.array(end))) == pytest.approx(whole, rel=1e-7)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("log_scale", [0.0, -8.0])
def test_inverse_slope_and_energy_belong_to_the_predictor(depth, log_scale):
    # Of a very deep model an uneven shape leaves no digits near the wall.
    shape = np.array([0.7, 1.0, 1.4]) if depth < 100 else np.ones(3)
    potential = Potential(depth, log_scale, shape)
    beta = np.array([-0.3, 0.02, 2.0])
    z = potential.inverse(beta)
    np.testing.assert_allclose(potential.predictor(z), beta, rtol=1e-6)
    h = 1e-5 * (np.minimum(np.abs(z), np.abs(np.abs(z) - potential.wall)))
    up, down = z + h, z - h
    by_differences = (potential.predictor(up) - potential.predictor(down)) / (2 * h)
    np.testing.assert_allclose(potential.slope(z), by_differences, rtol=1e-5)
    rise = (potential.energy(up) - potential.energy(down)) / (2 * h)
    np.testing.assert_allclose(rise, beta, rtol=1e-4)


def test_depth_two_has_the_paper_closed_form():
    z = np.array([-4.0, 0.1, 1.0, 25.0])
    closed = 2 - np.sqrt(4 + z**2) + z * np.arcsinh(z / 2)
    np.testing.assert_allclose(Potential(2).value(z), closed, rtol=1e-12)


def test_small_and_large_arguments():
    tiny, huge = np.array([1e-3]), np.array([1e6])
    for depth in DEPTHS[1:]:
        quadratic = (depth - 2) / (4 * depth) * tiny**2
        np.testing.assert_allclose(Potential(depth).value(tiny), quadratic, rtol=1e-3)
    expected = huge * np.log(huge) - huge + 2
    np.testing.assert_allclose(Potential(2).value(huge), expected, rtol=1e-10)


def test_bad_potentials_are_refused():
    with pytest.raises(ValueError, match="from 2 up"):
        Potential(1)
    with pytest.raises(ValueError, match="not positive"):
        Potential(2, 0.0, np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="only depth 2"):
        Potential(3, 0.0, 1.0, np.array([0.1]))


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_dual_finds_the_constrained_minimum(depth, task):
    """Over interpolators, written as one of them and the null space of the inputs."""
    x, y, _ = task
    potential = Potential(depth, -4.0)
    found = minimise(x, y, potential)
    assert found.residual < 1e-10
    flat, null = least_norm(x, y), np.linalg.svd(x)[2][len(y) :].T

    def value(u):
        return float(potential.value(flat + null @ u).sum())

    def gradient(u):
        return null.T @ potential.inverse(flat + null @ u)

    direct = minimize(value, np.zeros(null.shape[1]), jac=gradient, tol=1e-12)
    assert distance(flat + null @ direct.x, found.beta) < 1e-4
    assert float(potential.value(found.beta).sum()) <= direct.fun + 1e-9


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("shaped", [False, True])
def test_descent_ends_at_the_minimiser(depth, shaped, task):
    x, y, _ = task
    alpha, shape = 0.3, np.ones(x.shape[1])
    if shaped:
        shape = linear.log_normal(0, x.shape[1])
    start = (alpha * shape)[:, None]
    potential = Potential(depth, depth * np.log(alpha), shape)
    whole, half, flow = (
        way[0, :, 0]
        for way in extrapolated(
            x, y, start, depth=depth, step=2e-4, times=np.full((1, 1), 6.0)
        )
    )
    limit = minimise(x, y, potential).beta
    assert distance(half, limit) < 0.7 * distance(whole, limit)  # first order
    assert distance(flow, limit) < 0.1 * distance(half, limit)
    wrong = minimise(x, y, Potential(depth, depth * np.log(alpha) + 1, shape)).beta
    assert distance(flow, wrong) > 10 * distance(flow, limit)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_dual_flow_is_the_flow_of_the_weights(depth, task):
    x, y, _ = task
    alpha, times = 0.5, [0.003, 0.01, 0.05]
    size = x.shape[1]

    def velocity(_, w):
        up, down = w[:size], w[size:]
        pull = 2 * depth * (x.T @ (x @ (up**depth - down**depth) - y))
        return np.concatenate([-pull * up ** (depth - 1), pull * down ** (depth - 1)])

    weights = solve_ivp(
        velocity, (0, times[-1]), np.full(2 * size, alpha), "DOP853", times, rtol=1e-10
    ).y.T
    direct = weights[:, :size] ** depth - weights[:, size:] ** depth
    found = dual_flow(x, y, Potential(depth, depth * np.log(alpha)), times)
    np.testing.assert_allclose(found, direct, atol=1e-5 * np.abs(direct).max())


def test_divergence_is_said(task):
    x, y, _ = task
    start = np.ones((x.shape[1], 1))
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(ValueError, match="smaller steps"),
    ):
        descend(x, y, start, steps=np.ones(1), counts=np.full((1, 1), 20))


def test_starts_descend_beside_others_as_they_do_alone(task):
    x, y, _ = task
    starts = np.outer(linear.log_normal(0, x.shape[1]), [0.3, 0.5, 0.4])
    steps, counts = np.array([1e-3, 2e-3, 1e-3]), np.array([[5, 5, 2], [40, 20, 10]])
    together = descend(x, y, starts, steps=steps, counts=counts)
    for i in range(3):
        one = slice(i, i + 1)
        alone = descend(x, y, starts[:, one], steps=steps[one], counts=counts[:, one])
        np.testing.assert_allclose(together[..., one], alone, rtol=1e-10)
    flow = np.abs(together[1, :, 0] - together[1, :, 2]).max()
    assert flow > 1e-3  # they are different descents


def test_the_limits_of_scale(task):
    x, y, _ = task
    sparse, certificate = least_l1(x, y)
    assert np.abs(certificate).max() < 1 + 1e-7
    big, small = path(x, y, 5, np.log([1e6, 1e-9]))
    assert distance(big, least_norm(x, y)) < 1e-6
    assert distance(small, sparse) < 1e-3
    by_norms = np.abs(small).sum() - np.abs(sparse).sum()
    assert excess_l1(small, certificate) == pytest.approx(by_norms, abs=1e-7)


def test_scales_beyond_floating_point(task):
    x, y, _ = task
    sparse, certificate = least_l1(x, y)
    ends = path(x, y, 2, -np.geomspace(5, 7500, 12))
    np.testing.assert_allclose(x @ ends[-1], y, atol=1e-8)
    assert excess_l1(ends[-1], certificate) < 1e-3 * np.abs(sparse).sum()


def test_the_explicit_bias_is_depth_four():
    z = np.array([-7.0, 0.05, 1.0, 40.0])
    np.testing.assert_allclose(explicit(z), Potential(4).value(z), rtol=1e-10)
    assert np.abs(explicit(z) / Potential(3).value(z) - 1).min() > 0.05
    # And the paper's quartic, at one point: its smaller real root.
    assert explicit(np.array([1.0]))[0] == pytest.approx(0.118351, abs=1e-6)


def test_the_nearest_interpolator_is_depth_four_from_a_uniform_start_alone(task):
    x, y, _ = task
    alpha = 0.3

    def by_its_definition(shape):
        """Stationary: w = w0 / (1 -+ X' nu), which is what least distance asks for."""
        start = alpha * shape

        def predictor(nu):
            z = x.T @ nu
            return (start / (1 - z)) ** 2 - (start / (1 + z)) ** 2

        found = root(lambda nu: x @ predictor(nu) - y, np.zeros(len(y)), tol=1e-10)
        assert found.success
        return predictor(found.x)

    size = x.shape[1]
    even = minimise(x, y, Potential(4, 2 * np.log(alpha))).beta
    assert distance(even, by_its_definition(np.ones(size))) < 1e-6
    shape = linear.log_normal(0, size)
    uneven = minimise(x, y, Potential(4, 2 * np.log(alpha), shape**0.5)).beta
    assert distance(uneven, by_its_definition(shape)) > 0.01


@pytest.mark.parametrize(("depth", "shaped"), [(2, False), (2, True), (3, False)])
def test_descents_leave_out_an_explicit_bias_that_they_do_not_know(depth, shaped):
    start = linear.Start(1.0, 1e-4, shaped)
    spec = linear.Descents(0, (start,), 1e-5, depth)
    names = {row["quantity"] for row in spec.run()}
    assert ("explicit" in names) == (depth == 2 and not shaped)
    assert {"flow", "path", "twice the scale", "depth 3"} <= names


def test_both_biases_share_their_limits_and_a_change_of_scale_brings_them_near():
    rows = rows_of([nearest.Nearest(0, (1.0, 0.1), (0.1,))])
    assert list(rows["alpha"]) == [1.0, 0.1, 0.1] and "rescaled" not in rows
    wide, equal, scaled = rows["distance"]
    assert wide < 1e-3 and scaled < 0.2 * equal
    assert 1 < rows["times"].iloc[-1] < 4


def test_noise_of_the_labels_slows_the_approach_at_depth_two():
    exponents = (-5.0, -7.0)
    falls = {}
    for noise in (0.0, 0.1):
        rows = rows_of([linear.Limits(0, (2,), exponents, noise)])
        falls[noise] = float(-np.diff(np.log10(rows["excess_l1"]))[0] / 2)
    assert falls[0.1] < 0.35 < falls[0.0]


def test_plateau_of_least_norm():
    runs = [Sparse(seed, examples=20, dim=100) for seed in range(40)]
    found = []
    for run in runs:
        x, y, truth = run.draw()
        found.append(float(error(least_norm(x, y), truth)))
    bound = 4 * np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found) - runs[0].plateau()) < bound
    assert np.std(found) == pytest.approx(runs[0].plateau_spread(), rel=0.5)


def test_rotation_is_orthogonal_and_keeps_labels():
    plain, turned_ = SMALL.draw(), Sparse(3, 12, 2, 40, rotated=True).draw()
    np.testing.assert_allclose(plain[0] @ plain[0].T, turned_[0] @ turned_[0].T)
    np.testing.assert_array_equal(plain[1], turned_[1])
    np.testing.assert_allclose(turned_[0] @ turned_[2], plain[0] @ plain[2])


@pytest.mark.parametrize("width", [3, 40])
def test_finite_width_is_the_flow_of_both_factors(width, task):
    x, y, _ = task
    rng, mu = np.random.default_rng(1), 0.4
    size, alpha = x.shape[1], np.sqrt(2 * mu**2 / width)
    u, v = alpha * rng.standard_normal((2, size, width))
    up, down = ((u + s * v) ** 2 for s in (1, -1))
    up, down = up.sum(axis=1) / 2, down.sum(axis=1) / 2

    class Drawn(np.random.Generator):
        """A generator whose chi-squares are those of the factors drawn above."""

        def chisquare(self, df, size=None):
            assert df == width
            return np.stack([up, down]) / alpha**2

    drawn = Drawn(np.random.PCG64(0))
    potential = diagonal_start(size, width, mu, drawn)
    np.testing.assert_allclose(
        potential.predictor(np.zeros(size)), (u * v).sum(axis=1), atol=1e-12
    )
    for _ in range(40_000):
        pull = 2e-4 * 2 * (x.T @ (x @ (u * v).sum(axis=1) - y))[:, None]
        u, v = u - pull * v, v - pull * u
    assert distance((u * v).sum(axis=1), minimise(x, y, potential).beta) < 5e-3


def test_the_lifted_flow_is_descent_on_the_factors():
    rng, dim = np.random.default_rng(2), 5
    target = np.outer(*rng.standard_normal((2, dim)))
    seen = (rng.uniform(size=(dim, dim)) < 0.6).astype(float)
    w = 0.4 * rng.standard_normal((2 * dim, 12))
    found, left = complete((w @ w.T)[None], target[None], seen[None], step=0.05)
    assert left[0] < 1e-3
    u, v = w[:dim], w[dim:]
    for _ in range(60_000):
        r = 1e-3 * seen * (u @ v.T - target)
        u, v = u - 2 * r @ v, v - 2 * r.T @ u
    np.testing.assert_allclose(found[0], u @ v.T, atol=5e-3)


def test_wishart_starts_have_their_moments():
    rng = np.random.default_rng(3)
    for width in (4, 300):  # below and above the size of the matrix
        draws = np.stack([lifted_start(3, width, 0.5, rng) for _ in range(400)])
        bound = 5 * draws.std(axis=0) / 20 + 1e-9
        assert (np.abs(draws.mean(axis=0) - 0.5 * width * np.eye(6)) < bound).all()
    np.testing.assert_array_equal(lifted_start(2, np.inf, 3.0, rng), 3 * np.eye(4))


def test_least_nuclear_norm_is_least():
    rng = np.random.default_rng(4)
    target = np.outer(*rng.standard_normal((2, 6)))
    seen = (rng.uniform(size=(6, 6)) < 0.7).astype(float)
    found = least_nuclear(target, seen)
    np.testing.assert_allclose(found * seen, target * seen)
    assert nuclear(found) <= nuclear(target) + 1e-6
    for _ in range(20):
        other = found + 0.1 * (1 - seen) * rng.standard_normal((6, 6))
        assert nuclear(other) >= nuclear(found) - 1e-6


def _few(alpha):
    rng = np.random.default_rng(5)
    weights = [alpha * rng.standard_normal((8, 2)), alpha * rng.standard_normal((1, 8))]
    angles = np.array([0.1, 1.7, 3.0, 4.4])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return weights, x, np.array([0.3, -0.2, 0.1, 0.4])


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_few_examples_are_followed_to_where_descent_ends(alpha):
    weights, x, y = _few(alpha)
    w, v = (part.copy() for part in weights)
    for _ in range(60_000):
        hidden = np.maximum(x @ w.T, 0)
        left = (hidden @ v.T)[:, 0] - y
        back = left[:, None] * v * (hidden > 0)
        w, v = w - 2e-3 * back.T @ x, v - 2e-3 * left[None] @ hidden
    assert np.mean(left**2) < 1e-6
    with precision("float64"):
        start = [jnp.asarray(part) for part in weights]
        options = {"share": 0.01, "most": 2000}
        end = follow(relu_network, start, jnp.asarray(x), jnp.asarray(y), **options)
        grid = jnp.asarray(np.random.default_rng(6).standard_normal((50, 2)))
        ours = np.asarray(relu_network(end.weights, grid))
        theirs = np.asarray(relu_network([jnp.asarray(w), jnp.asarray(v)], grid))
        assert float(turned(relu_network, start, start, grid)) == pytest.approx(0)
    assert float(end.loss) < 1e-10
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.03 * np.std(theirs)


def test_the_line_kernel_is_that_of_a_wide_network():
    x, y = np.array([-1.0, 0.2, 1.1]), np.array([0.0, 1.0, 0.3])
    rng, width = np.random.default_rng(7), 40_000
    first, last = (float(width) ** power for power in nets.LINE_SHAPES["c"])
    w, b = first * rng.standard_normal((2, width))
    v = last * rng.standard_normal(width) * (2 / width) ** 0.5

    def features(at):
        before = at[:, None] * w + b
        on = (before > 0) * v
        return np.concatenate([np.maximum(before, 0), on * at[:, None], on], axis=1)

    at = np.linspace(-1.5, 1.5, 9)
    here, there = features(x), features(at)
    finite = there @ here.T @ np.linalg.solve(here @ here.T, y)
    limit = nets.line_limit("c", width, x, y, at)
    np.testing.assert_allclose(finite, limit, atol=0.05)


def test_unbiased_networks_begin_at_zero_and_labels_can_be_scaled():
    runs = nets.Circle((1, 2), (0.5, 1.0), nets.ARMS, most=60)
    rows = rows_of([runs])
    assert len(rows) == 2 * 2 * 4 and "seeds" not in rows
    scaled = rows[rows["arm"] == "scaled labels"]["turned"].to_numpy().reshape(2, 2)
    np.testing.assert_allclose(scaled[:, 0], scaled[:, 1], rtol=1e-2)


def test_images_are_learned_and_the_last_layer_alone_moves_nothing():
    small = {"rates": (0.1,), "width": 16, "train": 200, "test": 200}
    spec = nets.Digits(0, (1.0,), nets.ARMS[:3], epochs=(2, 4), **small)
    table = rows_of([spec])
    assert list(table["epoch"]) == [2] * 4 + [4] * 4
    rows = table[table["epoch"] == 4].set_index("arm")
    assert rows.loc["plain", "train_error"] < 0.6
    assert rows["error"].nunique() > 2  # what is taken off makes other networks
    # One network alone is what it is among others.
    alone = rows_of(
        [nets.Digits(0, (1.0,), ("plain",), last_layer=False, epochs=(4,), **small)]
    )
    np.testing.assert_allclose(alone["moved"][0], rows.loc["plain", "moved"], rtol=1e-4)
    assert rows.loc["last layer", "moved"] == 0 < rows.loc["plain", "moved"]
    one = digits.starts(0, 5, 3, np.array([1.0, 10.0]))
    np.testing.assert_allclose(one[0][1], 10 * one[0][0])


def test_the_paper_tier_is_specified_and_its_cost_is_known():
    runs = setups.paper_tier()
    short = [next(runs) for _ in range(6)]
    assert all((one.width, one.train) == (5000, 60_000) for one in short)
    assert {one.arms[0] for one in short} == {*nets.ARMS[:3]}
    # Forward, and back to the first layer; what is taken off goes forward too.
    product = 2 * 5 * 60_000 * 784 * 5000
    assert [one.flops / product for one in short[:2]] == [2, 2]
    assert short[2].flops / product == 3
