"""Run specifications of any kind, one or many, and skip what is finished.

Specification -> `run` or `sweep` -> `Record`. What shares a program is cut into cells;
a cell runs as one, here or wherever an executor takes it, and its records go to the
store as soon as it is done.
"""

from __future__ import annotations

import functools
import math
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

import jax

from widthlab import ledger, perturbation
from widthlab.runs.cells import TOGETHER, cells, run_cell
from widthlab.runs.executors import Budget, completed
from widthlab.runs.provenance import code_version
from widthlab.runs.record import Record
from widthlab.runs.spec import Spec
from widthlab.runs.store import Store, default_store
from widthlab.settings import arithmetic, computing
from widthlab.training.devices import use_all_cores


class OtherCodeError(RuntimeError):
    """A worker has other source of the library than the process that sent it work."""


def run(spec: Spec, store: Store | None = None) -> Record:
    """Run one specification, or read its record where the store has it."""
    return sweep([spec], store=store)[0]


def sweep(
    specs: Iterable[Spec],
    store: Store | None = None,
    *,
    executor: Any = None,
    together: int | None = None,
    progress: bool | None = None,
) -> list[Record]:
    """Run specifications, those that share a compiled program together.

    What is finished is written to the store one cell at a time, so that a sweep that
    is interrupted goes on where it was.

    Args:
        specs: what to run, of one kind or several; duplicates are run once.
        store: where records live; the user's cache folder by default, which the
            environment variable WIDTHLAB_STORE moves.
        executor: where cells run: None for this process, a pool of
            `concurrent.futures` such as `executors.Processes`, or a Dask client. Only
            this process writes to the store.
        together: runs in a cell, at most: by default what their kind says (16 training
            runs, all flows that share a program), and on an accelerator of this process
            as many as its memory holds.
        progress: show a bar; by default if there is a terminal to show it on.

    Returns:
        One record for each specification, in their order.

    Raises:
        executors.LostWorkersError: workers or their scheduler are gone.
        OtherCodeError: a worker runs another version of the library.
        MemoryError: a single run does not fit.
    """
    wanted = list(specs)
    together = TOGETHER.take("together", together)
    store = default_store() if store is None else store
    # Keys and hashes of flows go over all their arrays: no more of them than need be.
    keys = {spec: spec.key for spec in wanted}
    stored = {key: store.find(key) for key in keys.values()}
    missing = [spec for spec, key in keys.items() if stored[key] is None]
    if missing:
        store.check_writable()
    bar = _bar(len(keys), len(keys) - len(missing), progress)
    finished = finish(missing, executor=executor, together=together)
    with bar, closing(finished):
        for records in finished:
            _put_all(store, keys, records)
            for kind, count in Counter(r.spec.kind for r in records).items():
                ledger.note(kind, count)
            bar.update(len(records))
    by_key = ((keys[spec], spec) for spec in wanted)
    return [
        Record.from_json(stored[key] or store.get(key), spec) for key, spec in by_key
    ]


def _put_all(store: Store, keys: Mapping[Any, str], records: list[Record]) -> None:
    """Write all records of a cell, also those that come after one that cannot be."""
    errors = []
    for record in records:
        if record.spec not in keys:
            raise ValueError(
                f"{record.spec!r} is not what it was when it was asked for: its key "
                "has changed since. What it computes must depend on its fields alone"
            )
        try:
            store.put(keys[record.spec], record.to_json())
        except TypeError as error:  # what JSON cannot hold
            errors.append(error)
    if errors:
        raise errors[0]


def finish(
    specs: Iterable[Spec],
    *,
    executor: Any = None,
    together: int | None = None,
    in_order: bool = False,
    seconds: float = math.inf,
) -> Generator[list[Record]]:
    """Run specifications and yield the records of each cell when it is done.

    Nothing is read from or written to a store: that is up to the caller. Closing the
    iterator begins no further cells.

    Args:
        specs: what to run, without duplicates.
        executor: as for `sweep`.
        together: as for `sweep`.
        in_order: begin with the cells of the first runs.
        seconds: no cell begins after so long.
    """
    wanted = list(specs)
    budget = Budget.of(seconds)
    if executor is not None:
        cut = cells(wanted, together, in_order=in_order)
        here = (code_version(), perturbation.chosen())
        work = functools.partial(_run_elsewhere, here, arithmetic(), budget)
        yield from filter(None, completed(work, cut, executor, seconds))
        return
    use_all_cores()
    cpu = jax.default_backend() == "cpu"
    cut = cells(
        wanted, together, in_order=in_order, fill_up=cpu, as_many_as_can=not cpu
    )
    work = functools.partial(_run_cell, arithmetic(), budget)
    with _one_blas_thread():
        yield from filter(None, completed(work, cut, seconds=seconds))


def _one_blas_thread() -> Any:
    """Keep NumPy's linear algebra to one thread while networks train.

    The host half of a probe takes spectra of small matrices. Given several threads,
    BLAS waits for them in a busy loop, and next to training that takes seconds where
    one thread takes milliseconds.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")


def _run_cell(
    set_to: Mapping[str, Any], budget: Budget, cell: Sequence[Spec | None]
) -> list[Record]:
    """Run a cell with the caller's settings: a thread has none of its own context."""
    with computing(set_to):
        return [] if budget.is_over() else run_cell(cell)


def _run_elsewhere(
    there: tuple[str, int | None],
    set_to: Mapping[str, Any],
    budget: Budget,
    cell: Sequence[Spec | None],
) -> list[Record]:
    """Run a cell in a worker, which must have the library that its caller has."""
    code, number = there
    if number != perturbation.chosen():
        raise OtherCodeError(
            f"{perturbation.PERTURB_VARIABLE} is not the same in this worker "
            f"({perturbation.chosen()}) and in the process that started the sweep "
            f"({number}): set it, or not, for both"
        )
    if code != code_version():
        raise OtherCodeError(
            "this worker's source of widthlab is not that of the process that started "
            f"the sweep ({code_version()[:12]} here, {code[:12]} there): install the "
            "same version on both"
        )
    use_all_cores()
    with _one_blas_thread():
        return _run_cell(set_to, budget, cell)


def _bar(total: int, done: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    hidden = not sys.stderr.isatty() if progress is None else not progress
    return tqdm(total=total, initial=done, disable=hidden, unit="run")
