"""What all benchmarks share: quiet moments, alternating turns, rates, fits, facts.

JAX and PyTorch are imported only where they are used, so that a program that starts
others stays small.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from widthlab import machine

ROOT = Path(__file__).resolve().parents[1]
CORES = machine.cores()


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# --- other processes


class Quiet:
    """Notice what other processes do (Linux; elsewhere nothing is noticed)."""

    LIMIT = 0.08  # share of the machine
    seconds_left = 60.0  # patience, for the whole process

    def __init__(self) -> None:
        self.start, self.foreign = time.perf_counter(), self._foreign()

    @staticmethod
    def _foreign() -> float:
        """Return the seconds of this process's cores that others have used."""
        try:
            text = Path("/proc/stat").read_text(encoding="ascii")
        except OSError:
            return 0.0
        # Compilers that this process has started and waited for are not foreign.
        own = sum(os.times()[:4])
        return busy_ticks(text, machine.own_cores()) / os.sysconf("SC_CLK_TCK") - own

    def disturbed(self) -> bool:
        """Whether others have used the cores since this object was made."""
        passed = time.perf_counter() - self.start
        return self._foreign() - self.foreign > self.LIMIT * CORES * passed + 0.02

    @classmethod
    def wait(cls) -> None:
        """Wait for a quiet moment, as long as there is patience."""
        while cls.seconds_left > 0:
            window = cls()
            time.sleep(0.25)
            if not window.disturbed():
                return
            cls.seconds_left -= 0.25


def busy_ticks(stat: str, cores: set[int]) -> int:
    """Return the ticks in which some cores were not idle, by the text of /proc/stat."""
    total = 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cores:
            ticks = [int(field) for field in fields[:8]]
            total += sum(ticks) - ticks[3] - ticks[4]  # idle, waiting for a disk
    return total


class Turn(NamedTuple):
    """One repetition: what each side read, and whether others used the cores."""

    readings: dict[str, float]
    disturbed: bool


class Median(NamedTuple):
    """Medians of the sides, and how many of the turns were quiet."""

    readings: dict[str, float]
    quiet: int
    turns: int


def medians(turns: Sequence[Turn], enough: int = 2) -> Median:
    """Take medians over the quiet turns, or over all if too few were quiet."""
    quiet = [turn for turn in turns if not turn.disturbed]
    kept = quiet if len(quiet) >= enough else turns
    found = {
        side: statistics.median(turn.readings[side] for turn in kept)
        for side in turns[0].readings
    }
    return Median(found, len(quiet), len(turns))


def alternate(sides: dict[str, Callable[[], float]], repetitions: int) -> list[Turn]:
    """Let each side take its reading in turn, after a quiet moment."""
    turns = []
    for _ in range(repetitions):
        Quiet.wait()
        watch = Quiet()
        readings = {side: reading() for side, reading in sides.items()}
        turns.append(Turn(readings, watch.disturbed()))
    return turns


# --- the rate of a large product


def square_size() -> int:
    """Return the side of a product that is large for the device."""
    import jax

    return 2048 if jax.default_backend() == "cpu" else 8192


@functools.cache
def _square() -> Callable[[Any, Any], Any]:
    import jax

    return jax.jit(lambda a, b: jax.numpy.matmul(a, b, precision="highest"))


@functools.cache
def square_matrix() -> np.ndarray:
    """Return the matrix whose square is taken."""
    size = square_size()
    return np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)


@functools.cache
def _squaring() -> Callable[[], Any]:
    import jax

    here = jax.device_put(square_matrix(), jax.local_devices()[0])
    return lambda: _square()(here, here).block_until_ready()


def square_rates(
    peers: Mapping[str, Callable[[], Any]] = MappingProxyType({}), repetitions: int = 3
) -> dict[str, float]:
    """Return operations per second of one large square product in float32.

    Peers are other ways to square `square_matrix`, by name.
    """
    work = 2 * square_size() ** 3
    sides = {"jax": _squaring(), **peers}
    return {side: work / best(f, repetitions) for side, f in sides.items()}


def best(work: Callable[[], Any], repetitions: int) -> float:
    work()
    return min(timed(work) for _ in range(repetitions))


# --- exponents


class Fit(NamedTuple):
    """An exponent and its standard error, which two points do not have."""

    exponent: float
    error: float | None


def exponent(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Fit a power law by least squares in the logarithms."""
    u, v = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    if len(set(u)) < 2:
        raise ValueError(f"an exponent needs two different points, not {list(x)}")
    spread = float(((u - u.mean()) ** 2).sum())
    slope = float(((u - u.mean()) * (v - v.mean())).sum() / spread)
    if len(u) < 3:
        return Fit(slope, None)
    residual = v - v.mean() - slope * (u - u.mean())
    variance = float((residual**2).sum()) / (len(u) - 2)
    return Fit(slope, math.sqrt(variance / spread))


# --- memory


def peak_bytes() -> int:
    """Return the largest size that this process has had.

    On Linux not by getrusage, whose number is at least that of the process which
    started this one.
    """
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# --- machines and files


def facts() -> dict[str, Any]:
    """Say what is measured on; JAX is started by this."""
    import jax
    from widthlab.training.devices import use_all_cores

    use_all_cores()
    device = jax.local_devices()[0]
    cpu = device.platform == "cpu"
    return {
        "device": "CPU" if cpu else device.device_kind,
        "platform": device.platform,
        "devices": len(jax.local_devices()),
        "cpu": machine.cpu_model(),
        "cores": CORES,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": machine.version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
    }


def commit() -> str | None:
    """Return the commit that is checked out, with a plus if files were changed."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def slug(found: dict[str, Any]) -> str:
    """Name a machine: cpu-2-cores, or its accelerators."""
    if found["platform"] == "cpu":
        return f"cpu-{found['cores']}-cores"
    name = re.sub(r"[^a-z0-9]+", "-", found["device"].lower()).strip("-")
    return f"{name}-x{found['devices']}"


def child(script: str, *arguments: str, env: dict[str, str] | None = None) -> Any:
    """Run one of these programs as a process of its own, and read its JSON line."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="widthlab-bench-") as folder:
        yield Path(folder)


def part_parser(doc: str | None, quick: str) -> argparse.ArgumentParser:
    """Return the options that all parts have; `quick` says what a quick run leaves."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--quick", action="store_true", help=quick)
    made.add_argument("--json", metavar="PATH", help="write the readings here, too")
    return made


def write_json(path: str | Path | None, report: Any) -> None:
    """Write a report where one asked for it."""
    if path is None:
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def laid_out(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> str:
    """Lay out rows for a terminal; a column is a key and how its value is written."""
    body = [
        [_cell(row.get(key), form) for key, form in columns.items()] for row in rows
    ]
    lines = [list(columns), *body]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True))
        for line in lines
    )


def _cell(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    print(json.dumps(facts()))
