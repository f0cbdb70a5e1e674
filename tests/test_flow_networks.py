"""Networks that flow: the Flax model trained by small steps, particles, and limits."""

import dataclasses
import functools
import itertools
from fractions import Fraction as F

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import slope_and_error
from scipy.interpolate import CubicSpline
from widthlab import activations, flow, parametrization
from widthlab.data import DataSpec
from widthlab.data.synthetic import Synthetic
from widthlab.flow import (
    Descent,
    PartiallyTrained,
    Shallow,
    networks,
    preactivation,
    solve,
)
from widthlab.model import MLP, Shape
from widthlab.parametrization import Role
from widthlab.training.losses import mean_squared_error

DATA = Synthetic(task="noise", n_train=6, n_test=3, dim=8, seed=1)
SEED, WIDTH, INNER, ACTIVATION = 4, 8, 5, "tanh"


def shallow(name, **changes):
    fields = {"width": WIDTH, "activation": ACTIVATION, "parametrization": name}
    return Shallow(**(fields | changes))


def partial(name="mup", **changes):
    fields = {
        "width": WIDTH,
        "inner_width": INNER,
        "activation": ACTIVATION,
        "inner_activation": ACTIVATION,
        "parametrization": name,
    }
    return PartiallyTrained(**(fields | changes))


NETWORKS = {
    "shallow, mean-field": shallow("mean-field"),
    "shallow, ntk": shallow("ntk", paired=False),
    "mup": partial("mup"),
    "ntk": partial("ntk"),
    "ip": partial("ip", paired=False),
}
FLOWS = {name: spec.flow(DATA, seed=SEED) for name, spec in NETWORKS.items()}


def permuted(one, order):
    return dataclasses.replace(
        one,
        start=one.start[:, order],
        test_start=one.test_start[:, order],
        outer=one.outer[order],
    )


FLOWS["permuted"] = permuted(FLOWS["ip"], np.random.default_rng(0).permutation(WIDTH))

END, SIZES = 20.0, (0.5, 0.25, 0.125)
TIMES = np.linspace(0, END, 41)


def both_splits():
    sample = DATA.load()
    return np.concatenate([sample.x_train, sample.x_test])


def outputs(one, state):
    both = one.outputs(state), one.test_outputs(state)
    return {"loss": one.loss(state), "outputs": jnp.concatenate(both)}


def everything(one, state):
    return {**flow.progress(one, state), **outputs(one, state)}


@pytest.fixture(scope="module")
def runs():
    """Every network, integrated to the tolerance."""
    solved = solve(list(FLOWS.values()), TIMES, observe=everything)
    assert {run.status for run in solved} == {"finished"}
    return dict(zip(FLOWS, solved, strict=True))


@pytest.fixture(scope="module")
def descents():
    """Every network, with three sizes of steps."""
    pairs = list(itertools.product(NETWORKS, SIZES))
    solved = solve(
        [FLOWS[name] for name, _ in pairs],
        TIMES,
        method=Descent([step for _, step in pairs]),
        observe=outputs,
    )
    return dict(zip(pairs, solved, strict=True))


# --- against the model in Flax -----------------------------------------------------


def weights(spec):
    """What a specification draws, as matrices (fan-in, fan-out) and multipliers."""
    count = WIDTH // 2 if spec.paired else WIDTH
    if isinstance(spec, Shallow):
        rng = np.random.default_rng([SEED, 1])
        before, scale = [], 1.0
        trained = rng.standard_normal((count, DATA.dim))
    else:
        rng = np.random.default_rng([SEED, 2])
        before = [(rng.standard_normal((INNER, DATA.dim)).T, 1.0)]
        trained = rng.standard_normal((count, INNER))
        power = {"mup": 0.5, "ntk": 0.5, "ip": 1.0}[spec.parametrization]
        scale = activations.get(ACTIVATION).gain * INNER**-power
    trained = np.tile(trained, (WIDTH // count, 1)).T
    outer = np.repeat([1.0, -1.0], WIDTH // 2)[:, None]
    power = 0.5 if spec.parametrization == "ntk" else 1.0
    return [*before, (trained, scale), (outer, WIDTH**-power)]


def model(spec):
    """The same network as an MLP."""
    layers = weights(spec)
    widths = tuple(matrix.shape[1] for matrix, _ in layers[:-1])
    shape = Shape(DATA.dim, widths, 1, ACTIVATION)
    scales = shape.scales(parametrization.get("mup"), lr=1.0, dtype="float64")
    multipliers = jnp.array([multiplier for _, multiplier in layers])
    mlp = MLP(shape, scales._replace(multiplier=multipliers), key=jax.random.key(0))
    for layer, (matrix, _) in zip(mlp.layers, layers, strict=True):
        assert layer.kernel[...].shape == matrix.shape
        layer.kernel[...] = jnp.asarray(matrix)
    return mlp


@functools.partial(jax.jit, static_argnums=0)
def train(graph, matrix, others, x, y, lr, steps):
    """Gradient descent on one matrix of the model; loss and outputs after it."""

    def loss(matrix):
        return mean_squared_error(nnx.merge(graph, matrix, others)(x[: len(y)]), y)

    def step(_, matrix):
        return jax.tree.map(lambda w, g: w - lr * g, matrix, jax.grad(loss)(matrix))

    matrix = jax.lax.fori_loop(0, steps, step, matrix)
    return loss(matrix), nnx.merge(graph, matrix, others)(x)[:, 0]


def time_scale(spec):
    """Learning rate of the trained weights in units of the flow's time."""
    if isinstance(spec, Shallow):
        return {"mean-field": WIDTH, "ntk": 1}[spec.parametrization]
    return {"mup": WIDTH, "ntk": 1, "ip": WIDTH * INNER}[spec.parametrization]


@pytest.fixture(scope="module")
def trained():
    """The MLPs after gradient descent with the steps of `descents`; 0 is before."""
    x, y = both_splits(), DATA.load().y_train[:, None]
    out = {}
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        for name, spec in NETWORKS.items():
            depth = 1 if isinstance(spec, Shallow) else 2
            place = ("layers", depth - 1, "kernel")
            split = nnx.split(model(spec), lambda path, _, p=place: path == p, ...)
            for step in (0.0, *SIZES):
                count = round(END / step) if step else 0
                result = train(*split, x, y, step * time_scale(spec), count)
                out[name, step] = jax.tree.map(np.asarray, result)
    return out


@pytest.mark.parametrize("name", NETWORKS)
def test_a_flow_starts_as_the_model(name, trained, runs):
    (loss, found), seen = trained[name, 0.0], runs[name].observed
    np.testing.assert_allclose(seen["outputs"][0], found, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(seen["loss"][0], loss, rtol=1e-12)


def test_descent_is_gradient_descent_of_the_model(trained, descents):
    for key, run in descents.items():
        assert run.status == "finished" and run.steps == round(END / key[1])
        loss, found = trained[key]
        np.testing.assert_allclose(run.observed["outputs"][-1], found, rtol=1e-10)
        np.testing.assert_allclose(run.observed["loss"][-1], loss, rtol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_descent_of_the_model_tends_to_the_flow_with_order_one(
    name, trained, runs
):
    """The error is a step + b step^2: its ratio is 2 + (b/a) step, halving too."""
    limit = runs[name].observed
    for part, exact in enumerate((limit["loss"][-1:], limit["outputs"][-1])):
        found = [trained[name, step][part] for step in SIZES]
        errors = np.array([np.linalg.norm(one - exact) for one in found])
        coarse, fine = np.abs(errors[:-1] / errors[1:] - 2)
        assert coarse < 0.2 and fine < 0.6 * coarse + 1e-3


# --- against particles -------------------------------------------------------------


def coordinates(system, state):
    return {"loss": system.loss(state), **state}


def test_preactivations_are_those_of_particles(descents):
    """A step on weights is exactly a step on the pre-activations, at all inputs."""
    name, step, sample = "shallow, mean-field", SIZES[1], DATA.load()
    (z, _), _ = weights(NETWORKS[name])
    outer, data = FLOWS[name].outer, (sample.x_train, sample.y_train)
    system = flow.two_layer(z.T, outer, *data, activation=ACTIVATION, train_outer=False)
    (run,) = solve([system], TIMES, method=Descent(step), observe=coordinates)
    seen, other = run.observed, descents[name, step]
    np.testing.assert_array_equal(seen["outer"], np.tile(outer, (len(TIMES), 1)))
    np.testing.assert_allclose(seen["loss"], other.observed["loss"], rtol=1e-11)
    h = np.einsum("ax,tix->tai", both_splits(), seen["inner"])
    found = np.tanh(h) @ outer / WIDTH
    np.testing.assert_allclose(found, other.observed["outputs"], rtol=1e-10, atol=1e-12)
    with jax.enable_x64(True):
        last = FLOWS[name].preactivations(jnp.asarray(other.final))
    np.testing.assert_allclose(h[-1, : DATA.n_train], last, rtol=1e-11)


# --- the exponents -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["mup", "ntk", "ip"])
@pytest.mark.parametrize("n", [6, 24])
def test_scales_are_those_of_the_parametrization_at_equal_widths(name, n):
    r"""In the gauge $W \sim N(0, 1)$ of the hidden layer, with multiplier $n^{-a}$.

    SGD with learning rate $n^{-c} dt$ moves $h = n^{-a} W \phi$ by $n^{-c - 2a}
    |\phi|^2 = n^{1 - c - 2a} G$, times the read-out's $n^{-a-b}$, times $dt$.
    """
    hidden, output = (parametrization.get(name)[r] for r in (Role.HIDDEN, Role.OUTPUT))
    gauge = hidden.shifted(hidden.b)
    assert gauge.b == 0
    one = partial(name, width=n, inner_width=n).flow(DATA, seed=SEED)
    readout = n ** -float(output.a + output.b)
    assert float(one.readout) == pytest.approx(readout, rel=1e-14)
    speed = n ** float(1 - gauge.c - 2 * gauge.a) * readout
    assert float(one.speed) == pytest.approx(speed, rel=1e-14)
    # The same draws, times a multiplier of their own.
    plain = partial((F(0), F(0)), width=n, inner_width=n).flow(DATA, seed=SEED)
    multiplier = n ** -float(gauge.a)
    np.testing.assert_allclose(one.start, plain.start * multiplier, rtol=1e-13)
    np.testing.assert_array_equal(one.gram, plain.gram)


def test_a_pair_of_exponents_says_what_a_name_says():
    for name, pair in {"mup": (F(1), F(1, 2)), "ip": (F(1), F(1))}.items():
        named, given = (partial(p).flow(DATA, seed=SEED) for p in (name, pair))
        for a, b in zip(jax.tree.leaves(named), jax.tree.leaves(given), strict=True):
            np.testing.assert_array_equal(a, b)


@jax.jit
def kernel_at_start(one):
    return one.kernel(one.initial())


def test_the_kernel_does_not_feel_a_readout_and_movement_does():
    """Mean field and NTK share the kernel at time 0; h moves by m^-1/2 less."""
    one, two = (shallow(p).flow(DATA, seed=SEED) for p in ("mean-field", "ntk"))
    with jax.enable_x64(True):
        first, second = map(kernel_at_start, (one, two))
    np.testing.assert_allclose(first, second, rtol=1e-13)
    np.testing.assert_allclose(two.speed / one.speed, WIDTH**-0.5, rtol=1e-14)


# --- what a flow does --------------------------------------------------------------


def test_losses_fall(runs):
    for run in runs.values():
        assert np.all(np.diff(run.observed["loss"]) < 0)


@pytest.mark.parametrize("name", ["shallow, mean-field", "mup", "ntk"])
def test_pairs_start_at_zero_and_leave_it(name, runs):
    seen = runs[name].observed
    np.testing.assert_allclose(seen["outputs"][0], 0, atol=1e-15)
    assert np.all(np.abs(seen["outputs"][-1]) > 1e-3)
    np.testing.assert_allclose(seen["loss"][0], np.mean(DATA.load().y_train ** 2) / 2)


@jax.jit
def learnt(one, state):
    return {**preactivation.learning(one, state), "kernel": one.kernel(state)}


@pytest.fixture(scope="module")
def ends(runs):
    with jax.enable_x64(True):
        found = {name: learnt(FLOWS[name], run.final) for name, run in runs.items()}
        for name, one in FLOWS.items():
            found[name]["start"] = kernel_at_start(one)
    return jax.tree.map(np.asarray, found)


def test_the_order_of_neurons_does_not_matter(runs, ends):
    assert not np.array_equal(FLOWS["ip"].start, FLOWS["permuted"].start)
    pair = [{**runs[name].observed, **ends[name]} for name in ("ip", "permuted")]
    for one, other in zip(*(found.values() for found in pair), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("name", FLOWS)
def test_what_is_observed_of_learning(name, runs, ends):
    one, seen, n = FLOWS[name], ends[name], DATA.n_train
    moved = one.speed * one.gram @ runs[name].final
    y, kernel, start = one.targets, seen["kernel"], seen["start"]
    found, test = runs[name].observed["outputs"][-1, n:], one.test_targets
    expected = {
        "loss": runs[name].observed["loss"][-1],
        "movement": np.sqrt(np.mean(moved**2)),
        "relative_movement": np.linalg.norm(moved) / np.linalg.norm(one.start),
        "alignment": (y @ kernel @ y) / np.linalg.norm(kernel) / (y @ y),
        "kernel_change": np.linalg.norm(kernel - start) / np.linalg.norm(start),
        "test_error": np.sum((found - test) ** 2) / np.sum(test**2),
        "test_accuracy": np.mean(found * test > 0),
    }
    assert set(seen) == {*expected, "kernel", "start"}
    for key, value in expected.items():
        np.testing.assert_allclose(seen[key], value, rtol=1e-7)


def test_observations_have_the_precision_of_the_solution(ends):
    assert {v.dtype for v in ends["mup"].values()} == {np.dtype(float)}


# --- rates -------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOWS)
def test_the_loss_falls_at_the_rate_of_the_kernel(name, runs):
    seen = runs[name].observed

    def gap(every):
        """Largest difference to the derivative of a cubic spline through some times."""
        spline = CubicSpline(TIMES[::every], np.log(seen["loss"][::every]))
        return np.abs(-spline(TIMES, 1) - seen["gradient_rate"])[4:-4].max()

    # What is left is the spline's error, of order three.
    assert gap(1) < gap(2) / 4 < 0.01 * seen["gradient_rate"].max()
    assert np.all(seen["kernel_rate"] <= seen["gradient_rate"])
    assert np.all(seen["bound"] <= seen["kernel_rate"] + 1e-15)


@pytest.mark.parametrize("name", FLOWS)
def test_windows_measure_the_rate_and_what_stands_beside_it(name, runs):
    table, seen = flow.windows(runs[name]), runs[name].observed
    np.testing.assert_allclose(table.time, (TIMES[1:] + TIMES[:-1]) / 2)
    total = np.cumsum(table.rate * np.diff(TIMES))
    np.testing.assert_allclose(total, np.log(seen["loss"][0] / seen["loss"][1:]))
    for key in ("kernel_rate", "bound"):
        lower = np.minimum(seen[key][1:], seen[key][:-1])
        np.testing.assert_array_equal(table[key], lower)
    assert np.all(table.rate >= table.kernel_rate)
    # The trapezoidal rule is of order two in the length of a window.
    half = {key: values[::2] for key, values in seen.items()}
    coarse = dataclasses.replace(runs[name], times=TIMES[::2], observed=half)
    gaps = [abs(flow.explained(run) - 1) for run in (coarse, runs[name])]
    assert gaps[1] < gaps[0] / 3 < 0.02


def test_windows_need_what_progress_observes_and_two_times(runs, descents):
    with pytest.raises(ValueError, match=r"bound.*observe=flow\.progress"):
        flow.windows(descents["mup", SIZES[0]])
    run = runs["mup"]
    cut = {name: np.where(TIMES > 0, np.nan, 1.0) for name in run.observed}
    with pytest.raises(ValueError, match="observed 1 times"):
        flow.windows(dataclasses.replace(run, observed=cut))


@jax.jit
def rates(one, state):
    velocity = one.velocity(state)
    found, output_velocity = jax.jvp(one.outputs, (state,), (velocity,))
    return {
        **flow.progress(one, state),
        "kernel": one.kernel(state),
        "errors": found - one.targets,
        "output_velocity": output_velocity,
        "loss_velocity": jax.jvp(one.loss, (state,), (velocity,))[1],
    }


@pytest.mark.parametrize("name", ["silu", "erf", "smooth-leaky-relu"])
@pytest.mark.parametrize("spec", ["shallow, ntk", "mup"])
def test_the_kernel_is_the_tangent_kernel_and_bounded_below(name, spec):
    """At any state: errors move by -K errors / n, and Schur bounds K's spectrum."""
    drawn = attrs.evolve(NETWORKS[spec], activation=name).flow(DATA, seed=9)
    state = 3 * np.random.default_rng(7).standard_normal(drawn.start.shape)
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, rates(drawn, state))
    kernel, errors = found["kernel"], found["errors"]
    np.testing.assert_allclose(kernel, kernel.T, rtol=1e-13, atol=1e-15)
    moved = -kernel @ errors / len(errors)
    np.testing.assert_allclose(found["output_velocity"], moved, rtol=1e-9, atol=1e-12)
    fall = -found["loss_velocity"] / found["loss"]
    np.testing.assert_allclose(found["gradient_rate"], fall, rtol=1e-9)
    rounding = 1e-13 * np.trace(kernel)
    lowest = np.linalg.eigvalsh(kernel)[0]
    rate = 2 * lowest / len(errors)
    np.testing.assert_allclose(found["kernel_rate"], rate, atol=rounding)
    assert lowest > -rounding
    assert found["gradient_rate"] >= found["kernel_rate"]
    assert 0 <= found["bound"] <= found["kernel_rate"] + rounding


def test_steps_are_stable_below_twice_the_stable_one_and_modes_decay_in_time():
    """A linear activation keeps the kernel, so that errors decay by its spectrum."""
    one = partial(width=12, inner_width=40, activation="linear").flow(DATA, seed=2)
    with jax.enable_x64(True):
        kernel = np.asarray(kernel_at_start(one))
    values, vectors = np.linalg.eigh(kernel)
    np.testing.assert_allclose(one.spectrum(), values)
    slow = dataclasses.replace(one, targets=vectors[:, 0])  # f = 0 at time 0
    step, time = one.stable_step(), one.slowest_time()
    times = np.linspace(0, 1, 3)
    below, above, slowest = solve(
        [one, one, slow],
        [200 * step * times, 200 * step * times, time * times],
        method=Descent([1.9 * step, 2.1 * step, time / 10_000]),
    )
    assert below.observed["loss"][-1] < 0.3 * below.observed["loss"][0]
    assert above.observed["loss"][-1] > 1e3 * above.observed["loss"][0]
    loss = slowest.observed["loss"]
    np.testing.assert_allclose(loss / loss[0], np.exp([0, -0.5, -1]), rtol=1e-3)


# --- infinitely many features ------------------------------------------------------

FEATURES = (64, 256, 1024)


def whole(one):
    """The Gram matrix of training and test inputs, against training inputs."""
    return np.concatenate([one.gram, one.test_gram])


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_features_tend_to_their_kernel(name):
    limit = partial(inner_width=None, inner_activation=name).flow(DATA, seed=0)
    covariance = networks.feature_kernel(both_splits(), name)
    np.testing.assert_array_equal(whole(limit), covariance[:, : DATA.n_train])
    np.testing.assert_allclose(np.diag(covariance), 1, rtol=1e-9)  # the gain's purpose
    specs = [partial(inner_width=m, inner_activation=name) for m in FEATURES]
    found = [[whole(spec.flow(DATA, seed=s)) for spec in specs] for s in range(12)]
    errors = np.linalg.norm(found - whole(limit), axis=(2, 3))
    slope, error = slope_and_error(FEATURES, errors)
    assert abs(slope + 0.5) < 4 * error < 0.5


@pytest.mark.parametrize("inner", [None, 20])
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_preactivations_start_with_the_covariance_of_the_features(name, inner):
    """Given the features they are Gaussian of covariance G, for any number of them."""
    changes = {"inner_width": inner, "inner_activation": name, "paired": False}
    one = partial(width=4000, **changes).flow(DATA, seed=3)
    h = np.concatenate([one.start, one.test_start])
    products = np.einsum("ai,bi->iab", h, h[: DATA.n_train])
    for sample, mean in ((products, whole(one)), (h.T, 0)):
        error = sample.std(axis=0, ddof=1) / np.sqrt(len(sample))
        assert np.all(np.abs(sample.mean(axis=0) - mean) < 5 * error)


def test_integrable_preactivations_start_at_zero_in_the_limit():
    specs = [partial("ip", inner_width=m) for m in FEATURES]
    starts = [[spec.flow(DATA, seed=s).start for spec in specs] for s in range(12)]
    slope, error = slope_and_error(FEATURES, np.linalg.norm(starts, axis=(2, 3)))
    assert abs(slope + 0.5) < 4 * error < 0.5
    with pytest.raises(ValueError, match="all neurons start at zero"):
        partial("ip", inner_width=None)


@pytest.mark.parametrize("name", ["sp", "ip-llr", "hp"])
def test_other_parametrizations_are_refused(name):
    with pytest.raises(ValueError, match="follow 'mup', 'ntk', 'ip'"):
        partial(name)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_tangent_kernels_tend_to_their_limit(activation):
    fields = {"activation": activation, "inner_width": None, "paired": False}
    kernels = []
    for seed in range(12):
        one = partial("mup", **fields, width=400).flow(DATA, seed=seed)
        with jax.enable_x64(True):
            kernels.append(np.asarray(kernel_at_start(one)))
    x = DATA.load().x_train
    limit = partial("mup", **fields).limit_kernel(x)
    np.testing.assert_array_equal(partial("ntk", **fields).limit_kernel(x), limit)
    error = np.std(kernels, axis=0, ddof=1) / np.sqrt(12)
    assert np.all(np.abs(np.mean(kernels, axis=0) - limit) <= 5 * error + 1e-12)


@pytest.mark.parametrize("inner", [INNER, None])
def test_drawing_for_test_inputs_does_not_touch_the_training_inputs(inner):
    spec = partial(inner_width=inner)
    few, none = (spec.flow(attrs.evolve(DATA, n_test=n), seed=SEED) for n in (3, 0))
    np.testing.assert_allclose(few.start, none.start, rtol=1e-9)


# --- data, and what is refused -----------------------------------------------------


@pytest.mark.parametrize(
    "spec", [shallow("ntk"), partial(), partial(inner_width=None)], ids=str
)
def test_a_flow_is_drawn_by_its_seed(spec):
    one, same, other = (spec.flow(DATA, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.start, same.start)
    assert not np.any(one.start == other.start)
    np.testing.assert_array_equal(one.targets, DATA.load().y_train)
    np.testing.assert_array_equal(one.test_targets, DATA.load().y_test)


def test_any_data_set_with_one_target_will_do():
    spec = DataSpec("gaussian-mixture", n_train=6, n_test=3, dim=8, targets="parity")
    one, data = partial().flow(spec, seed=0), spec.load()
    np.testing.assert_array_equal(one.targets, data.y_train[:, 0])
    np.testing.assert_array_equal(one.test_targets, data.y_test[:, 0])
    assert {leaf.dtype for leaf in jax.tree.leaves(one)} == {np.dtype(float)}
    for targets in ("one-hot", "labels"):
        many = attrs.evolve(spec, targets=targets)
        for network in (shallow("ntk"), partial()):
            with pytest.raises(ValueError, match=r"one output.*parity"):
                network.flow(many, seed=0)


@pytest.mark.parametrize("width", [1, 5])
def test_without_pairs_any_width_will_do(width):
    one = partial(width=width, paired=False).flow(DATA, seed=0)
    assert one.start.shape == (6, width) and abs(one.outer.sum()) <= 1
    assert set(np.abs(one.outer)) == {1.0}


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (shallow, {"activation": "nope"}, "'nope'"),
        (shallow, {"name": "nope"}, "'nope'"),
        (shallow, {"width": 7}, "width is 7.*even.*paired=False"),
        (shallow, {"width": 0, "paired": False}, "width is 0"),
        (partial, {"activation": "nope"}, "'nope'"),
        (partial, {"inner_activation": "nope"}, "'nope'"),
        (partial, {"name": "nope"}, "'nope'"),
        (partial, {"width": 7}, "width is 7.*even.*paired=False"),
        (partial, {"inner_width": 0}, "inner_width is 0.*None"),
    ],
)
def test_what_cannot_be_built_is_refused(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**({"name": "ntk"} | changes))


# --- windows of rates --------------------------------------------------------------


def observed(times, rates, **more):
    quantities = {"kernel_rate": rates, "gradient_rate": rates, "bound": rates}
    loss = np.exp(-0.5 * times)
    return flow.Trajectory(
        times=times,
        observed={"loss": loss, **quantities, **more},
        final=None,
        last={},
        reached=float(times[-1]),
        status="finished",
        steps=1,
    )


def test_windows_set_losses_beside_kernels():
    run = observed(np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.4, 0.3]))
    table = flow.windows(run)
    np.testing.assert_allclose(table["rate"], 0.5)
    np.testing.assert_allclose(table["time"], [0.5, 2.0])
    np.testing.assert_allclose(table["kernel_rate"], [0.4, 0.3])  # the smaller end
    np.testing.assert_allclose(table["gradient_rate"], [0.45, 0.35])
    assert flow.explained(run) == pytest.approx(1.5 / (0.45 + 2 * 0.35))


def test_windows_end_where_a_run_does():
    late = np.array([0.5, 0.4, np.nan])
    run = observed(np.array([0.0, 1.0, 3.0]), late, loss=np.array([1, 0.5, np.nan]))
    assert len(flow.windows(run)) == 1
    with pytest.raises(ValueError, match="observed 1 times"):
        flow.windows(observed(np.array([0.0]), np.array([0.5])))
    bare = dataclasses.replace(run, observed={"loss": run.observed["loss"]})
    with pytest.raises(ValueError, match=r"no \['bound'.*observe=flow.progress"):
        flow.windows(bare)
