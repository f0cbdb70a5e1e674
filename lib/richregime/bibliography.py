"""The book's address, title and bibliography, and how its chapters are cited.

Each is read where it is kept: `_config.yml`, `references.bib`, the headings of the
chapters, the claims.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from richregime.chapters import BookError, Chapter
from richregime.pages import CLAIMS, read_claims

if TYPE_CHECKING:
    from pybtex.database import BibliographyData

REFERENCES = Path("references.bib")
_FENCE = re.compile(r"^\s*(```|~~~|:::)")
_FIELDS = ("title", "author", "year", "howpublished", "version", "url", "note")


@dataclass(frozen=True, slots=True)
class Book:
    """What the book says of itself in ``_config.yml``."""

    title: str
    author: str
    year: str
    repository: str
    address: str


def read_book(root: Path) -> Book:
    """Read the book's title, author, year and addresses."""
    import yaml

    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return Book(
        title=config["title"],
        author=config["author"],
        year=str(config["copyright"]),
        repository=config["repository"]["url"],
        address=config["html"]["baseurl"],
    )


def read_references(root: Path) -> BibliographyData:
    """Read ``references.bib``."""
    from pybtex.database import parse_string

    return parse_string((root / REFERENCES).read_text(encoding="utf-8"), "bibtex")


def plain(text: str) -> str:
    r"""Return a field of a bibliography without its TeX.

    >>> plain(r"{MLPs} by L{\'e}na{\"i}c")
    'MLPs by Lénaïc'
    """
    from pybtex.backends.plaintext import Backend
    from pybtex.richtext import Text

    # By its name, it would be looked for among all installed packages at every call.
    return Text.from_latex(text).render(Backend())


def describe(entry: Any) -> dict[str, Any]:
    """Say in plain values what a paper is: title, authors, year, venue, DOI, arXiv."""
    fields = {key.lower(): plain(value) for key, value in entry.fields.items()}
    venue = fields.get("journal") or fields.get("booktitle")
    is_arxiv = fields.get("archiveprefix", "").lower() == "arxiv"
    return {
        "key": entry.key,
        "title": fields["title"],
        "authors": [plain(_full_name(one)) for one in entry.persons["author"]],
        "year": int(fields["year"]),
        "venue": venue,
        "doi": fields.get("doi"),
        "arxiv": fields["eprint"] if is_arxiv else None,
    }


def _full_name(person: Any) -> str:
    given = [*person.first_names, *person.middle_names]
    family = [*person.prelast_names, *person.last_names, *person.lineage_names]
    return " ".join(given + family)


def title(chapter: Chapter) -> str:
    """Return a chapter's heading.

    Raises:
        BookError: its text has none.
    """
    fenced = False
    for line in chapter.source.read_text(encoding="utf-8").splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and line.startswith("# "):
            return line.removeprefix("# ").strip()
    raise BookError(f"{chapter.source.name} has no heading: begin it with '# Title'.")


def page_address(root: Path, chapter: Chapter) -> str:
    """Return the address of a chapter's page on the site."""
    inside = chapter.folder.relative_to(root).as_posix()
    return f"{read_book(root).address}{inside}/{chapter.name}.html"


def citation(root: Path, chapter: Chapter) -> str:
    """Return the BibTeX entry by which a chapter's measurements are cited.

    Raises:
        BookError: the chapter has no claims yet.
    """
    from importlib.metadata import version

    book = read_book(root)
    tiers = _claims_by_tier(root, chapter)
    ids = [identifier for found in tiers.values() for identifier in found]
    if not ids:
        raise BookError(f"{chapter.name} has no claims that could be cited.")
    values = (
        f"{{{_protected(title(chapter))}}}",
        f"{{{{{book.author}}}}}",
        f"{{{book.year}}}",
        f"{{{book.title}, {chapter.place}}}",
        f"{{{version('widthlab')}}}",
        f"{{{page_address(root, chapter)}}}",
        f"{{Claims {', '.join(f'{_span(i)} ({t} tier)' for t, i in tiers.items())}}}",
    )
    fields = zip(_FIELDS, values, strict=True)
    lines = [f"  {name:<12} = {value}," for name, value in fields]
    prefix = ids[0].split(".")[0]
    return "\n".join([f"@misc{{richregime{book.year}{prefix},", *lines, "}"])


def _protected(heading: str) -> str:
    """Put words that are not in small letters between braces, against BibTeX.

    >>> _protected("Under μP")
    'Under {μP}'
    """
    words = [f"{{{w}}}" if w[1:] != w[1:].lower() else w for w in heading.split()]
    return " ".join(words)


def _claims_by_tier(root: Path, chapter: Chapter) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for judgement in read_claims(root / CLAIMS):
        claim = judgement.claim
        if claim.chapter == chapter.name:
            found.setdefault(claim.tier, []).append(claim.id)
    return dict(sorted(found.items()))


def _span(ids: list[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
