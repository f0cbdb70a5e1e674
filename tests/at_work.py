"""What workers of tests do: they import this module, which costs next to nothing."""

import os
import signal
import time

_NOW = time.time


def other_clock(hours):
    """Make a worker's clock another machine's."""
    time.time = lambda: _NOW() + 3600 * hours


def hour():
    return time.time() / 3600


def slow(cell):
    time.sleep(0.3)
    return cell


def die_once(folder, cell):
    """Kill the process at the first sight of one cell; note every beginning."""
    marks = folder / f"{cell}-{time.monotonic_ns()}"
    seen = list(folder.glob(f"{cell}-*"))
    marks.touch()
    if cell == 1 and not seen:
        os.kill(os.getpid(), signal.SIGKILL)
    return cell


def die(cell):
    os.kill(os.getpid(), signal.SIGKILL)
