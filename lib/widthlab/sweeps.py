"""Run experiments: one, or many that share compiled programs, and skip finished ones.

`Experiment` -> `run` or `sweep` -> `Record`. Runs that share a program are cut into
cells; a cell trains as one ensemble, here or wherever an executor takes it, and its
records go to the store as soon as it is done.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
import time
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from widthlab import ledger
from widthlab.calibration import Calibrated, Calibration, calibrate_members, rates_table
from widthlab.executors import completed
from widthlab.experiment import Experiment
from widthlab.model import Scales
from widthlab.records import Record
from widthlab.store import (
    Store,
    code_version,
    default_store,
    provenance,
)
from widthlab.training import (
    Data,
    DeviceMemoryError,
    Members,
    Outcome,
    is_out_of_memory,
    use_all_cores,
)
from widthlab.training import train as train_ensemble

if TYPE_CHECKING:
    import pandas as pd

TOGETHER = 16
"""Runs in a cell on CPU: what a killed sweep loses, at no cost in speed."""

_Ensemble = list[Experiment | None]  # None fills up to the size of the others


class OtherCodeError(RuntimeError):
    """A worker has other source of the library than the process that sent it work."""


class MemoryWarning(UserWarning):
    """Runs did not fit in memory together and are trained in smaller numbers."""


def run(experiment: Experiment, store: Store | None = None) -> Record:
    """Run one experiment, or read its record where the store has it."""
    return sweep([experiment], store=store)[0]


def sweep(
    experiments: Iterable[Experiment],
    store: Store | None = None,
    *,
    executor: Any = None,
    together: int | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """Run experiments, those that share a compiled program together.

    Finished runs are written to the store one cell at a time, so that a sweep that
    is interrupted goes on where it was.

    Args:
        experiments: what to run; duplicates are run once.
        store: where records live; the user's cache folder by default, which the
            environment variable WIDTHLAB_STORE moves.
        executor: where cells run: None for this process, a pool of
            `concurrent.futures` such as `executors.Processes`, or a Dask client. Only
            this process writes to the store.
        together: runs in a cell, at most: by default 16, and on an accelerator of this
            process as many as its memory holds.
        progress: show a bar; by default if there is a terminal to show it on.

    Returns:
        One record for each experiment, in their order.

    Raises:
        executors.LostWorkersError: workers or their scheduler are gone.
        OtherCodeError: a worker runs another version of the library.
        MemoryError: a single run does not fit.
    """
    wanted = list(experiments)
    store = default_store() if store is None else store
    keys = {spec: spec.key for spec in dict.fromkeys(wanted)}
    missing = [spec for spec, key in keys.items() if key not in store]
    bar = _bar(len(keys), len(keys) - len(missing), progress)
    finished = finish(missing, executor=executor, together=together)
    with bar, closing(finished):
        for records in finished:
            for record in records:
                store.put(keys[record.experiment], record.to_json())
            ledger.note("runs", len(records))
            bar.update(len(records))
    return [Record.from_json(store.get(keys[spec])) for spec in wanted]


def finish(
    experiments: Iterable[Experiment],
    *,
    executor: Any = None,
    together: int | None = None,
    in_order: bool = False,
    until: float = math.inf,
) -> Generator[list[Record]]:
    """Run experiments and yield the records of each cell when it is done.

    Nothing is read from or written to a store: that is up to the caller. Closing the
    iterator begins no further cells.

    Args:
        experiments: what to run, without duplicates.
        executor: as for `sweep`.
        together: as for `sweep`.
        in_order: begin with the cells of the first experiments.
        until: time (as of `time.time`) after which no cell begins.
    """
    specs = list(experiments)
    if executor is not None:
        cut = cells(specs, together or TOGETHER, in_order=in_order)
        work = functools.partial(_run_elsewhere, code_version(), until)
        yield from filter(None, completed(work, cut, executor))
        return
    use_all_cores()
    on_cpu = jax.default_backend() == "cpu"
    most = together or (TOGETHER if on_cpu else max(1, len(specs)))
    cut = cells(specs, most, in_order=in_order, fill_up=on_cpu)
    with _one_blas_thread():
        yield from filter(None, completed(functools.partial(_run_cell, until), cut))


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
        return rates_table(zip(specs, pool.map(_first_rates, specs), strict=True))


def _first_rates(spec: Experiment) -> Calibrated:
    loaded = spec.data.load()
    data = Data(loaded.x_train, loaded.y_train, loaded.x_test, loaded.y_test)
    found = _calibrated([spec], data)[1][0]
    if found is None:
        raise ValueError(
            f"first_lr is {spec.first_lr!r}; only runs with a Calibration have rates "
            "to find"
        )
    return found


def _one_blas_thread() -> Any:
    """Keep NumPy's linear algebra to one thread while networks train.

    The host half of a probe takes spectra of small matrices. Given several threads,
    BLAS waits for them in a busy loop, and next to training that takes seconds where
    one thread takes milliseconds.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def _run_cell(until: float, cell: Sequence[Experiment | None]) -> list[Record]:
    """Train runs of one program together, or in pieces where memory is too small."""
    if time.time() > until:
        return []
    waiting, records = [list(cell)], []
    while waiting:
        piece = waiting.pop(0)
        try:
            records += _run_ensemble(piece)
        except (DeviceMemoryError, jax.errors.JaxRuntimeError) as error:
            waiting[:0] = _smaller(piece, error)
    return records


def _run_elsewhere(
    code: str, until: float, cell: Sequence[Experiment | None]
) -> list[Record]:
    """Run a cell in a worker, which must have the library that its caller has."""
    if code != code_version():
        raise OtherCodeError(
            "this worker's source of widthlab is not that of the process that started "
            f"the sweep ({code_version()[:12]} here, {code[:12]} there): install the "
            "same version on both"
        )
    use_all_cores()
    with _one_blas_thread():
        return _run_cell(until, cell)


def _smaller(piece: _Ensemble, error: Exception) -> list[_Ensemble]:
    """Cut a cell that did not fit; whatever else went wrong is not for us."""
    specs = [spec for spec in piece if spec is not None]
    if isinstance(error, DeviceMemoryError):
        most = error.members
    elif is_out_of_memory(error):
        most = len(piece) // 2
        warnings.warn(
            f"{len(piece)} runs of width {specs[0].width} did not fit in the device's "
            f"memory together; they are trained {max(most, 1)} at a time",
            MemoryWarning,
            stacklevel=2,
        )
    else:
        raise error
    if len(piece) == 1 or most < 1:
        raise MemoryError(
            f"a single run of width {specs[0].width} and depth {specs[0].depth} does "
            f"not fit in the device's memory: {error}"
        ) from error
    return list(_pieces(specs, min(most, len(piece) - 1)))


def by_program(experiments: Iterable[Experiment]) -> list[list[Experiment]]:
    """Group runs by the compiled program that they share, in order of appearance."""
    groups: dict[Any, list[Experiment]] = {}
    for spec in experiments:
        groups.setdefault(spec.program, []).append(spec)
    return list(groups.values())


def cells(
    experiments: Sequence[Experiment],
    together: int,
    *,
    in_order: bool = False,
    fill_up: bool = False,
) -> list[_Ensemble]:
    """Group runs by compiled program, then cut groups into cells.

    Args:
        experiments: what to run.
        together: runs in a cell, at most.
        in_order: put the cells of the first experiments first. Otherwise first cells of
            all groups come first: two at a time, none compiles what the other is just
            compiling.
        fill_up: make sizes powers of two, so that sweeps of different sizes share
            their programs. What fills up never runs, which on CPU costs nothing.
    """
    if together < 1:
        raise ValueError(f"together is {together}; a cell has at least one run")
    groups = by_program(experiments)
    cut = [list(_pieces(group, together, fill_up)) for group in groups]
    if in_order:
        place = {spec: index for index, spec in enumerate(experiments)}
        return sorted(itertools.chain(*cut), key=lambda cell: place[_filled(cell)[0]])
    return [cell for pieces in itertools.zip_longest(*cut) for cell in pieces if cell]


def _pieces(
    group: list[Experiment], most: int, fill_up: bool = False
) -> Iterator[_Ensemble]:
    """Cut a group into pieces of one size, the last filled up: compiled once."""
    size = math.ceil(len(group) / math.ceil(len(group) / most))
    if fill_up:
        size = min(most, 1 << (size - 1).bit_length())
    for start in range(0, len(group), size):
        piece = group[start : start + size]
        yield [*piece, *[None] * (size - len(piece))]


def _run_ensemble(ensemble: _Ensemble) -> list[Record]:
    start = time.perf_counter()
    experiments = [spec for spec in ensemble if spec is not None]
    first = experiments[0]
    loaded = first.data.load()
    data = Data(loaded.x_train, loaded.y_train, loaded.x_test, loaded.y_test)
    members, rates = _calibrated(ensemble, data)
    outcome = train_ensemble(first.plan, members, data, first.checkpoints, first.probes)
    each = (time.perf_counter() - start) / len(experiments)
    facts = {
        **provenance(),
        "data_sha256": loaded.sha256,
        "precision": first.precision,
        "wall_s": round(each, 4),
    }
    return [
        _record(spec, outcome, index, rates[index], facts)
        for index, spec in enumerate(experiments)
    ]


def _calibrated(
    ensemble: _Ensemble, data: Data
) -> tuple[Members, list[Calibrated | None]]:
    specs = _filled(ensemble)
    rules = [s.first_lr if isinstance(s.first_lr, Calibration) else None for s in specs]
    lrs = [spec.lr for spec in specs]
    return calibrate_members(specs[0].plan, _members(ensemble), data, lrs, rules)


def _filled(ensemble: _Ensemble) -> list[Experiment]:
    stand_in = ensemble[0]
    assert stand_in is not None
    return [spec or stand_in for spec in ensemble]


def _members(ensemble: _Ensemble) -> Members:
    experiments = _filled(ensemble)
    scales = [spec.scales() for spec in experiments]
    dtype = experiments[0].dtype
    thresholds = [
        -np.inf if spec.stop_below is None else spec.stop_below for spec in experiments
    ]
    targets = [spec.schedule.target for spec in experiments]
    return Members(
        key=jnp.stack([jax.random.key(spec.seed) for spec in experiments]),
        scales=Scales(*(np.stack(column) for column in zip(*scales, strict=True))),
        stop_below=np.array(thresholds, dtype),  # pyright: ignore[reportArgumentType]
        real=np.array([spec is not None for spec in ensemble]),  # pyright: ignore[reportArgumentType]
        target=np.array(targets, dtype) if experiments[0].schedule.varies else None,  # pyright: ignore[reportArgumentType]
    )


def _record(
    spec: Experiment,
    outcome: Outcome,
    member: int,
    rates: Calibrated | None,
    facts: Mapping[str, Any],
) -> Record:
    losses = outcome.losses[member]
    rows = [
        (step, 0, "loss", float(loss))
        for step, loss in enumerate(losses)
        if not np.isnan(loss) or step == outcome.diverged_at[member]
    ]
    rows += _tracked_rows(spec, {k: v[member] for k, v in outcome.tracked.items()})
    if rates is not None:
        rows += rates.rows()
    for probe in spec.probes:
        history = [
            jax.tree.map(lambda v: v[member], seen[probe.name])
            for seen in outcome.observations
        ]
        with np.errstate(over="ignore", invalid="ignore"):  # a run about to diverge
            found_at = probe.rows(history)
        for step, found in zip(spec.checkpoints, found_at, strict=True):
            rows += [(step, layer, quantity, value) for quantity, layer, value in found]
    steps, layers, quantities, values = map(list, zip(*rows, strict=True))
    return Record(
        experiment=spec,
        columns={
            "step": steps,
            "layer": layers,
            "quantity": quantities,
            "value": values,
        },
        diverged_at=_step_or_none(outcome.diverged_at[member]),
        stopped_at=_step_or_none(outcome.stopped_at[member]),
        provenance=dict(facts),
    )


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


def _bar(total: int, done: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    hidden = not sys.stderr.isatty() if progress is None else not progress
    return tqdm(total=total, initial=done, disable=hidden, unit="run")
