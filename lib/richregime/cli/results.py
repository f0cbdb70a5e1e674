"""Commands that say what came out: `status`, `claims`, `record`, `fetch`, `verify`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from richregime.chapters import BookError, chapter_named, find_root, read_chapters


def add(commands: Any) -> None:
    """Add the commands to those of the program."""
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


def _status(options: argparse.Namespace) -> None:
    from richregime.executions import read_executions
    from richregime.pages import CLAIMS, read_claims
    from richregime.tiers import archive, paper_tier

    root = find_root(options.root)
    judged, executed = read_claims(root / CLAIMS), read_executions(root)
    for chapter in (found.name for found in read_chapters(root)):
        live = [
            j for j in judged if j.claim.chapter == chapter and j.claim.tier == "live"
        ]
        good, open_ = (
            sum(j.verdict.value == verdict for j in live)
            for verdict in ("reproduced", "undecided")
        )
        print(chapter)
        print(
            f"  live   {good} of {len(live)} claims reproduced, {open_} undecided, "
            f"{executed[chapter].seconds if chapter in executed else '?'} s when last "
            "executed"
        )
        specs = paper_tier(chapter)
        if not specs:
            print("  paper  no paper tier")
            continue
        have = archive(root, chapter).find(specs)
        records = [have[spec] for spec in specs if spec in have]
        devices = sorted({str(r.provenance["device"]) for r in records})
        hours = sum(float(r.provenance["wall_s"]) for r in records) / 3600
        made = f", {hours:.1f} h on {', '.join(devices)}" if records else ""
        print(f"  paper  {len(records)} of {len(specs)} runs{made}")


def _claims(options: argparse.Namespace) -> None:
    from richregime.pages import CLAIMS, read_claims, scoreboard_text

    root = find_root(options.root)
    only = chapter_named(root, options.chapter) if options.chapter else ""
    judged = read_claims(root / CLAIMS)
    print(scoreboard_text([j for j in judged if j.claim.chapter.startswith(only)]))


def _record(options: argparse.Namespace) -> None:
    from richregime.record import record_text

    root = find_root(options.root)
    name = chapter_named(root, options.chapter)
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


def _verify(options: argparse.Namespace) -> None:
    from richregime import commands

    commands.verify(find_root(options.root), options.claims)
