"""The angle dynamics: its kernel in closed form, and the network that it stands for."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from reference import slope_and_error
from scipy.special import roots_jacobi
from widthlab import flow
from widthlab.flow import Descent, Trajectory, solve
from widthlab.papers.hajjar2023symmetries.alignment import (
    angle_observe,
    angle_outputs,
    angle_particles,
    angles_of,
    mass_left,
)
from widthlab.papers.hajjar2023symmetries.angle_kernels import (
    alpha,
    angle_quantiles,
    feature,
    feature_slope,
    input_angles,
    target_feature,
)
from widthlab.papers.hajjar2023symmetries.population import gaussian_norm

DIMS = [(20, 5), (40, 2), (30, 1), (12, 10), (40, 35)]
THETA = np.linspace(0, np.pi / 2, 13)


def coordinate(nodes, dim):
    """Quadrature for one coordinate of uniform points on a sphere."""
    if dim == 1:
        return np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    x, weights = roots_jacobi(nodes, (dim - 3) / 2, (dim - 3) / 2)
    return x, weights / weights.sum()


def average(function, theta, phi, dim, subspace_dim, nodes):
    """Average over the cosines that neurons and inputs at two angles make."""
    (r, p), (s, q) = (
        coordinate(nodes, subspace_dim),
        coordinate(nodes, dim - subspace_dim),
    )
    c = (np.cos(theta) * np.cos(phi))[..., None, None] * r[:, None]
    return function(c + (np.sin(theta) * np.sin(phi))[..., None, None] * s) @ q @ p


def relu(c):
    return np.maximum(c, 0)


def relu_kernel(c):
    """E (u.x)_+ (v.x)_+ of unit vectors with the cosine c and standard Gaussian x."""
    c = np.clip(c, -1, 1)
    return (np.sqrt(1 - c * c) + (np.pi - np.arccos(c)) * c) / (2 * np.pi)


# --- the kernel --------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "subspace"), DIMS)
def test_the_feature_is_its_average_over_two_spheres(dim, subspace):
    theta, phi = THETA[:, None], np.array([0.1, 0.6, 0.8, 1.3])
    exact = feature(theta, phi, dim, subspace)
    errors = [
        np.abs(average(relu, theta, phi, dim, subspace, nodes) - exact).max()
        for nodes in (50, 200)
    ]
    assert errors[1] < 1e-4  # a quadrature of a function with a kink
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize(("dim", "subspace"), DIMS)
def test_averages_over_inputs_are_known_without_them(dim, subspace):
    phi, weights = input_angles(64, dim, subspace)
    values = feature(THETA[:, None], phi, dim, subspace)
    np.testing.assert_allclose(weights @ np.cos(phi) ** 2, subspace / dim, rtol=1e-12)
    target = dim * (values * weights) @ np.cos(phi)
    np.testing.assert_allclose(target, target_feature(THETA, subspace), rtol=1e-8)
    both = dim * (values * weights) @ values.T
    # Two neurons that nearly coincide need many nodes: there the kernel bends.
    pairs = np.abs(THETA[:, None] - THETA) > 0.3
    known = average(relu_kernel, THETA[:, None], THETA, dim, subspace, 60)
    np.testing.assert_allclose(both[pairs], known[pairs], atol=1e-8)


@pytest.mark.parametrize(("dim", "subspace"), DIMS)
def test_slopes_are_those_of_the_values(dim, subspace):
    theta, phi, h = THETA[1:-1, None], np.array([0.1, 0.6, 0.8, 1.3]), 1e-5
    near = [feature(theta + s * h, phi, dim, subspace) for s in (1, -1)]
    slope = feature_slope(theta, phi, dim, subspace)
    np.testing.assert_allclose(slope, (near[0] - near[1]) / (2 * h), atol=1e-7)
    ends = feature_slope(THETA[[0, -1], None], phi, dim, subspace)
    np.testing.assert_allclose(ends, 0, atol=1e-13)


def test_directions_have_their_share_of_the_subspace():
    share = (np.arange(20_000) + 0.5) / 20_000
    for dim, subspace in DIMS:
        angle = angle_quantiles(share, dim, subspace)
        assert (np.diff(angle) > 0).all()
        np.testing.assert_allclose(np.mean(np.cos(angle) ** 2), subspace / dim, 1e-3)


@pytest.mark.parametrize(("dim", "subspace"), [(2, 1), (20, 20), (20, 0), (200, 5)])
def test_dimensions_out_of_range_are_refused(dim, subspace):
    with pytest.raises(ValueError, match="dim is from 3 to 150"):
        feature(THETA, THETA, dim, subspace)


# --- the flow ----------------------------------------------------------------------


COUNT = 8


def exactly(function, *args):
    """Compile and compute in double precision."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(function)(*args))


def move(one, state):
    """Loss, how it changes, and how all moves."""
    velocity = one.velocity(state)
    return *jax.jvp(one.loss, (state,), (velocity,)), velocity


@pytest.mark.parametrize(("dim", "subspace"), DIMS)
def test_the_mass_alpha_in_the_subspace_is_the_target(dim, subspace):
    one = angle_particles(width=COUNT, dim=dim, subspace_dim=subspace)
    mass = 2 * alpha(subspace) * (one.signs > 0)
    state = {"mass": mass, "angle": np.zeros(COUNT)}
    loss, _, velocity = exactly(move, one, state)
    assert 0 <= loss < 1e-14
    for part in velocity.values():
        np.testing.assert_allclose(part, 0, atol=1e-7)


def test_a_half_of_each_sign_at_equal_angles_starts_from_zero():
    for dim, subspace in DIMS:
        one = angle_particles(width=COUNT, dim=dim, subspace_dim=subspace)
        loss, _, _ = exactly(move, one, {"mass": one.mass, "angle": one.angle})
        np.testing.assert_allclose(loss, subspace / 2, rtol=1e-12)


@pytest.fixture(scope="module")
def halfway():
    """A state that is no special one, and what is known of it at each resolution."""
    draw = np.random.default_rng(0)
    state = {"mass": draw.random(COUNT) * 3, "angle": draw.random(COUNT) * 1.5}
    sizes = {"coarse": (12, 9), "usual": (48, 257), "fine": (96, 513)}
    found = {}
    for name, (nodes, grid) in sizes.items():
        one = angle_particles(
            width=COUNT, dim=20, subspace_dim=5, nodes=nodes, grid=grid
        )
        found[name] = one, *exactly(move, one, state)
    return state, found


@pytest.mark.parametrize("resolution", ["coarse", "usual"])
def test_what_is_solved_descends_its_own_loss_at_any_resolution(halfway, resolution):
    state, found = halfway
    _, _, change, velocity = found[resolution]
    mass = state["mass"]
    square = velocity["mass"] ** 2 / (2 * mass) + mass * velocity["angle"] ** 2
    np.testing.assert_allclose(change, -np.mean(square), rtol=1e-10)


def test_weight_decay_is_part_of_the_loss_that_is_descended(halfway):
    state, found = halfway
    plain, loss, *_ = found["usual"]
    one = replace(plain, decay=0.3)
    penalized, change, velocity = exactly(move, one, state)
    np.testing.assert_allclose(penalized - loss, 0.3 * np.mean(state["mass"]))
    mass = state["mass"]
    square = velocity["mass"] ** 2 / (2 * mass) + mass * velocity["angle"] ** 2
    np.testing.assert_allclose(change, -np.mean(square), rtol=1e-10)


def test_mass_stays_where_the_loss_falls_fast_enough():
    def run(exponent, size=1e-3):
        times = np.array([0.0, 1.0, 2.0, 4.0])
        loss = np.array([1.0, *(size * times[1:] ** -exponent)])
        seen = {"loss": loss, "mass_minus": np.full(4, 0.25)}
        return Trajectory(times, seen, None, {}, 4.0, "finished", 1)

    rest = np.sqrt(4 * 1e-3 * 4.0**-3 / 2) / (1 - 0.5)
    np.testing.assert_allclose(mass_left(run(3)), (0.5 - rest) ** 2)
    assert mass_left(run(0.9)) == 0  # a way without end
    assert mass_left(run(3, size=1e3)) == 0


def test_twice_the_resolution_changes_nothing(halfway):
    _, loss, _, velocity = halfway[1]["usual"]
    _, fine_loss, _, fine_velocity = halfway[1]["fine"]
    np.testing.assert_allclose(loss, fine_loss, rtol=1e-9)
    for name, tolerance in (("mass", 1e-9), ("angle", 1e-7)):
        np.testing.assert_allclose(velocity[name], fine_velocity[name], atol=tolerance)


def test_outputs_at_any_angle_are_those_of_the_flow(halfway):
    state, found = halfway
    one = found["usual"][0]
    phi = input_angles(48, 20, 5)[0]
    inside = np.cos(phi) - exactly(lambda one, state: one.residual(state), one, state)
    np.testing.assert_allclose(angle_outputs(one, state, phi), inside, atol=1e-9)


def test_an_angle_out_of_range_acts_as_the_end_that_it_passed():
    one = angle_particles(width=COUNT, dim=20, subspace_dim=5)
    angle = np.tile([-0.1, 0.0, np.pi / 2, np.pi / 2 + 0.1], COUNT // 4)
    _, _, velocity = exactly(move, one, {"mass": one.mass, "angle": angle})
    np.testing.assert_allclose(velocity["angle"], 0, atol=1e-13)
    outside, inside = (velocity["mass"].reshape(-1, 4)[:, i] for i in ([0, 3], [1, 2]))
    np.testing.assert_array_equal(outside, inside)


# --- the network that it stands for ------------------------------------------------

OBSERVE = angle_observe(2)
MASSES = {  # computed elsewhere without noise, by other quadratures on 401 angles
    "mass_plus": {2: 3.424, 5: 5.510, 10: 7.844, 35: 14.747},
    "mass_minus": {2: 0.1155, 5: 0.0640, 10: 0.0411, 35: 0.0166},
}
STEP, END = 0.01, 1.0
ROUNDING = {"mass_plus": 5e-4, "mass_minus": 5e-5}
SEEDS, WIDTHS, WIDEST = range(6), (24, 48, 96), 192


def network(width, dim, seed):
    b = np.random.default_rng([4, seed]).standard_normal((width, dim))
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    return b, np.where(np.arange(width) % 2, 1.0, -1.0)


def copied(start, width):
    """Copies of particles change nothing but the size of the program."""
    return [np.concatenate([part] * (width // len(part))) for part in start]


@pytest.fixture(scope="module")
def reduced():
    """Runs to the masses above, and those of networks: in one program."""
    known = [
        angle_particles(width=WIDEST, dim=40, subspace_dim=h, seed=seed)
        for h in MASSES["mass_plus"]
        for seed in SEEDS
    ]
    starts = [copied(network(m, 8, s), WIDEST) for s in SEEDS for m in WIDTHS]
    networks = [angles_of(*start, 2) for start in starts]
    ends = [[10.0]] * len(known) + [[END]] * len(networks)
    steps = [0.005] * len(known) + [STEP] * len(networks)
    runs = solve(known + networks, ends, method=Descent(steps), observe=OBSERVE)
    return runs[: len(known)], runs[len(known) :]


@pytest.mark.parametrize("name", MASSES)
def test_masses_of_forty_dimensions_after_two_thousand_steps(reduced, name):
    values = np.array([run.last[name] for run in reduced[0]]).reshape(-1, len(SEEDS))
    known = np.array(list(MASSES[name].values()))
    # One draw of theirs, some five times as large, against the mean of ours; and what
    # they rounded.
    spread = values.std(axis=1, ddof=1) * np.sqrt(1 / 5 + 1 / len(SEEDS))
    assert (np.abs(values.mean(axis=1) - known) < 4 * spread + ROUNDING[name]).all()


def test_the_reduction_is_as_near_as_one_over_the_number_of_neurons(reduced):
    starts = [copied(network(m, 8, s), WIDTHS[-1]) for s in SEEDS for m in WIDTHS]
    flows = [gaussian_norm(*start, 2) for start in starts]
    full = solve(flows, [END], method=Descent(STEP), observe=OBSERVE)
    assert set(full[0].last) == set(reduced[1][0].last)
    gaps = [
        abs(run.last["loss"] - other.last["loss"])
        for run, other in zip(full, reduced[1], strict=True)
    ]
    slope, error = slope_and_error(WIDTHS, np.reshape(gaps, (len(SEEDS), -1)))
    print("SLOPE", slope, error)
    assert abs(slope + 1) < 3 * error and error < 0.3


def at_start(one):
    return OBSERVE(one, one.initial()), one.velocity(one.initial())


def test_each_neuron_of_an_output_zero_moves_as_its_angle_does():
    half, _ = network(4, 16, seed=0)
    b, a = np.concatenate([half, half]), np.repeat([1.0, -1.0], 4)
    (seen, moves), (other, reduced_moves) = (
        exactly(at_start, one) for one in (gaussian_norm(b, a, 2), angles_of(b, a, 2))
    )
    assert set(seen) == set(other)
    for name, value in seen.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-10)
    mass = moves["outer"] * a + np.sum(b * moves["inner"], axis=1)
    np.testing.assert_allclose(mass, reduced_moves["mass"], rtol=1e-8)
    # In the plane of a neuron's two parts, across the neuron.
    parts = np.array(b), np.array(b)
    parts[0][:, 2:], parts[1][:, :2] = 0, 0
    within, across = (p / np.linalg.norm(p, axis=1, keepdims=True) for p in parts)
    angle = np.arctan2(*(np.linalg.norm(p, axis=1) for p in parts[::-1]))[:, None]
    sideways = np.cos(angle) * across - np.sin(angle) * within
    turned = np.sum(sideways * moves["inner"], axis=1)
    np.testing.assert_allclose(turned, reduced_moves["angle"], atol=1e-7)


def test_a_network_on_a_sample_is_observed_as_one_on_the_population():
    b, a = network(8, 16, seed=5)
    x = np.random.default_rng(0).standard_normal((5_000, 16))
    y = np.linalg.norm(x[:, :2], axis=1)
    sample, _ = exactly(at_start, flow.two_layer(b, a, x, y))
    seen, _ = exactly(at_start, gaussian_norm(b, a, 2))
    errors = np.square(np.maximum(x @ b.T, 0) @ a / 8 - y) / 2
    spread = errors.std(ddof=1) / np.sqrt(len(errors))
    assert abs(sample.pop("loss") - seen["loss"]) < 4 * spread
    for name, value in sample.items():
        np.testing.assert_allclose(value, seen[name], rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: angle_particles(width=7, dim=20, subspace_dim=5), "must be even"),
        (lambda: angles_of(np.ones((2, 4)), np.ones(2), 2), "only where they are"),
        (lambda: gaussian_norm(np.ones((2, 4)), np.ones(2), 4), "less than all"),
    ],
)
def test_what_has_no_reduction_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_flows_of_equal_dimensions_share_their_tables():
    one, two = (angle_particles(width=m, dim=20, subspace_dim=5) for m in (4, 8))
    assert one.values is two.values and not one.values.flags.writeable
