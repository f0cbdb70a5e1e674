"""Symmetries of two-layer networks: orbits, the odd case, and its reductions."""

import jax
import numpy as np
import pytest
from reference import slope_and_error
from widthlab import flow
from widthlab.flow import Descent, solve
from widthlab.flow.particles import (
    Particles,
    Regression,
    two_layer_loss,
    two_layer_outputs,
)
from widthlab.papers.hajjar2023symmetries import paths, tasks
from widthlab.papers.hajjar2023symmetries.least_squares import (
    LeastSquares,
    LinearDescent,
    isotropic_moments,
    sample_moments,
)
from widthlab.papers.hajjar2023symmetries.odd import (
    IsotropicOdd,
    odd_observe,
    odd_predictor,
    operator,
    predictor,
)
from widthlab.papers.hajjar2023symmetries.orbits import (
    antipodal,
    asymmetry,
    close_data,
    close_particles,
    cyclic,
    generated,
    sign_character,
    sign_flips,
)
from widthlab.papers.hajjar2023symmetries.population import gaussian_odd

ODD = np.array([1.0, -1.0])


def rng(*seed):
    return np.random.default_rng([2, *seed])


def sphere(count, dim, seed):
    """Neurons with norm one and outer weights of both signs."""
    b = rng(seed).standard_normal((count, dim))
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    return b, np.where(np.arange(count) % 2, 1.0, -1.0)


def turn(dim, count):
    """A rotation by 1/count of a full turn in the first two coordinates."""
    angle, matrix = 2 * np.pi / count, np.eye(dim)
    c, s = np.cos(angle), np.sin(angle)
    matrix[:2, :2] = [[c, -s], [s, c]]
    return matrix


def exactly(function, *args):
    """Compile and compute in double precision."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(function)(*args))


# --- groups ------------------------------------------------------------------------

DIHEDRAL = generated(turn(3, 5), np.diag([1.0, -1.0, 1.0]))
DETERMINANT = np.round(np.linalg.det(DIHEDRAL))


def test_groups_have_their_elements_each_once():
    one = np.eye(4)
    shift, swap, flip = np.roll(one, 1, axis=0), one[[1, 0, 2, 3]], one.copy()
    flip[0, 0] = -1
    flips = sign_flips([0, 2, 3], dim=4)
    groups = {2: antipodal(4), 8: flips, 4: cyclic(4), 10: DIHEDRAL}
    groups |= {24: generated(swap, shift), 2**4 * 24: generated(swap, shift, flip)}
    for size, group in groups.items():
        flat = np.round(group, 9).reshape(len(group), -1) + 0.0
        assert len(group) == len(np.unique(flat, axis=0)) == size
        np.testing.assert_array_equal(group[0], np.eye(group.shape[1]))
    np.testing.assert_array_equal(flips[:, 1, 1], 1)


def test_orbits_are_closed():
    b, a = close_particles(DIHEDRAL, *sphere(2, 3, seed=0), DETERMINANT)
    for element, sign in zip(DIHEDRAL, DETERMINANT, strict=True):
        now, moved = np.column_stack([b, a]), np.column_stack([b @ element.T, sign * a])
        order, other = (np.lexsort(np.round(v, 9).T) for v in (now, moved))
        np.testing.assert_allclose(moved[other], now[order], atol=1e-14)


POINT = (np.ones((1, 2)), np.ones(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sign_flips([0, 0], dim=3), "different numbers from 0 to 2"),
        (lambda: sign_flips([3], dim=3), "different numbers from 0 to 2"),
        (lambda: generated(np.diag([1.0, 2.0])), "not orthogonal"),
        (lambda: generated(turn(2, 60), most=50), "more than 50 elements"),
        (lambda: close_data(sign_flips([0, 1], 2)[:3], *POINT), "not among the"),
        (lambda: close_data(antipodal(2), *POINT, -ODD), "no character"),
        (lambda: close_data(antipodal(2), *POINT, 2 * ODD), "1 or -1 for each"),
    ],
)
def test_what_is_no_group_or_character_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- what starts symmetric stays so ------------------------------------------------

FLIPS = sign_flips([0, 1, 2], dim=3)
TRIANGLE = generated(turn(3, 3), np.diag([1.0, -1.0, 1.0]))
CASES = {
    "even in all": (FLIPS, None),
    "odd in one": (FLIPS, sign_character(FLIPS, [1])),
    "shifted": (cyclic(3), None),
    "turned, and odd in reflections": (
        TRIANGLE,
        np.round(np.linalg.det(TRIANGLE)),
    ),
    "odd": (antipodal(3), ODD),
}
SIZE, STEPS = 48, np.arange(41.0)
PROBES = rng(7).standard_normal((5, 3))


POINTS = {case: PROBES @ group.swapaxes(1, 2) for case, (group, _) in CASES.items()}


def seen(one, state):
    """Outputs on the orbits of the probes, under each of the groups."""
    rows = np.concatenate([points.reshape(-1, 3) for points in POINTS.values()])
    return {"outputs": two_layer_outputs(state, rows, "relu")}


def split(outputs):
    """Outputs by case: steps, elements of the group, probes."""
    sizes = [points.shape[:2] for points in POINTS.values()]
    ends = np.cumsum([elements * probes for elements, probes in sizes])[:-1]
    parts = np.split(outputs, ends, axis=1)
    shaped = [p.reshape(-1, *size) for p, size in zip(parts, sizes, strict=True)]
    return dict(zip(CASES, shaped, strict=True))


def odd_sample():
    x, y = rng(1).standard_normal((SIZE // 2, 3)), rng(2).standard_normal(SIZE // 2)
    return close_data(antipodal(3), x, y, ODD)


WIDTHS, SEEDS, EARLY = (6, 12, 24, 48), range(20), 4


@pytest.fixture(scope="module")
def networks():
    """For each case closed neurons and others, and any on odd data: in one program."""
    flows = []
    for case, (group, chi) in CASES.items():
        x, y = rng(1).standard_normal((SIZE, 3)), rng(2).standard_normal(SIZE)
        few = SIZE // len(group)
        data = close_data(group, x[:few], y[:few], chi)
        b, a = sphere(few, 3, seed=3)
        # For odd targets: b alone changes its sign, which is not enough.
        other = close_particles(group, b, a) if case == "odd" else sphere(SIZE, 3, 4)
        for start in (close_particles(group, b, a, chi), other):
            flows.append(flow.two_layer(*start, *data))
    for seed in SEEDS:
        for width in WIDTHS:
            # Copies of particles change nothing but the size of the program.
            start = [
                np.concatenate([v] * (SIZE // width))
                for v in sphere(width, 3, 20 + seed)
            ]
            flows.append(flow.two_layer(*start, *odd_sample()))
    runs = solve(flows, STEPS, method=Descent(1.0), observe=seen)
    assert {run.status for run in runs} == {"finished"}
    return runs


@pytest.fixture(scope="module")
def symmetric_and_not(networks):
    pairs = zip(
        networks[: 2 * len(CASES) : 2], networks[1 : 2 * len(CASES) : 2], strict=True
    )
    return dict(zip(CASES, pairs, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_closed_network_keeps_its_symmetry_at_every_step(case, symmetric_and_not):
    group, chi = CASES[case]
    signs = np.ones(len(group)) if chi is None else chi
    gaps = []
    for run in symmetric_and_not[case]:
        outputs = split(run.observed["outputs"])[case]
        moved = np.abs(outputs[-1] - outputs[0]).max()
        assert moved > 0.01
        gaps.append(np.abs(outputs - signs[:, None] * outputs[:, :1]) / moved)
    assert gaps[0].max() < 1e-12
    assert gaps[1][-1].max() > 1e-3


def test_asymmetry_is_the_largest_gap():
    chi = sign_character(FLIPS, [1])

    def measure(x):
        return asymmetry(FLIPS, lambda rows: rows[:, 1] + rows[:, 0] / 8, x, chi)

    gap = exactly(measure, PROBES)
    np.testing.assert_allclose(gap, 2 * np.abs(PROBES[:, 0]).max() / 8)


# --- the odd case ------------------------------------------------------------------

DIM = 3
CLOSED = 0


def tracks(one, state):
    return {**odd_observe(one, state), "w": predictor(state)}


@pytest.fixture(scope="module")
def reductions():
    """The reduced system from closed neurons, and from others."""
    task = sample_moments(*odd_sample())
    closed = close_particles(antipodal(3), *sphere(SIZE // 2, 3, seed=3), ODD)
    flows = [odd_predictor(*start, task) for start in (closed, sphere(SIZE, 3, 9))]
    return flows, solve(flows, STEPS, method=Descent(1.0), observe=tracks)


def test_a_network_on_an_odd_target_is_its_linear_reduction_to_rounding(
    reductions, symmetric_and_not
):
    full, linear = symmetric_and_not["odd"][CLOSED], reductions[1][CLOSED]
    outputs = split(full.observed["outputs"])["odd"][:, 0]
    np.testing.assert_allclose(outputs, linear.observed["w"] @ PROBES.T, atol=1e-13)
    network = flow.two_layer(
        **reductions[0][CLOSED].start, **dict(zip("xy", odd_sample(), strict=True))
    )
    last = exactly(odd_observe, network, full.final)
    assert set(last) == set(linear.last) - {"w"}
    for name, value in last.items():
        np.testing.assert_allclose(value, linear.last[name], atol=1e-13)


def test_neurons_at_random_leave_a_gap_of_one_over_their_number(networks):
    gaps = []
    for run in networks[2 * len(CASES) :]:
        right, left = split(run.observed["outputs"])["odd"][EARLY]
        gaps.append(np.mean(np.square(right + left)))
    slope, error = slope_and_error(WIDTHS, np.reshape(gaps, (len(SEEDS), -1)))
    assert error < 0.3 and abs(slope + 1) < 3 * error


def test_the_risk_falls_at_the_proved_rate_at_least(reductions):
    task = sample_moments(*odd_sample())
    (plain,) = solve(
        [LinearDescent(np.zeros(3), task)],
        STEPS / 4,
        method=Descent(0.25),
        observe=odd_observe,
    )
    for run in (plain, *reductions[1]):
        early = run.observed["excess"] > 1e-12
        assert run.observed["excess"][-1] < run.observed["excess"][0] / 100
        fall = -np.diff(np.log(run.observed["excess"])) / np.diff(run.times)
        floor = run.observed["rate_floor"]
        assert (fall > np.minimum(floor[1:], floor[:-1]))[early[1:]].all()
        least = run.observed["risk"] - run.observed["excess"]  # Q*, by two ways
        np.testing.assert_allclose(least, least[0], rtol=1e-12)
        np.testing.assert_allclose(run.observed["gap"], 0, atol=1e-14)
    values, vectors = np.linalg.eigh(task.covariance)
    start = vectors.T @ np.linalg.solve(task.covariance, task.correlation)
    left = (1 - values / 4) ** np.arange(len(STEPS))[:, None] * start
    np.testing.assert_allclose(
        plain.observed["distance"], np.linalg.norm(left, axis=1), rtol=1e-9, atol=1e-15
    )
    np.testing.assert_allclose(plain.observed["rate_floor"], 2 * values[0])


def operators(one, state):
    """How the predictor moves, by neurons and by the operator."""
    w, moves = jax.jvp(predictor, (state,), (one.velocity(state),))
    return moves, operator(state) @ one.parameters.descent(w)


def test_the_operator_moves_the_predictor(reductions):
    one = reductions[0][1]
    moves, by_operator = exactly(operators, one, dict(one.start))
    np.testing.assert_allclose(moves, by_operator, rtol=1e-12)


# --- isotropic inputs: one number --------------------------------------------------


def grown(target, phase):
    """Neurons with the moments of infinitely many on the sphere, after some time.

    The flow is a hyperbolic rotation of each neuron's outer weight and its part along
    the target.
    """
    dim, along = len(target), target / np.linalg.norm(target)
    b = np.concatenate([np.eye(dim), -np.eye(dim)] * 2)
    a, part = np.repeat([1.0, -1.0], 2 * dim), b @ along
    c, s = np.cosh(phase), np.sinh(phase)
    b = b + np.outer(part * (c - 1) + a * s, along)
    return {"inner": b, "outer": a * c + part * s}


def now(one, state):
    """What is observed, and how the loss changes."""
    change = jax.jvp(one.loss, (state,), (one.velocity(state),))[1]
    return {**odd_observe(one, state), "change": change}


def test_one_number_tells_the_risk_of_infinitely_many_neurons():
    target, variance = rng(11).standard_normal(DIM), 0.4
    task, size = isotropic_moments(target, variance, 5.0), float(np.linalg.norm(target))
    one = IsotropicOdd(
        size=size, variance=variance, second_moment=5.0, spread=1 + 1 / DIM
    )
    for phase in (0.05, 0.8):
        state, time = grown(target, phase), np.asarray(2 * phase / (variance * size))
        number = exactly(now, one, time)
        neurons = odd_predictor(*state.values(), task)
        network = gaussian_odd(*state.values(), task)
        for found in (
            exactly(now, neurons, state),
            exactly(odd_observe, network, state),
        ):
            for name, value in found.items():
                np.testing.assert_allclose(value, number[name], atol=1e-13)


def test_the_numbers_of_sixty_dimensions():
    # Computed elsewhere for these settings, at 0, 2000, 4000 and 6000 steps of 0.01.
    one = IsotropicOdd(
        size=np.sqrt(72.0), variance=1 / 60, second_moment=2.0, spread=61 / 60
    )
    (run,) = solve([one], [0, 20, 40, 60], method=Descent(0.01), observe=odd_observe)
    distance, bound = [8.485, 6.737, 1.563, 0.111], [8.485, 7.796, 7.163, 6.581]
    np.testing.assert_allclose(run.observed["distance"], distance, atol=6e-4)
    np.testing.assert_allclose(one.bound(run.times), bound, atol=6e-4)
    np.testing.assert_allclose(run.observed["loss"][[0, -1]], [1, 0.4], atol=2e-4)


# --- populations of Gaussian inputs ------------------------------------------------


def at_start(one):
    return one.loss(one.initial()), one.velocity(one.initial())


def test_expectations_are_those_of_a_large_sample():
    b, a = sphere(7, DIM, seed=13)
    x = rng(15).standard_normal((40, 500, DIM)) * np.sqrt(0.4)
    y = np.tanh(x @ rng(14).standard_normal(DIM))
    # Of this target the sample knows what the expectation needs.
    correlation = np.mean(x * y[..., None], axis=(0, 1))
    task = LeastSquares(0.4 * np.eye(DIM), correlation, np.asarray(np.mean(y * y)))
    exact = exactly(at_start, gaussian_odd(b, a, task))

    def all_batches(x, y):
        def one(data):
            system = Particles(
                two_layer_loss,
                {"outer": a, "inner": b},
                Regression("relu", *data),
            )
            return at_start(system)

        return jax.lax.map(one, (x, y))

    sample = exactly(all_batches, x, y)
    for value, draws in zip(*map(jax.tree.leaves, (exact, sample)), strict=True):
        error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
        assert (np.abs(np.mean(draws, axis=0) - value) < 4.5 * error).all()


def test_a_population_that_is_not_isotropic_is_refused():
    task = sample_moments(*odd_sample())
    with pytest.raises(ValueError, match="not a multiple of the identity"):
        gaussian_odd(*sphere(4, DIM, seed=0), task)


def test_a_start_is_balanced_and_has_half_of_each_sign():
    b, a = tasks.start(12, 5, seed=1)
    np.testing.assert_allclose(np.linalg.norm(b, axis=1), 1)
    assert sorted(a) == [-1.0] * 6 + [1.0] * 6
    assert (b == tasks.start(12, 5, seed=1)[0]).all()
    assert not (b == tasks.start(12, 5, seed=2)[0]).any()
    with pytest.raises(ValueError, match="half of each sign"):
        tasks.start(3, 5, seed=1)


def test_the_best_predictor_of_the_cubic_task_is_as_long_as_said():
    task, count = tasks.cubic(0), 400_000
    dim = len(task.correlation)
    w = task.correlation * dim
    np.testing.assert_allclose(np.linalg.norm(w), tasks.CUBIC_SIZE)
    # Along w the target is C sum z_k x_k^3 with C z = w d / 3; one such sum each.
    x = rng(7).standard_normal((count // dim, dim)) / dim**0.5
    y = x**3 @ (w * dim / 3)
    for values, expected in ((y**2, task.second_moment), (y * (x @ w), w @ w / dim)):
        error = values.std() / len(values) ** 0.5
        assert abs(values.mean() - expected) < 4 * error


def test_labels_of_noise_have_a_best_predictor():
    task = tasks.noise(0)
    w, slowest = exactly(task.solution)
    assert slowest > 0
    assert exactly(task.risk, w) < task.second_moment / 2


def path_of(times, floor=1.0, **observed):
    seen = {"rate_floor": np.full(len(times), floor), **observed}
    return flow.Trajectory(times, seen, None, {}, float(times[-1]), "finished", 1)


def test_an_exponential_falls_at_its_rate_and_on_the_proved_curve():
    times = np.linspace(0, 3, 7)
    run = path_of(times, floor=0.5, excess=4 * np.exp(-2 * times))
    np.testing.assert_allclose(paths.least_rate(run), 4)
    np.testing.assert_allclose(paths.proved_excess(run), 4 * np.exp(-0.5 * times))
    # Where rounding is all that is left, there is no rate.
    stuck = np.concatenate([np.exp(-20 * times[:4]), [1e-17] * 3])
    np.testing.assert_allclose(paths.least_rate(path_of(times, excess=stuck)), 20)


def test_a_mean_rate_is_that_from_the_start():
    times = np.linspace(0, 3, 7)
    slower = 4 * np.exp(-2 * times) * np.where(times > 2, np.exp(times - 2), 1)
    run = path_of(times, floor=0.5, excess=slower)
    np.testing.assert_allclose(paths.mean_rate(run), (2 - 1 / 3) / 0.5)


def test_a_start_at_the_saddle_does_not_arrive():
    inner, outer, task = tasks.saddle(4, seed=0)
    w, _ = exactly(task.solution)
    np.testing.assert_allclose(inner, -outer[:, None] * w, atol=1e-9)
    [run] = flow.solve(
        [odd_predictor(inner, outer, task)], [0.0, 200.0], observe=odd_observe
    )
    assert run.observed["norm"][1] < 0.2 * run.observed["norm"][0]
    assert run.observed["distance"][1] > 1


def test_speed_does_not_set_paths_apart():
    times, line = np.arange(5.0), np.linspace(0, 1, 5)[:, None]
    one = path_of(times, w=line * [1.0, 0.0])
    slow = path_of(times, w=line[[0, 0, 1, 2, 4]] * [1.0, 0.0])
    aside = path_of(times, w=line * [1.0, 0.0] + [0.0, 0.3])
    assert paths.apart(slow, one) == 0
    np.testing.assert_allclose(paths.apart(aside, one), 0.3)
