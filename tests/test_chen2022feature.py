"""Rates and set-ups for Chen, Vanden-Eijnden and Bruna 2022."""

import numpy as np
import pytest
from widthlab import flow
from widthlab.data import DataSpec, Synthetic
from widthlab.flow import preactivation
from widthlab.papers import chen2022feature as chen
from widthlab.runs import Store, run

TIMES = np.linspace(0, 40, 21)
# The smooth leaky ReLU has slopes from 1/5 to 1.
LEAST_SLOPE = 0.2


def shallow(seed, dim=10, n=6):
    task = Synthetic(task="noise", n_train=n, dim=dim, seed=seed)
    return flow.Shallow(width=8).flow(task, seed=seed)


@pytest.fixture(scope="module")
def flows():
    return [shallow(0), shallow(1)]


@pytest.fixture(scope="module")
def solved(flows):
    return flow.solve(flows, TIMES, observe=flow.progress)


def test_a_measured_rate_is_above_the_bound_and_that_above_the_promise(flows, solved):
    assert (chen.least(solved, "rate / bound") >= 1 - 1e-6).all()
    bounds = chen.least(solved, "bound")
    assert (bounds >= chen.promised(flows, LEAST_SLOPE)).all()


def test_the_promise_needs_the_gram_matrix_alone(flows):
    n = len(flows[0].targets)
    expected = 2 * chen.smallest(flows) * LEAST_SLOPE**2 / n
    np.testing.assert_allclose(chen.promised(flows, LEAST_SLOPE), expected)


def test_readings_are_of_the_first_and_the_last_window(solved):
    table = flow.windows(solved[1])
    assert chen.late(solved, "rate")[1] == table["rate"].iloc[-1]
    assert chen.least(solved, "rate")[1] == table["rate"].min()
    losses = solved[1].observed["loss"]
    assert chen.left(solved)[1] == pytest.approx(np.log10(losses[-1] / losses[0]))


def decaying(shares):
    """Return a solution whose loss is given, at times of its own."""
    times, values = np.array(list(shares)), np.array([*shares.values()])
    return flow.Trajectory(
        times=times,
        observed={"loss": values},
        final=None,
        last={},
        reached=float(times[-1]),
        status="finished",
        steps=len(times),
    )


def test_an_exponential_keeps_its_rate_and_a_power_of_time_half_of_it():
    times = [0.0, 1.0, 2.0, 4.0]
    exponential = decaying({t: np.exp(-3 * t) for t in times})
    power = decaying({t: (t or 1e-3) ** -1.7 for t in times})
    stalled = decaying({t: 1 + np.exp(-9 * t) for t in times})
    found = chen.sustained([exponential, power, stalled])
    np.testing.assert_allclose(found, [1.0, 0.5, 0.0], atol=1e-4)


def test_what_was_not_reached_does_not_count():
    early = decaying({t: np.exp(-t) if t < 5 else np.nan for t in range(9)})
    np.testing.assert_allclose(chen.sustained([early]), 1.0)


def test_what_decays_is_the_loss_and_the_bound_leaves_more(solved):
    curves, losses = chen.decay(solved[0], unit=2.0), solved[0].observed["loss"]
    np.testing.assert_allclose(curves["rate"], losses / losses[0], rtol=1e-9)
    np.testing.assert_allclose(curves["time"], TIMES / 2)
    assert (curves["bound"] >= curves["rate"]).all()


def test_a_loss_that_ended_early_is_read_where_it_ended(flows, solved):
    share = np.sqrt(10 ** chen.left(solved).max())  # of the slower, half-way on
    stopped = flow.solve(flows, TIMES, observe=flow.progress, stop_below=share)
    assert {run.status for run in stopped} == {"stopped"}
    assert (chen.left(stopped) > chen.left(solved)).all()
    assert all(len(chen.decay(one)) < len(TIMES) for one in stopped)


def test_equal_inputs_make_the_gram_matrix_singular_and_keep_targets(flows):
    merged = chen.equal_inputs(flows)
    np.testing.assert_allclose(chen.smallest(merged), 0, atol=1e-12)
    for one, old in zip(merged, flows, strict=True):
        np.testing.assert_array_equal(one.gram, one.gram.T)
        np.testing.assert_array_equal(one.start[0], one.start[1])
        np.testing.assert_array_equal(one.targets, old.targets)
    assert (chen.smallest(flows) > 0).all(), "the originals stay as they were"


@pytest.mark.parametrize("subset", [0, 3])
def test_raw_pixels_are_independent_where_centred_ones_are_not(subset):
    images = DataSpec(
        "mnist-5k", n_train=60, n_test=5, targets="parity", subset_seed=subset
    )
    raw, centred = chen.RawPixels(images).load(), images.load()
    gram = raw.x_train @ raw.x_train.T
    assert np.trace(gram) == pytest.approx(60)
    assert np.linalg.eigvalsh(gram)[0] > 1e-3
    x = np.asarray(centred.x_train, float)
    assert np.linalg.eigvalsh(x @ x.T)[0] < 1e-6
    assert raw.y_train.shape == (60,)
    assert raw.x_test.shape == (5, 784)
    assert raw.sha256 != centred.sha256


def tasks(*seeds):
    return {
        seed: Synthetic(task="xor", n_train=20, n_test=30, dim=5, seed=seed)
        for seed in seeds or (0, 1)
    }


def trained(parametrization, **how):
    model = flow.PartiallyTrained(
        width=64, inner_width=64, parametrization=parametrization
    )
    return chen.fit(model, tasks(), **how).set_index(["quantity", "seed"])["value"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHLAB_STORE", str(tmp_path))


@pytest.mark.usefixtures("store")
def test_networks_fit_to_one_loss_and_the_lazy_one_moves_less():
    lazy, rich = trained("ntk"), trained("mup")
    for found in (lazy, rich):
        start = np.array([np.mean(t.load().y_train ** 2) / 2 for t in tasks().values()])
        assert (found["loss"] <= chen.FIT * start * (1 + 1e-5)).all()
    assert (lazy["movement"] < rich["movement"]).all()
    assert (lazy["aligned"] < rich["aligned"]).all()


@pytest.mark.usefixtures("store")
def test_seeds_are_whole_replications_and_an_early_stop_leaves_more_loss():
    model = flow.PartiallyTrained(width=64, inner_width=64)
    both, later = chen.fit(model, tasks(3, 7)), chen.fit(model, tasks(7), stop=0.1)
    assert both["seed"].unique().tolist() == [3, 7]
    alone = chen.fit(model, tasks(7)).set_index("quantity")["value"]
    of_seven = both[both["seed"] == 7].set_index("quantity")["value"]
    np.testing.assert_allclose(of_seven, alone[of_seven.index], rtol=1e-4)
    losses = later.set_index("quantity")["value"]
    assert losses["loss"] > 100 * alone["loss"]


@pytest.mark.usefixtures("store")
def test_a_network_that_does_not_fit_is_refused_unless_allowed():
    with pytest.raises(RuntimeError, match=r"seeds \[0, 1\] are above 0.0001"):
        trained("mup", steps=3)
    assert (trained("mup", steps=3, must_fit=False)["loss"] > 0).all()


def test_regression_with_the_infinite_kernel_is_what_lazy_networks_tend_to(tmp_path):
    task = Synthetic(task="relu-neuron", n_train=20, n_test=200, dim=5, seed=1)
    record = run(chen.KernelRegression(task), Store(tmp_path))
    error, best = record.table.loc[0, ["test_error", "best_error"]]
    assert best <= error
    model = flow.PartiallyTrained(width=2048, inner_width=None, parametrization="ntk")
    network = model.flow(task, seed=0)
    wide = flow.solve(
        [network],
        [[0.0, 1e5 * network.stable_step()]],
        method=flow.Descent([1.5 * network.stable_step()]),
        observe=preactivation.learning,
        stop_below=chen.FIT,
    )
    assert wide[0].last["test_error"] == pytest.approx(error, rel=0.1)
