"""Time the training engine against this machine's matrix products and PyTorch.

python benchmarks/training.py              all readings, about ten minutes on two cores
python benchmarks/training.py --quick      three lines, short readings
python benchmarks/training.py --case integrable   one line only; --help lists the names
python benchmarks/training.py --layouts    the layouts that the engine chooses from

Every ratio comes from one process: repetitions of all sides and of a large matrix
product alternate, and medians are compared. Compilation is timed apart. A repetition
waits until other processes leave the cores alone; those disturbed nevertheless are left
out where enough others remain, and counted.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

# Both libraries share an accelerator's memory; JAX would take most of it at once.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import layouts
import numpy as np
from common import (
    CORES,
    Quiet,
    Turn,
    facts,
    laid_out,
    medians,
    part_parser,
    scratch,
    square_rates,
    write_json,
)
from engine import Case, Kernels, Pulse, make_data, make_members, products, weights
from widthlab.training import ensemble as training

try:
    import torch
except ModuleNotFoundError:
    torch, SQUARINGS = None, {}
else:
    import peers

    SQUARINGS = {"torch": lambda: peers.squaring()()}

# The sizes in the experiments of Hajjar, Chizat and Giraud 2024 on integrable
# parametrizations: L = 6, m = 1024, B = 512.
INTEGRABLE = Case(1024, depth=6, batch=512, name="integrable")
QUICK = [Case(64), Case(64, 8), Case(512, batch=512)]
COLUMNS = {
    "name": "",
    "steps_per_s": ".4g",
    "of_square": ".2f",
    "of_products": ".2f",
    "compile_s": ".1f",
    "eager": ".4g",
    "compiled": ".4g",
    "batched": ".4g",
    "processes": ".4g",
    "ratio": ".2f",
    "quiet": "d",
}


def cases() -> list[Case]:
    """Single runs, sweeps and large batches that suit the device."""
    if jax.default_backend() == "cpu":
        singles = (64, 128, 256, 512, 1024, 2048)
        sweeps = [(64, (8, 32, 128)), (128, (8, 32, 128)), (256, (8, 32, 128))]
        sweeps += [(512, (32,)), (1024, (8,))]
        large = (1024, 2048)
    else:
        singles = (256, 512, 1024, 2048, 4096, 8192)
        sweeps = [(width, (8, 32, 128)) for width in (64, 128, 256, 512)]
        large = (1024, 2048, 4096, 8192)
    return [
        *(Case(width) for width in singles),
        *(Case(width, members) for width, counts in sweeps for members in counts),
        *(Case(width, batch=512) for width in large),
        INTEGRABLE,
    ]


# --- both sides do the same work


def check_same_work(steps: int = 20) -> dict[str, float]:
    """Return the largest gap to each side's losses from the same weights."""
    gaps = {}
    for members in (1, 2):
        case = Case(48, members)  # no line has this width, so all are compiled cold
        data = make_data(64)  # the batch is all of it, so its order does not matter
        plan = training.Plan(
            case.shape, "cross-entropy", training.Optimizer("sgd"), 64, steps, 64
        )
        probes = (Kernels(),)
        outcome = training.train(plan, make_members(case), data, (0, steps), probes)
        start = outcome.observations[0]["kernels"]
        same = [[layer[m] for layer in start] for m in range(members)]
        for name, kind in peers.sides(members).items():
            found = losses(kind(case, data, same), steps, members)
            gaps[f"{name}, {members}"] = float(np.abs(found - outcome.losses).max())
    if max(gaps.values()) > 1e-4:
        raise SystemExit(f"not all sides do the same work: losses are apart by {gaps}")
    return gaps


def losses(side: Any, steps: int, members: int) -> np.ndarray:
    """Return the losses of a side, with members in front."""
    side.advance(steps)
    found = np.array([np.asarray(loss.cpu()) for loss in side.losses])
    return found.T if found.ndim == 2 else found.reshape(members, steps)


# --- readings


def measure(case: Case, seconds: float, repetitions: int, rate: float) -> dict:
    """Time one case: the engine, PyTorch's sides and a square product take turns."""
    steps = case.steps(seconds, rate)
    warm = max(steps // 4, 2)
    stops = [0, warm, *(warm + steps * (i + 1) for i in range(repetitions))]
    data = make_data()
    others = prepared(case, data)
    products_alone = products(case, seconds / 2, rate)
    first: dict[str, float] = {}
    turns: list[Turn] = []
    start = began = time.perf_counter()
    compiled, quiet = 0.0, Quiet()

    def pause(stop: int) -> None:
        # The engine is idle in here: the probe has waited for the weights.
        nonlocal start, compiled, quiet
        took = time.perf_counter() - start
        if stop == 0:
            compiled = time.perf_counter() - began
        elif stop == warm:
            for name, other in others.items():
                first[name] = other.get_ready(seconds)
        else:
            readings = {name: other.reading() for name, other in others.items()}
            square = max(square_rates(SQUARINGS if others else {}, 2).values())
            machine = {"square": square, "products": products_alone()}
            found = {"widthlab": took / steps, **machine, **readings}
            turns.append(Turn(found, quiet.disturbed()))
        Quiet.wait()
        quiet, start = Quiet(), time.perf_counter()

    outcome = training.train(
        case.plan(stops[-1]),
        make_members(case),
        data,
        stops,
        (Pulse(),),
        devices=same_devices(),
        on_checkpoint=pause,
    )
    assert (outcome.diverged_at < 0).all(), "a member diverged: nothing was measured"
    return {
        **report_of(case, turns),
        "steps_per_repetition": steps,
        "compile_s": compiled,
        "first_call_s": first,
        "graphs_left_out": peers.graphs_left_out() if others else None,
    }


def same_devices() -> list[Any]:
    """Return the devices to train on: PyTorch's sides use all cores, or one GPU."""
    devices = jax.local_devices()
    return devices if jax.default_backend() == "cpu" else devices[:1]


def prepared(case: Case, data: Any) -> dict[str, Any]:
    if torch is None:
        return {}
    peers.forget_programs()
    same = weights(case)
    return {
        name: kind(case, data, same) for name, kind in peers.sides(case.members).items()
    }


def report_of(case: Case, turns: Sequence[Turn]) -> dict[str, Any]:
    """Turn the seconds of steps into rates and ratios."""
    found, quiet, all_turns = medians(turns)
    mine, square = found.pop("widthlab"), found.pop("square")
    alone, theirs = case.flops / case.members / found.pop("products"), found
    loops = [theirs[side] for side in ("eager", "compiled") if side in theirs]
    rate = case.flops / mine
    return {
        "name": case.name,
        "width": case.width,
        "depth": case.depth,
        "batch": case.batch,
        "members": case.members,
        "turns": all_turns,
        "quiet": quiet,
        "steps_per_s": case.members / mine,
        "gflops": rate / 1e9,
        "square_gflops": square / 1e9,
        "of_square": rate / square,
        "products_gflops": alone / 1e9,
        "of_products": rate / alone,
        **{side: case.members / seconds for side, seconds in theirs.items()},
        "ratio": min(loops) / mine if loops else None,
        "ratio_all": min(theirs.values()) / mine if theirs else None,
    }


# --- command line


def command_line() -> argparse.Namespace:
    named = {case.name: case for case in cases()}
    parser = part_parser(__doc__, quick="short, less exact")
    parser.add_argument(
        "--case",
        choices=named,
        metavar="NAME",
        help=f"measure only this line; one of {', '.join(named)}",
    )
    parser.add_argument("--layouts", action="store_true", help="compare layouts only")
    parser.add_argument(
        "--patience",
        type=float,
        default=Quiet.seconds_left,
        metavar="SECONDS",
        help="how long to wait, in all, for other processes (default %(default).0f)",
    )
    options = parser.parse_args()
    options.cases = [named[options.case]] if options.case else cases()
    if options.quick and not options.case:
        options.cases = QUICK
    return options


def main() -> None:
    training.use_all_cores()
    options = command_line()
    Quiet.seconds_left = options.patience
    report: dict[str, Any] = facts()
    print(", ".join(f"{name} {value}" for name, value in report.items()), flush=True)
    seconds, repetitions = (0.15, 3) if options.quick else (0.4, 5)
    if options.layouts:
        report["layouts"] = layouts.compare(seconds, 1 if options.quick else 3)
        write_json(options.json, report)
        return
    if torch is None:
        print('no PyTorch to compare with; get it by pip install -e ".[bench]"')
    else:
        peers.prepare(CORES)
        report["largest_gap_of_losses"] = check_same_work()
    Quiet.wait()
    rates = square_rates(SQUARINGS)
    report["square_gflops"] = {side: rate / 1e9 for side, rate in rates.items()}
    report["readings"] = []
    for case in options.cases:
        reading = measure(case, seconds, repetitions, max(rates.values()))
        report["readings"].append(reading)
        print(f"{case.name}: {reading['steps_per_s']:.4g} steps/s", flush=True)
        write_json(options.json, report)
    print(laid_out(report["readings"], COLUMNS))


if __name__ == "__main__":
    with scratch() as folder:  # so that PyTorch compiles what it has compiled before
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
        main()
