"""Grids of experiments, and tables of what they measured."""

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
from widthlab import DataSpec, Experiment, Record, by_seed, frame, grid, paired, select

DIGITS = DataSpec("digits", n_train=64, targets="labels")
COMMON = {"data": DIGITS, "lr": 0.5, "steps": 2}


def test_a_grid_is_the_nested_loop_that_it_replaces():
    found = grid({"parametrization": ("mup", "ntk"), "width": (32, 64)}, **COMMON)
    assert found == [
        Experiment(parametrization=p, width=n, **COMMON)
        for p in ("mup", "ntk")
        for n in (32, 64)
    ]
    assert grid({}, parametrization="mup", width=32, **COMMON) == found[:1]


def test_fields_of_a_grid_can_vary_together():
    rates = {"mup": 0.5, "ntk": 0.1}
    found = grid(
        {("parametrization", "lr"): rates.items(), "width": (32, 64)},
        data=DIGITS,
        steps=2,
    )
    assert [(run.table.name, run.lr) for run in found[::2]] == [*rates.items()]


def test_a_grid_can_be_of_anything():
    assert grid({"a": (1, 2)}, of=dict, b=0) == [{"b": 0, "a": 1}, {"b": 0, "a": 2}]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"width": (32,), "lr": (0.1,)}, r"\['lr'\] given twice"),
        (
            {("width", "seed"): [(32,)]},
            r"one value for each of its fields, got \(32,\)",
        ),
        ({("width", "seed"): ["ab"]}, r"one value for each of its fields, got 'ab'"),
    ],
)
def test_a_grid_that_means_nothing_is_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        grid(axes, parametrization="mup", **COMMON)


@pytest.fixture(scope="module")
def runs():
    """Values that tell where they stand: 1000 step + 100 layer + 10 arm + seed."""
    cells = itertools.product((0, 5), (1, 2), ("ip", "mup"), (3, 0, 7))
    return pd.DataFrame(
        {
            "step": step,
            "layer": layer,
            "parametrization": arm,
            "lr": {"ip": 0.5, "mup": 4.0}[arm],
            "seed": seed,
            "quantity": "q",
            "value": 1000.0 * step + 100 * layer + 10 * (arm == "ip") + seed + 1,
            "diverged_at": None if seed else 9.0,
        }
        for step, layer, arm, seed in cells
    )


def test_rows_are_selected_by_values_collections_and_functions(runs):
    assert select(runs) is runs
    assert len(select(runs, step=5, layer=(1, 2), seed=range(4))) == 8
    assert set(select(runs, seed=lambda s: s > 0)["seed"]) == {3, 7}
    assert len(select(runs, parametrization="ip")) == len(runs) / 2
    pd.testing.assert_frame_equal(
        select(runs, layer=2, step=0), runs.query("layer == 2 and step == 0")
    )


def test_the_last_step_is_that_of_the_rows_that_are_left(runs):
    early = runs[(runs["step"] == 0) | (runs["layer"] == 1)]
    assert set(select(early, step="last")["step"]) == {5}
    assert set(select(early, step="last", layer=2)["step"]) == {0}
    assert set(select(early, step="first", layer=1)["step"]) == {0}
    named = runs.assign(quantity="last")
    assert len(select(named, quantity="last")) == len(named), "no number, but a name"


def test_what_selects_nothing_says_what_there_is(runs):
    with pytest.raises(ValueError, match=r"no column \['depth'\].*'layer'"):
        select(runs, depth=3)
    with pytest.raises(ValueError, match=r"no row of .*layer is one of \[1, 2\]"):
        select(runs, step=5, layer=9)


def test_ratios_pair_equal_seeds_whatever_the_order(runs):
    mixed = select(runs, step=0).sample(frac=1, random_state=0)
    found = paired(mixed, "parametrization", "ip", "mup")
    wide = mixed.pivot_table("value", ["layer", "seed"], "parametrization")
    wanted = (wide["ip"] / wide["mup"]).reset_index(name="value")
    pd.testing.assert_frame_equal(found[["layer", "seed", "value"]], wanted)
    assert set(found["parametrization"]) == {"ip"} and set(found["lr"]) == {0.5}


def test_ratios_over_time_pair_ends(runs):
    found = paired(select(runs, layer=1, parametrization="ip"), "step", "last", "first")
    assert found["seed"].tolist() == [0, 3, 7]
    assert found["value"].tolist() == [5111 / 111, 5114 / 114, 5118 / 118]
    one = select(runs, layer=1, parametrization="ip", seed=3)
    assert paired(one, "step", 5, 0)["value"].tolist() == [5114 / 114]


def test_rows_without_a_partner_are_not_dropped_in_silence(runs):
    fewer = runs.drop(index=runs.index[0])
    with pytest.raises(ValueError, match=r"1 rows with parametrization 'ip' or 'mup'"):
        paired(fewer, "parametrization", "ip", "mup")
    twice = pd.concat([runs, runs])
    with pytest.raises(ValueError, match=r"several rows have .*'seed'"):
        paired(twice, "parametrization", "ip", "mup")


def test_numbers_of_each_seed_are_a_table():
    found = by_seed({("a", 64): [1, 2], ("b", 64): [3]}, by=("task", "width"), start=0)
    assert found.columns.tolist() == ["task", "width", "start", "seed", "value"]
    assert found["seed"].tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="one part for each column"):
        by_seed({"a": [1]}, by=("task", "width"))


def test_select_finds_where_there_is_nothing():
    rows = pd.DataFrame({"batch_size": [None, 64], "value": [1.0, 2.0]})
    for nothing in (None, float("nan")):
        assert select(rows, batch_size=nothing)["value"].tolist() == [1.0]


def test_words_have_no_ends():
    rows = pd.DataFrame({"place": ["last", "middle", "zenith"]})
    assert select(rows, place="last")["place"].tolist() == ["last"]


def test_by_seed_drops_no_column():
    with pytest.raises(ValueError, match=r"\['value'\] twice"):
        by_seed({1: [2.0]}, by="value")


def test_series_are_in_order_of_steps():
    columns = {
        "step": [2, 0, 1, 0],
        "layer": [0, 0, 0, 1],
        "quantity": ["a", "a", "a", "b"],
        "value": [1.0, None, 3.0, 4.0],
    }
    [spec] = grid({"width": (32,)}, parametrization="mup", **COMMON)
    one = Record(spec, columns, None, None, {})
    before = pickle.dumps(one)
    np.testing.assert_array_equal(one.series("a"), [np.nan, 3.0, 1.0])
    assert one.series("a", layer=1).size == 0 and one.series("b", 1) == 4
    assert pickle.dumps(one) == before  # what follows from a record does not travel
    with pytest.raises(ValueError, match=r"differ in length: .*'value': 1"):
        frame([Record(spec, {**columns, "value": [1.0]}, None, None, {})])
