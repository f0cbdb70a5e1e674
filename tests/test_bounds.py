"""Every number of a specification has bounds: beyond them it is refused at once."""

import itertools
import time

import attrs
import jax
import numpy as np
import pytest
from test_experiment import DATA, spec
from test_fields import NUMBERS, given
from widthlab import fields
from widthlab.data import DataSpec, Stream, Synthetic
from widthlab.runs.experiment import Experiment

HUGE = [10**400, 2**63, 10**5000, -(10**400), np.uint64(2**63)]
SEEDED = [(Experiment, "seed"), (DataSpec, "subset_seed"), (Synthetic, "seed")]
SEEDED += [(Stream, "seed")]


@pytest.mark.parametrize("value", HUGE, ids=lambda v: f"{int(v).bit_length()} bits")
@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_no_field_takes_an_integer_without_end(kind, name, value):
    """A float is a large one, or refused; nothing is computed with it before that."""
    start = time.perf_counter()
    try:
        made = getattr(given(kind, **{name: value}), name)
    except (ValueError, TypeError) as error:
        assert len(str(error)) < 1000
    else:
        assert np.all(np.isfinite(np.asarray(made, float)))
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(("kind", "name"), SEEDED)
def test_seeds_are_those_that_the_generator_tells_apart(kind, name):
    for seed in (0, 2**31, 2**32 - 1):
        assert getattr(given(kind, **{name: seed}), name) == seed
    for seed in (-1, 2**32, 5 + 2**32, 2**63):
        with pytest.raises(ValueError, match=f"{name} is .* to 4294967295"):
            given(kind, **{name: seed})


@pytest.mark.parametrize("x64", [False, True])
def test_all_allowed_seeds_are_different_keys(x64):
    seeds = [0, 1, 5, 2**31 - 1, 2**31, 2**31 + 5, 2**32 - 1]
    with jax.enable_x64(x64):
        keys = [jax.random.key_data(jax.random.key(s)).tolist() for s in seeds]
    assert keys == [[0, s] for s in seeds]


def test_a_sequence_ends(monkeypatch):
    monkeypatch.setattr(fields, "_LONGEST", 2**8)  # as many are read of what never ends
    with pytest.raises(ValueError, match="checkpoints"):
        spec(checkpoints=itertools.count())


@pytest.mark.parametrize(
    "change",
    [
        {"growth": 1e4},
        {"growth": 9.0, "depth": 100},
        {"depth": 10**6},
        {"lr": 1e300},
        {"lr": 1e-60},
        {"gains": (1.0, 1e200, 1.0)},
        {"bias_gains": (1e60, 1.0, 1.0), "biases": "all"},
        {"first_lr": (1.0, 1e100, 1.0)},
    ],
)
def test_sizes_and_scales_have_numbers(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))}|width"):
        spec(**change)


def test_what_was_allowed_is_as_it_was():
    one = spec(seed=2**32 - 1, depth=64, width=3)
    assert attrs.evolve(one, seed=0) == spec(depth=64, width=3)
    assert spec(lr=1e30, data=DATA).lr == 1e30
