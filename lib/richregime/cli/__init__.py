"""The command line: `richregime COMMAND`, or `python -m richregime COMMAND`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from widthlab.data.raw import DataError
from widthlab.runs.archive import ArchiveError
from widthlab.runs.executors import LostWorkersError
from widthlab.runs.store import StoreError
from widthlab.training.devices import DeviceError

from richregime.chapters import BookError
from richregime.cli import authors, results, runs

_MENDABLE = (
    *(BookError, DataError, LostWorkersError, MemoryError),
    *(ArchiveError, DeviceError, StoreError),
)
"""What a command ends with in one line, since its message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 if something needs mending."""
    for stream in (sys.stdout, sys.stderr):
        # What a terminal cannot show is shown as a question mark, and ends nothing.
        with contextlib.suppress(AttributeError, ValueError):  # not a text file's
            stream.reconfigure(errors="replace")  # pyright: ignore
    options = parser().parse_args(arguments)
    # A kill is an interruption too: what is finished is kept, the rest not begun.
    with contextlib.suppress(ValueError):  # only in a main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options.command(options)
    except _MENDABLE as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nInterrupted. What is finished is kept; the same command goes on.",
            file=sys.stderr,
        )
        return 130
    return 0


def script() -> None:
    """Run the command of the shell and end the process, also while a cell trains."""
    status = main()
    if status == 130:  # Python would wait for the threads that train
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise SystemExit(status)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the program, which its page of the reference reads, too."""
    program = argparse.ArgumentParser(
        prog="richregime", description="Run the book's chapters, and see what came out."
    )
    program.add_argument(
        "--root", type=Path, default=Path(), help="the book's folder (default: here)"
    )
    commands = program.add_subparsers(required=True, metavar="COMMAND")
    for group in (runs, results, authors):
        group.add(commands)
    return program
