"""Run chapters with other seeds, and with starts moved by rounding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from widthlab.perturbation import PERTURB_VARIABLE

from richregime.chapters import (
    BookError,
    Chapter,
    Notebook,
    pinned,
    read_chapters,
    read_source,
)
from richregime.commands import run_chapters, select
from richregime.execution import Ran
from richregime.pages import CLAIMS, read_claims
from richregime.stability import (
    Found,
    Stability,
    read_stability,
    unstable,
    write_stability,
)
from richregime.study import FIRST_SEED_VARIABLE, published

APART = 1000
"""How far apart the sets of seeds begin; no chapter has as many."""

WITNESS = "from richregime.varying import witness; print(witness())"
"""What a kernel is asked after a chapter's last cell."""


def witness() -> str:
    """Say in one line of JSON what the process that ran a chapter's cells published.

    With more digits than `results/claims.json` has.
    """
    live = [j for j in published() if j.claim.tier == "live"]
    return json.dumps(
        {j.claim.id: [j.claim.stated, Found.of(j).to_json()] for j in live}
    )


def measure(
    root: Path, names: Sequence[str] = (), *, seeds: int = 2, perturb: int = 3
) -> None:
    """Run chapters with other seeds and with moved starts, and keep what came out.

    Works in ``_build/stability``; no chapter is changed. The store there outlives an
    interruption, and each chapter is written as soon as it is done.

    Args:
        root: the book's folder.
        names: chapters; none means all.
        seeds: how many further sets of seeds.
        perturb: how many perturbations, compared with a run without.

    Raises:
        BookError: a cell failed, or a verdict, a line that is compared or a margin
            does not stand a perturbation.
    """
    if min(seeds, perturb) < 0 or seeds + perturb == 0:
        raise BookError(
            f"There is nothing to run: {seeds} further sets of seeds and {perturb} "
            "perturbations."
        )
    work = root / "_build" / "stability"
    chapters = select(read_chapters(root), names)
    problems = []
    for chapter in chapters:
        found, other_lines = _vary(root, work, chapter, seeds, perturb)
        write_stability(root, chapter.name, found)
        problems += other_lines
    shutil.rmtree(work / "store", ignore_errors=True)
    _report(root, [chapter.name for chapter in chapters], problems)


def _vary(
    root: Path, work: Path, chapter: Chapter, seeds: int, perturb: int
) -> tuple[dict[str, Stability], list[str]]:
    """Run a chapter in all variations; return its claims, and lines that differ."""
    claims: dict[str, Stability] = {}
    plain_lines: list[tuple[str, str]] = []
    problems = []
    for kind, number in _variations(seeds, perturb):
        print(f"\n{chapter.name}, {_words(kind, number)}")
        variables = {_VARIABLES[kind]: str(number)} if kind in _VARIABLES else {}
        answer, notebook = _run(root, work, chapter, variables)
        for key, (stated, entry) in answer.items():
            one = claims.get(key, Stability(stated))
            claims[key] = _with(one, kind, number, Found.from_json(entry))
        if kind == "plain":
            plain_lines = pinned(notebook)
        elif kind == "perturbed":
            problems += [
                f"{chapter.name}, {where}: other lines with its starts moved ({number})"
                for (where, old), (_, new) in zip(
                    plain_lines, pinned(notebook), strict=True
                )
                if old != new
            ]
    return claims, problems


def _variations(seeds: int, perturb: int) -> list[tuple[str, int]]:
    plain = [("plain", 0)] if perturb else []
    others = [("seeds", APART * number) for number in range(1, seeds + 1)]
    return [*plain, *(("perturbed", n) for n in range(1, perturb + 1)), *others]


_VARIABLES = {"seeds": FIRST_SEED_VARIABLE, "perturbed": PERTURB_VARIABLE}


def _words(kind: str, number: int) -> str:
    return {
        "plain": "as it is",
        "seeds": f"with seeds from {number:,} on",
        "perturbed": f"with its starts moved by rounding ({number})",
    }[kind]


def _with(one: Stability, kind: str, number: int, found: Found) -> Stability:
    if kind == "plain":
        return replace(one, plain=found)
    return replace(one, **{kind: {**getattr(one, kind), number: found}})


def _run(
    root: Path, work: Path, chapter: Chapter, variables: Mapping[str, str]
) -> tuple[dict[str, Any], Notebook]:
    """Run a chapter once; return what it published, and its notebook."""
    kept: list[tuple[Notebook, Ran]] = []
    (work / "claims.json").unlink(missing_ok=True)
    run_chapters(
        root,
        work,
        [chapter],
        [read_source(chapter)],
        keep=lambda _, notebook, ran: kept.append((notebook, ran)),
        ask=WITNESS,
        variation=variables,
    )
    ((notebook, ran),) = kept
    return json.loads(ran.answer), notebook


def _report(root: Path, names: Sequence[str], problems: Sequence[str]) -> None:
    judged = [j for j in read_claims(root / CLAIMS) if j.claim.chapter in names]
    known = read_stability(root)
    print()
    for name in names:
        for key, one in known[name].claims.items():
            print(f"{key}: {_claim_words(one)}")
    wrong = [*problems, *unstable(judged, known)]
    if wrong:
        raise BookError("Verdicts rest on rounding:\n  " + "\n  ".join(wrong))


def _claim_words(one: Stability) -> str:
    parts = []
    if one.plain is not None:
        parts.append(f"{one.plain.verdict}, changed by rounding {one.change:.1e}")
    if one.seeds:
        parts.append(f"with other seeds {', '.join(one.verdicts)}")
    return "; ".join(parts)
