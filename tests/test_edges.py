"""Where numbers end: ratios to zero, and arguments beyond their domain by rounding."""

import math

import numpy as np
import pytest
from test_experiment import spec
from widthlab.papers.terjek2025mlps.depth import bend, correlation_map
from widthlab.probes import Features, Performance, Spread, Updates
from widthlab.probes.covariance import CovariancePreservation
from widthlab.probes.rows import relative_change
from widthlab.runs import Archive, Store, run

# --- ratios to zero ------------------------------------------------------------


@pytest.mark.parametrize("gains", [(1, 1, 0), (0, 1, 1), (1, 0, 1), (0, 0, 0)])
def test_what_starts_from_zero_has_no_ratio_to_it(gains, tmp_path):
    """No row, where a number would be infinite or none; everything else is there."""
    probes = (Updates(), Features(2), Spread(4), Performance())
    probes += (CovariancePreservation(2),)
    one = spec(gains=gains, probes=probes, checkpoints=range(5), steps=4)
    record = run(one, Store(tmp_path))
    assert np.isfinite(record.columns["value"]).all()
    table = record.table
    layers = table[table.quantity == "relative_update"].groupby("step").layer.agg(list)
    there = [layer for layer, gain in enumerate(gains, 1) if gain]
    assert layers.to_dict() == ({step: there for step in range(5)} if there else {})
    norms = table[table.quantity == "update_norm"]
    assert len(norms) == 5 * 3
    archive = Archive(tmp_path / "archive")
    archive.add(record)
    assert len(archive.records()[0].columns["value"]) == len(record.columns["value"])


def test_ratios_leave_out_zeros_and_keep_what_is_not_finite():
    before = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert relative_change(before, before + np.array([[3.0, 4.0], [1.0, 0.0]])) == 1.0
    assert math.isnan(relative_change(np.zeros((2, 2)), before))
    assert math.isnan(relative_change(np.full((2, 2), np.nan), before))


# --- domains by rounding ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_correlation_may_be_beyond_one_by_rounding(dtype, sign):
    beyond = dtype(sign) * (1 + 4 * np.finfo(dtype).eps)
    for activation in ("relu", "abs", "linear"):
        found = correlation_map(np.array([beyond, sign], dtype), bend(activation))
        assert np.isfinite(found).all() and found[0] == found[1]
    x = np.random.default_rng(0).standard_normal((50, 784)).astype(dtype)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert np.isfinite(correlation_map(np.clip(x @ x.T, -9, 9), 0.5)).all()


@pytest.mark.parametrize("rho", [1.001, -2.0])
def test_what_is_no_correlation_is_refused(rho):
    with pytest.raises(ValueError, match="between -1 and 1"):
        correlation_map(np.array([0.0, rho]), 0.5)
