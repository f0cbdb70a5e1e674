"""Whatever is given to a field: taken in one form, kept and read back, or refused.

Run by `test_whatever.py` in a process of its own, without the run-time type checker of
the other tests, which would refuse first what users' processes have to refuse.
"""

import datetime
import json
import math
from decimal import Decimal
from fractions import Fraction

import attrs
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_experiment import spec
from test_fields import CASES, GIVEN, SPECS
from test_fields import given as made
from widthlab.canonical import canonical_json
from widthlab.runs import Archive, Store
from widthlab.runs.archive import name_of
from widthlab.runs.experiment import Experiment
from widthlab.runs.record import Record

settings.register_profile("whatever", derandomize=True, deadline=None, database=None)
settings.load_profile("whatever")

TYPES = [
    *(np.int8, np.int64, np.uint64, np.float16, np.float32, np.float64, np.bool_),
    *(jnp.int32, jnp.float32, jnp.bfloat16, jnp.bool_),
    *(int, float, bool, str, complex, Fraction, Decimal),
]
NUMBERS = [0, 1, 2, 3, 5, -1, 0.5, 2.5, 1e-3, 1e30, 1e-300, 255, math.nan, math.inf]
ODD = [
    *(None, "", "1", "tanh", b"1", object(), int, len, 1j, 10**400, -(2**63), 2**64),
    *((), [], {}, {"a": 1}, {1, 2}, range(3), np.array(2), np.array([1, 2.5])),
    *(np.zeros((2, 2)), np.array(["a"]), jnp.arange(3), [None], [[1]], "x" * 5000),
    *(np.datetime64("2020-01-01"), datetime.date(2020, 1, 1), np.str_("tanh")),
]


@st.composite
def scalars(draw):
    """A number as one of the types that numbers come in, if it has one there."""
    number, kind = draw(st.sampled_from(NUMBERS)), draw(st.sampled_from(TYPES))
    try:
        with np.errstate(all="ignore"):
            return kind(number)
    except (OverflowError, ValueError, TypeError):
        assume(False)


def alike(value):
    """The values of a field in other types: NumPy's, JAX's, arrays and lists."""
    forms = [value]
    if isinstance(value, int | float) and math.isfinite(value):
        kinds = (np.float32, np.float64, *([np.int64] if value == value // 1 else []))
        forms += [kind(value) for kind in kinds if kind(value) == value]
        forms += [jnp.asarray(value), np.asarray(value)]
    if isinstance(value, tuple) and value and isinstance(value[0], int | float):
        forms += [list(value), np.array(value), jnp.array(value), iter(value)]
    return st.sampled_from(forms)


def whatever(kind, name):
    usual = alike(getattr(made(kind), name))
    some = scalars() | st.sampled_from(ODD)
    return (
        usual
        | some
        | st.lists(some, max_size=3)
        | st.lists(some, max_size=3).map(tuple)
    )


def is_plain(value):
    """Whether nothing of it is NumPy's or JAX's."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return not isinstance(value, np.generic | np.ndarray | jax.Array)


@pytest.mark.parametrize("kind", SPECS)
@given(data=st.data())
@settings(max_examples=25)
def test_a_field_takes_it_in_one_form_or_refuses_it(kind, data):
    names = [name for one, name in CASES if one is kind]
    if not names:
        pytest.skip("no field")
    name = data.draw(st.sampled_from(names))
    value = data.draw(whatever(kind, name))
    try:
        one = made(kind, **{name: value})
    except ValueError as error:
        assert 0 < len(str(error)) < 2000
        return
    assert is_plain(getattr(one, name)) or attrs.fields_dict(kind)[name].type == "Any"
    assert attrs.evolve(one) == one and hash(attrs.evolve(one)) == hash(one)
    if hasattr(one, "to_json"):
        again = json.loads(canonical_json(one.to_json()))
        assert canonical_json(again) == canonical_json(one.to_json())
        if hasattr(kind, "from_json"):
            assert kind.from_json(again) == one


FIELDS = [f.name for f in attrs.fields(Experiment)]


@st.composite
def experiments(draw):
    """A run two of whose fields are whatever is taken."""
    names = draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2, unique=True))
    usual = {name: alike(getattr(made(Experiment), name)) for name in names}
    changes = {name: draw(usual[name] | scalars()) for name in names}
    try:
        return spec(**(GIVEN[Experiment] | changes))
    except ValueError:
        assume(False)


@given(st.lists(experiments(), min_size=1, max_size=4, unique_by=name_of))
@settings(
    max_examples=12, suppress_health_check=[hypothesis.HealthCheck.filter_too_much]
)
def test_what_is_taken_is_kept_and_read_back(tmp_path_factory, specs):
    """By the store, under its key, and by the archive, under its name."""
    columns = {"step": [0], "layer": [0], "quantity": ["loss"], "value": [0.5]}
    records = [Record(one, columns, None, None, {}) for one in specs]
    folder = tmp_path_factory.mktemp("kept")
    store, archive = Store(folder / "store"), Archive(folder / "archive")
    archive.add(*records)
    for one, record in zip(specs, records, strict=True):
        assert one.key == Experiment.from_json(one.to_json()).key
        store.put(one.key, record.to_json())
        assert Record.from_json(store.get(one.key), one) == record
    assert [record.spec for record in archive.records()] == sorted(specs, key=name_of)
    assert archive.select(specs) == records
