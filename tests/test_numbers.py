"""Numbers of any kind are brought into one form before anything runs, or refused.

Nothing that was computed is lost because it cannot be written.
"""

import dataclasses
import json
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from test_experiment import spec
from widthlab import probes
from widthlab.canonical import canonical_json
from widthlab.runs import Archive, Computed, Processes, Store, ensembles, sweep
from widthlab.runs.experiment import Experiment
from widthlab.runs.spec import identity

FORMS = [np.int64, np.uint8, np.int32]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "value"),
    [("checkpoints", (0, 2, 4)), ("batch_size", 8), ("seed", 3), ("width", 16)],
)
def test_integers_of_any_kind_are_the_same_run(name, value, form):
    plain = spec(**{name: value})
    given = np.array(value, form) if isinstance(value, tuple) else form(value)
    others = [given, tuple(given)] if isinstance(value, tuple) else [given]
    for other in others:
        one = spec(**{name: other})
        assert one == plain and identity(one) == identity(plain)
        assert Experiment.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("batch_size", v) for v in (True, 32.0, np.float32(8), "8", np.array([8]))],
        *[("checkpoints", v) for v in (4, np.array(4), (0.0, 4.0), "04", {0, 4})],
        *[("seed", v) for v in (False, 1.0, None, np.nan)],
        *[("lr", v) for v in (True, "0.1", 1j, np.array([0.1]), None)],
        *[("data", v) for v in ("digits", None, {"name": "digits"})],
        *[("probes", v) for v in (probes.Features, ("features",), probes.Features())],
        *[("gains", v) for v in (1.0, np.ones(2), (1, 1, "1"))],
    ],
)
def test_what_is_no_such_number_is_refused_by_the_name_of_its_field(name, value):
    with pytest.raises(ValueError, match=f"^{name} is"):
        spec(**{name: value})


@pytest.mark.parametrize(
    "value",
    [
        *(np.bool_(True), np.float16(1.5), np.arange(3), np.longdouble(2)),
        *(jnp.float32(1.5), jnp.arange(3), np.str_("a"), np.eye(2)),
    ],
)
def test_arrays_have_one_json(value):
    plain = value.tolist() if not isinstance(value, np.str_) else str(value)
    assert canonical_json({"a": value}) == canonical_json({"a": plain})


@dataclasses.dataclass(frozen=True)
class NumbersOfAllKinds:
    """A probe whose settings and rows are not Python's own numbers."""

    scale: np.int64
    flag: np.bool_
    name: ClassVar[str] = "numbers-of-all-kinds"

    def measure(self, model, initial, data, loss):
        return jnp.float32(2.0)

    def rows(self, history):
        kinds = (np.float32, jnp.float32, np.float64, int)
        return [
            [(np.str_(f"q{i}"), np.int64(1), kind(2)) for i, kind in enumerate(kinds)]
            for _ in history
        ]


@pytest.mark.parametrize("kept", ["store", "archive"])
def test_a_probe_may_have_any_numbers(kept, tmp_path):
    probes.register(NumbersOfAllKinds)
    one = spec(probes=(NumbersOfAllKinds(np.int64(3), np.bool_(True)),))
    if kept == "store":
        for _ in range(2):
            (record,) = sweep([one], Store(tmp_path))
    else:
        assert Archive(tmp_path).run([one], together=1) == 1
        (record,) = Archive(tmp_path).select([one])
    assert all(type(v) is float for v in record.columns["value"])
    assert set(record.columns["quantity"]) >= {"q0", "q1", "q2", "q3"}


@dataclasses.dataclass(frozen=True)
class Kinds(Computed):
    """Rows of whatever kind."""

    which: str

    def run(self):
        value = {
            "numpy": np.float32(1.5),
            "jax": jnp.float32(1.5),
            "bool": np.bool_(True),
            "array": np.arange(2),
            "object": object(),
            "time": np.datetime64("2020-01-01"),
        }[self.which]
        return [{"a": value, 1: "x"}]


@pytest.mark.parametrize(
    ("which", "plain"),
    [("numpy", 1.5), ("jax", 1.5), ("bool", True), ("array", [0, 1])],
)
def test_a_computation_may_return_any_numbers(which, plain, tmp_path):
    for _ in range(2):
        (record,) = sweep([Kinds(which)], Store(tmp_path))
        assert record.columns == {"a": [plain], "1": ["x"]}
    archive = Archive(tmp_path / "archive")
    archive.add(record)
    assert archive.select([Kinds(which)])[0].columns == record.columns


@pytest.mark.parametrize("which", ["object", "time"])
def test_what_no_record_can_hold_is_named(which, tmp_path):
    with pytest.raises(TypeError, match=r"the column 'a' of Kinds.run\(\) is a"):
        sweep([Kinds(which)], Store(tmp_path))


def test_one_record_that_cannot_be_written_costs_no_other(tmp_path, monkeypatch):
    store = Store(tmp_path)
    specs = [spec(seed=seed) for seed in range(3)]
    made = iter(range(3))
    record = ensembles._record

    def odd(*arguments):
        one = record(*arguments)
        if next(made) == 0:
            return dataclasses.replace(one, provenance={"odd": object()})
        return one

    monkeypatch.setattr(ensembles, "_record", odd)
    with pytest.raises(TypeError, match="odd"):
        sweep(specs, store)
    assert [one.key in store for one in specs] == [False, True, True]


@pytest.mark.parametrize("wrong", [0, True, 2**40])
def test_arguments_are_held_to_the_same_rules(wrong, tmp_path):
    archive = Archive(tmp_path)
    for call in (
        lambda: sweep([], Store(tmp_path), together=wrong),
        lambda: archive.run([], together=wrong),
        lambda: Processes(wrong),
    ):
        with pytest.raises(ValueError, match="it must be an integer from 1"):
            call()
    with pytest.raises(ValueError, match="minutes is"):
        archive.run([], minutes=np.nan)


def test_a_table_of_numbers_is_one_of_python_s(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Table(Computed):
        def run(self):
            return pd.DataFrame({"a": np.arange(2, dtype=np.int8), "b": [True, False]})

    (record,) = sweep([Table()], Store(tmp_path))
    assert record.columns == {"a": [0, 1], "b": [True, False]}


def test_a_specification_that_changes_while_it_runs_is_said(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Counter(Computed):
        count: int = 0

        def run(self):
            object.__setattr__(self, "count", self.count + 1)
            return [{"a": 1}]

    with pytest.raises(ValueError, match="not what it was when it was asked for"):
        sweep([Counter()], Store(tmp_path))
