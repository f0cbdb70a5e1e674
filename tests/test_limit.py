"""The limit of infinite width, against oracles, exact equivalents and networks."""

import inspect
from fractions import Fraction

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_limits
from widthlab import Role, frame, kernels, parametrization, select, sweep
from widthlab.data import DataSpec
from widthlab.limit import LimitError, LimitRun, Problem, canonical, solve
from widthlab.limit.draws import Draws, DrawsError
from widthlab.limit.kernel import covariances, descend, tangent_kernel
from widthlab.limit.particles import Particles
from widthlab.limit.tables import Canonical
from widthlab.limit.trajectory import jackknife, mean
from widthlab.probes import Features, Outputs
from widthlab.runs import Store
from widthlab.runs.experiment import Experiment

MUP = parametrization.get("mup")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in a sweep: threads of small products wait for each other busily."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


def sphere(count, dim=16, seed=0):
    x = np.random.default_rng(seed).standard_normal((count, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def signs(count, outputs=1, seed=1):
    return np.sign(np.random.default_rng(seed).standard_normal((count, outputs)))


def mup(depth, lr, **more):
    return canonical(MUP, depth=depth, lr=lr, **more)


def problem(count=4, outputs=1, **fields):
    given = {
        "inputs": sphere(count),
        "targets": signs(count, outputs),
        "outputs": outputs,
        "steps": 4,
        "canonical": mup(2, 1.0),
    }
    return Problem(**given | fields)


def single(lr, steps):
    return Problem(
        inputs=[[1.0]], targets=[[1.0]], outputs=1, steps=steps, canonical=mup(2, lr)
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


# --- oracles


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_linear_network_has_no_noise(depth):
    """Second moments are all there is: every repeat is the limit, to rounding."""
    one = problem(6, 2, activation="linear", canonical=mup(depth, 0.2), steps=8)
    first, *others = (
        Particles(one, m, s).run() for m, s in ((256, 0), (256, 1), (1024, 0))
    )
    assert first["loss"][-1] < 0.7 * first["loss"][0]
    for other in others:
        np.testing.assert_allclose(other["outputs"], first["outputs"], atol=1e-12)


def test_a_linear_network_with_one_layer_is_a_small_one():
    """That of Yang and Hu: as wide as the inputs' rank and the outputs together."""
    one = problem(5, 2, activation="linear", canonical=mup(1, 0.5), steps=10)
    x, y = np.array(one.inputs), np.array(one.targets)
    directions = np.linalg.svd(x, full_matrices=False)[2]
    # Rows of W^1 are orthonormal, and so are those of v, as directions of particles.
    inner, outer = np.zeros((7, 16)), np.zeros((7, 2))
    inner[:5], outer[5:] = directions, np.eye(2)
    outputs = []
    for _ in range(11):
        hidden = x @ inner.T
        outputs.append(hidden @ outer)
        error = (outputs[-1] - y) / len(x)
        inner, outer = (
            inner - 0.5 * (error @ outer.T).T @ x,
            outer - 0.5 * hidden.T @ error,
        )
    found = Particles(one, 256).run()["outputs"]
    np.testing.assert_allclose(found, outputs, atol=1e-12)


def test_values_of_quadrature(store):
    """Gauss-Hermite quadrature of the field equations, with exact derivatives."""
    slow = solve(single(0.5, 2), seeds=4, store=store).outputs
    fast = solve(single(1.0, 1), seeds=4, store=store).outputs
    np.testing.assert_allclose(slow.value.ravel(), [0, 0.345839, 0.535556], atol=2e-4)
    np.testing.assert_allclose(fast.value.ravel(), [0, 0.561671], atol=2e-4)
    assert 0 < slow.error[2, 0, 0] < 2e-4
    wrong = solve(single(1.0, 2), seeds=4, response=False, particles=1024, store=store)
    right = solve(single(1.0, 2), seeds=4, particles=1024, store=store)
    gap = wrong.outputs.value - right.outputs.value
    assert abs(gap[2, 0, 0]) > 0.05 > 20 * right.outputs.error[2, 0, 0]


def network(weights, one, steps):
    """Train explicit networks, in units of the limit; leading axes are networks."""
    first, hidden, out = (np.array(weights[0]), [*weights[1]], np.array(weights[2]))
    width, rates = first.shape[-2], one.canonical.rates
    x, y = np.array(one.inputs), np.array(one.targets)
    outputs = []
    for _ in range(steps + 1):
        features, h = [], first @ x.T
        for matrix in (*hidden, None):
            features.append(np.tanh(h))
            h = h if matrix is None else matrix @ features[-1]
        f = np.swapaxes(features[-1], -1, -2) @ out / width
        outputs.append(f)
        error = (f - y) / len(x)
        d = (1 - features[-1] ** 2) * (out @ np.swapaxes(error, -1, -2))
        out = out - rates[-1] * features[-1] @ error
        for layer in range(len(hidden), 0, -1):
            below, matrix = features[layer - 1], hidden[layer - 1]
            z = np.swapaxes(matrix, -1, -2) @ d
            step = d @ np.swapaxes(below, -1, -2) / width
            hidden[layer - 1] = matrix - rates[layer] * step
            d = (1 - below**2) * z
        first = first - rates[0] * d @ x
    return np.stack(outputs)


@pytest.mark.parametrize(("tolerance", "within"), [(1e-6, 1e-6), (1e-3, 3e-4)])
@pytest.mark.parametrize("depth", [2, 3])
def test_particles_are_a_network(depth, tolerance, within):
    """The matrices that they stand for train to the same outputs."""
    one, size = problem(canonical=mup(depth, 1.0), steps=10), 512
    repeat = Particles(one, size, tolerance=tolerance)
    first = repeat.first @ _span(repeat, one)
    found = repeat.run()["outputs"]
    again = Particles(one, size, tolerance=tolerance)
    again.read_out(again.forward()[0][-1][1])
    hidden = []
    for matrix in repeat.hidden:
        p, u = matrix.forward.basis.now, matrix.forward.images.now
        q, v = matrix.backward.basis.now, matrix.backward.images.now
        hidden.append(((u - q @ (q.T @ u) / size) @ p.T + q @ v.T) / size)
    explicit = network((first, hidden, again.out), one, one.steps)
    np.testing.assert_allclose(found, explicit, atol=within)


def _span(repeat, one):
    return np.linalg.pinv(repeat.coordinates) @ np.array(one.inputs)


def test_gaussian_draws_are_networks_in_law():
    one, size, networks, repeats = problem(2, steps=3), 64, 1000, 100
    rng = np.random.default_rng(0)
    drawn = (  # units of the limit: entries of order one
        rng.standard_normal((networks, size, 16)),
        [rng.standard_normal((networks, size, size)) / 8],
        rng.standard_normal((networks, size, 1)),
    )
    explicit = network(drawn, one, one.steps)[..., 0]
    particles = np.stack(
        [
            Particles(one, size, seed, draws="gaussian").run()["outputs"][..., 0]
            for seed in range(repeats)
        ],
        axis=1,
    )
    spread = np.sqrt(explicit.var(1) / networks + particles.var(1) / repeats)
    assert np.abs((explicit.mean(1) - particles.mean(1)) / spread).max() < 4
    ratio = particles.std(1) / explicit.std(1)
    assert np.abs(ratio - 1).max() < 4 * (2 * repeats) ** -0.5


# --- the kernel's limit


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_kernel_is_the_librarys(activation, depth):
    gains = np.array([1.2, *[0.9] * (depth - 1), 0.8])
    # Its weights have their deviations as factors, which are in the gradients too.
    rates = gains**2 * np.array([*[gains[-1] ** 2] * depth, 1])
    ntk = Canonical(kind="kernel", gains=gains, rates=rates, first_rates=rates)
    one = problem(6, canonical=ntk, activation=activation, tests=sphere(2, seed=5))
    found = tangent_kernel(one, ntk.rates, covariances(one))
    x, std = one.every_input(), [1.2 * 4, *gains[1:]]
    with jax.enable_x64(True):
        known = kernels.mlp(
            jnp.asarray(x), activation=activation, depth=depth, weight_std=std
        )
    np.testing.assert_allclose(found, np.asarray(known.ntk), rtol=1e-8)


def test_ntp_descends_with_its_kernel(store):
    one = problem(5, canonical=canonical(parametrization.get("ntk"), depth=2, lr=0.5))
    kernel = tangent_kernel(one, one.canonical.rates, covariances(one))
    f, y = np.zeros((5, 1)), np.array(one.targets)
    for _ in range(4):
        f = f - kernel @ (f - y) / 5
    found = solve(one, store=store)
    np.testing.assert_allclose(found.outputs.value[-1], f, atol=1e-12)
    assert not found.feature_change(2).value.any() and found.outputs.repeats == 1


def ntp(**fields):
    one = canonical(parametrization.get("ntk"), depth=2, lr=1.0)
    return problem(8, canonical=one, **fields)


def test_the_loss_of_a_kernel_is_the_mean_over_networks(trained_ntp):
    """Random starts are in it at every width; centred networks have none."""
    networks, one, store = trained_ntp
    mean_of, error = (
        networks.mean(axis=0),
        networks.std(axis=0, ddof=1) / len(networks) ** 0.5,
    )
    found, centred = (solve(p, store=store).loss for p in (one, one.centred()))
    assert not found.error.any()
    off = np.abs(found.value[:-1] - mean_of)
    assert (off < 4 * error + 0.01).all()
    assert (mean_of - centred.value[:-1] > 3 * error).all()


@pytest.fixture(scope="module")
def trained_ntp(tmp_path_factory):
    kept = Store(tmp_path_factory.mktemp("ntp"))
    given = {"parametrization": "ntk", "width": 256, "probes": ()}
    runs = [experiment(seed=s, **given) for s in range(32)]
    losses = frame(sweep(runs, store=kept), "loss")
    table = losses.pivot(index="seed", columns="step", values="value")
    return table.to_numpy(), Problem.of(runs[0]), kept


def test_the_spread_of_a_kernels_loss_in_batches():
    """Starts of their covariance, each trained: the mean loss, whatever the batches."""
    one = ntp(steps=2, batches=[(0, 1, 2), (3, 4, 6)])
    known = descend(one)["loss"]
    phi = covariances(one).after[-1]
    root = np.linalg.cholesky(phi + 1e-12 * np.eye(8))
    # Starts with exactly their mean and covariance: pairs along its root's columns.
    starts = [s * np.sqrt(8) * root[:, k] for k in range(8) for s in (1, -1)]
    each = [descend(one, start[:, None])["loss"] for start in starts]
    np.testing.assert_allclose(np.mean(each, axis=0), known, rtol=1e-9)


def test_a_kernels_loss_of_random_starts_is_refused_where_it_is_not_known(store):
    labels = {"targets": [0, 1] * 4, "outputs": 2, "loss": "cross-entropy"}
    with pytest.raises(LimitError, match=r"take `problem.centred\(\)`"):
        solve(ntp(**labels), store=store)
    found = solve(ntp(**labels).centred(), store=store).loss
    assert found.value[-1] < found.value[0] == pytest.approx(np.log(2))
    assert problem().centred() == problem()


def test_lazy_training_is_the_kernels():
    """It is off by the inverse square of laziness, which the same draws show."""
    found = {}
    half = (0.5, 0.5, 0.5)
    for alpha in (4, 8, 1000):
        rates = (0.5 / alpha**2, 0.5 / alpha**2, 0.5)
        lazy = Canonical(gains=(1, 1, alpha), rates=rates, first_rates=rates)
        one = problem(4, canonical=lazy, steps=5)
        repeats = [Particles(one, 4096, seed).run()["outputs"] for seed in range(3)]
        found[alpha] = mean(np.stack(repeats))
    ntk = Canonical(kind="kernel", gains=(1, 1, 1), rates=half, first_rates=half)
    limit = descend(problem(4, canonical=ntk, steps=5))["outputs"]
    last = found[1000]
    assert np.abs(last.value - limit).max() < 3 * last.error.max() + 0.003
    four, eight = (np.abs(found[a].value - last.value).max() for a in (4, 8))
    assert 3.5 < four / eight < 4.5


# --- the start


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_at_the_start_gram_matrices_are_the_kernels(activation):
    one = problem(8, canonical=mup(3, 1.0), activation=activation, steps=0)
    repeats = [Particles(one, 2048, s).run() for s in range(4)]
    exact = covariances(one)
    for layer in range(3):
        for kind, known in enumerate((exact.before, exact.after)):
            found = mean(np.stack([r["gram"][0, layer, kind, :8, :8] for r in repeats]))
            off = np.abs(found.value - known[layer])
            if layer == kind == 0:
                assert off.max() < 1e-12
            else:
                assert off.max() < 6 * max(found.error.max(), 1e-4)
    assert max(np.abs(r["outputs"]).max() for r in repeats) < 1e-12


# --- networks of the library

WIDTHS, SEEDS, STEPS = (64, 512), range(6), 6


def experiment(**fields):
    given = {
        "data": DataSpec("digits", n_train=16, n_test=4, targets="parity"),
        "parametrization": "mup",
        "width": 64,
        "depth": 2,
        "lr": 1.0,
        "loss": "mse",
        "steps": STEPS,
        "checkpoints": tuple(range(STEPS + 1)),
        "probes": (Features(16), Outputs(16)),
    }
    return Experiment(**given | fields)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Networks of two widths, and limits, in one table."""
    kept = Store(tmp_path_factory.mktemp("store"))
    networks = [experiment(width=n, seed=s) for n in WIDTHS for s in SEEDS]
    lazy = experiment(base_width=4)
    limits = [
        LimitRun(problem=Problem.of(one), particles=2048, seed=s)
        for one in (experiment(), lazy, experiment(parametrization="hpz"))
        for s in range(2)
    ]
    records = sweep(networks + limits, store=kept)
    parts = np.split(np.arange(len(records)), [len(networks) + 2 * k for k in range(3)])
    return [frame(records[i] for i in part) for part in parts]


def off(networks, limit, quantity):
    """Root mean square distance of networks from a limit, by width."""
    of = select(limit, quantity=quantity).groupby(["layer", "step", "quantity"])
    known = of["value"].mean().rename("limit").reset_index()
    both = select(networks, quantity=quantity).merge(known)
    both["square"] = (both["value"] - both["limit"]) ** 2
    return both.groupby("width")["square"].mean() ** 0.5


def all_outputs(quantity):
    return quantity.str.startswith("output[")


@pytest.mark.parametrize(
    "quantity", [all_outputs, "loss", "feature_change", "pre_lambda_min", "rms"]
)
def test_networks_approach_the_limit(trained, quantity):
    """Like the inverse root of their width, by 2.8 over these two; and no other."""
    networks, limit, lazy, hpz = trained
    near, wide = off(networks, limit, quantity)
    assert 1.6 < near / wide < 6
    if callable(quantity):
        for wrong in (lazy, hpz):
            narrow, wide_too = off(networks, wrong, quantity)
            assert narrow / wide_too < 1.6 and wide_too > 4 * wide


def test_the_rows_of_a_limit_are_those_of_networks(trained):
    networks, limit, *_ = trained
    columns = ["step", "layer", "quantity"]
    there, wanted = ({*map(tuple, t[columns].values)} for t in (limit, networks))
    assert wanted == there
    assert set(limit["width"]) == {np.inf}


# --- tables


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("sp", {}, "'sp' is unstable .* grows with width"),
        ("ip", {"depth": 3}, "'ip' is trivial .* nothing moves"),
        ("ip-llr", {}, "positively homogeneous activations, .* not for 'tanh'"),
        ("ip-bias", {"depth": 3, "activation": "relu"}, "do not move in the first"),
        ("ip-non-centred", {"activation": "relu"}, "a mean that is not zero"),
        ("mean-field", {}, "at most 1 hidden layer"),
    ],
)
def test_tables_without_a_limit_are_refused_with_the_reason(name, fields, reason):
    with pytest.raises(ValueError, match=reason):
        canonical(parametrization.get(name), **{"depth": 2} | fields)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"parametrization": "mup"}, "'mup'; it must be a Parametrization, such as"),
        ({"activation": "nonsense"}, "'nonsense'"),
        ({"gains": (1.0, 1.0)}, "gains is .* must be 3 values"),
        ({"gains": (1.0, 1.0, 1.0, 1.0)}, "gains is .* must be 3 values"),
        ({"base_width": 1.5}, "base_width is 1.5; it must be an integer"),
        ({"lr": 0}, "lr is 0; it must be a finite number above 0"),
        ({"depth": True}, "depth is True; it must be an integer"),
    ],
)
def test_what_canonical_does_not_take(fields, reason):
    with pytest.raises(ValueError, match=reason):
        # Without the tests' own checks of types.
        inspect.unwrap(canonical)(**{"parametrization": MUP, "depth": 2} | fields)


def test_vanishing_signals_are_refused():
    """Signals smaller than μP's and a read-out larger: a kernel by its exponents."""
    smaller = MUP.mutated(Role.INPUT, b=Fraction(1), c=Fraction(1))
    same = smaller.mutated(Role.OUTPUT, b=Fraction(0), c=Fraction(-1))
    with pytest.raises(LimitError, match=r"signals of .* vanish at the start"):
        canonical(same, depth=2, activation="relu")


def test_one_limit_of_several_tables():
    def of(name, depth, activation="relu"):
        table = parametrization.get(name)
        return canonical(
            table, depth=depth, activation=activation, lr=0.5, base_width=4
        )

    assert of("hpz", 3) == of("hp", 3) == of("ip-llr", 3) != of("mup", 3)
    assert of("mup", 1) == of("mean-field", 1) == of("ip", 1) == of("nup", 1)
    assert of("mup", 3) == of("nup-normalised", 3)
    assert of("mup", 2) == Canonical(
        gains=(1, 1, 2), rates=(0.125, 0.5, 2), first_rates=(0.125, 0.5, 2)
    )
    assert of("sp-lr/n", 2).kind == of("ntk", 2).kind == "kernel"
    assert of("sp-lr/n", 2).rates[0] == 0  # its first layer does not count


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"batch_size": 8}, "batches follow from its seed"),
        ({"biases": "all"}, "it has biases"),
        ({"growth": 0.5, "parametrization": "nup"}, "not of one width"),
        ({"stop_below": 0.1}, "it stops at a loss"),
    ],
)
def test_experiments_of_other_kinds_are_refused(fields, reason):
    with pytest.raises(LimitError, match=reason):
        Problem.of(experiment(**fields))


# --- problems and runs


def test_batches_in_a_given_order():
    """All examples in each batch are full-batch descent; other orders are others."""
    labels = {"targets": (0, 1, 2, 1), "outputs": 3, "loss": "cross-entropy"}
    whole = problem(**labels, activation="gelu", tests=sphere(2, seed=7))
    every = attrs.evolve(whole, batches=[range(4)] * 4)
    halves = attrs.evolve(whole, batches=[(0, 1), (2, 3)] * 2)
    full, same, other = (Particles(p, 512).run() for p in (whole, every, halves))
    np.testing.assert_array_equal(full["outputs"], same["outputs"])
    assert full["outputs"].shape == (5, 6, 3)
    assert np.abs(full["outputs"] - other["outputs"])[-1].max() > 0.01
    assert full["loss"][-1] < full["loss"][0] == pytest.approx(np.log(3))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"targets": [[1.0]]}, "1 targets for 4 inputs"),
        ({"targets": (0, 1, 0, 1)}, "'mse' takes values"),
        ({"outputs": 2, "targets": [[1.0]] * 4}, "is 2; targets have rows of 1"),
        ({"tests": [[1.0]]}, "rows of different lengths"),
        ({"batches": [(0,)]}, "1 batches for 4 steps"),
        ({"batches": [(4,)] * 4}, "name example 4"),
    ],
)
def test_what_does_not_fit_is_refused(fields, reason):
    with pytest.raises(ValueError, match=reason):
        problem(**fields)


def test_numbers_of_particles():
    with pytest.raises(ValueError, match="a power of two, such as 1024"):
        LimitRun(problem=problem(), particles=1000)
    assert LimitRun(problem=problem(), particles=1000, draws="gaussian").particles
    with pytest.raises(DrawsError, match="four particles a direction"):
        Draws(64, (0, 0), "matched").take(40)


def test_too_few_particles_are_warned_of(store):
    with pytest.warns(RuntimeWarning, match="64 particles carry"):
        solve(problem(), particles=64, seeds=1, store=store)


def test_a_repeat_is_kept(store):
    one = solve(problem(), particles=256, seeds=2, store=store)
    again = solve(problem(), particles=256, seeds=(0, 1), store=store)
    assert len(store.keys()) == 2
    np.testing.assert_array_equal(one.grams, again.grams)
    others = [
        LimitRun(problem=problem(), particles=256),
        LimitRun(problem=problem(), particles=256, seed=2),
        LimitRun(problem=problem(), particles=512),
        LimitRun(problem=problem(), particles=256, response=False),
        LimitRun(problem=problem(steps=3), particles=256),
        LimitRun(problem=problem(inputs=sphere(4, seed=9)), particles=256),
    ]
    assert len({run.key for run in others}) == len(others)
    assert others[0].key in store.keys()


def test_one_repeat_has_no_error(store):
    found = solve(problem(), particles=256, seeds=[3], store=store)
    for known in (found.outputs, found.loss, found.lambda_min(2), found.gram(1)):
        assert np.isnan(known.error).all() and np.isfinite(known.value).all()
    with pytest.raises(ValueError, match=r"one repeat, .* seeds=2 or more"):
        found.loss.estimate(1)
    fixed = solve(ntp(), seeds=1, store=store)  # nothing is drawn
    assert fixed.loss.estimate(1).kind == "exact"


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [
        ([0, 0], "a seed twice is the same repeat twice"),
        (0, "seeds is 0; it must be an integer from 1"),
        ([], "seeds is "),
        (True, "seeds is True"),
    ],
)
def test_seeds_of_repeats(seeds, reason):
    with pytest.raises(ValueError, match=reason):
        solve(problem(), seeds=seeds)


def test_the_smallest_eigenvalue_is_that_of_the_mean():
    rng = np.random.default_rng(0)
    matrices = rng.standard_normal((4, 3, 6))
    grams = matrices @ matrices.transpose(0, 2, 1)
    found = jackknife(lambda g: np.linalg.eigvalsh(g)[..., 0], grams)
    assert found.value == pytest.approx(np.linalg.eigvalsh(grams.mean(0))[0])
    plain = jackknife(lambda v: v, grams)  # of a mean, its standard error
    np.testing.assert_allclose(plain.error, mean(grams).error)
    estimate = found.estimate()
    assert estimate.low < found.value < estimate.high and estimate.seeds == 4
