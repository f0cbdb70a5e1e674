"""The command line: `richregime COMMAND`, or `python -m richregime COMMAND`."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from widthlab.data.raw import DataError
from widthlab.runs.executors import LostWorkersError

from richregime.chapters import BookError, find_root, read_chapters

_SHOWN_GROUPS = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 if something needs mending."""
    options = parser().parse_args(arguments)
    # A kill is an interruption too: what is finished is kept, the rest not begun.
    with contextlib.suppress(ValueError):  # only in a main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options.command(options)
    except (BookError, DataError, LostWorkersError, MemoryError) as error:
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
    _add_runs(commands)
    _add_results(commands)
    _add_authors(commands)
    return program


def _add_runs(commands: Any) -> None:
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


def _add_results(commands: Any) -> None:
    status = commands.add_parser("status", help="what has been run, and where")
    status.set_defaults(command=_status)

    claims = commands.add_parser("claims", help="the committed claims and verdicts")
    claims.add_argument("chapter", nargs="?", help="of one chapter")
    claims.set_defaults(command=_claims)

    record = commands.add_parser(
        "record", help="a chapter's reproduction record, as JSON"
    )
    record.add_argument("chapter", help="its name or number, as 3")
    record.set_defaults(command=_record)

    fetch = commands.add_parser(
        "fetch", help="download a data set, or check the files that are there"
    )
    fetch.add_argument("name", help="as mnist, fashion-mnist or cifar10")
    fetch.set_defaults(command=_fetch)

    verify = commands.add_parser("verify", help="compare verdicts with the committed")
    verify.add_argument("claims", type=Path, help="a claims file")
    verify.set_defaults(command=_verify)


def _add_authors(commands: Any) -> None:
    execute = commands.add_parser("execute", help="re-execute chapters in place")
    execute.add_argument("chapters", nargs="*", help="chapter names; none means all")
    execute.set_defaults(command=_execute)
    check = commands.add_parser(
        "check", help="check the committed chapters without running them"
    )
    check.set_defaults(command=_check)
    drawn = commands.add_parser("map", help="write what the map takes from the library")
    drawn.set_defaults(command=_map)
    where = commands.add_parser("address", help="say, check or change the address")
    where.add_argument("url", nargs="?", help="https://github.com/OWNER/REPOSITORY")
    where.add_argument("--site", help="the site, if it is not GitHub's own")
    where.add_argument("--check", action="store_true", help="compare, change nothing")
    where.set_defaults(command=_address)
    site = commands.add_parser("html", help="render the site into _build/html")
    site.set_defaults(command=_html)
    printed = commands.add_parser("pdf", help="print the site as one PDF")
    printed.set_defaults(command=_pdf)
    new = commands.add_parser("new", help="begin a chapter from the template")
    new.add_argument("name", help="as 06-my-paper")
    new.add_argument("--title", help="its heading")
    new.add_argument("--paper", metavar="KEY", help="of the paper in references.bib")
    new.add_argument(
        "--claims", metavar="LETTERS", help="what ids of claims begin with, as mp"
    )
    new.set_defaults(command=_new)


def _chapter(root: Path, word: str) -> str:
    """Return the chapter that a name, the beginning of one, or a number means."""
    names = [chapter.name for chapter in read_chapters(root)]
    number = f"{int(word):02d}-" if word.isdecimal() else word
    found = [name for name in names if name.startswith(number)]
    if len(found) != 1:
        raise BookError(f"No chapter is called {word!r}; there are {', '.join(names)}.")
    return found[0]


# --- run


def _run(options: argparse.Namespace) -> None:
    root = find_root(options.root)
    chapter = _chapter(root, options.chapter)
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


# --- status, claims, record, data


def _status(options: argparse.Namespace) -> None:
    from richregime.executions import read_executions
    from richregime.pages import CLAIMS, read_claims
    from richregime.tiers import paper_tier, stored

    root = find_root(options.root)
    judged, executed = read_claims(root / CLAIMS), read_executions(root)
    for chapter in (found.name for found in read_chapters(root)):
        live = [
            j for j in judged if j.claim.chapter == chapter and j.claim.tier == "live"
        ]
        good = sum(j.verdict.value == "reproduced" for j in live)
        print(chapter)
        print(
            f"  live   {good} of {len(live)} claims reproduced, "
            f"{executed[chapter].seconds if chapter in executed else '?'} s when last "
            "executed"
        )
        specs = paper_tier(chapter)
        if not specs:
            print("  paper  no paper tier")
            continue
        have = stored(root, chapter)
        records = [have[spec] for spec in specs if spec in have]
        devices = sorted({str(r.provenance["device"]) for r in records})
        hours = sum(float(r.provenance["wall_s"]) for r in records) / 3600
        made = f", {hours:.1f} h on {', '.join(devices)}" if records else ""
        print(f"  paper  {len(records)} of {len(specs)} runs{made}")


def _claims(options: argparse.Namespace) -> None:
    from richregime.pages import CLAIMS, read_claims, scoreboard_text

    root = find_root(options.root)
    only = _chapter(root, options.chapter) if options.chapter else ""
    judged = read_claims(root / CLAIMS)
    print(scoreboard_text([j for j in judged if j.claim.chapter.startswith(only)]))


def _record(options: argparse.Namespace) -> None:
    from richregime.record import record_text

    root = find_root(options.root)
    name = _chapter(root, options.chapter)
    (chapter,) = (one for one in read_chapters(root) if one.name == name)
    print(record_text(root, chapter), end="")


def _fetch(options: argparse.Namespace) -> None:
    from widthlab.data import DataSpec

    try:
        data = DataSpec(options.name).load()
    except ValueError as error:
        raise BookError(str(error)) from error
    print(
        f"{options.name}: {len(data.x_train)} and {len(data.x_test)} rows of "
        f"{data.x_train.shape[1]}, sha256 {data.sha256[:16]}"
    )


# --- authors, and whoever reproduces everything


def _reproduce(options: argparse.Namespace) -> None:
    from richregime import commands

    commands.reproduce(find_root(options.root))


def _verify(options: argparse.Namespace) -> None:
    from richregime import commands

    commands.verify(find_root(options.root), options.claims)


def _execute(options: argparse.Namespace) -> None:
    from richregime import commands

    commands.execute(find_root(options.root), options.chapters)


def _check(options: argparse.Namespace) -> None:
    from richregime import commands

    commands.status(find_root(options.root))


def _map(options: argparse.Namespace) -> None:
    from richregime.map import write_map

    write_map(find_root(options.root))


def _address(options: argparse.Namespace) -> None:
    from richregime import address

    root = find_root(options.root)
    if options.url is not None and not options.check:
        address.move(root, options.url, options.site)
    print("The book is at {}, its site at {}".format(*address.read_address(root)))
    given = (options.url, options.site) if options.check else ()
    if problems := address.address_problems(root, *given):
        raise BookError("\n".join(problems))


def _html(options: argparse.Namespace) -> None:
    from richregime import pages

    pages.html(find_root(options.root))


def _pdf(options: argparse.Namespace) -> None:
    from richregime.pdf import pdf

    pdf(find_root(options.root))


def _new(options: argparse.Namespace) -> None:
    from richregime.new import new_chapter

    new_chapter(
        find_root(options.root),
        options.name,
        title=options.title,
        paper=options.paper,
        claims=options.claims,
    )
