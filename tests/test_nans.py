"""JAX_DEBUG_NANS stops at a NaN that was computed, and at no placeholder for one."""

import jax
import numpy as np
import pytest
from test_experiment import spec
from widthlab.data import Synthetic
from widthlab.flow import Descent, Shallow
from widthlab.probes import Features, Performance, Rank, Spread, Updates
from widthlab.runs import FlowRun, Store, sweep
from widthlab.training.schedules import Schedule
from widthlab.training.state import TRACKED

PROBES = (Performance(), Features(2), Updates(), Spread(4), Rank(4))
FLOW = Shallow(width=4).flow(Synthetic(task="xor", n_train=3, dim=4), seed=0)
TIMES = (0.0, 0.5, 100.0)
SPECS = {
    "training": [spec(probes=PROBES)],
    "stopped": [spec(stop_below=2.29), spec(seed=1, stop_below=5.0)],
    "tracked": [
        # The one behind zeros stands still at first, the other starts at zero.
        spec(track=TRACKED, gains=(1, 1, 0), depth=1),
        spec(track=TRACKED, gains=(0, 0, 0), depth=1),
    ],
    # Measured at the first step alone.
    "scheduled": [spec(schedule=Schedule("initial", target=0.1), depth=1)],
    "flow": [FlowRun(FLOW, (0.0, 0.5))],
    "stopped flow": [FlowRun(FLOW, TIMES, stop_below=0.5)],
    "stopped descent": [FlowRun(FLOW, TIMES, Descent(0.1), stop_below=0.5)],
}


@pytest.fixture
def debugging():
    jax.config.update("jax_debug_nans", True)
    yield
    jax.config.update("jax_debug_nans", False)


@pytest.mark.parametrize("which", SPECS)
def test_nothing_stops_where_nothing_is_wrong(which, debugging, tmp_path):
    records = sweep(SPECS[which], Store(tmp_path))
    assert [r.diverged_at for r in records] == [None] * len(records)
    for record in records:
        assert np.isfinite(record.columns["value"]).all()
    assert ("stopped" in which) == any(r.stopped_at is not None for r in records)


def test_a_nan_that_is_computed_stops_it(debugging, tmp_path):
    with pytest.raises(FloatingPointError):
        sweep([spec(activation="relu", lr=1e30, steps=4)], Store(tmp_path))


def test_what_was_not_reached_is_no_number_all_the_same(tmp_path):
    (one,) = SPECS["stopped flow"]
    (record,) = sweep([one], Store(tmp_path))
    assert np.isnan(one.trajectory(record).observed["loss"][-1])
    (early,) = sweep([spec(stop_below=5.0)], Store(tmp_path))
    losses = early.series("loss")
    assert early.stopped_at == 0 and len(losses) == 1 and np.isfinite(losses).all()
