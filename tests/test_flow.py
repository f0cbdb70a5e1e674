"""Solving flows: known solutions, honest endings, one program whoever is in it."""

import dataclasses
import functools
import inspect
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from widthlab import flow
from widthlab.flow import Adaptive, Descent, solve
from widthlab.flow.particles import Particles
from widthlab.model import AnyArray


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("start", "linear", "square"),
    meta_fields=("label",),
)
@dataclass(frozen=True)
class Toy:
    """dy/dt = a y + b y^2 for two numbers y, which has a solution in closed form."""

    start: float | AnyArray
    linear: float | AnyArray
    square: float | AnyArray = 0.0
    label: str = ""

    def initial(self):
        return self.start * jnp.array([1.0, 0.5], jnp.asarray(self.start).dtype)

    def velocity(self, state):
        return self.linear * state + self.square * state**2

    def loss(self, state):
        return jnp.sum(jnp.square(state)) / 2


TRACES = []


def watched(toy, state: Array):
    """Observe, and note when it is traced rather than computed."""
    TRACES.append(state.shape)
    return {"loss": toy.loss(state), "state": state}


def exponential(toy, times):
    return toy.start * np.exp(toy.linear * np.asarray(times))[..., None] * [1.0, 0.5]


POLE = 0.5
TOYS = {
    "decay": Toy(1.0, -1.0),
    "pole": Toy(1 / POLE, 0.0, 1.0),
    "nan": Toy(np.nan, -1.0),
    "fast": Toy(2.0, -30.0),
    "long": Toy(1e-3, 150.0),  # more steps than are allowed
}
ENDS = {"decay": 3.0, "pole": 1.0, "nan": 1.0, "fast": 2.0, "long": 2.0}
SHARE = 1e-6
GRID = np.array([0.0, 1.0])


def grids(names):
    return [np.linspace(0, ENDS[name], 9) for name in names]


DENSE = Adaptive(max_steps=200, dense=True)


def together(names=tuple(TOYS), times=None, method=DENSE, share=SHARE):
    toys = [TOYS[name] for name in names]
    times = grids(names) if times is None else times
    runs = solve(toys, times, method=method, observe=watched, stop_below=share)
    return dict(zip(names, runs, strict=True))


def assert_same(run, other):
    assert (run.steps, run.status) == (other.steps, other.status)
    for key, values in run.observed.items():
        np.testing.assert_array_equal(values, other.observed[key])


@pytest.fixture(scope="module")
def runs():
    return together()


# --- error-controlled integration --------------------------------------------------


def test_a_known_solution_is_met_to_the_tolerance(runs):
    run = runs["decay"]
    assert (run.status, run.reached, run.failed) == ("finished", 3.0, False)
    np.testing.assert_array_equal(run.times, np.linspace(0, 3, 9))
    exact = exponential(TOYS["decay"], run.times)
    np.testing.assert_allclose(run.final, exact[-1], rtol=1e-10)
    # Between its steps the solution is interpolated, by a rule of lower order.
    np.testing.assert_allclose(run.observed["state"], exact, rtol=1e-8)
    np.testing.assert_allclose(run.observed["loss"], (exact**2).sum(1) / 2, rtol=3e-8)
    assert run.final.dtype == run.observed["loss"].dtype == np.float64


def test_a_dense_solution_is_known_at_every_time(runs):
    run = runs["decay"]
    for time in (0.0, 0.1, 1.234, 3.0):
        state = run.at(time)
        assert state.dtype == np.float64
        np.testing.assert_allclose(state, exponential(TOYS["decay"], time), rtol=1e-8)
    early = runs["fast"]
    state = early.at(early.reached)
    np.testing.assert_allclose(state, early.final, rtol=1e-8)


def test_what_a_solution_does_not_know_is_refused(runs):
    for time in (-0.1, 3.1, np.nan):
        with pytest.raises(ValueError, match=r"reaches from 0 to 3\.0"):
            runs["decay"].at(time)
    with pytest.raises(ValueError, match=f"from 0 to {runs['fast'].reached}"):
        runs["fast"].at(1.0)
    sparse = dataclasses.replace(runs["decay"], _interpolation=None)
    with pytest.raises(ValueError, match=r"dense=True"):
        sparse.at(1.0)


def test_a_solution_that_runs_into_a_pole_has_failed_just_there(runs):
    run = runs["pole"]
    assert run.failed and run.status == "failed"
    np.testing.assert_allclose(run.reached, POLE, rtol=1e-5)
    seen = run.times < POLE
    states = run.observed["state"]
    assert seen.sum() == 4 and np.isnan(states[~seen]).all()
    # y0 / (1 - y0 t) for both y0.
    exact = 1 / (1 / np.array([2.0, 1.0]) - run.times[seen, None])
    np.testing.assert_allclose(states[seen], exact, rtol=1e-8)


def test_a_solution_that_runs_out_of_steps_keeps_what_it_reached(runs):
    run = runs["long"]
    assert run.failed and run.steps == DENSE.max_steps and 0 < run.reached < 2
    seen = run.times <= run.reached
    exact = exponential(TOYS["long"], run.times)
    np.testing.assert_allclose(run.observed["state"][seen], exact[seen], rtol=1e-6)
    assert np.isnan(run.observed["state"][~seen]).all() and seen.sum() > 1
    last = exponential(TOYS["long"], run.reached)
    np.testing.assert_allclose(run.final, last, rtol=1e-6)


def test_a_start_that_is_not_a_number_fails_at_once(runs):
    run = runs["nan"]
    assert run.failed and run.reached == 0 and run.steps < 10
    assert np.isnan(run.observed["state"]).all()


def test_a_loss_below_the_share_ends_the_solution(runs):
    toy, run = TOYS["fast"], runs["fast"]
    assert (run.status, run.failed) == ("stopped", False) and run.reached < 0.5
    with jax.enable_x64(True):
        assert toy.loss(run.final) < SHARE * toy.loss(toy.initial())
    np.testing.assert_allclose(run.final, exponential(toy, run.reached), rtol=1e-7)
    seen = run.times <= run.reached
    exact = exponential(toy, run.times[seen])
    np.testing.assert_allclose(run.observed["state"][seen], exact, rtol=1e-7)
    assert np.isnan(run.observed["state"][~seen]).all()


def test_endings_of_some_do_not_touch_the_others(runs):
    for name, run in together(tuple(reversed(TOYS))).items():
        assert_same(run, runs[name])


def test_other_numbers_are_no_other_program(runs):
    before = len(TRACES)
    assert before > 0
    names = ("decay", "fast", "decay", "fast", "decay")
    times = [np.sort(np.random.default_rng(i).random(9)) for i in range(5)]
    together(names, times, share=0.01)
    assert len(TRACES) == before


# --- gradient descent --------------------------------------------------------------

STEPS = (0.1, 0.05, 0.1, 0.1, 100.0)
FALLING = ("decay", "decay", "nan", "fast", "steep")


TOYS_FALLING = [TOYS.get(name) or Toy(1.0, 0.0, 1e160) for name in FALLING]


def descend(which=slice(None), share=0.0):
    return solve(
        TOYS_FALLING[which],
        np.linspace(0, 100, 5),
        method=Descent(STEPS[which]),
        observe=watched,
        stop_below=share,
    )


@pytest.fixture(scope="module")
def falls():
    return descend()


def test_descent_takes_euler_steps_of_each_size(falls):
    for step, run in zip(STEPS[:2], falls, strict=False):
        assert run.status == "finished" and run.steps == round(100 / step)
        powers = np.round(run.times / step)
        exact = (1 - step) ** powers[:, None] * [1.0, 0.5]
        np.testing.assert_allclose(run.observed["state"], exact, rtol=1e-11)
        np.testing.assert_array_equal(run.final, run.observed["state"][-1])


def test_alone_and_on_one_device_a_flow_does_the_same(falls):
    (alone,) = descend(slice(1))
    assert_same(alone, falls[0])


def test_descent_stops_where_the_loss_is_a_share_of_what_it_was(falls):
    run = descend(share=1e-6)[0]
    steps = int(np.ceil(np.log(1e-3) / np.log(0.9)))
    assert run.status == "stopped" and run.steps == steps
    np.testing.assert_allclose(run.reached, 0.1 * steps)
    np.testing.assert_allclose(run.final, 0.9**steps * np.array([1, 0.5]))
    loss = run.observed["loss"]
    assert np.isfinite(loss[0]) and np.isnan(loss[1:]).all()


def test_descent_with_too_large_a_step_fails_with_its_last_finite_state(falls):
    run = falls[FALLING.index("fast")]  # each step is a factor of -2
    assert run.failed and 500 < run.steps < 1000
    np.testing.assert_allclose(run.reached, 0.1 * run.steps)
    np.testing.assert_allclose(run.final, (-2.0) ** run.steps * np.array([2, 1]))
    seen = run.times <= run.reached
    assert np.isfinite(run.observed["loss"][seen]).all() and seen.sum() == 3
    assert np.isnan(run.observed["loss"][~seen]).all()


def test_descent_fails_where_it_starts_or_ends_with_a_loss_that_is_not_finite(falls):
    run = falls[FALLING.index("nan")]
    assert run.failed and run.reached == run.steps == 0
    # One step, to 1e162: the state is finite, its square is not.
    run = falls[FALLING.index("steep")]
    assert run.failed


def test_times_of_descent_are_those_of_whole_steps():
    toys = [Toy(1, -1.0), Toy(0.5, -1.0)]  # also where the first start is an integer
    times = np.array([0.0, 0.31, 0.62, 0.94])
    for toy, run in zip(
        toys, solve(toys, times, method=Descent(0.3), observe=watched), strict=True
    ):
        np.testing.assert_allclose(run.times, [0, 0.3, 0.6, 0.9])
        states = run.observed["state"][:, 0]
        np.testing.assert_allclose(states, toy.start * 0.7 ** np.arange(4))


# --- precision ---------------------------------------------------------------------


def test_single_precision_needs_a_tolerance_that_it_can_resolve():
    with pytest.raises(ValueError, match=r"rtol is 1e-10.*float32.*rtol=1e-5"):
        solve([TOYS["decay"]], GRID, dtype="float32")


@pytest.mark.parametrize("method", [Descent(0.01), Adaptive(rtol=1e-5, atol=1e-7)])
def test_single_precision_is_single(method):
    toy, times = TOYS["decay"], np.linspace(0, 3, 9)
    options = {"method": method, "observe": watched, "dtype": "float32"}
    (run,) = solve([toy], times, **options)
    assert run.status == "finished"
    for array in (run.times, run.final, *run.observed.values()):
        assert array.dtype == np.float32
    if isinstance(method, Descent):
        exact = 0.99 ** np.round(run.times / 0.01)[:, None] * [1, 0.5]
    else:
        exact = exponential(toy, times)
    np.testing.assert_allclose(run.observed["state"], exact, rtol=1e-4)


@pytest.mark.parametrize(("end", "status"), [(1e4, "finished"), (1e6, "failed")])
def test_the_longest_time_in_single_precision(end, status):
    """Beyond it the first step is too small for float32; the failure is recorded."""
    method = Adaptive(rtol=1e-5, atol=1e-7)
    (run,) = solve([TOYS["decay"]], np.array([0, end]), method=method, dtype="float32")
    assert (run.status, run.reached) == (status, end if status == "finished" else 0)


# --- what is refused ---------------------------------------------------------------

PAIR = [TOYS["decay"], TOYS["fast"]]


@pytest.mark.parametrize(
    ("flows", "times", "options", "message"),
    [
        ([], GRID, {}, "no flows"),
        ([TOYS["decay"], Toy(np.ones(1), -1.0)], GRID, {}, "one structure and shape"),
        (
            [TOYS["decay"], Toy(1.0, -1.0, label="other")],
            GRID,
            {},
            "one structure and shape",
        ),
        (PAIR, np.array([0.0, 1.0, 1.0]), {}, "times must increase"),
        (PAIR, np.array([-0.1, 1.0]), {}, "times must increase, from 0"),
        (PAIR, np.array([0.0, np.nan]), {}, "times must increase"),
        (PAIR, np.array([0.0, np.inf]), {}, "up to a finite time"),
        (
            PAIR,
            np.array([0.0, 1e39]),
            {"dtype": "float32", "method": Descent(0.1)},
            "inf in float32",
        ),
        (PAIR, [GRID, GRID, GRID], {}, r"\(3, 2\) for 2 flows"),
        (PAIR, GRID, {"stop_below": 1.5}, "stop_below is 1.5"),
        (PAIR, GRID, {"stop_below": -0.1}, "stop_below is -0.1"),
    ],
)
def test_what_cannot_be_solved_is_refused(flows, times, options, message):
    with pytest.raises(ValueError, match=message):
        solve(flows, times, **options)


@pytest.mark.parametrize("step", [0.0, [0.1, -0.1], float("nan"), []])
def test_a_step_is_above_0(step):
    with pytest.raises(ValueError, match=r"step is .*a finite number above 0"):
        Descent(step)


# --- trajectories as tables --------------------------------------------------------


def test_tables_hold_what_was_seen_and_say_of_whom(runs):
    table = runs["pole"].table
    assert list(table) == ["time", "quantity", "value"]
    assert set(table.quantity) == {"loss"} and len(table) == 4  # states are no scalars
    chosen = ("decay", "pole", "fast")
    joined = flow.frame({name: [runs[name]] for name in chosen}, by="toy")
    columns = ["time", "quantity", "value", "toy", "seed", "status", "reached"]
    assert list(joined) == columns
    assert len(joined) == sum(len(runs[name].table) for name in chosen)
    statuses = joined.groupby("toy").status.unique().map(list).to_dict()
    assert statuses == {name: [runs[name].status] for name in chosen}
    assert flow.frame({}).empty
    twice = flow.frame({("a", 3): [runs["pole"]] * 2}, by=("task", "width"))
    assert set(zip(twice.task, twice.width, twice.seed, strict=True)) == {
        ("a", 3, 0),
        ("a", 3, 1),
    }


# --- particles ---------------------------------------------------------------------


def two_layer(**changes):
    rng = np.random.default_rng(3)
    parts = {
        "inner": rng.standard_normal((4, 3)),
        "outer": rng.standard_normal(4),
        "x": rng.standard_normal((5, 3)),
        "y": rng.standard_normal(5),
    }
    return flow.two_layer(**(parts | changes), activation="tanh")


@jax.jit
def moves(system, state):
    return system.loss(state), system.velocity(state)


def at_start(system):
    with jax.enable_x64(True):
        return moves(system, system.initial())


def test_particles_descend_an_energy_of_their_distribution_whatever_their_number():
    system = two_layer()
    twice = {name: np.concatenate([v, v]) for name, v in system.start.items()}
    (loss, one), (same, two) = map(
        at_start, (system, dataclasses.replace(system, start=twice))
    )
    np.testing.assert_allclose(same, loss, rtol=1e-14)
    for name, velocity in two.items():
        np.testing.assert_allclose(velocity[:4], one[name], rtol=1e-12)
        np.testing.assert_array_equal(velocity[:4], velocity[4:])


def test_the_velocity_of_two_layers_is_that_by_hand():
    system = two_layer()
    c, z = system.start["outer"], system.start["inner"]
    x, y = system.parameters.inputs, system.parameters.targets
    values = np.tanh(x @ z.T)
    errors = (values @ c / 4 - y) / 5
    loss, velocity = at_start(system)
    np.testing.assert_allclose(loss, 5 * (errors @ errors) / 2, rtol=1e-13)
    np.testing.assert_allclose(velocity["outer"], -errors @ values, rtol=1e-12)
    inner = -(errors[:, None] * (1 - values**2) * c).T @ x
    np.testing.assert_allclose(velocity["inner"], inner, rtol=1e-12)


def test_fixed_coordinates_stay_and_the_others_move_as_before():
    free = two_layer()
    fixed = dataclasses.replace(free, fixed=frozenset({"outer"}))
    held = two_layer(train_outer=False)
    assert isinstance(held, Particles) and held.fixed == fixed.fixed
    moving = at_start(free)[1]
    for system in (fixed, held):
        velocity = at_start(system)[1]
        assert not np.any(velocity["outer"]) and np.any(moving["outer"])
        np.testing.assert_array_equal(velocity["inner"], moving["inner"])


@pytest.mark.parametrize(
    ("part", "array"),
    [
        ("outer", np.ones(3)),
        ("x", np.ones((5, 2))),
        ("y", np.ones(4)),
    ],
)
def test_parts_that_do_not_fit_are_refused(part, array):
    whole = two_layer()
    data = {"x": whole.parameters.inputs, "y": whole.parameters.targets}
    # Without the annotations, which are not checked where tests do not look.
    with pytest.raises(ValueError, match=r"they must be \(m, d\), \(m,\), \(n, d\)"):
        inspect.unwrap(flow.two_layer)(**(dict(whole.start) | data | {part: array}))
