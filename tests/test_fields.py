"""Every field of every specification: what it is brought into, and what it refuses."""

import dataclasses
import importlib
import math
import pkgutil
from fractions import Fraction as F

import attrs
import jax
import numpy as np
import pytest
import widthlab
from widthlab import fields, parametrization
from widthlab.claims import Check, Claim, Estimate, Judgement
from widthlab.claims.power import Plan as PowerPlan
from widthlab.claims.prediction import Bound, Prediction
from widthlab.data import DataSpec, Synthetic
from widthlab.data.stream import STREAMS, Stream
from widthlab.flow import Adaptive, Descent, PartiallyTrained, Shallow
from widthlab.kernels.closed import AbRelu
from widthlab.kernels.series import Series
from widthlab.limit import LimitRun, Problem
from widthlab.limit.tables import Canonical
from widthlab.model import Shape
from widthlab.papers.caron2023asymmetrical.network import Steps
from widthlab.papers.caron2023asymmetrical.scaling import NodeScaling
from widthlab.papers.chen2022feature import RawPixels
from widthlab.parametrization import Exponents, Parametrization
from widthlab.parametrization.exponents import Growth, Linear
from widthlab.probes import Features, Spread
from widthlab.probes.covariance import CovariancePreservation
from widthlab.runs import FlowRun
from widthlab.runs.computed import Computed
from widthlab.runs.experiment import Experiment
from widthlab.scaling import Depth, Fan
from widthlab.training.optimizer import Optimizer
from widthlab.training.state import Plan

DATA = DataSpec("digits", n_train=32, targets="labels")
SHAPE = Shape(64, (8, 8), 10, "tanh")
CHECK = Check("a", "slope", "equals", 0.0, 0.1, Estimate(0.0, -0.1, 0.1, 3, "range"))
CLAIM = Claim(
    id="mup.C1",
    chapter="01-mup",
    paper="chen2025",
    statement="It moves.",
    source="abstract",
    tier="live",
    primary=attrs.evolve(CHECK, estimate=None),
    tolerance_origin="spread",
)
LIMIT = {
    "inputs": ((1.0,), (-1.0,)),
    "targets": ((1.0,), (0.0,)),
    "outputs": 1,
    "canonical": Canonical(gains=(1.0, 1.0), rates=(0.5, 0.5), first_rates=(0.5, 0.5)),
    "steps": 2,
}
FLOW = Shallow(width=4).flow(Synthetic(task="xor", n_train=3, dim=4), seed=0)
# What classes with required fields are made of; all others are made of nothing.
GIVEN = {
    Experiment: {
        "data": DATA,
        "parametrization": "mup",
        "width": 16,
        "depth": 2,
        "lr": 0.5,
        "first_lr": (0.5, 0.5, 0.5),
        "batch_size": 8,
        "steps": 4,
        "probes": (Features(4),),
    },
    DataSpec: {"name": "digits", "n_train": 32},
    Depth: {"now": 4, "base": 2, "ends": ("blocks.*.down",)},
    Fan: {"inputs": (-2,), "outputs": (-1,)},
    NodeScaling: {"gamma": 0.5, "alpha": 0.5},
    Steps: {"first": 1.0},
    RawPixels: {"images": DATA},
    Synthetic: {"task": "xor", "n_train": 3, "dim": 4},
    Stream: {"task": next(iter(STREAMS)), "dim": 4},
    Shape: {"input_dim": 4, "widths": (3,), "output_dim": 2, "activation": "relu"},
    Plan: {
        "shape": SHAPE,
        "loss": "mse",
        "optimizer": Optimizer(),
        "batch_size": 4,
        "steps": 3,
        "train_size": 8,
    },
    Descent: {"step": 0.1},
    FlowRun: {"flow": FLOW, "times": (0.0, 1.0)},
    Canonical: {f: (0.5, 0.5) for f in ("gains", "rates", "first_rates")},
    Problem: LIMIT,
    LimitRun: {"problem": Problem(**LIMIT)},
    Shallow: {"width": 4},
    PartiallyTrained: {"width": 4, "inner_width": 3},
    Series: {"function": math.erf},
    AbRelu: {"a": 0.0, "b": 1.0},
    Linear: {"const": F(1)},
    Exponents: {"a": F(0), "b": F(1, 2), "c": F(1)},
    Parametrization: {
        "name": "mine",
        "label": "mine",
        "exponents": parametrization.get("mup").exponents,
        "max_depth": 3,
    },
    Estimate: {"value": 0.0, "low": -1.0, "high": 1.0, "seeds": 3},
    Check: {
        "label": "a",
        "quantity": "slope",
        "relation": "equals",
        "predicted": 0.0,
        "tolerance": 0.1,
    },
    Claim: {f.name: getattr(CLAIM, f.name) for f in attrs.fields(Claim)},
    PowerPlan: {"seeds": 8, "spread": 0.1, "origin": "pilot"},
    Bound: {"relation": "equals", "number": 0.5, "within": 0.1},
    Prediction: {"quantity": "slope", "expected": 0.0},
    Judgement: {"claim": CLAIM, "primary": CHECK},
}
# Dataclasses that are asked for nothing: what a computation leaves or passes round, and
# what the library itself lists.
RESULTS = {
    *("Activation", "Archive", "Dataset", "Described", "Difference", "KernelFlow"),
    *("Design", "Family"),
    *(
        "LayerScales",
        "Loss",
        "Origin",
        "Raw",
        "Record",
        "RemoteFile",
        "Sample",
        "Source",
    ),
    *("Store", "Trajectory", "Classification", "_Look", "_Program", "_Weights"),
    # Of one paper: what its computations solve, and their solution.
    *("Interpolator", "Potential", "Sparse"),
}


def modules():
    for found in pkgutil.walk_packages(widthlab.__path__, "widthlab."):
        yield importlib.import_module(found.name)


def classes():
    for module in modules():
        for thing in vars(module).values():
            if isinstance(thing, type) and thing.__module__ == module.__name__:
                yield thing


SPECS = sorted(
    {kind for kind in classes() if attrs.has(kind)},
    key=lambda kind: (kind.__name__, kind.__module__),  # two are called Plan
)
CASES = [(kind, field.name) for kind in SPECS for field in attrs.fields(kind)]
NUMBERS = [
    case
    for case in CASES
    if {"int", "float"}
    & set(
        str(getattr(attrs.fields(case[0]), case[1]).type)
        .replace("[", " ")
        .replace(",", " ")
        .replace("|", " ")
        .split()
    )
]


def is_pytree(kind):
    """Whether JAX looks into its objects; it finds nothing in an empty one."""
    try:
        return not jax.tree_util.all_leaves([object.__new__(kind)])
    except AttributeError:
        return True


def given(kind, /, **changes):
    return kind(**(GIVEN.get(kind, {}) | changes))


def rule(kind, name):
    return getattr(attrs.fields(kind), name).converter


def takes(kind, name):
    return str(getattr(attrs.fields(kind), name).type)


def test_the_specifications_are_found():
    assert {Experiment, Optimizer, DataSpec, Features, Adaptive, Claim} <= set(SPECS)
    assert set(GIVEN) <= set(SPECS)


def test_what_is_no_specification_is_a_pytree_or_a_result():
    """A new dataclass is a specification, and checked, unless it is listed here."""
    plain = {kind for kind in classes() if dataclasses.is_dataclass(kind)}
    own = {kind for kind in plain if issubclass(kind, Computed)}  # plain, as readers'
    found = {kind.__name__ for kind in plain - own if not is_pytree(kind)}
    assert found == RESULTS


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_field_has_a_rule(kind, name):
    assert isinstance(rule(kind, name), fields.Rule)


@pytest.mark.parametrize("kind", SPECS)
def test_a_specification_is_a_value(kind):
    one, other = given(kind), given(kind)
    assert one == other and hash(one) == hash(other)
    assert attrs.evolve(one) == one
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(one, attrs.fields(kind)[0].name if attrs.fields(kind) else "a", 1)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_what_is_no_value_of_a_field_is_refused(kind, name):
    if takes(kind, name) == "Any":
        pytest.skip("whatever is given")
    wrong = [object(), math.nan, np.float64("nan"), b"1", -math.inf, [object()]]
    wrong += [] if "bool" in takes(kind, name) else [True, np.True_, [True]]
    wrong += [] if "str" in takes(kind, name) else ["digits", "1"]
    wrong += [] if "None" in takes(kind, name) else [None]
    if "float" not in takes(kind, name):
        wrong += [2.5, np.float32(2.5), [2.5]]
    if "int" in takes(kind, name):
        wrong += [2.0] if kind is Fan else [-1, [-1], 2.0]  # axes, from the end
    for value in wrong:
        with pytest.raises(ValueError, match=f"^{name} is .*; it must be "):
            given(kind, **{name: value})


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_numbers_of_numpy_become_those_of_python(kind, name):
    plain = getattr(given(kind), name)
    if plain is None or plain == ():
        pytest.skip("no number here by default")
    array = np.asarray(plain)
    for dtype in (array.dtype, np.float64 if "float" in takes(kind, name) else int):
        values = array.astype(dtype)
        numpy_s = values if array.ndim else values[()]
        one = given(kind, **{name: numpy_s})
        assert one == given(kind) and hash(one) == hash(given(kind))
        found = getattr(one, name)
        for value in found if isinstance(found, tuple) else (found,):
            assert type(value) in (int, float, bool)
            assert type(value) is float or "float" not in takes(kind, name)


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_integers_and_lists_are_welcome_where_equal(kind, name):
    plain = getattr(given(kind), name)
    again = list(plain) if isinstance(plain, tuple) else plain
    if isinstance(plain, float) and plain.is_integer():
        again = int(plain)
    one = given(kind, **{name: again})
    assert one == given(kind) and hash(one) == hash(given(kind))
    assert type(getattr(one, name)) is type(plain)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: given(Experiment, batch_size=2.5),
            "batch_size is 2.5; it must be an integer from 1 on, or None for all",
        ),
        (lambda: given(Experiment, data="digits"), "data is 'digits'.* a DataSpec"),
        (lambda: given(Experiment, probes=(Features,)), "probes is .* a Probe"),
        (lambda: Optimizer(b1=2), "b1 is 2; .* of at least 0 and below 1"),
        (lambda: Spread(1), "inputs is 1; it must be an integer from 2 on"),
        (lambda: CovariancePreservation(matrix=1), "matrix is 1; .* from 2 on"),
        (lambda: Growth(F(1), 0.5), "c_in is 0.5; it must be exact"),
        (lambda: Adaptive(rtol=0), "rtol is 0; .* above 0"),
    ],
)
def test_errors_say_field_value_and_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_array_of_steps_is_a_tuple_of_steps():
    one = given(Experiment, checkpoints=np.array([0, 2, 4]))
    assert one == given(Experiment, checkpoints=(0, 2, 4))
    assert one.checkpoints == (0, 2, 4) and type(one.checkpoints[1]) is int
