"""What verdicts rest on: chapters with other seeds, and with starts moved by rounding.

`results/stability.json` holds, for each live claim, its primary endpoint in every
variation of its chapter. Another set of seeds is an independent replication of all of
it, so that a verdict may change, as seldom as the claim's power says. A start that is
moved by one unit in the last place is what another processor does: it must not change
a verdict, and the endpoint's margin must be far above what it does change.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from widthlab import machine
from widthlab.claims import Check, Judgement
from widthlab.files import locked, write_text
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
from richregime.study import FIRST_SEED_VARIABLE

STABILITY = Path("results/stability.json")

APART = 1000
"""How far apart the sets of seeds begin; no chapter has as many."""

ENOUGH = 5.0
"""Least margin of a primary endpoint, in units of its change by rounding."""

WITNESS = "from richregime.stability import witness; print(witness())"
"""What a kernel is asked after a chapter's last cell."""

_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Found:
    """What one variation of a chapter found for a claim.

    Attributes:
        verdict: the claim's.
        measured: the primary endpoint; None if it was not measured.
        interval: its ends.
    """

    verdict: str
    measured: float | None
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, judgement: Judgement) -> Found:
        """Return what a judgement says of its primary endpoint."""
        estimate = judgement.primary.estimate
        if estimate is None:
            return cls(judgement.verdict.value, None, None)
        numbers = (estimate.value, estimate.low, estimate.high)
        value, *ends = (float(f"{number:.{_DIGITS}g}") for number in numbers)
        return cls(judgement.verdict.value, value, (ends[0], ends[1]))

    def change(self, other: Found) -> float:
        """Return the larger difference between the ends of two intervals."""
        if self.interval is None or other.interval is None:
            return 0.0 if self.interval == other.interval else math.inf
        pairs = zip(self.interval, other.interval, strict=True)
        return max(abs(one - two) for one, two in pairs)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "verdict": self.verdict,
            "measured": self.measured,
            "interval": self.interval and list(self.interval),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Found:
        """Read what `to_json` wrote."""
        ends = entry["interval"]
        return cls(entry["verdict"], entry["measured"], ends and (ends[0], ends[1]))


@dataclass(frozen=True, slots=True)
class Stability:
    """What the variations of a chapter found for one claim of the live tier.

    Attributes:
        stated: digest of what was stated (`Claim.stated`).
        plain: the chapter as it is; None if it was only run with other seeds.
        seeds: with other sets of seeds, by the first of each.
        perturbed: with its starts moved, by the number of the perturbation.
    """

    stated: str
    plain: Found | None = None
    seeds: Mapping[int, Found] = field(default_factory=dict)
    perturbed: Mapping[int, Found] = field(default_factory=dict)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdict in each other set of seeds."""
        return tuple(found.verdict for found in self.seeds.values())

    @property
    def change(self) -> float | None:
        """Largest change of the interval's ends by rounding; None if not measured."""
        if self.plain is None or not self.perturbed:
            return None
        return max(self.plain.change(found) for found in self.perturbed.values())

    def safety(self, primary: Check) -> float | None:
        """Return the endpoint's margin in units of its change by rounding.

        Infinite where nothing changes; None where that was not measured.
        """
        if self.change is None:
            return None
        return primary.margin() / self.change if self.change else math.inf

    def updated(self, new: Stability) -> Stability:
        """Return the newer, with what it did not vary from the older of the same claim.

        What was perturbed stays with the plain run it is compared with.
        """
        if new.stated != self.stated:
            return new
        kept = new
        if not new.seeds:
            kept = replace(kept, seeds=self.seeds)
        if not new.perturbed:
            kept = replace(kept, plain=self.plain, perturbed=self.perturbed)
        return kept

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "stated": self.stated,
            "plain": self.plain and self.plain.to_json(),
            "seeds": {str(k): v.to_json() for k, v in self.seeds.items()},
            "perturbed": {str(k): v.to_json() for k, v in self.perturbed.items()},
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Stability:
        """Read what `to_json` wrote."""
        seeds, perturbed = (
            {int(k): Found.from_json(v) for k, v in entry[name].items()}
            for name in ("seeds", "perturbed")
        )
        plain = entry["plain"] and Found.from_json(entry["plain"])
        return cls(entry["stated"], plain, seeds, perturbed)


@dataclass(frozen=True, slots=True)
class Varied:
    """What is known of one chapter.

    Attributes:
        date: when it was last varied, in UTC.
        place: on what.
        claims: by id.
    """

    date: str
    place: str
    claims: Mapping[str, Stability]


def read_stability(root: Path) -> dict[str, Varied]:
    """Return what is known of each chapter that was ever varied."""
    path = root / STABILITY
    if not path.exists():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Varied(
            entry["date"],
            entry["place"],
            {key: Stability.from_json(one) for key, one in entry["claims"].items()},
        )
        for name, entry in entries.items()
    }


def write_stability(root: Path, name: str, found: Mapping[str, Stability]) -> None:
    """Write a chapter's claims in place of its last, beside those of other chapters."""
    path = root / STABILITY
    with locked(path):
        known = read_stability(root)
        old = known[name].claims if name in known else {}
        claims = {
            key: old[key].updated(one) if key in old else one
            for key, one in found.items()
        }
        date = datetime.now(UTC).isoformat(timespec="seconds")
        place = f"{machine.cores()} cores of {machine.cpu_model()}"
        known[name] = Varied(date, place, claims)
        chapters = [f"{json.dumps(n)}: {_text(known[n])}" for n in sorted(known)]
        write_text(path, "{\n" + ",\n".join(chapters) + "\n}\n")


def _text(varied: Varied) -> str:
    """Lay out a chapter with one claim a line, for readable differences."""
    lines = [
        f"   {json.dumps(key)}: {json.dumps(one.to_json())}"
        for key, one in varied.claims.items()
    ]
    facts = [f"  {json.dumps(k)}: {json.dumps(getattr(varied, k))}" for k in _FACTS]
    claims = '  "claims": {\n' + ",\n".join(lines) + "\n  }"
    return "{\n" + ",\n".join([*facts, claims]) + "\n }"


_FACTS = ("date", "place")


def witness() -> str:
    """Say in one line of JSON what the process that ran a chapter's cells published.

    With more digits than `results/claims.json` has.
    """
    from richregime.study import published

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


def live(judged: Iterable[Judgement]) -> list[Judgement]:
    """Return the judgements of the live tier, the only one whose runs can be varied."""
    return [judgement for judgement in judged if judgement.claim.tier == "live"]


def stability_of(judgement: Judgement, known: Mapping[str, Varied]) -> Stability | None:
    """Return what is known of a claim, in whatever form it was stated."""
    varied = known.get(judgement.claim.chapter)
    return varied.claims.get(judgement.claim.id) if varied else None


def unmeasured(judged: Iterable[Judgement], known: Mapping[str, Varied]) -> list[str]:
    """Return the ids of live claims of which no perturbation is known."""
    found = [(j.claim.id, stability_of(j, known)) for j in live(judged)]
    return [name for name, one in found if one is None or one.change is None]


def unstable(judged: Iterable[Judgement], known: Mapping[str, Varied]) -> list[str]:
    """Say what of the live claims does not stand a perturbation, one line each.

    Claims of which none is known are in order; those that were stated otherwise when
    it was measured are not.
    """
    lines = []
    for judgement in live(judged):
        one, name = stability_of(judgement, known), judgement.claim.id
        if one is None:
            continue
        if one.stated != judgement.claim.stated:
            lines.append(
                f"{name} was stated otherwise when it was varied: richregime stability "
                f"{judgement.claim.chapter}"
            )
            continue
        verdict = judgement.verdict.value
        plain = {} if one.plain is None else {0: one.plain}
        lines += [
            f"{name} is {verdict} and {found.verdict} "
            + (f"with its starts moved ({number})" if number else "when run again")
            for number, found in (plain | dict(one.perturbed)).items()
            if found.verdict != verdict
        ]
        safety, margin = one.safety(judgement.primary), judgement.primary.margin()
        if safety is not None and safety < ENOUGH:
            lines.append(
                f"{name} has a margin of {margin:.2g}, {safety:.1f} times its change "
                f"by rounding, {one.change:.2g}; it needs {ENOUGH:g}"
            )
    return lines


def turned(judged: Iterable[Judgement], known: Mapping[str, Varied]) -> list[str]:
    """Say which live claims have another verdict with other seeds, one line each.

    Claims that were stated otherwise when that was measured are left out.
    """
    lines = []
    for judgement in live(judged):
        one, verdict = stability_of(judgement, known), judgement.verdict.value
        if one is None or one.stated != judgement.claim.stated:
            continue
        lines += [
            f"{judgement.claim.id}: {verdict}, and {found.verdict} with seeds from "
            f"{first:,} on"
            for first, found in one.seeds.items()
            if found.verdict != verdict
        ]
    return lines
