"""Run experiments: one, or many that share compiled programs, and skip finished ones.

`Experiment` -> `run` or `sweep` -> `Record`. Runs that share a program are cut into
cells; a cell trains as one ensemble, here or wherever an executor takes it, and its
records go to the store as soon as it is done.
"""

from __future__ import annotations

import functools
import math
import sys
import time
import warnings
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import jax

from widthlab import ledger
from widthlab.runs.cells import TOGETHER, _Ensemble, _pieces, cells
from widthlab.runs.ensembles import _run_ensemble
from widthlab.runs.executors import completed
from widthlab.runs.experiment import Experiment
from widthlab.runs.provenance import code_version
from widthlab.runs.record import Record
from widthlab.runs.store import Store, default_store
from widthlab.training.devices import DeviceMemoryError, is_out_of_memory, use_all_cores

if TYPE_CHECKING:
    pass


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


def _bar(total: int, done: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    hidden = not sys.stderr.isatty() if progress is None else not progress
    return tqdm(total=total, initial=done, disable=hidden, unit="run")
