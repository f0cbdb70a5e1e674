"""Execute one notebook from a clean kernel, cell by cell, in a known environment."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from widthlab.perturbation import PERTURB_VARIABLE

from richregime.chapters import BookError, Notebook, code_cells
from richregime.study import FIRST_SEED_VARIABLE

CELL_TIMEOUT = 900
TASKS_END_WITHIN = 5.0  # seconds
# What would change a chapter's outputs, on whoever's machine it is set.
_DROPPED = {"MPLBACKEND", FIRST_SEED_VARIABLE, PERTURB_VARIABLE}
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a notebook's execution went.

    Attributes:
        began: when, in UTC.
        seconds: of each code cell.
        answer: what the kernel printed when it was asked at the end.
    """

    began: str
    seconds: list[float]
    answer: str


class CellError(BookError):
    """A cell that raised, ran too long or took its kernel down."""


def kernel_environment(
    root: Path, work: Path, variation: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Environment variables of a chapter's kernel.

    Records and claims go to `work`, and what a user's own configuration could change
    about the outputs (plot back end, start-up files, progress bars on stderr, seeds,
    perturbations) is fixed.

    Args:
        root: the book's folder.
        work: folder of this execution's records and claims.
        variation: variables by which this execution differs from an ordinary one, as
            the first seed.
    """
    env = {key: value for key, value in os.environ.items() if key not in _DROPPED}
    cache = root / ".cache"
    env |= {
        "WIDTHLAB_STORE": str(work / "store"),
        "WIDTHLAB_CLAIMS": str(work / "claims.json"),
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "IPYTHONDIR": str(cache / "ipython"),
        "TQDM_DISABLE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    # The committed outputs are a CPU's. Whoever sets this variable means it.
    env.setdefault("JAX_PLATFORMS", "cpu")
    return env | dict(variation or {})


def warm_up(env: dict[str, str]) -> None:
    """Build matplotlib's font list, which would otherwise announce itself on stderr."""
    if not list(Path(env["MPLCONFIGDIR"]).glob("fontlist*")):
        command = [sys.executable, "-c", "import matplotlib.font_manager"]
        subprocess.run(command, env=env, check=True, capture_output=True)


def run_notebook(
    notebook: Notebook,
    *,
    folder: Path,
    env: dict[str, str],
    log: Path | None = None,
    ask: str = "",
    starting: Callable[[int], None] = lambda position: None,
    timeout: int = CELL_TIMEOUT,
) -> Ran:
    """Execute `notebook` in place in a fresh kernel of this Python.

    Args:
        notebook: the notebook; its old outputs are dropped.
        folder: the kernel's working directory.
        env: the kernel's environment variables.
        log: file for what the kernel's process itself says; None discards it.
        ask: code to run after the last cell, which prints something about the kernel.
        starting: called with a code cell's position (0, 1, ...) before it runs.
        timeout: seconds that one cell may take.

    Raises:
        CellError: a cell failed; the message has its place and its traceback's end.
    """
    import nbclient
    from nbclient.exceptions import (
        CellExecutionError,
        CellTimeoutError,
        DeadKernelError,
    )

    # In how many pieces a cell prints is a matter of its load.
    client = nbclient.NotebookClient(
        notebook, timeout=timeout, record_timing=False, coalesce_streams=True
    )
    client.km = _kernel_of_this_python()
    began = datetime.now(UTC).isoformat(timespec="seconds")
    seconds, answer = [], ""
    cells = code_cells(notebook)
    for _, cell, _ in cells:
        cell.outputs, cell.execution_count = [], None
    with (
        open(log or os.devnull, "a") as own_words,
        client.setup_kernel(env=env, cwd=str(folder), stderr=own_words),
        _tasks_ended_by_an_interrupt(),
    ):
        for position, (index, cell, group) in enumerate(cells):
            starting(position)
            start = time.perf_counter()
            try:
                client.execute_cell(cell, index, execution_count=position + 1)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                raise CellError(_failure(error, index, group)) from None
            seconds.append(time.perf_counter() - start)
        if ask:
            answer = _answer(client, ask)
    return Ran(began, seconds, answer)


def _answer(client: Any, code: str) -> str:
    """Run code in a cell that the notebook does not keep, and return what it prints."""
    import nbformat

    cell = nbformat.v4.new_code_cell(code)
    client.nb.cells.append(cell)
    try:
        client.execute_cell(cell, len(client.nb.cells) - 1)
    finally:
        client.nb.cells.pop()
    printed = [output for output in cell.outputs if output.get("name") == "stdout"]
    return "".join(output.text for output in printed)


@contextmanager
def _tasks_ended_by_an_interrupt() -> Iterator[None]:
    """Let an interrupt end the cell's tasks before the kernel is shut down.

    nbclient leaves them pending. They would go on while its clean-up runs the loop,
    find the kernel dead and, as nobody asks for their results, have that printed.
    """
    from jupyter_core.utils import ensure_event_loop

    try:
        yield
    except KeyboardInterrupt:
        _end_tasks(ensure_event_loop())
        raise


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is pending in `loop`, let it end and drop its results."""
    loop.set_exception_handler(_keep_quiet_about_interrupts)
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    results = asyncio.gather(*tasks, return_exceptions=True)
    loop.run_until_complete(asyncio.wait([results], timeout=TASKS_END_WITHIN))


def _keep_quiet_about_interrupts(
    loop: asyncio.AbstractEventLoop, context: dict[str, Any]
) -> None:
    # A task that the interrupt itself hit has ended, so its result cannot be dropped.
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)


def _kernel_of_this_python():
    """A kernel manager that cannot pick up another environment's ``python3``."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    specs = KernelSpecManager()
    specs.kernel_dirs = []  # only the native kernel, which runs sys.executable
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    manager.client_class = "jupyter_client.asynchronous.AsyncKernelClient"
    return manager


def _failure(error: Exception, index: int, group: str) -> str:
    text = getattr(error, "traceback", "") or str(error)
    lines = _ANSI.sub("", text).strip().splitlines()
    return "\n".join([f"cell {index} ({group}) failed:", *lines[-15:]])
