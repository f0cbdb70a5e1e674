"""How experiments run: a cell trains as one ensemble and leaves a record of each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from widthlab.model import Scales
from widthlab.runs.provenance import provenance
from widthlab.runs.record import Record
from widthlab.settings import pinned
from widthlab.training.calibration import (
    Calibrated,
    Calibration,
    calibrate_members,
    rate_rows,
)
from widthlab.training.devices import use_all_cores
from widthlab.training.ensemble import train as train_ensemble
from widthlab.training.state import Data, Members, Trained

if TYPE_CHECKING:
    import pandas as pd

    from widthlab.runs.experiment import Experiment

_Ensemble = Sequence["Experiment | None"]  # None fills up to the size of the others


def first_rates(experiments: Iterable[Experiment]) -> pd.DataFrame:
    """Calibrate the first steps of runs without training them.

    Args:
        experiments: what to calibrate; all have a `Calibration` for their `first_lr`.

    Returns:
        What `calibration.report` returns for the records of these runs.
    """
    use_all_cores()
    specs = list(experiments)
    with ThreadPoolExecutor(2) as pool:  # one compiles while the other computes
        return rate_rows(zip(specs, pool.map(_first_rates, specs), strict=True))


def _first_rates(spec: Experiment) -> Calibrated:
    data = _arrays(spec.data.load())
    rates = _calibrated([spec], data)[1][0]
    if rates is None:
        raise ValueError(
            f"first_lr is {spec.first_lr!r}; only runs with a Calibration have rates "
            "to find"
        )
    return rates


def _arrays(loaded: Any) -> Data:
    """Return the arrays of any data; targets of one number become a column."""

    def outputs(y: np.ndarray) -> np.ndarray:
        return y[:, None] if y.ndim == 1 and y.dtype.kind == "f" else y

    train, test = outputs(loaded.y_train), outputs(loaded.y_test)
    return Data(loaded.x_train, train, loaded.x_test, test)


def run_ensemble(ensemble: _Ensemble) -> list[Record]:
    """Train runs of one program together and return a record of each."""
    start = time.perf_counter()
    experiments = [spec for spec in ensemble if spec is not None]
    first = experiments[0]
    loaded = first.data.load()
    data = _arrays(loaded)
    members, rates = _calibrated(ensemble, data)
    trained = train_ensemble(first.plan, members, data, first.checkpoints, first.probes)
    each = (time.perf_counter() - start) / len(experiments)
    facts = {
        **provenance(),
        "data_sha256": loaded.sha256,
        "precision": first.precision,
        "wall_s": round(each, 4),
    }
    return [
        _record(spec, trained, index, rates[index], facts)
        for index, spec in enumerate(experiments)
    ]


def _calibrated(
    ensemble: _Ensemble, data: Data
) -> tuple[Members, list[Calibrated | None]]:
    specs = _filled(ensemble)
    rules = [s.first_lr if isinstance(s.first_lr, Calibration) else None for s in specs]
    lrs = [spec.lr for spec in specs]
    return calibrate_members(specs[0].plan, _members(ensemble), data, lrs, rules)


def _members(ensemble: _Ensemble) -> Members:
    experiments = _filled(ensemble)
    scales = [spec.scales() for spec in experiments]
    dtype = experiments[0].dtype
    thresholds = [
        -np.inf if spec.stop_below is None else spec.stop_below for spec in experiments
    ]
    targets = [spec.schedule.target for spec in experiments]
    rates = [spec.lr for spec in experiments]
    decays = experiments[0].optimizer.decays_by_base
    with pinned():
        key = jnp.stack([jax.random.key(spec.seed) for spec in experiments])
    return Members(
        key=key,
        scales=Scales(*(np.stack(column) for column in zip(*scales, strict=True))),
        stop_below=np.array(thresholds, dtype),  # pyright: ignore[reportArgumentType]
        real=np.array([spec is not None for spec in ensemble]),  # pyright: ignore[reportArgumentType]
        target=np.array(targets, dtype) if experiments[0].schedule.varies else None,  # pyright: ignore[reportArgumentType]
        base_lr=np.array(rates, dtype) if decays else None,  # pyright: ignore[reportArgumentType]
    )


def _record(
    spec: Experiment,
    trained: Trained,
    member: int,
    rates: Calibrated | None,
    facts: Mapping[str, Any],
) -> Record:
    losses = trained.losses[member]
    rows = [
        (step, 0, "loss", float(loss))
        for step, loss in enumerate(losses)
        if not np.isnan(loss) or step == trained.diverged_at[member]
    ]
    rows += _tracked_rows(spec, {k: v[member] for k, v in trained.tracked.items()})
    if rates is not None:
        rows += rates.rows()
    for probe in spec.probes:
        history = [
            jax.tree.map(lambda v: v[member], observed[probe.name])
            for observed in trained.observations
        ]
        with np.errstate(over="ignore", invalid="ignore"):  # a run about to diverge
            rows_at = probe.rows(history)
        for step, measured in zip(spec.checkpoints, rows_at, strict=True):
            rows += [
                (step, layer, quantity, value) for quantity, layer, value in measured
            ]
    steps, layers, quantities, values = zip(*rows, strict=True)
    return Record(
        spec=spec,
        # A probe of one's own may give the numbers of NumPy or JAX.
        columns={
            "step": list(map(int, steps)),
            "layer": list(map(int, layers)),
            "quantity": list(map(str, quantities)),
            "value": list(map(float, values)),
        },
        diverged_at=_step_or_none(trained.diverged_at[member]),
        stopped_at=_step_or_none(trained.stopped_at[member]),
        provenance=dict(facts),
    )


def _filled(ensemble: _Ensemble) -> list[Experiment]:
    stand_in = ensemble[0]
    assert stand_in is not None
    return [spec or stand_in for spec in ensemble]


def _tracked_rows(spec: Experiment, tracked: Mapping[str, Any]) -> list[Any]:
    """Return rows of what was measured at every step taken, curvature at base rate 1.

    Then "lr" times a curvature is the number that decides on stability.
    """
    units = {"lr": spec.lr, "gauss_newton": 1 / spec.lr, "hessian": 1 / spec.lr}
    return [
        (step, layer, quantity, float(value) * units.get(quantity, 1.0))
        for quantity, values in tracked.items()
        for step, at in enumerate(values)
        for layer, value in enumerate(np.atleast_1d(at))
        if not np.isnan(value)
    ]


def _step_or_none(step: Any) -> int | None:
    return None if step < 0 else int(step)
