"""Asymmetrical node scaling: against autodiff, Monte Carlo and finite networks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from widthlab import parametrization
from widthlab.kernels import infinite
from widthlab.papers.caron2023asymmetrical import (
    draws,
    gram,
    limit,
    measures,
    network,
    printed,
    pruning,
    tasks,
    transfer,
)
from widthlab.papers.caron2023asymmetrical.scaling import (
    MODELS,
    SPREAD_OUT,
    NodeScaling,
    one_big_node,
)
from widthlab.parametrization import Role

NTK, HALF, FIFTH, ZERO = MODELS
STEPS = network.Steps(20.0)


def rng(*seed):
    return np.random.default_rng([7, *seed])


def plain(masses, w, a, x):
    """The network's outputs, in double precision and one node at a time."""
    out = np.zeros((len(x), a.shape[1]))
    for mass, row, signs in zip(masses, w, a, strict=True):
        hidden = np.maximum(x @ row / np.sqrt(x.shape[1]), 0)
        out += np.sqrt(mass) * np.outer(hidden, signs)
    return out


def small(model=FIFTH, m=30, outputs=2, steps=STEPS, seed=0):
    """A network with few inputs and several outputs, and its data."""
    x, tests = rng(seed, 1).standard_normal((2, 9, 4))
    y, answers = rng(seed, 2).standard_normal((2, 9, outputs))
    data = tasks.Split(x, y, tests, answers)
    return tasks.network(model.masses(m), data, steps, seed), data


# --- scalings ------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*MODELS, SPREAD_OUT], ids=lambda m: m.label)
@pytest.mark.parametrize("m", [1, 7, 500])
def test_masses_fall_and_sum_to_one(model, m):
    masses = model.masses(m)
    assert masses.shape == (m,)
    np.testing.assert_allclose(masses.sum(), 1)
    assert np.all(np.diff(masses) <= 0) and np.all(masses > 0)
    np.testing.assert_allclose(model.concentration(m), (masses**2).sum())


def test_gamma_one_is_the_ntk_parametrization():
    """Its masses are 1/m: multiplier m^-1/2 and entries of order one."""
    row = parametrization.get("ntk").exponents
    exponents = dict(row)[Role.OUTPUT]
    for m in (16, 64):
        scale = np.sqrt(NTK.masses(m))
        np.testing.assert_allclose(scale, m ** -float(exponents.a + exponents.b))


def test_the_limit_of_concentration_is_reached():
    for model in (HALF, FIFTH, ZERO):
        np.testing.assert_allclose(
            model.concentration(400_000), model.concentration(), rtol=0.02
        )
    found = [round(model.effective_nodes(), 2) for model in MODELS]
    assert found == [np.inf, 28.06, 3.91, 1.74]
    assert SPREAD_OUT.concentration() == 0
    assert SPREAD_OUT.concentration(1000) < 3 / 1000


def test_one_big_node_has_its_share():
    masses = one_big_node(5, 0.6)
    np.testing.assert_allclose(masses, [0.6, 0.1, 0.1, 0.1, 0.1])


# --- the Gram matrix ------------------------------------------------------------------


def test_the_gram_matrix_is_the_tangent_kernel_of_the_network():
    """By autodiff through an independent network, in double precision."""
    net, _ = small(outputs=1)
    with jax.enable_x64(True):
        x, w, masses, a = (
            jnp.asarray(v, jnp.float64)
            for v in (net.inputs, net.inner, net.masses, net.outer)
        )
        scale = jnp.sqrt(masses) * a[:, 0]

        def outputs(w):
            return jnp.maximum(x @ w.T / 2, 0) @ scale  # d = 4

        slopes = jax.jacobian(outputs)(w).reshape(len(x), -1)
        expected = np.asarray(slopes @ slopes.T)
    found = gram.gram(net.inputs, net.inner, net.masses[None])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(net.gram(net.inner), expected, rtol=1e-5, atol=1e-7)


def test_its_mean_is_the_limit_of_equal_masses():
    x = tasks.simulated(3).x[:6]
    many = gram.gram(
        x, rng(4).standard_normal((200_000, 50)), np.full((1, 200_000), 5e-6)
    )
    np.testing.assert_allclose(many[0], gram.limit_gram(x), atol=6e-5)


def test_the_limit_is_what_the_first_layer_adds_to_the_ntk():
    """Computed elsewhere in the library: an infinitely wide network of one layer."""
    x = rng(5).standard_normal((6, 4))
    with jax.enable_x64(True):
        both = infinite.mlp(x, activation="relu", depth=1)
        added = np.asarray(both.ntk) - np.asarray(both.nngp)
    np.testing.assert_allclose(gram.limit_gram(x), added, atol=1e-12)


@pytest.mark.parametrize("model", [NTK, HALF, ZERO], ids=lambda m: m.label)
def test_the_variance_obeys_its_law(model):
    """Over 400 draws, within four standard errors of their own."""
    x, m = tasks.simulated(6).x[:20], 40
    w = rng(6).standard_normal((400, m, 50))
    star = gram.limit_gram(x)
    squares = [
        ((gram.gram(x, one, model.masses(m)[None])[0] - star) ** 2).sum() for one in w
    ]
    error = np.std(squares) / np.sqrt(len(squares))
    law = gram.variance(x) * model.concentration(m)
    assert abs(np.mean(squares) - law) < 4 * error
    wrong = gram.variance(x) / m
    assert model is NTK or abs(np.mean(squares) - wrong) > 20 * error


def test_eigenvalue_bounds_hold_for_each_start():
    rows = list(draws.GramDraws(150, 3, seed=1).run())
    assert [row["case"] for row in rows[: len(draws.CASES)]] == [*draws.CASES]
    shares = draws.shares()
    for row in rows:
        assert row["least"] >= shares[row["case"]] * row["least_uniform"] - 1e-8
        if row["case"] == "big node alone":
            assert abs(row["least"]) < 1e-6 < row["kappa"]


# --- training -------------------------------------------------------------------------


def test_velocity_is_a_step_down_the_gradient():
    net, data = small()
    w = np.asarray(net.inner, float)

    def risk(w):
        return np.mean((plain(net.masses, w, net.outer, data.x) - data.y) ** 2)

    state = net.initial()
    np.testing.assert_allclose(net.loss(state), risk(w), rtol=1e-5)
    step = np.asarray(net.velocity(state)["inner"])
    for j, k in ((0, 1), (3, 0), (17, 3)):
        moved = np.zeros_like(w)
        moved[j, k] = 1e-5
        slope = (risk(w + moved) - risk(w - moved)) / 2e-5
        np.testing.assert_allclose(step[j, k], -20 * slope, rtol=1e-3, atol=1e-5)
    assert net.velocity(state)["time"] == 20


def test_rates_multiply_a_nodes_step():
    net, _ = small()
    rates = np.linspace(0, 2, 30).astype("f")
    other = dataclasses.replace(net, rates=rates)
    one, two = (np.asarray(n.velocity(n.initial())["inner"]) for n in (net, other))
    np.testing.assert_allclose(two, rates[:, None] * one, rtol=1e-6)


def test_training_is_a_loop_of_steps():
    steps = network.Steps(0.5, share=0.1, largest=2.0)
    net, data = small(steps=steps)
    times = [0, 3, 30]
    [run] = network.train([net], times, steps)
    w, time, seen = np.asarray(net.inner, float), 0.0, []
    for end in times:
        while time < end * (1 - 1e-6):
            size = min(max(0.5, 0.1 * time), 2.0)
            z = data.x @ w.T
            readout = np.sqrt(net.masses / 4)[:, None] * net.outer
            residual = np.maximum(z, 0) @ readout - data.y
            back = np.where(z > 0, residual @ readout.T, 0) * 2 / residual.size
            w, time = w - size * back.T @ data.x, time + size
        seen.append(
            (time, np.mean((plain(net.masses, w, net.outer, data.x) - data.y) ** 2))
        )
    clock, risk = np.transpose(seen)
    np.testing.assert_allclose(run.observed["clock"], clock, rtol=1e-5)
    np.testing.assert_allclose(run.observed["loss"], risk, rtol=1e-4)
    np.testing.assert_allclose(run.final["inner"], w, rtol=1e-3, atol=1e-4)
    moved = np.linalg.norm(w - net.inner, axis=1)
    np.testing.assert_allclose(run.observed["moved"][-1], moved, rtol=1e-3, atol=1e-4)


def test_narrower_networks_begin_wider_ones():
    (w, a), (wide, signs) = (tasks.start(m, 5, 2, seed=3) for m in (4, 9))
    np.testing.assert_array_equal(w, wide[:4])
    np.testing.assert_array_equal(a, signs[:4])
    assert set(np.unique(signs)) == {-1.0, 1.0}
    many, _ = tasks.start(4000, 5, 1, seed=4)
    assert abs(many.var() - 2) < 5 * 2 * np.sqrt(2 / many.size)


def test_the_simulated_task():
    data = tasks.simulated(5)
    assert data.x.shape == data.x_test.shape == (100, 50)
    np.testing.assert_allclose(np.linalg.norm(data.x, axis=1), 1)
    x, y = np.concatenate([data.x, data.x_test]), np.concatenate([data.y, data.y_test])
    noise = y[:, 0] - (5 * np.sin(np.pi * x)).mean(axis=1)
    assert abs(noise.std() - 0.1) < 4 * 0.1 / np.sqrt(2 * len(noise))


# --- the limit model ------------------------------------------------------------------


def test_wider_networks_are_nearer_to_the_limit_model():
    steps, data = network.Steps(50.0), tasks.simulated(2)
    apart = []
    for m in (150, 2400):
        nets = [tasks.network(FIFTH.masses(m), data, steps, seed) for seed in (0, 1)]
        runs = network.train(nets, [0, 500], steps)
        models = network.train(
            [limit.limit_of(net) for net in nets], [0, 500], steps, limit.observe_limit
        )
        for a, b in zip(runs, models, strict=True):
            # At time 0 the model has the network's own outputs.
            np.testing.assert_allclose(
                b.observed["output"][0], a.observed["output"][0, :, 0], atol=1e-5
            )
            np.testing.assert_allclose(
                b.observed["tested"][0], a.observed["tested"][0, :, 0], atol=1e-5
            )
        apart.append(
            np.mean(
                [
                    np.linalg.norm(
                        a.observed["output"][1, :, 0] - b.observed["output"][1]
                    )
                    for a, b in zip(runs, models, strict=True)
                ]
            )
        )
    assert apart[1] < apart[0] / 1.5
    change = runs[0].observed["output"][1] - runs[0].observed["output"][0]
    assert apart[1] < 0.02 * np.linalg.norm(change)


def test_a_frozen_kernel_is_small_steps_on_it():
    root = rng(9).standard_normal((5, 5))
    matrix, f, y = root @ root.T, rng(9, 1).standard_normal(5), np.arange(5.0)
    found = limit.frozen_outputs(f, y, matrix, 0.3)
    for _ in range(30_000):
        f = f - 1e-5 * 2 / 5 * matrix @ (f - y)
    np.testing.assert_allclose(found, f, rtol=1e-3)


# --- pruning and transfer -------------------------------------------------------------


def test_the_law_of_a_random_order():
    """All subsets of six nodes of which two are dropped, each as often."""
    import itertools

    net, data = small(HALF, m=6)
    parts = pruning.contributions(net.inner, net.outer, net.masses, data.x)
    whole = parts[0] @ parts[1]
    np.testing.assert_allclose(
        whole, plain(net.masses, net.inner, net.outer, data.x), rtol=1e-5, atol=1e-6
    )
    risks = []
    for pair in itertools.combinations(range(6), 2):
        order = np.array([*pair, *(set(range(6)) - {*pair})])
        [outputs] = pruning.pruned_outputs(*parts, order, [2])
        risks.append(np.mean((outputs - data.y) ** 2))
    law = pruning.expected_risk(*parts, data.y, 2 / 6)
    np.testing.assert_allclose(np.mean(risks), law, rtol=1e-6)
    np.testing.assert_allclose(
        pruning.expected_risk(*parts, data.y, 1.0), np.mean(data.y**2)
    )


def test_the_smallest_masses_go_first_and_ties_at_random():
    outer = np.ones((50, 2))
    by_score = pruning.order(ZERO.masses(50), outer, seed=1)
    np.testing.assert_array_equal(by_score, np.arange(50)[::-1])
    tied = [pruning.order(NTK.masses(50), outer, seed) for seed in (1, 2)]
    assert np.any(tied[0] != tied[1]) and np.any(tied[0] != by_score)
    np.testing.assert_array_equal(np.sort(tied[0]), np.arange(50))
    free = pruning.order(ZERO.masses(50), outer, seed=1, random=True)
    np.testing.assert_array_equal(free, tied[0])


def test_a_head_learns_and_standardising_forgets_the_scale():
    data, _ = tasks.digits(0, 100)
    w, _ = tasks.start(20, 64, 10, seed=0)
    big, tiny = (
        transfer.features(w, np.full(20, mass), data, 20) for mass in (1.0, 1e-6)
    )
    one, other = (transfer.standardised(v) for v in (big, tiny))
    np.testing.assert_allclose(one.x, other.x, rtol=1e-9, atol=1e-9)
    spread = one.x.std(axis=0)
    np.testing.assert_allclose(spread[spread > 0], 1)
    accuracies = transfer.head_accuracies([big, tiny, one], [0, 0, 0], [0, 400], 2.0)
    assert accuracies.shape == (3, 2)
    assert accuracies[2, 1] > 0.4 > accuracies[1, 1]
    assert 0.4 < transfer.ridge_accuracy(one) <= 1
    np.testing.assert_allclose(
        transfer.ridge_accuracy(one), transfer.ridge_accuracy(other)
    )


def test_transfer_has_the_next_images():
    first, second = tasks.digits(3, 50)
    rows = {tuple(row) for row in first.x}
    assert not rows & {tuple(row) for row in second.x}
    np.testing.assert_array_equal(first.x_test, second.x_test)


# --- measures and printed values ------------------------------------------------------


def test_rates_are_bounded_by_the_smallest_eigenvalue():
    steps = network.Steps(20.0)
    net = tasks.network(HALF.masses(200), tasks.simulated(1), steps, 0)
    [run] = network.train([net], [0, 100, 400, 1000], steps)
    assert measures.least_rate(run) > 1
    mean = measures.mean_rate(run, 1e-3)
    fallen = np.log(run.observed["loss"][0] / run.observed["loss"][-1])
    np.testing.assert_allclose(mean, fallen * 100 / (4e-3 * 1000), rtol=1e-5)
    np.testing.assert_allclose(measures.risk_at(run, 400.0), run.observed["loss"][2])
    change = run.observed["gram"][-1] - run.observed["gram"][0]
    largest = np.abs(np.linalg.eigvalsh(change.astype(float))).max()
    np.testing.assert_allclose(measures.kernel_change(run) ** 2, largest, rtol=1e-3)


def test_printed_values_stand_beside_ours():
    rows = {"train risk, end": [[1e-6, 2e-6, 4e-6]] * 4}
    table = printed.beside(rows, printed.SIMULATED, [m.label for m in MODELS])
    assert table["printed"].tolist() == [*printed.SIMULATED["train risk, end"]]
    assert np.all(table["median"] == 2e-6)
    error = np.log(2) * (1 / 3 + 1 / printed.STARTS) ** 0.5
    np.testing.assert_allclose(table["in spreads"][0], np.log(2 / 1.5) / error)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NodeScaling(1.2), "gamma is 1.2"),
        (lambda: NodeScaling(0.5), "alpha None"),
        (lambda: NodeScaling(1.0, 0.5), "exactly where gamma is below 1"),
        (lambda: one_big_node(1, 0.5), "two nodes or more"),
        (lambda: limit.limit_of(small(outputs=1)[0], 30), "at least one node"),
        (lambda: limit.limit_of(small()[0], 3), "has 2 outputs"),
        (lambda: pruning.expected_risk(*np.ones((3, 1, 1)), 1.5), "share is 1.5"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
