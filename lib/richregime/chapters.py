"""The chapters on disk: which there are, and what a committed one must look like."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

Notebook = Any  # nbformat.NotebookNode, a dictionary with attributes, imported lazily

MAX_BYTES = 1_000_000

# A machine's own folders. The look-behind keeps URLs and base64 text out.
_MACHINE_PATH = re.compile(r"(?<![\w./+=-])/(?:home|root|work|tmp|Users)/\w[\w./-]*")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(```|~~~|:::)")


class BookError(Exception):
    """Something the reader or author can mend; its message says what."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter: the ``.md`` its author edits and the ``.ipynb`` with its outputs.

    Those about a paper have a number, with which their names begin. Others are pages
    of the library's part that are executed all the same.
    """

    name: str
    folder: Path

    @property
    def number(self) -> int | None:
        """Its number in the book; None for a page that is executed like a chapter."""
        found = re.match(r"(\d\d)-", self.name)
        return int(found[1]) if found else None

    @property
    def word(self) -> str:
        """What commands may call it: its number, or else its name."""
        return self.name if self.number is None else str(self.number)

    @property
    def place(self) -> str:
        """What tables call it: "chapter 3", or "page own-model"."""
        return f"{'page' if self.number is None else 'chapter'} {self.word}"

    @property
    def notebook(self) -> Path:
        """The executed notebook, from which the page is made."""
        return self.folder / f"{self.name}.ipynb"

    @property
    def source(self) -> Path:
        """The MyST text that the notebook is made from."""
        return self.folder / f"{self.name}.md"


def find_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` that holds a ``_toc.yml``."""
    for folder in (start, *start.resolve().parents):
        if (folder / "_toc.yml").exists():
            return folder.resolve()
    raise BookError(
        f"No _toc.yml in {start} or above: run this in a clone of the book's "
        "repository, or name its folder with --root."
    )


def read_chapters(root: Path) -> list[Chapter]:
    """List what is executed of ``_toc.yml``, in the book's order.

    Raises:
        BookError: if the table of contents names a page that does not exist.
    """
    import yaml

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    chapters = []
    for entry in _toc_files(toc):
        path = root / entry
        chapter = Chapter(path.name, path.parent)
        if chapter.notebook.exists() or _is_notebook_text(chapter.source):
            chapters.append(chapter)
        elif not chapter.source.exists():
            raise BookError(
                f"_toc.yml names {entry!r}, but there is neither "
                f"{entry}.ipynb nor {entry}.md."
            )
    return chapters


def chapter_named(root: Path, word: str) -> str:
    """Return the name of the chapter that `meant` finds in the book."""
    return meant(word, read_chapters(root)).name


def meant(word: str, chapters: Sequence[Chapter]) -> Chapter:
    """Return the chapter that a name, the beginning of one, or a number means.

    Raises:
        BookError: it means none, or several.
    """
    known = {chapter.name: chapter for chapter in chapters}
    number = f"{int(word):02d}-" if word.isdecimal() else word
    chosen = [word] if word in known else [n for n in known if n.startswith(number)]
    if len(chosen) != 1:
        several = f"{word!r} may be {', '.join(chosen)}; write more of its name."
        none = f"No chapter is called {word!r}; there are {', '.join(known)}."
        raise BookError(several if chosen else none)
    return known[chosen[0]]


def page_names(root: Path) -> list[str]:
    """List the pages of ``_toc.yml``, the front page first, without their suffixes."""
    import yaml

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [str(toc["root"]), *_toc_files(toc)]


def _toc_files(node: Any) -> Iterator[str]:
    """Walk a parsed table of contents, whatever its parts and sections."""
    if isinstance(node, dict):
        if "file" in node:
            yield str(node["file"])
        for value in node.values():
            yield from _toc_files(value)
    elif isinstance(node, list):
        for value in node:
            yield from _toc_files(value)


def _is_notebook_text(path: Path) -> bool:
    """Whether a ``.md`` file opens with a header that names a kernel."""
    if not path.exists():
        return False
    parts = path.read_text(encoding="utf-8").split("---", 2)
    return len(parts) == 3 and not parts[0].strip() and "kernelspec:" in parts[1]


def read_source(chapter: Chapter) -> Notebook:
    """Read a chapter's ``.md`` as a notebook without outputs, in its canonical form."""
    import jupytext

    if not chapter.source.exists():
        raise BookError(
            f"{chapter.source.name} is missing. A chapter is edited as .md; make it "
            f"once with: jupytext --to md:myst {chapter.notebook.name}"
        )
    notebook = jupytext.read(chapter.source)
    return canonical(notebook)


def canonical(notebook: Notebook) -> Notebook:
    """Strip what depends on the machine, and name cells by their content.

    Cell ids are digests of the source, so re-executing a chapter changes only the
    cells that were edited.
    """
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    notebook.metadata = type(notebook)(
        kernelspec={
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        language_info={"name": "python"},
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = sha256(cell.source.encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        for key in ("execution", "ExecuteTime", "collapsed", "trusted"):
            cell.metadata.pop(key, None)
    return notebook


def code_cells(notebook: Notebook) -> list[tuple[int, Any, str]]:
    """List (index, cell, group) of the code cells; a group is the heading above."""
    group, found = "start", []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            group = _last_heading(cell.source) or group
        elif cell.cell_type == "code" and cell.source.strip():
            found.append((index, cell, group))
    return found


def _last_heading(text: str) -> str | None:
    fenced, heading = False, None
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and (match := _HEADING.match(line)):
            heading = match.group(1)
    return heading


def output_problems(notebook: Notebook) -> list[str]:
    """Say what in a notebook's outputs must not be committed, one line each.

    Errors, text on stderr, paths of a machine, images without alt text, and cells that
    were not executed in order from a clean kernel.
    """
    from widthlab.plots.style import missing_alt

    problems = missing_alt(notebook)
    for number, (index, cell, group) in enumerate(code_cells(notebook), start=1):
        where = f"cell {index} ({group})"
        if cell.execution_count != number:
            problems.append(
                f"{where}: execution count {cell.execution_count}, expected {number}"
            )
        for output in cell.outputs:
            problems += [f"{where}: {text}" for text in _one_output(output)]
    return problems


def _one_output(output: Any) -> Iterator[str]:
    if output.output_type == "error":
        yield f"an error: {output.ename}: {output.evalue}"
    if output.output_type == "stream" and output.name == "stderr":
        yield f"text on stderr: {output.text.strip()[:80]!r}"
    if path := _MACHINE_PATH.search("\n".join(_texts(output))):
        yield f"a path of this machine: {path.group()!r}"


def _texts(output: Any) -> Iterator[str]:
    """All text of an output; images are not text."""
    if "text" in output:
        yield output.text
    for kind, data in output.get("data", {}).items():
        if not kind.startswith("image/") or kind == "image/svg+xml":
            yield data if isinstance(data, str) else json.dumps(data)


def pinned(notebook: Notebook) -> list[tuple[str, str]]:
    """List (place, text) of the code cells whose outputs nbval compares."""
    return [
        (
            f"cell {index} ({group})",
            "\n".join(t for o in cell.outputs for t in _texts(o)),
        )
        for index, cell, group in code_cells(notebook)
        if "nbval-ignore-output" not in cell.metadata.get("tags", [])
    ]


def chapter_problems(chapter: Chapter) -> list[str]:
    """Say what keeps a chapter's committed pair from being published, one line each."""
    import nbformat

    if not chapter.notebook.exists():
        return [f"{chapter.notebook.name} is missing: run make execute"]
    notebook = nbformat.read(chapter.notebook, as_version=4)
    problems = output_problems(notebook)
    size = chapter.notebook.stat().st_size
    if size > MAX_BYTES:
        problems.append(f"the notebook has {size} bytes, more than {MAX_BYTES}")
    source = read_source(chapter)
    if _sources(source) != _sources(notebook):
        problems.append(
            f"{chapter.source.name} and {chapter.notebook.name} differ: edit the .md, "
            f"then make execute CHAPTER={chapter.name}"
        )
    return problems


def _sources(notebook: Notebook) -> list[tuple[Any, ...]]:
    """What a pair must share: text, tags, and the settings of figures."""
    return [
        (
            cell.cell_type,
            cell.source.strip(),
            cell.metadata.get("tags"),
            cell.metadata.get("mystnb"),
        )
        for cell in notebook.cells
        if cell.source.strip()
    ]
