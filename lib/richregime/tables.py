"""Tables of what ran, when and on what: Markdown made from the files in `results/`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from widthlab.claims import Judgement, Verdict
from widthlab.claims.file import markdown_row

from richregime.bibliography import title
from richregime.chapters import Chapter, code_cells, read_chapters
from richregime.executions import LOCK, Execution, file_sha256, read_executions
from richregime.pages import CLAIMS, read_claims
from richregime.progress import clock
from richregime.stability import live, read_stability, stability_of, turned

UNKNOWN = "not recorded"
_SLOWEST = 10
_DIGITS = 12  # of a hash: enough to tell two apart by eye


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [markdown_row(head), "| --- " * len(head) + "|"]
    return "\n".join([*lines, *map(markdown_row, rows), ""])


def link(root: Path, chapter: Chapter, *, short: bool = False) -> str:
    """Return a link from a page at the root to a chapter, by number and title."""
    path = chapter.folder.relative_to(root) / chapter.name
    suffix = ".ipynb" if chapter.notebook.exists() else ".md"
    numbered = "" if chapter.number is None else f"{chapter.number}. "
    text = chapter.place if short else f"{numbered}{title(chapter)}"
    return f"[{text}]({path.as_posix()}{suffix})"


def executions(root: Path) -> str:
    """Say for each chapter when it was executed, where, and what it reached."""
    last, judged = read_executions(root), read_claims(root / CLAIMS)
    head = ("chapter", "executed", "took", "on", "trained", "live claims", "record")
    rows = []
    for chapter in read_chapters(root):
        found = last.get(chapter.name)
        rows.append(
            (
                link(root, chapter),
                day(found.date if found else None),
                f"{clock(found.seconds)} min" if found else "never",
                found.place if found and found.device else UNKNOWN,
                _trained(found),
                verdicts(judged, chapter.name, "live"),
                f"{{record}}`JSON <{chapter.name}>`",
            )
        )
    return table(head, rows)


def day(date: str | None) -> str:
    """Return the day of a date and time, which is in UTC."""
    return datetime.fromisoformat(date).date().isoformat() if date else UNKNOWN


def _trained(found: Execution | None) -> str:
    if found is None or found.runs is None:
        return UNKNOWN
    parts = [f"{found.runs:,} runs"] * bool(found.runs)
    parts += [f"{found.flows:,} flows"] * bool(found.flows)
    return ", ".join(parts) or "nothing"


def verdicts(judged: Iterable[Judgement], chapter: str, tier: str) -> str:
    """Count a chapter's verdicts in one tier, "7 ✓, 1 ○"; nothing if it has none."""
    mine = [
        judgement.verdict
        for judgement in judged
        if (judgement.claim.chapter, judgement.claim.tier) == (chapter, tier)
    ]
    counts = [(mine.count(v), v.badge.split()[0]) for v in Verdict if v in mine]
    return ", ".join(f"{count}&nbsp;{symbol}" for count, symbol in counts)


def stored(root: Path) -> str:
    """Say which runs at a paper's own scale are kept, and what they took."""
    from richregime.record import stored_runs
    from richregime.tiers import paper_tier

    judged = read_claims(root / CLAIMS)
    head = ("chapter", "stored", "hours", "on", "JAX", "made", "paper claims")
    rows = []
    for chapter in read_chapters(root):
        planned = len(list(paper_tier(chapter.name)))
        kept = stored_runs(root, chapter)
        if not planned and kept is None:
            continue
        rows.append(
            (
                link(root, chapter),
                f"{kept['runs'] if kept else 0} of {planned} runs",
                f"{kept['seconds'] / 3600:.1f}" if kept else "",
                ", ".join(map(_device, kept["devices"])) if kept else "",
                ", ".join(kept["jax"]) if kept else "",
                " to ".join(dict.fromkeys(kept["dates"])) if kept else "",
                verdicts(judged, chapter.name, "paper") or "none",
            )
        )
    return table(head, rows)


def stability(root: Path) -> str:
    """Say for each chapter what other seeds and rounding do to its verdicts."""
    judged, known = read_claims(root / CLAIMS), read_stability(root)
    head = ("chapter", "claims", "rounding", "least margin", "other seeds", "turned")
    rows = []
    for chapter in read_chapters(root):
        mine = [j for j in live(judged) if j.claim.chapter == chapter.name]
        pairs = [(j, stability_of(j, known)) for j in mine]
        found = [(j, s) for j, s in pairs if s and s.stated == j.claim.stated]
        moved, seeds = (
            max((len(getattr(s, name)) for _, s in found), default=0)
            for name in ("perturbed", "seeds")
        )
        safety = [s.safety(j.primary) for j, s in found]
        least = min((times for times in safety if times is not None), default=None)
        others = turned(mine, known)
        rows.append(
            (
                link(root, chapter),
                f"{len(found)} of {len(mine)}",
                _count(moved, "start") if moved else UNKNOWN,
                "" if least is None else _times(least),
                _count(seeds, "set") if seeds else UNKNOWN,
                ("; ".join(others) or "none") if seeds else "",
            )
        )
    return table(head, rows)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _times(safety: float) -> str:
    if math.isinf(safety):
        return "nothing changes"
    return f"{safety:,.0f} changes" if safety < 1e4 else f"{safety:.0e} changes"


def _device(text: str) -> str:
    """Name devices for a reader: JAX calls each processor core one, "2 x cpu"."""
    count, kind = text.split(" x ", 1)
    return f"{count} CPU core{'s' * (count != '1')}" if kind == "cpu" else text


def data(root: Path) -> str:
    """Say which data the chapters and the stored runs used, and name their content."""
    from widthlab.data.origins import origin

    used, silent = _uses(root)
    rows = []
    for name in sorted(used):
        source = origin(name)
        hashes = ", ".join(f"`{digest[:_DIGITS]}`" for digest in source.hashes.values())
        rows.append(
            (
                f"`{name}`",
                f"{source.kind}: {source.where}",
                hashes or "follows from the specification",
                "; ".join(used[name]),
            )
        )
    note = f"\nWhat they load is {UNKNOWN} yet for: {', '.join(silent)}.\n"
    head = ("data", "source", "content", "used by")
    return table(head, rows) + (note if silent else "")


def _uses(root: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Return who used which data, and the chapters of which it is not recorded."""
    from richregime.record import stored_runs

    last = read_executions(root)
    used: dict[str, list[str]] = {}
    silent = []
    for chapter in read_chapters(root):
        place = chapter.place
        found = last.get(chapter.name)
        if found is None or found.data is None:
            silent.append(place)
        else:
            for entry in found.data:
                used.setdefault(entry["name"], []).append(f"{place} ({_share(entry)})")
        if kept := stored_runs(root, chapter):
            for name in kept["data"]:
                used.setdefault(name, []).append(f"stored runs of {place}")
    return used, silent


def _share(entry: Any) -> str:
    if tasks := entry.get("tasks"):
        return f"{tasks} draw{'s' if tasks > 1 else ''}"
    count = len(entry["selections"])
    return f"{count} selection{'s' if count > 1 else ''}"


def environment(root: Path) -> str:
    """Say with which versions the chapters were executed, equal ones together."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for chapter in read_chapters(root):
        found = read_executions(root).get(chapter.name)
        facts = tuple(_environment(root, found))
        groups.setdefault(facts, []).append(chapter.word)
    head = [f"chapter{'s' * (len(n) > 1)} {', '.join(n)}" for n in groups.values()]
    names = list(dict.fromkeys(name for facts in groups for name, _ in facts))
    columns = [dict(facts) for facts in groups]
    rows = [(name, *(c.get(name, UNKNOWN) for c in columns)) for name in names]
    return table(("", *head), rows)


def _environment(root: Path, found: Execution | None) -> Iterator[tuple[str, str]]:
    if found is None or found.versions is None:
        yield ("everything", UNKNOWN)
        return
    yield ("system", found.system or UNKNOWN)
    yield from found.versions.items()
    yield ("source of the library", f"`{(found.code or UNKNOWN)[:_DIGITS]}`")
    lock = found.lock_sha256 or UNKNOWN
    path = root / LOCK
    same = path.exists() and file_sha256(path) == lock
    now = "" if same else ", not that of this page's version"
    yield (f"`{LOCK}`", f"`{lock[:_DIGITS]}`{now}")


def slowest(root: Path) -> str:
    """List the cells that took longest, with the sections that they are in."""
    import nbformat

    last = read_executions(root)
    rows: list[tuple[float, tuple[str, ...]]] = []
    for chapter in read_chapters(root):
        if chapter.name not in last or not chapter.notebook.exists():
            continue
        notebook = nbformat.read(chapter.notebook, as_version=4)
        cells, seconds = code_cells(notebook), last[chapter.name].cells
        if len(cells) != len(seconds):  # edited since it was executed
            continue
        for place, ((_, _, heading), took) in enumerate(
            zip(cells, seconds, strict=True), start=1
        ):
            where = f"{place} of {len(cells)}"
            row = (link(root, chapter, short=True), heading, where, f"{took:.0f} s")
            rows.append((took, row))
    rows.sort(key=lambda row: -row[0])
    head = ("in", "section", "code cell", "took")
    return table(head, [row for _, row in rows[:_SLOWEST]])
