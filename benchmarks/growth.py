"""How the time of training grows with width, members, steps and devices.

python benchmarks/growth.py            all four, two or three minutes on two cores
python benchmarks/growth.py --quick    short, less exact

The points of a line take turns, a power law is fitted to their medians, and what theory
expects stands beside its exponent. For every number of devices a process of its own is
started; on CPU it has as many cores.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

if "--cores" in sys.argv:  # before JAX looks at them
    count = int(sys.argv[sys.argv.index("--cores") + 1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:count]))
    flag = f"--xla_force_host_platform_device_count={count}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"

import jax
from common import (
    CORES,
    Quiet,
    Turn,
    alternate,
    child,
    exponent,
    facts,
    laid_out,
    medians,
    part_parser,
    square_rates,
    write_json,
)
from engine import Case, step_seconds
from widthlab.training.devices import use_all_cores

COLUMNS = {
    "against": "",
    "exponent": ".2f",
    "error": ".2f",
    "expected": ".2f",
    "limit": ".0f",
    "quiet": "d",
    "turns": "d",
}


def spread_case() -> Case:
    """What is spread over devices, with members for any number of them up to eight."""
    return Case(256, 8) if jax.default_backend() == "cpu" else Case(1024, 64)


def points() -> dict[str, dict[int, Case]]:
    """Return the networks of each line by the quantity that grows."""
    cpu = jax.default_backend() == "cpu"
    widths = (256, 512, 1024, 2048) if cpu else (1024, 2048, 4096, 8192)
    counts = (4, 8, 16, 32, 64) if cpu else (8, 16, 32, 64, 128)
    return {
        "width": {width: Case(width) for width in widths},
        "members": {count: Case(128 if cpu else 256, count) for count in counts},
    }


def line(against: str, cases: dict[int, Case], quick: bool, rate: float) -> dict:
    """Time a step of all members at every point."""
    seconds, repetitions = effort(quick)
    if quick:
        cases = dict(list(cases.items())[:3])
    sides = {
        str(x): functools.partial(step_seconds, case, case.steps(seconds, rate))
        for x, case in cases.items()
    }
    work = exponent(list(cases), [case.flops for case in cases.values()]).exponent
    limit = {"width": 2.0, "members": 1.0}[against]
    return fitted(against, compiled_turns(sides, repetitions), work, limit)


def steps_line(quick: bool, rate: float) -> dict:
    """Time whole trainings of more and more steps."""
    seconds, repetitions = effort(quick)
    case = Case(256) if jax.default_backend() == "cpu" else Case(1024)
    least = max(case.steps(seconds, rate) // 8, 2)
    sides = {
        str(steps): functools.partial(whole, case, steps)
        for steps in (least * 2**k for k in range(3 if quick else 5))
    }
    return fitted("steps", compiled_turns(sides, repetitions), 1.0, 1.0)


def whole(case: Case, steps: int) -> float:
    return step_seconds(case, steps) * steps


def effort(quick: bool) -> tuple[float, int]:
    return (0.1, 2) if quick else (0.4, 5)


def compiled_turns(
    sides: dict[str, Callable[[], float]], repetitions: int
) -> list[Turn]:
    for side in sides.values():
        side()  # compiles
    return alternate(sides, repetitions)


def fitted(against: str, turns: list[Turn], expected: float, limit: float) -> dict:
    found, quiet, total = medians(turns)
    fit = exponent([int(x) for x in found], list(found.values()))
    return {
        "against": against,
        "points": [{"x": int(x), "seconds": s} for x, s in found.items()],
        "exponent": fit.exponent,
        "error": fit.error,
        "expected": expected,
        "limit": limit,
        "quiet": quiet,
        "turns": total,
    }


# --- devices


def device_counts() -> list[int]:
    """Return the numbers of devices to compare: all powers of two that there are."""
    most = CORES if jax.default_backend() == "cpu" else jax.local_device_count()
    return [2**k for k in range(most.bit_length()) if 2**k <= most]


def devices_line(quick: bool) -> dict | None:
    """Time the same members on more and more devices, the processes in turns."""
    counts = device_counts()
    if len(counts) < 2:
        return None
    repetitions = 1 if quick else 3
    turns = []
    for _ in range(repetitions):
        found = {n: child("growth.py", *on_devices(n, quick)) for n in counts}
        readings = {str(n): reading["seconds"] for n, reading in found.items()}
        disturbed = any(reading["disturbed"] for reading in found.values())
        turns.append(Turn(readings, disturbed))
    return fitted("devices", turns, -1.0, -1.0)


def on_devices(count: int, quick: bool) -> list[str]:
    kind = "--cores" if jax.default_backend() == "cpu" else "--devices"
    return [kind, str(count), *(["--quick"] if quick else [])]


def on_these_devices(count: int, quick: bool) -> dict[str, Any]:
    case, (seconds, repetitions) = spread_case(), effort(quick)
    steps = case.steps(seconds, max(square_rates().values()))
    devices = jax.local_devices()[:count]
    assert len(devices) == count, f"{len(devices)} devices, not {count}"
    sides = {"step": functools.partial(step_seconds, case, steps, devices=devices)}
    found, quiet, total = medians(compiled_turns(sides, repetitions))
    return {"seconds": found["step"], "disturbed": quiet < min(2, total)}


def command_line() -> argparse.Namespace:
    parser = part_parser(__doc__, quick="short, less exact")
    parser.add_argument("--devices", type=int, help="time on so many devices only")
    parser.add_argument("--cores", type=int, help="the same, each device a CPU core")
    return parser.parse_args()


def main() -> None:
    options = command_line()
    use_all_cores()
    if count := options.devices or options.cores:
        print(json.dumps(on_these_devices(count, options.quick)))
        return
    report: dict[str, Any] = facts()
    Quiet.wait()
    rate = max(square_rates().values())
    lines = [line(*item, options.quick, rate) for item in points().items()]
    lines += [steps_line(options.quick, rate), devices_line(options.quick)]
    report["lines"] = [found for found in lines if found]
    write_json(options.json, report)
    print(laid_out(report["lines"], COLUMNS))


if __name__ == "__main__":
    main()
