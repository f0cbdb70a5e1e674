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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from widthlab import machine
from widthlab.claims import Check, Judgement
from widthlab.files import locked, write_text

STABILITY = Path("results/stability.json")

ENOUGH = 5.0
"""Least margin of a primary endpoint, in units of its change by rounding."""

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
