"""Schedules against dense curvature, by hand, and through experiments."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree
from test_training import forget_programs
from widthlab import Experiment, frame, sweep
from widthlab.data import DataSpec
from widthlab.model import Multiplier, by_tensor
from widthlab.runs.store import Store
from widthlab.training import ensemble as training
from widthlab.training import member
from widthlab.training.calibration import Calibration
from widthlab.training.curvature import hessian_product
from widthlab.training.losses import LOSSES
from widthlab.training.optimizer import Optimizer
from widthlab.training.path import NO_RATIO, track_cosine
from widthlab.training.schedules import Schedule, scale_by_curvature

DATA = DataSpec(
    "digits", n_train=24, n_test=4, targets="centred-one-hot", preprocess="unit-norm"
)
ALL = ("gauss-newton", "hessian", "cosine")
STEPS = 6
EXACT = 40  # rounds that no step needs: what is tracked is as good as it gets


def spec(**changes):
    fields = {
        "data": DATA,
        "parametrization": "mup",
        "width": 3,
        "depth": 2,
        "activation": "abrelu(-1,1)",
        "loss": "mse",
        "lr": 0.4,
        "steps": STEPS,
        "probes": (),
        "precision": "float64",
        "biases": "input",
    }
    return Experiment(**(fields | changes))


def trained(specs, path):
    return sweep(specs, store=Store(path / "records"), progress=False)


def series(record, quantity, layer=0):
    """Values at the steps 0, 1, ... that have a row."""
    table = record.table.query("quantity == @quantity and layer == @layer")
    return table["value"].to_numpy()


class Dense:
    """A network's loss, gradient and largest eigenvalues at given flat weights."""

    def __init__(self, experiment):
        with jax.enable_x64(True):
            shape, scales = experiment.shape, experiment.scales()
            model = member.untrained(shape, scales, jax.random.key(experiment.seed))
            static, parameters, rest = nnx.split(model, nnx.Param, Multiplier)
            loaded = experiment.data.load()
            x = jnp.asarray(loaded.x_train, "float64")
            y = jnp.asarray(loaded.y_train, "float64")
            self.start, unravel = ravel_pytree(parameters)
            rates = by_tensor(parameters, jnp.asarray(scales.lr))
            spread = jax.tree.map(jnp.full_like, parameters, rates)
            self.rates = np.asarray(ravel_pytree(spread)[0])

            def outputs(w):
                return nnx.merge(static, unravel(w), rest)(x)

            def loss(w):
                return LOSSES["mse"](outputs(w), y)

            self.samples = len(x)
            self.gradient = jax.jit(jax.grad(loss))
            self.matrices = jax.jit(
                lambda w: (jax.jacobian(outputs)(w), jax.hessian(loss)(w))
            )

    def tops(self, w):
        """Largest eigenvalues of both matrices, at rates as given."""
        with jax.enable_x64(True):
            jacobian, hessian = map(np.asarray, self.matrices(w))
        jacobian = jacobian.reshape(-1, len(self.rates))
        roots = np.sqrt(self.rates)
        return [
            np.linalg.eigvalsh(roots[:, None] * matrix * roots)[-1]
            for matrix in (jacobian.T @ jacobian / self.samples, hessian)
        ]

    def follow(self, factor):
        """Plain descent in NumPy; a factor may depend on the step and the weights."""
        path = [np.asarray(self.start)]
        with jax.enable_x64(True):
            for step in range(STEPS):
                w = path[-1]
                grad = np.asarray(self.gradient(w))
                path.append(w - factor(step, w) * self.rates * grad)
        return path


@functools.cache
def dense():
    return Dense(spec())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One record for each schedule, with everything tracked."""
    with jax.numpy_dtype_promotion("strict"):
        schedules = {
            "constant": Schedule(rounds=EXACT),
            "edge": Schedule("edge", 1.2, rounds=EXACT),
            "edge of the hessian": Schedule("edge", 1.2, "hessian", EXACT),
            "initial": Schedule("initial", 2.2, rounds=EXACT),
            "cdat": Schedule("cdat", 1.5, "hessian", EXACT),
        }
        specs = [
            spec(schedule=s, track=() if s.varies else ALL) for s in schedules.values()
        ]
        records = trained(specs, tmp_path_factory.mktemp("runs"))
        return dict(zip(schedules, records, strict=True))


# --- against dense curvature ---------------------------------------------------------


def check(record, path):
    """Compare rows of every step with those of a path that was followed by hand."""
    lr, base = series(record, "lr"), record.spec.lr
    assert len(lr) == STEPS
    tops = np.array([dense().tops(w) for w in path[:STEPS]]) / base
    for which, quantity in enumerate(("gauss_newton", "hessian")):
        if quantity in set(record.table["quantity"]):
            np.testing.assert_allclose(
                series(record, quantity), tops[:, which], rtol=1e-4
            )
    return lr, tops


def test_tracked_curvature_is_that_of_dense_matrices(runs):
    path = dense().follow(lambda step, w: 1.0)
    lr, _ = check(runs["constant"], path)
    assert {"gauss_newton", "hessian"} < set(runs["constant"].table["quantity"])
    np.testing.assert_allclose(lr, spec().lr, rtol=1e-12)


@pytest.mark.parametrize(("name", "which"), [("edge", 0), ("edge of the hessian", 1)])
def test_the_edge_schedule_holds_the_stability_number(runs, name, which):
    path = dense().follow(lambda step, w: 1.2 / dense().tops(w)[which])
    lr, tops = check(runs[name], path)
    np.testing.assert_allclose(lr * tops[:, which], 1.2, rtol=1e-4)
    quantity = ("gauss_newton", "hessian")[which]
    np.testing.assert_allclose(lr * series(runs[name], quantity), 1.2, rtol=1e-9)


def test_the_initial_schedule_is_a_constant_rate(runs, tmp_path):
    rate = 2.2 / dense().tops(dense().start)[0] * spec().lr
    np.testing.assert_allclose(series(runs["initial"], "lr"), rate, rtol=1e-6)
    (plain,) = trained([spec(lr=rate)], tmp_path)
    np.testing.assert_allclose(
        series(runs["initial"], "loss"), series(plain, "loss"), rtol=1e-5
    )
    assert len(series(runs["initial"], "gauss_newton")) == 1


def test_the_factor_of_cdat_is_that_of_its_formula(runs):
    def factor(step, w):
        grad = np.asarray(dense().gradient(w))
        update = -dense().rates * grad
        hessian = np.asarray(dense().matrices(w)[1])
        return 1.5 * max(-grad @ update, 0) / abs(update @ hessian @ update)

    path = dense().follow(factor)
    with jax.enable_x64(True):
        wanted = [factor(step, w) * spec().lr for step, w in enumerate(path[:STEPS])]
    np.testing.assert_allclose(series(runs["cdat"], "lr"), wanted, rtol=1e-6)
    assert len(set(wanted)) == STEPS and set(runs["cdat"].table["quantity"]) == {
        *("loss", "lr")
    }


def test_cosines_are_those_of_stored_weights(runs):
    path = dense().follow(lambda step, w: 1.0)
    scaled = [w / np.sqrt(dense().rates) for w in path]
    # Biases come first in the tree; cosines of matrices are recorded.
    shape = spec().shape
    sizes = [int(np.prod(t.shape)) for t in shape.tensors]
    assert shape.tensors[-1].bias
    ends = np.cumsum([sizes[-1], *sizes[:-1]])
    matrices = [slice(a, b) for a, b in itertools.pairwise(ends)]
    for layer, part in enumerate([slice(None), *matrices]):
        seen = series(runs["constant"], "cosine", layer)
        assert len(seen) == STEPS - 1  # no row at step 0, where the path is a point
        for t, cosine in enumerate(seen, 1):
            u = (scaled[t + 1] - scaled[t])[part]
            moved = (scaled[t] - scaled[0])[part]
            wanted = u @ moved / np.linalg.norm(u) / np.linalg.norm(moved)
            assert abs(cosine - wanted) < 1e-9
    change = [np.linalg.norm(w - scaled[0]) for w in scaled[:-1]]
    np.testing.assert_allclose(
        series(runs["constant"], "parameter_change"),
        change / np.linalg.norm(scaled[0]),
        rtol=1e-9,
        atol=1e-15,
    )


@pytest.mark.parametrize(("rate", "sign"), [(2.1, -1), (0.9, 1)])
def test_a_mode_turns_back_above_two_and_goes_on_below_one(rate, sign):
    rule = optax.chain(optax.sgd(rate), track_cosine({"w": rate}))
    w = {"w": jnp.array([1.0])}
    state = rule.init(w)
    cosines = []
    for _ in range(5):
        updates, state = rule.update(w, state, w)  # the gradient of |w|^2 / 2
        w = optax.apply_updates(w, updates)
        cosines.append(float(state[-1].whole))
    assert cosines[0] == NO_RATIO
    np.testing.assert_allclose(np.sign(cosines[1]), sign)
    np.testing.assert_allclose(np.abs(cosines[1:]), 1, rtol=1e-6)


def test_momentum_hands_the_gradient_to_cdat():
    def loss(w):
        return (w[0] ** 2 + 3 * w[1] ** 2) / 2

    rates, w = 0.1, jnp.array([1.0, 2.0])
    rule = scale_by_curvature(Schedule("cdat", curvature="hessian"), 0.7, rates)
    grad, direction = jax.grad(loss)(w), jnp.array([2.0, 1.0])
    products = {"hessian": hessian_product(loss, w)}
    updates, state = rule.update(
        direction, rule.init(w), w, products=products, grad=grad
    )
    wanted = 0.7 * (1 * 2 + 6 * 1) / (0.1 * (4 + 3))
    np.testing.assert_allclose(state.factor, wanted, rtol=1e-6)
    np.testing.assert_allclose(updates, wanted * direction, rtol=1e-6)


# --- in the compiled program ---------------------------------------------------------


def test_targets_share_a_program_and_layouts_their_numbers(monkeypatch, tmp_path):
    targets = (0.5, 0.9, 1.3, 1.9)
    specs = [
        spec(schedule=Schedule("edge", c), track=("cosine",), batch_size=8, seed=i)
        for i, c in enumerate(targets)
    ]
    assert len({one.program for one in specs}) == 1
    tables = []
    for batch in (1, 4):
        monkeypatch.setattr(training, "members_per_batch", lambda *_, n=batch: n)
        forget_programs()
        before = sum(training.trace_counts().values())
        records = trained(specs, tmp_path / str(batch))
        assert sum(training.trace_counts().values()) - before == 3
        tables.append(frame(records))
        for record, c in zip(records, targets, strict=True):
            product = series(record, "lr") * series(record, "gauss_newton")
            np.testing.assert_allclose(product, c, rtol=1e-9)
    forget_programs()
    np.testing.assert_allclose(tables[0]["value"], tables[1]["value"], rtol=1e-7)
    assert set(tables[0]["target"]) == set(targets)
    assert set(tables[0]["schedule"]) == {"edge"}


def test_what_is_tracked_does_not_change_a_constant_run(runs, tmp_path):
    (plain,) = trained([spec()], tmp_path)
    assert set(plain.table["quantity"]) == {"loss"}
    np.testing.assert_allclose(
        series(plain, "loss"), series(runs["constant"], "loss"), rtol=1e-12
    )


def test_runs_without_an_edge_or_beyond_it_end_as_diverged(tmp_path):
    wild = spec(schedule=Schedule("initial", 1e3), steps=40, track=ALL[1:])
    # Nothing has curvature in a network that is zero.
    dead = spec(schedule=Schedule("edge"), gains=(0.0,) * 3, biases="none")
    first, second = trained([wild, dead], tmp_path)
    assert 0 < first.diverged_at < 40 and second.diverged_at == 0
    assert len(series(first, "lr")) == first.diverged_at
    assert len(series(second, "lr")) == 0 and len(series(second, "loss")) == 1


# --- values and refusals -------------------------------------------------------------


def test_through_json_and_back(runs):
    for record in runs.values():
        text = json.dumps(record.to_json())
        assert Experiment.from_json(json.loads(text)["spec"]) == record.spec
    old = spec().to_json()
    del old["schedule"], old["track"]
    assert Experiment.from_json(old) == spec()
    assert spec(track=("cosine", "cosine")).track == ("cosine",)
    assert hash(Schedule("edge", 2)) == hash(Schedule("edge", 2.0))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": "egde"}, "'egde'; it must be one of constant, initial, edge, cdat"),
        (
            {"name": "edge", "curvature": "fisher"},
            "'fisher'; .* one of gauss-newton",
        ),
        ({"name": "edge", "target": 0}, r"0; it must be a finite number above 0"),
        ({"name": "edge", "target": float("inf")}, "inf; it must be a finite"),
        ({"rounds": 0}, "0; it must be an integer"),
        ({"rounds": True}, "True; it must be an integer"),
        ({"target": 2.0}, "no target and no curvature"),
    ],
)
def test_schedules_that_mean_nothing(changes, match):
    with pytest.raises(ValueError, match=match):
        Schedule(**changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"track": ("sharpness",)}, "'sharpness',.*each one of gauss-newton"),
        (
            {"track": ("hessian",), "optimizer": Optimizer("adam")},
            "'adam', whose steps are not those of a metric",
        ),
        (
            {"schedule": Schedule("cdat"), "optimizer": Optimizer("adamw")},
            "for sgd and momentum",
        ),
        (
            {"schedule": Schedule("edge"), "parametrization": "ip-llr"},
            "needs one metric for all steps",
        ),
        (
            {"schedule": Schedule("edge"), "first_lr": Calibration()},
            "needs one metric for all steps",
        ),
    ],
)
def test_experiments_that_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        spec(**({"biases": "none"} | changes))


def test_rules_that_miss_something():
    rule = scale_by_curvature(Schedule("edge"), 1.0, 0.1)
    w = jnp.ones(2)
    with pytest.raises(ValueError, match=r"needs the product with 'gauss-newton'"):
        rule.update(w, rule.init(w), w, products={"hessian": lambda v: v})
    with pytest.raises(ValueError, match="no curvature is called 'fisher'"):
        scale_by_curvature(Schedule(), 1.0, 0.1, track=("fisher",))
