"""Begin a chapter: a copy of the template under its own name, in the contents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from widthlab.files import write_text

from richregime.chapters import BookError, Chapter, read_chapters

TEMPLATE = Path("chapters/_template.md")
MARK = "% Yours:"
"""How a line of the template begins that says what its author replaces."""

_NAME = re.compile(r"(\d\d)-([a-z][a-z0-9]*(?:-[a-z0-9]+)*)")
_CLAIMS = re.compile(r"[a-z][a-z0-9]*")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one chapter's text from another's before anything is written in it.

    Attributes:
        name: file stem, "06-my-paper".
        number: its place among the chapters.
        title: heading of the page.
        paper: key in references.bib.
        claims: what its claims' ids begin with, "mp" for mp.C1.
    """

    name: str
    number: int
    title: str
    paper: str
    claims: str

    def marks(self) -> tuple[str, ...]:
        """Return the texts that stand for this chapter wherever they stand."""
        return (
            self.name,
            self.title,
            self.paper,
            f"cite-chapter-{self.number}",
            f"chapter {self.number}}}",
            f"richregime run {self.number}`",
            f"richregime record {self.number}`",
            f'key="{self.claims}"',
            f"{self.claims}.C",
            f"({self.claims}-c",
            f"2026{self.claims},",
        )


SAMPLE = Identity("_template", 0, "How far features move", "yang2021feature", "demo")
"""The template's own."""


def new_chapter(
    root: Path,
    name: str,
    *,
    title: str | None = None,
    paper: str | None = None,
    claims: str | None = None,
) -> None:
    """Copy the template to a chapter of its own and add that to ``_toc.yml``.

    Args:
        root: the book's folder.
        name: two digits and words, "06-my-paper"; the next number of the book.
        title: heading of the page; by default the words of the name.
        paper: key in references.bib; by default that of the template's example.
        claims: what the ids of its claims begin with; by default the initials of the
            name's words.

    Raises:
        BookError: a name or number that cannot be used; nothing is written then.
    """
    chapters = read_chapters(root)
    number, words = _number_and_words(name)
    _check_place(root, chapters, name, number)
    initials = "".join(word[0] for word in words)
    chosen = Identity(
        name=name,
        number=number,
        title=(title or " ".join(words).capitalize()).strip(),
        paper=paper or SAMPLE.paper,
        claims=claims or (initials if len(words) > 1 else words[0]),
    )
    _check_claims(chapters, chosen.claims)
    contents = _contents_with(root, chapters, name)
    text = _template(root)
    for old, new in zip(SAMPLE.marks(), chosen.marks(), strict=True):
        text = text.replace(old, new)
    write_text(root / "chapters" / f"{name}.md", text)
    write_text(root / "_toc.yml", contents)
    print("\n".join(_what_next(root, chosen, text.count(f"\n{MARK}"))))


def _number_and_words(name: str) -> tuple[int, list[str]]:
    match = _NAME.fullmatch(name)
    if not match:
        raise BookError(
            f"{name!r} cannot be a chapter's name. It is two digits and words of small "
            "letters and digits, all joined by hyphens: 06-my-paper."
        )
    return int(match[1]), match[2].split("-")


def _check_place(root: Path, chapters: list[Chapter], name: str, number: int) -> None:
    """Refuse a name that exists, a number that is taken, and one that skips some."""
    files = sorted((root / "chapters").glob(f"{number:02d}-*"))
    if taken := [path.name for path in files if path.suffix in (".md", ".ipynb")]:
        which = "exists already" if Path(taken[0]).stem == name else "has that number"
        raise BookError(f"{name} cannot be begun: chapters/{taken[0]} {which}.")
    known = [int(c.name[:2]) for c in chapters if _NAME.fullmatch(c.name)]
    following = max(known, default=0) + 1
    if number != following:
        raise BookError(
            f"{name} would be the book's chapter {following}, after "
            f"{chapters[-1].name if chapters else 'none'}: call it "
            f"{following:02d}{name[2:]}."
        )


def _check_claims(chapters: list[Chapter], claims: str) -> None:
    if not _CLAIMS.fullmatch(claims):
        raise BookError(
            f"Claims cannot be called {claims}.C1, ...: what ids begin with is small "
            "letters and digits, a letter first."
        )
    for chapter in chapters:
        text = chapter.source.read_text("utf-8") if chapter.source.exists() else ""
        if f"\n({claims}-c1)=" in text:
            raise BookError(
                f"Claims cannot be called {claims}.C1, ...: those of {chapter.name} "
                "are. Name other letters with --claims."
            )


def _contents_with(root: Path, chapters: list[Chapter], name: str) -> str:
    """Return the text of ``_toc.yml`` with one line more, behind the last chapter."""
    text = (root / "_toc.yml").read_text(encoding="utf-8")
    for chapter in reversed(chapters):
        line = re.compile(rf"^( *- file: ){chapter.folder.name}/{chapter.name}$", re.M)
        if match := line.search(text):
            added = f"\n{match[1]}chapters/{name}"
            return text[: match.end()] + added + text[match.end() :]
    raise BookError(
        "_toc.yml has no line '- file: chapters/...' behind which a chapter could be "
        f"added: write '- file: chapters/{name}' where it belongs, then try again."
    )


def _template(root: Path) -> str:
    try:
        text = (root / TEMPLATE).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BookError(f"{TEMPLATE} is missing: a chapter is made from it.") from None
    if lost := [mark for mark in SAMPLE.marks() if mark not in text]:
        raise BookError(f"{TEMPLATE} no longer says {lost[0]!r}, which is replaced.")
    return text


def _what_next(root: Path, chosen: Identity, marks: int) -> Iterator[str]:
    """Say what was done and what the author does now."""
    yield (
        f"chapters/{chosen.name}.md is a copy of the template, and chapter "
        f"{chosen.number} in _toc.yml.\nIts first claim is {chosen.claims}.C1."
    )
    bibliography = root / "references.bib"
    entries = bibliography.read_text("utf-8") if bibliography.exists() else ""
    if not re.search(rf"^@\w+\{{{re.escape(chosen.paper)},", entries, re.M):
        yield (
            f"\nreferences.bib has no entry {chosen.paper}, without which neither make "
            "test nor make html passes.\nAdd one with what you checked at the source:\n"
            f"\n@misc{{{chosen.paper},\n  title  = {{...}},\n  author = {{...}},\n"
            "  year   = {...},\n}"
        )
    yield (
        f"\nNow, with library/tutorial.md beside you:\n"
        f"  make execute CHAPTER={chosen.name}   runs it as it is, in under a minute\n"
        f"  edit chapters/{chosen.name}.md, where {marks} lines begin with {MARK!r},\n"
        "  and execute it again; then make test and make html"
    )
