"""How long things take: what was measured, and what follows from it elsewhere.

Every number comes from a file in `results/`; what is not measured is said not to be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from richregime.chapters import Chapter, read_chapters
from richregime.executions import read_executions
from richregime.progress import clock
from richregime.tables import UNKNOWN, link, table

CHECKS = Path("results/checks.json")
BENCHMARKS = Path("results/benchmarks")


def measured(root: Path) -> str:
    """Say what each command took where it was timed."""
    return table(("what", "command", "took", "on"), _measured(root))


def _measured(root: Path) -> Iterator[tuple[str, str, str, str]]:
    checks = _read(root / CHECKS)
    yield "the environment, once", "any of them", *_install(checks)
    last = read_executions(root)
    chapters = [c for c in read_chapters(root) if c.name in last]
    for chapter in chapters:
        found = last[chapter.name]
        where = found.place if found.device else UNKNOWN
        yield (
            chapter.place,
            f"`richregime run {chapter.word}`",
            f"{clock(found.seconds)} min",
            where,
        )
    places = {last[c.name].place if last[c.name].device else UNKNOWN for c in chapters}
    total = sum(last[chapter.name].seconds for chapter in chapters)
    yield (
        "all chapters",
        "`make reproduce`",
        f"{clock(total)} min",
        ", ".join(sorted(places)),
    )
    yield "all checks", "`make test`", *_tests(checks)


def _install(checks: Mapping[str, Any]) -> tuple[str, str]:
    if not checks.get("install"):
        return UNKNOWN, ""
    return f"{clock(checks['install'])} min", _machine(checks)


def _tests(checks: Mapping[str, Any]) -> tuple[str, str]:
    if not checks:
        return UNKNOWN, ""
    stages = checks["stages"]
    chapters = clock(stages["nbval"])
    total = f"{clock(sum(stages.values()))} min, of which {chapters} the chapters"
    return total, _machine(checks)


def _machine(facts: Mapping[str, Any]) -> str:
    return f"{facts['cores']} cores of {facts['cpu']}"


def elsewhere(root: Path) -> str:
    """Say how far another processor can change that, from the benchmarks' readings."""
    machines = [_read(path) for path in sorted((root / BENCHMARKS).glob("*.json"))]
    lines = [line for machine in machines for line in _shares(machine)]
    if all(machine["machine"]["platform"] == "cpu" for machine in machines):
        lines.append("- **GPU.** Nothing of the above was measured on one.")
    return "\n".join(lines)


def _shares(machine: Mapping[str, Any]) -> Iterator[str]:
    facts, parts = machine["machine"], machine["parts"]
    on = f"On {facts['devices']} × {facts['device']}"
    if facts["platform"] == "cpu":
        on = f"On {_machine(facts)}"
    first = [r for r in parts["compilation"]["readings"] if r["cache"] == "empty"]
    shares = ", ".join(f"{_name(r['what'])} {100 * r['share']:.0f} %" for r in first)
    if shares:
        yield (
            f"- **Compilation.** {on}, something was being compiled for this share of "
            f"a first run: {shares}. That part follows the speed of single cores; "
            "more of them, or a GPU, hardly shorten it. With cores of the same speed "
            "that share of the times above is the least to expect."
        )
    rates = [r["of_square"] for r in parts["training"]["readings"]]
    squares = sorted(r["square_gflops"] for r in parts["training"]["readings"])
    if rates:
        middle = squares[len(squares) // 2]
        yield (
            f"- **Training.** {on}, a large float32 product of matrices ran at about "
            f"{middle:.0f} GFLOP/s (the median of {len(squares)} readings), and "
            f"training at {min(rates):.2f} to {max(rates):.2f} of that rate, depending "
            "on width and batch: more where networks are wider."
        )


def _name(what: str) -> str:
    return "of small networks" if what == "sweep" else f"chapter `{what}`"


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left of a chapter's paper tier, and what the stored part took.

    Attributes:
        missing: runs that are not stored.
        flops: their floating-point operations in products of matrices.
        rate: operations a second that the stored runs reached, all their time counted;
            None without any.
    """

    missing: int
    flops: float
    rate: float | None

    @property
    def hours(self) -> float | None:
        """Estimate of the time that is left at that rate."""
        return self.flops / self.rate / 3600 if self.rate else None


def rest(root: Path, chapter: Chapter) -> Rest | None:
    """Return what is left of a chapter's paper tier; None if it has no such tier."""
    from richregime import tiers

    planned = tiers.paper_tier(chapter.name)
    if not planned:
        return None
    have = tiers.stored(root, chapter.name)
    missing = [spec for spec in planned if spec not in have]
    seconds = sum(float(record.provenance["wall_s"]) for record in have.values())
    done = sum(cost.flops for cost in tiers.costs(have))
    left = sum(cost.flops for cost in tiers.costs(missing))
    return Rest(len(missing), left, done / seconds if seconds else None)


def paper(root: Path) -> str:
    """Estimate what the missing runs of the paper tiers would take."""
    rows = []
    for chapter in read_chapters(root):
        if found := rest(root, chapter):
            rate = f"{found.rate / 1e9:.0f} GFLOP/s" if found.rate else UNKNOWN
            hours = "" if found.hours is None else f"about {found.hours:,.0f} h"
            rows.append(
                (
                    link(root, chapter, short=True),
                    f"{found.missing} runs",
                    f"{found.flops:.1e}",
                    rate,
                    hours,
                    f"`make paper CHAPTER={chapter.word}`",
                )
            )
    head = ("of", "missing", "operations", "stored runs reached", "estimate", "")
    return table(head, rows)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
