"""Commands that run experiments: `run`, `reproduce` and `stability`."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from richregime.chapters import BookError, chapter_named, find_root

_SHOWN_GROUPS = 40


def add(commands: Any) -> None:
    """Add the commands to those of the program."""
    run = commands.add_parser("run", help="run a chapter's experiments")
    run.add_argument("chapter", help="its name or number, as 3")
    run.add_argument(
        "--tier",
        choices=("live", "paper"),
        default="live",
        help="live: execute the notebook and compare its verdicts; paper: run what is "
        "missing at the paper's scale and store it in results/",
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would run, and estimate operations, time and memory",
    )
    run.add_argument(
        "--minutes", type=float, default=math.inf, help="begin nothing after this time"
    )
    run.add_argument(
        "--together", type=int, help="runs that train together, at most (a cell)"
    )
    where = run.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDR", help="of a Dask cluster")
    where.add_argument("--workers", type=int, help="processes of this machine")
    where.add_argument(
        "--gpus", metavar="0,1,...", help="one process for each of these GPUs"
    )
    run.set_defaults(command=_run)

    reproduce = commands.add_parser(
        "reproduce", help="run all chapters from scratch and compare their verdicts"
    )
    reproduce.set_defaults(command=_reproduce)

    stability = commands.add_parser(
        "stability",
        help="run chapters with other seeds, and with starts moved by rounding, and "
        "store what becomes of their verdicts",
    )
    stability.add_argument(
        "chapters", nargs="*", help="names or numbers, as 3; none means all"
    )
    stability.add_argument(
        "--seeds", type=int, default=2, help="further sets of seeds (default: 2)"
    )
    stability.add_argument(
        "--perturb",
        type=int,
        default=3,
        help="times that starts are moved, compared with a run as it is (default: 3)",
    )
    stability.set_defaults(command=_stability)


def _run(options: argparse.Namespace) -> None:
    root = find_root(options.root)
    chapter = chapter_named(root, options.chapter)
    if options.tier == "live":
        _run_live(root, chapter, options)
        return
    from richregime.tiers import archive, paper_tier

    specs = paper_tier(chapter)
    if not specs:
        raise BookError(
            f"{chapter} has no paper tier; the chapter says why. Its live tier: "
            f"richregime run {options.chapter}"
        )
    kept = archive(root, chapter)
    have = kept.find(specs)
    missing = [spec for spec in specs if spec not in have]
    print(f"{chapter}, paper tier: {len(specs) - len(missing)} of {len(specs)} runs")
    if options.dry_run:
        _estimate(missing, options)
    elif missing:
        _run_paper(kept, specs, len(missing), options)


def _run_live(root: Path, chapter: str, options: argparse.Namespace) -> None:
    from richregime import commands

    if options.dry_run:
        _estimate_live(root, chapter)
        return
    commands.reproduce(root, [chapter], build=False)


def _estimate_live(root: Path, chapter: str) -> None:
    """Print what executing a chapter took, and scale it to this machine."""
    from richregime.executions import read_executions
    from richregime.tiers import product_rate

    last = read_executions(root).get(chapter)
    if last is None:
        print(f"{chapter}, live tier: never executed")
        return
    print(f"{chapter}, live tier: {last.seconds} s when last executed, on {last.place}")
    if last.gflops is None:
        print("How fast that machine was is not recorded: no estimate for this one.")
        return
    here = product_rate() / 1e9
    print(
        f"About {_span(last.seconds * last.gflops / here)} here, if time follows the "
        f"rate of large matrix products:\n{here:.0f} GFLOP/s here, "
        f"{last.gflops:.0f} there. This is an estimate: much of the time goes into "
        "compilation,\nwhich follows the speed of single cores instead."
    )


def _run_paper(
    kept: Any, specs: Sequence[Any], missing: int, options: argparse.Namespace
) -> None:
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    bar = tqdm(
        total=len(specs),
        initial=len(specs) - missing,
        unit="run",
        mininterval=0.5 if terminal else 0,
        ascii=not terminal,
        dynamic_ncols=terminal,
    )
    with bar, _executor(options) as executor:
        added = kept.run(
            specs,
            minutes=options.minutes,
            executor=executor,
            together=options.together,
            done=lambda finished, _: _advance(bar, finished),
        )
    print(f"{added} run(s) added to {kept.path}")


def _advance(bar: Any, finished: int) -> None:
    bar.update(finished - bar.n)


@contextlib.contextmanager
def _executor(options: argparse.Namespace) -> Iterator[Any]:
    from widthlab.runs.executors import Processes

    if options.scheduler:
        with _client(options.scheduler) as client:
            yield client
    elif options.gpus:
        with Processes(gpus=options.gpus.split(",")) as pool:
            yield pool
    elif options.workers:
        with Processes(options.workers) as pool:
            yield pool
    else:
        yield None


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise BookError(
            'A scheduler needs Dask: pip install -e ".[cluster]"'
        ) from error
    try:
        return Client(address, timeout=30)
    except (OSError, ValueError) as error:
        raise BookError(f"No scheduler answers at {address}: {error}") from error


def _estimate(missing: Sequence[Any], options: argparse.Namespace) -> None:
    """Print what runs would take."""
    from widthlab.runs.archive import runs_in_a_cell
    from widthlab.runs.cells import cells

    from richregime.tiers import costs, measured_rate

    found = costs(missing)
    if not found:
        print("Nothing is missing.")
        return
    elsewhere = options.scheduler or options.workers or options.gpus
    together = runs_in_a_cell(options.together, elsewhere=bool(elsewhere))
    count = len(cells(missing, together or len(missing)))
    rate = measured_rate()
    print(f"\n{'runs':>5}  {'operations':>10}  {'time':>8}  {'a run':>8}  what")
    for cost in found[:_SHOWN_GROUPS]:
        print(
            f"{cost.runs:>5}  {cost.flops:>10.1e}  {_span(cost.flops / rate):>8}  "
            f"{cost.bytes / 1e6:>5.0f} MB  {cost.label}"
        )
    if len(found) > _SHOWN_GROUPS:
        print(f"  and {len(found) - _SHOWN_GROUPS} more kinds of runs")
    flops = sum(cost.flops for cost in found)
    data = max(cost.data_bytes for cost in found)
    print(
        f"\n{len(missing)} runs in {count} cell(s), {flops:.1e} operations: about "
        f"{_span(flops / rate)} on this machine,\nat {rate / 1e9:.0f} GFLOP/s, half of "
        f"its rate in large products. Data take up to {data / 1e6:.0f} MB."
    )


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _reproduce(options: argparse.Namespace) -> None:
    from richregime import commands

    commands.reproduce(find_root(options.root))


def _stability(options: argparse.Namespace) -> None:
    from richregime import varying

    root = find_root(options.root)
    varying.measure(
        root, options.chapters, seeds=options.seeds, perturb=options.perturb
    )
