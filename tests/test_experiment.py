"""The specification of a run: keys, JSON, what it says and what is refused."""

import json
import math
import os
import subprocess
import sys
from fractions import Fraction as F
from pathlib import Path

import attrs
import jax
import numpy as np
import pytest
from widthlab.data import DataSpec
from widthlab.parametrization import Role, get
from widthlab.parametrization.exponents import ParametrizationError
from widthlab.probes import Features, Performance, Stationarity
from widthlab.probes.covariance import CovariancePreservation
from widthlab.runs.experiment import Experiment
from widthlab.training.calibration import Calibration
from widthlab.training.optimizer import Optimizer
from widthlab.training.schedules import Schedule

PATH = os.pathsep.join([str(Path(__file__).parent), *sys.path])
DATA = DataSpec("digits", n_train=32, n_test=16, targets="labels")
ONE_HOT = attrs.evolve(DATA, targets="one-hot")


def spec(**changes):
    fields = {
        "data": DATA,
        "parametrization": "mup",
        "width": 16,
        "depth": 2,
        "lr": 0.5,
        "batch_size": 8,
        "steps": 4,
        "probes": (Performance(),),
    }
    return Experiment(**(fields | changes))


def assert_same_runs(found, expected):
    """Bit for bit with the pinned JAX; newer ones unroll loops over a single member."""
    assert [one.spec for one in found] == [one.spec for one in expected]
    exact = tuple(map(int, jax.__version__.split(".")[:2])) < (0, 11)
    for one, other in zip(found, expected, strict=True):
        for name in ("step", "layer", "quantity"):
            assert list(one.columns[name]) == list(other.columns[name])
        tolerance = {"rtol": 0.0} if exact else {"rtol": 1e-4, "atol": 1e-6}
        np.testing.assert_allclose(
            one.columns["value"], other.columns["value"], **tolerance
        )


# --- keys ------------------------------------------------------------

OTHER = {
    "data": attrs.evolve(DATA, subset_seed=1),
    "parametrization": "ntk",
    "width": 17,
    "depth": 3,
    "growth": 0.5,
    "activation": "relu",
    "loss": "mse",
    "optimizer": Optimizer("momentum"),
    "lr": 0.25,
    "first_lr": Calibration(cap=math.inf),
    "seed": 1,
    "batch_size": None,
    "steps": 5,
    "checkpoints": (0, 1, 4),
    "base_width": 8,
    "gains": (1.0, 1.0, 2.0),
    "biases": "all",
    "bias_gains": (1.0, 1.0, 2.0),
    "stop_below": 0.1,
    "probes": (Performance(), Stationarity()),
    "precision": "bfloat16",
    "schedule": Schedule("edge", 2.0, "hessian"),
    "track": ("gauss-newton", "cosine"),
}
TOGETHER = {"loss": {"data": ONE_HOT}, "data": {}}


def test_any_changed_field_changes_the_key():
    assert set(OTHER) == {f.name for f in attrs.fields(Experiment)}
    keys = [
        spec().key,
        spec(data=ONE_HOT, loss="mse").key,
        spec(data=ONE_HOT, loss="mse", lr=0.1).key,
    ]
    keys += [
        spec(**{name: value}, **TOGETHER.get(name, {})).key
        for name, value in OTHER.items()
        if name not in ("loss",)
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "optimizer",
    [
        Optimizer("adam", b1=0.8),
        Optimizer("adam", b2=0.99),
        Optimizer("adam", eps=1e-6),
        Optimizer("adamw", weight_decay=0.1),
        Optimizer("momentum", momentum=0.5),
    ],
)
def test_settings_of_the_optimizer_are_in_the_key(optimizer):
    assert (
        spec(optimizer=optimizer).key != spec(optimizer=Optimizer(optimizer.name)).key
    )


def test_a_table_of_its_own_is_in_the_key():
    mutated = get("mup").mutated(Role.HIDDEN, c=F(1, 2))
    assert spec(parametrization=mutated).key != spec().key
    assert spec(parametrization=get("mup")).key == spec().key
    assert spec(parametrization=mutated) != spec()


def test_settings_of_a_probe_are_in_the_key():
    keys = {spec(probes=(Features(inputs=n),)).key for n in (4, 5)}
    assert len(keys) == 2


def test_equal_specifications_have_equal_keys():
    given = {"lr": 1, "gains": (1, 1, 1), "growth": 0, "stop_below": 2}
    one = spec(**given)
    other = spec(
        **{
            k: (1.0,) * 3 if k == "gains" else float(v)
            for k, v in given.items()
            if k != "gains"
        },
        gains=(1.0,) * 3,
    )
    assert one == other and hash(one) == hash(other) and one.key == other.key
    assert Optimizer("momentum", momentum=0) == Optimizer("momentum", momentum=0.0)
    keys = [spec(optimizer=Optimizer("momentum", momentum=m)).key for m in (0, 0.0)]
    assert keys[0] == keys[1]
    assert spec(checkpoints=()).key == spec(checkpoints=(0, 4)).key


def test_keys_are_stable_across_processes():
    code = "import test_experiment as t; print(t.spec().key)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": PATH},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {spec().key}


@pytest.mark.parametrize("name", OTHER)
def test_json_round_trip(name):
    changed = spec(**({name: OTHER[name]} | TOGETHER.get(name, {})))
    text = json.dumps(changed.to_json())
    again = Experiment.from_json(json.loads(text))
    assert again == changed and again.key == changed.key


@pytest.mark.parametrize(
    "first_lr",
    [
        (0.1, 0.2, 3),
        Calibration(),
        Calibration(target=2),
        Calibration(output_target=2),
        Calibration(cap=7),
    ],
)
def test_first_rates_are_in_the_key(first_lr):
    others = (None, (0.5,) * 3, Calibration(target=3), first_lr)
    assert len({spec(first_lr=rates).key for rates in others}) == 4
    text = json.dumps(spec(first_lr=first_lr).to_json(), allow_nan=False)
    assert Experiment.from_json(json.loads(text)) == spec(first_lr=first_lr)


def test_specifications_from_before_a_field_was_there_are_read():
    """Also those of a table, whose rows have gained fields as well."""
    now = spec(parametrization="ip-llr").to_json()
    for name in ("first_lr", "biases", "bias_gains"):
        del now[name]
    del now["parametrization"]["bias"]
    for row in now["parametrization"]["exponents"].values():
        assert row["c_first"].pop() == "0"  # what depended on the place of a layer
        for name in ("mean", "retained"):
            assert row.pop(name) == "0"
    assert Experiment.from_json(now) == spec(parametrization="ip-llr")


# --- what a specification says -------------------------------------------------------


def test_defaults_that_depend_on_other_fields():
    assert spec().checkpoints == (0, 4)
    assert spec().table == get("mup")
    assert spec(growth=0.5, depth=4).shape.widths == (16, 23, 28, 32)
    assert (spec().shape.input_dim, spec().shape.output_dim) == (64, 10)


def test_first_rates_are_base_rates_of_the_matrices():
    """A layer's biases share its base rate; powers of the width stay on top."""
    plain = spec(parametrization="ip-bias", biases="all")
    given = attrs.evolve(plain, first_lr=(0.1, 2.0, 30.0))
    powers = plain.scales().first_lr / 0.5
    rates = np.array([0.1, 2.0, 30.0] * 2)  # matrices, then biases
    found = given.scales()
    np.testing.assert_allclose(found.first_lr, rates * powers, rtol=1e-6)
    rest = found._replace(first_lr=plain.scales().first_lr)
    for one, other in zip(rest, plain.scales(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parametrization": "muP"}, "'muP'; there are sp, .*mup"),
        ({"width": 0}, "width is 0; it must be an integer from 1"),
        ({"width": -4}, "width is -4"),
        ({"depth": 0}, "depth is 0"),
        ({"steps": 0, "checkpoints": (0,)}, "steps is 0"),
        ({"base_width": 0}, "base_width is 0"),
        ({"seed": -1}, "seed is -1; it must be an integer from 0"),
        ({"lr": 0.0}, "lr is 0.0; it must be a finite number above 0"),
        ({"lr": -0.1}, "lr is -0.1"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": math.inf}, "lr is inf"),
        ({"batch_size": 33}, "batch_size is 33; with 32 training examples"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"checkpoints": (0, 3)}, "checkpoints are .*to the last step, 4"),
        ({"checkpoints": (0, 2, 2, 4)}, "must increase"),
        ({"checkpoints": (2, 1, 4)}, "must increase"),
        (
            {"checkpoints": (-1, 4)},
            r"is \(-1, 4\); .* an integer from 0 on",
        ),
        ({"checkpoints": (0, 4, 5)}, "last step, 4"),
        ({"loss": "hinge"}, "'hinge'; there are .*cross-entropy.*mse"),
        ({"loss": "mse"}, "does not go with targets 'labels'"),
        ({"data": ONE_HOT}, "does not go with targets 'one-hot'"),
        ({"activation": "rleu"}, "'rleu'; there are .*relu"),
        (
            {"precision": "float16"},
            "'float16'; it must be one of float32, float64",
        ),
        ({"probes": (Features(9),)}, "width 16 .* of 9 inputs.* at least 18"),
        ({"probes": (Features(33),), "width": 128}, "33 inputs .* has 32"),
        ({"probes": (CovariancePreservation(4, 3),)}, "matrices at depth 2 are 2 to 2"),
        ({"probes": (CovariancePreservation(4),)}, "a checkpoint at every step"),
        ({"parametrization": "mean-field"}, "at most 1 hidden"),
        ({"parametrization": "ip", "optimizer": Optimizer("adam")}, "Adam"),
        ({"biases": "hidden"}, "biases is 'hidden'; .* none, input, all"),
        ({"first_lr": (0.1, 0.2)}, "first_lr is .*each of the 3 matrices"),
        ({"first_lr": (0.1,) * 4}, "each of the 3 matrices"),
        ({"first_lr": ()}, "each of the 3 matrices"),
        ({"first_lr": (0.1, 0.0, 0.1)}, "each a finite number above 0"),
        ({"first_lr": (0.1, math.inf, 0.1)}, "each a finite number above 0"),
        (
            {"first_lr": Calibration(), "optimizer": Optimizer("adam")},
            "calibration and the optimizer 'adam'.*use sgd or momentum",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(change, message):
    with pytest.raises(ValueError, match=message):
        spec(**change)


def test_refusals_of_tables_have_their_own_type():
    with pytest.raises(ParametrizationError):
        spec(parametrization="mu-p")
