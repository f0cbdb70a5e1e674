"""Where the cells of a sweep run: in this process, in others, or on a cluster.

A cell is a list of runs that train together. Anything that has `submit` and returns
futures can run cells: a pool of `concurrent.futures`, `Processes`, or a Dask client.
Durability is not theirs: what finished is in the store, and a sweep goes on from there.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from typing import Any, NamedTuple, TypeVar

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
    work: Callable[[Cell], Result],
    cells: Iterable[Cell],
    executor: Any = None,
    seconds: float = math.inf,
) -> Iterator[Result]:
    """Yield `work(cell)` of all cells, in the order in which they finish.

    When the caller stops early or is interrupted, cells that have not begun are not
    begun any more.

    Args:
        work: a function that can be pickled, by value where it is of `__main__`.
        cells: what to work on.
        executor: None for threads of this process, an executor of `concurrent.futures`,
            or a client of `dask.distributed`.
        seconds: cells that have not begun by then are not begun any more. (Dask has
            given some of them to workers by then: `Budget` is for these.)

    Raises:
        LostWorkersError: workers died over a cell, or the scheduler is gone.
        TypeError: the executor is nothing of the kind.
        ValueError: its workers are forks of this process.
    """
    if executor is None:
        yield from _from_own_threads(work, cells, seconds)
    elif isinstance(executor, Executor):
        _refuse_forks(executor)
        calls = [packed(work, cell) for cell in cells]
        yield from map(unpacked, _from_pool(run_packed, calls, executor, seconds))
    elif type(executor).__module__.split(".")[0] == "distributed":
        calls = [packed(work, cell) for cell in cells]
        yield from map(unpacked, _from_dask(run_packed, calls, executor))
    else:
        raise TypeError(
            f"the executor is a {type(executor).__name__}; give None, an executor of "
            "concurrent.futures (widthlab.runs.executors.Processes is one), or a "
            "dask.distributed.Client"
        )


def _refuse_forks(executor: Executor) -> None:
    """Refuse a pool that hangs, for a fork has JAX's locks and none of its threads."""
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            f"the executor's workers are forks of this process, in which JAX would "
            f"hang; give widthlab.runs.executors.Processes(), or "
            f"{type(executor).__name__}(mp_context=multiprocessing.get_context("
            "'spawn'))"
        )


class Budget(NamedTuple):
    """How long cells may begin, in seconds.

    A duration and no time, since clocks of machines differ: each process measures it
    for itself, from its first look on.
    """

    name: str
    seconds: float

    @classmethod
    def of(cls, seconds: float) -> Budget:
        """Begin to measure in this process."""
        budget = cls(uuid.uuid4().hex, seconds)
        budget.is_over()
        return budget

    def is_over(self) -> bool:
        """Tell whether it is used up in this process."""
        if math.isinf(self.seconds):
            return self.seconds < 0
        began = _BEGAN.setdefault(self.name, time.monotonic())
        return time.monotonic() - began > self.seconds


_BEGAN: dict[str, float] = {}


def _from_own_threads(
    work: Callable[[Cell], Result], cells: Iterable[Cell], seconds: float
) -> Iterator[Result]:
    """Work on two cells at a time on CPU: one compiles, the other trains.

    Compiling keeps one core busy and small networks take less time to train than to
    compile, so this halves the time of a sweep over shapes. An accelerator's memory is
    for one cell.
    """
    import jax

    pool = ThreadPoolExecutor(2 if jax.default_backend() == "cpu" else 1)
    ended = True
    try:
        yield from _from_pool(work, cells, pool, seconds)
    except KeyboardInterrupt:
        ended = False  # a cell in training cannot be interrupted, and may take hours
        raise
    finally:
        pool.shutdown(ended)


def _from_pool(
    work: Callable[[Cell], Result],
    cells: Iterable[Cell],
    pool: Executor,
    seconds: float,
) -> Iterator[Result]:
    end = time.monotonic() + seconds
    futures = [pool.submit(work, cell) for cell in cells] if seconds > 0 else []
    going = set(futures)
    try:
        while going:
            left = None if math.isinf(end) else max(end - time.monotonic(), 0)
            done, going = wait(going, left, FIRST_COMPLETED)
            if not done:  # the time is over: what has begun goes on
                end, going = math.inf, {f for f in going if not f.cancel()}
            for future in done:
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


_DEAD = (
    f"{DEATHS} workers died over the same cell, for lack of memory, say; give fewer "
    "runs at a time (together=...) or fewer workers"
)
_STILLBORN = (
    f"{DEATHS} workers died as they started, before any work. A script that makes "
    "workers is imported by each of them: put what it does below "
    '`if __name__ == "__main__":`'
)


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
        own = self._own
        if not hasattr(own, "share"):  # this thread's first cell
            own.share, own.pool = next(self._shares), None
        alive = False
        for _ in range(DEATHS):
            pool = own.pool or self._start(own.share)
            try:
                if own.pool is None:
                    pool.submit(os.getpid).result()  # it has started, and lives
                own.pool, alive = pool, True
                return pool.submit(fn, *args, **kwargs).result()
            except BrokenExecutor:
                pool.shutdown(wait=False)
                own.pool = None
        raise LostWorkersError(_DEAD if alive else _STILLBORN)

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
