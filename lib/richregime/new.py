"""Begin a chapter: a copy of the template under its own name, in the contents."""

import re
from pathlib import Path

from widthlab.files import write_text

from richregime.chapters import BookError, read_chapters

TEMPLATE = Path("chapters/_template.md")
MARK = "% Yours:"
"""How a line of the template begins that says what its author replaces."""
SAMPLE = {
    "name": r"_template\b",
    "number": r"(?<=chapter[- ])0\b|(?<=run )0\b|(?<=record )0\b",
    "title": "How far features move",
    "paper": "yang2021feature",
    "claims": r"(?:(?<=2026)|\b)demo\b",
}
"""What tells the template's text from a chapter's."""


def new_chapter(root: Path, name: str, **given: str | None) -> None:
    """Copy the template to a chapter of its own and add that to ``_toc.yml``.

    Args:
        root: the book's folder.
        name: two digits and words, "06-my-paper"; the next number of the book.
        **given: `title`, by default the words of the name; `paper`, a key in
            references.bib; `claims`, what its claims' ids begin with, by default the
            initials of the name's words.

    Raises:
        BookError: a name or number that cannot be used; nothing is written then.
    """
    chapters = read_chapters(root)
    number = max((c.number or 0 for c in chapters), default=0) + 1
    following = f"{number:02d}"
    if not re.fullmatch(rf"{following}(-[a-z0-9]+)+", name):
        raise BookError(
            f"{name!r} cannot be the next chapter's name: its number and words of "
            f"small letters and digits, all joined by hyphens, as {following}-my-paper."
        )
    words = name.split("-")[1:]
    claims = (
        given.get("claims") or "".join(w[0] for w in words if words[1:]) or words[0]
    )
    sources = [c.source.read_text("utf-8") for c in chapters if c.source.exists()]
    if not re.fullmatch(r"[a-z][a-z0-9]*", claims) or any(
        f"\n({claims}-c1)=" in text for text in sources
    ):
        raise BookError(
            f"Claims cannot be called {claims}.C1, ...: other claims are, or it is not "
            "small letters and digits, a letter first. Name others with --claims."
        )
    chosen = {
        "name": name,
        "number": str(number),
        "title": given.get("title") or " ".join(words).capitalize(),
        "paper": given.get("paper") or SAMPLE["paper"],
        "claims": claims,
    }
    text = (root / TEMPLATE).read_text(encoding="utf-8")
    for key, pattern in SAMPLE.items():
        text = re.sub(pattern, lambda _, key=key: chosen[key], text)
    contents = (root / "_toc.yml").read_text(encoding="utf-8")
    before, mark, after = contents.rpartition("- file: chapters/")
    line, rest = after.partition("\n")[::2]
    indent = before[before.rfind("\n") + 1 :]
    if not mark:
        raise BookError("_toc.yml has no line '- file: chapters/...' to go behind.")
    write_text(root / "chapters" / f"{name}.md", text)
    added = f"{indent}{mark}{name}\n"
    write_text(root / "_toc.yml", f"{before}{mark}{line}\n{added}{rest}")
    print(
        f"chapters/{name}.md is a copy of the template, its first claim {claims}.C1.\n"
        f"Edit it where {text.count(MARK)} lines begin with {MARK!r}, with "
        f"library/tutorial.md beside you, then:\n  make execute CHAPTER={name}"
    )
    if f"{{{chosen['paper']}," not in (root / "references.bib").read_text("utf-8"):
        print(f"references.bib has no entry {chosen['paper']}: add one, as @misc.")
