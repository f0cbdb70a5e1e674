"""Where the cells of a sweep run: in this process, in others, or on a cluster.

A cell is a list of runs that train together. Anything that has `submit` and returns
futures can run cells: a pool of `concurrent.futures`, `Processes`, or a Dask client.
Durability is not theirs: what finished is in the store, and a sweep goes on from there.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from typing import Any, TypeVar

from widthlab.fields import count, optional
from widthlab.runs.shipping import packed, run_packed, unpacked

Cell = TypeVar("Cell")
Result = TypeVar("Result")

_WORKERS = optional(count(), "for one for each GPU, else two")

DEATHS = 3
"""Deaths of workers over one and the same cell, after which it is given up."""


class LostWorkersError(RuntimeError):
    """Workers or their scheduler are gone; finished runs are in the store."""


def completed(
    work: Callable[[Cell], Result], cells: Iterable[Cell], executor: Any = None
) -> Iterator[Result]:
    """Yield `work(cell)` of all cells, in the order in which they finish.

    When the caller stops early or is interrupted, cells that have not begun are not
    begun any more.

    Args:
        work: a function that can be pickled, by value where it is of `__main__`.
        cells: what to work on.
        executor: None for threads of this process, an executor of `concurrent.futures`,
            or a client of `dask.distributed`.

    Raises:
        LostWorkersError: workers died over a cell, or the scheduler is gone.
        TypeError: the executor is nothing of the kind.
    """
    if executor is None:
        yield from _from_own_threads(work, cells)
    elif isinstance(executor, Executor):
        calls = [packed(work, cell) for cell in cells]
        yield from map(unpacked, _from_pool(run_packed, calls, executor))
    elif type(executor).__module__.split(".")[0] == "distributed":
        calls = [packed(work, cell) for cell in cells]
        yield from map(unpacked, _from_dask(run_packed, calls, executor))
    else:
        raise TypeError(
            f"the executor is a {type(executor).__name__}; give None, an executor of "
            "concurrent.futures (widthlab.runs.executors.Processes is one), or a "
            "dask.distributed.Client"
        )


def _from_own_threads(
    work: Callable[[Cell], Result], cells: Iterable[Cell]
) -> Iterator[Result]:
    """Work on two cells at a time on CPU: one compiles, the other trains.

    Compiling keeps one core busy and small networks take less time to train than to
    compile, so this halves the time of a sweep over shapes. An accelerator's memory is
    for one cell.
    """
    import jax

    pool = ThreadPoolExecutor(2 if jax.default_backend() == "cpu" else 1)
    wait = True
    try:
        yield from _from_pool(work, cells, pool)
    except KeyboardInterrupt:
        wait = False  # a cell in training cannot be interrupted, and may take hours
        raise
    finally:
        pool.shutdown(wait)


def _from_pool(
    work: Callable[[Cell], Result], cells: Iterable[Cell], pool: Executor
) -> Iterator[Result]:
    futures = [pool.submit(work, cell) for cell in cells]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BrokenExecutor as error:
        raise LostWorkersError(
            f"a worker process died ({error}); finished runs are in the store: call "
            "again to go on, and give widthlab.runs.executors.Processes to have cells "
            "of dead workers tried again"
        ) from error
    finally:
        for future in futures:
            future.cancel()


def _from_dask(
    work: Callable[[Cell], Result], cells: Iterable[Cell], client: Any
) -> Iterator[Result]:
    """Leave cells of dead workers to Dask, which gives them to others a few times."""
    from distributed import CancelledError, KilledWorker
    from distributed import as_completed as as_completed_by_dask

    futures = [client.submit(work, cell, pure=False) for cell in cells]
    try:
        for future in as_completed_by_dask(futures):
            try:
                yield future.result()
            finally:
                future.release()  # or the cluster would keep every result
    except KilledWorker as error:
        raise LostWorkersError(
            f"workers died again and again over one cell ({error}); look at their logs "
            "for a lack of memory, and give fewer runs at a time (together=...)"
        ) from error
    except (CancelledError, OSError) as error:
        raise LostWorkersError(
            f"the scheduler is gone or has dropped the work ({error}); finished runs "
            "are in the store: connect to a scheduler and call again to go on"
        ) from error
    finally:
        if client.status == "running":
            client.cancel([f for f in futures if not f.done()])


class Processes(ThreadPoolExecutor):
    """Worker processes of this machine, each with its own share of it.

    Every worker is started anew (spawned), so that JAX finds no threads of another
    process, and has either one GPU or its part of the CPU cores. When a worker dies, it
    alone is replaced and only its unfinished cell is tried again.

    Example:
        >>> import math
        >>> with Processes(2) as pool:
        ...     pool.submit(math.sqrt, 4.0).result()
        2.0
    """

    def __init__(self, workers: int | None = None, *, gpus: Sequence[int | str] = ()):
        """Prepare workers, which start with their first cell.

        Args:
            workers: how many; by default one for each GPU, else two.
            gpus: numbers of the GPUs to use, one for each worker.
        """
        workers = _WORKERS.take("workers", workers)
        count = workers or len(gpus) or 2
        if gpus and count != len(gpus):
            raise ValueError(
                f"workers is {workers} with {len(gpus)} GPUs; give one worker for each "
                "GPU, or at least one"
            )
        super().__init__(count, thread_name_prefix="widthlab")
        cores = sorted(os.sched_getaffinity(0)) if _CAN_PIN else []
        self._shares = itertools.count()
        self._gpus = list(map(str, gpus)) or [None] * count
        self._cores = [[] if gpus else cores[i::count] for i in range(count)]
        self._own = threading.local()
        self._pools: list[ProcessPoolExecutor] = []

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Schedule `fn(*args, **kwargs)` in a worker."""
        return super().submit(self._in_worker, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers once they are done with what they have begun."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        for pool in self._pools:
            pool.shutdown(wait, cancel_futures=cancel_futures)

    def _in_worker(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if not hasattr(self._own, "share"):  # this thread's first cell
            self._own.share = next(self._shares)
            self._own.pool = self._start(self._own.share)
        for _ in range(DEATHS):
            try:
                return self._own.pool.submit(fn, *args, **kwargs).result()
            except BrokenExecutor:
                self._own.pool.shutdown(wait=False)
                self._own.pool = self._start(self._own.share)
        raise LostWorkersError(
            f"{DEATHS} workers died over the same cell, for lack of memory, say; give "
            "fewer runs at a time (together=...) or fewer workers"
        )

    def _start(self, share: int) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            1,
            multiprocessing.get_context("spawn"),
            _settle,
            (self._gpus[share], self._cores[share]),
        )
        self._pools.append(pool)
        return pool


_CAN_PIN = hasattr(os, "sched_setaffinity")


def _settle(gpu: str | None, cores: list[int]) -> None:
    """Give a fresh process its share of the machine, before JAX looks for devices."""
    if cores:
        os.sched_setaffinity(0, cores)
    if gpu is not None:
        import jax

        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        jax.config.update("jax_platforms", "cuda")
