"""The file of the claims of the book, and the comparison of two of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from widthlab.claims.claim import Judgement
from widthlab.claims.estimates import ClaimError
from widthlab.claims.verdict import Verdict
from widthlab.files import locked, write_text


class ClaimsFile:
    """The claims of the whole book in one JSON file.

    One object per claim and tier, sorted by id and tier, one key a line. Updates are
    atomic, and chapters that run at the same time do not overwrite one another.

    Args:
        path: The file; the environment variable `WIDTHLAB_CLAIMS` overrides it.

    Raises:
        ClaimError: Neither a path nor the variable is given.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        chosen = os.environ.get("WIDTHLAB_CLAIMS") or path
        if chosen is None:
            raise ClaimError("no claims file: give a path or set WIDTHLAB_CLAIMS")
        self.path = Path(chosen)

    def read(self) -> list[Judgement]:
        """Return every stored judgement; none if the file does not exist.

        Raises:
            ClaimError: The file is not what `update` writes.
        """
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except json.JSONDecodeError as error:
            raise ClaimError(f"{self.path} is not JSON: {error}") from error
        if not isinstance(entries, list):
            raise ClaimError(f"{self.path} must hold a list of claims")
        return [Judgement.from_json(entry) for entry in entries]

    def update(self, judgements: Iterable[Judgement]) -> None:
        """Add the judgements, replacing those of the same claim and tier."""
        with locked(self.path):
            merged = _by_key(self.read()) | _by_key(judgements)
            entries = [merged[key].to_json() for key in sorted(merged, key=_order)]
            text = json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False)
            write_text(self.path, text + "\n")


@dataclass(frozen=True, slots=True)
class Difference:
    """One claim whose verdict is not what it was.

    Attributes:
        id: The claim.
        tier: Its tier.
        kind: "changed", "missing" (no longer there) or "added".
        old: The verdict before, None if added.
        new: The verdict now, None if missing.
    """

    id: str
    tier: str
    kind: str
    old: Verdict | None
    new: Verdict | None

    def __str__(self) -> str:
        old, new = self.old or "absent", self.new or "absent"
        return f"{self.id} ({self.tier}) {self.kind}: {old} -> {new}"


def compare(old: Iterable[Judgement], new: Iterable[Judgement]) -> list[Difference]:
    """Return claims whose verdicts differ between two sets, in order of id and tier."""
    before, after = _by_key(old), _by_key(new)
    differences = []
    for key in sorted(before.keys() | after.keys(), key=_order):
        was = before[key].verdict if key in before else None
        now = after[key].verdict if key in after else None
        if was != now:
            kind = "added" if was is None else "missing" if now is None else "changed"
            differences.append(Difference(*key, kind, was, now))
    return differences


def markdown_row(cells: Iterable[str]) -> str:
    r"""Return a row of a Markdown table; bars and line breaks in a cell do not end it.

    >>> print(markdown_row(["|x_H|", "two  words"]))
    | \|x_H\| | two words |
    """
    texts = (" ".join(cell.replace("|", r"\|").split()) for cell in cells)
    return f"| {' | '.join(texts)} |"


def _by_key(judgements: Iterable[Judgement]) -> dict[tuple[str, str], Judgement]:
    by_key: dict[tuple[str, str], Judgement] = {}
    for judgement in judgements:
        key = (judgement.claim.id, judgement.claim.tier)
        if key in by_key:
            raise ClaimError(f"claim {key[0]} is given twice in the {key[1]} tier")
        by_key[key] = judgement
    return by_key


def _order(key: tuple[str, str]) -> tuple[list[tuple[int, str]], str]:
    """Sorting key in which C10 follows C9."""
    parts = re.findall(r"\d+|\D+", key[0])
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts], key[1]
