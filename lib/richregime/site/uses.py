"""Which chapters use what of the library, read from the code of their cells."""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from richregime.chapters import read_chapters
from richregime.site.inventory import Inventory, inventory
from richregime.site.source import read_module

_CHAPTER = "a chapter"


@functools.cache
def chapters_using(root: Path) -> dict[str, list[str]]:
    """Return, for each module of the library, the pages of the chapters that use it."""
    found: dict[str, list[str]] = {}
    for chapter in read_chapters(root):
        page = (chapter.folder / chapter.name).relative_to(root).as_posix()
        for module in sorted(modules_used(_code(chapter.notebook), inventory())):
            found.setdefault(module, []).append(f"/{page}")
    return found


def modules_used(code: str, library: Inventory) -> set[str]:
    """Return the modules that document what code takes from the library."""
    module = replace(read_module(_CHAPTER, code), defined={})
    around = Inventory({**library.modules, _CHAPTER: module}, library.homes)
    found = {around.find(_CHAPTER, name) for name in _dotted(ast.parse(code))}
    homes = {around.documented(full) for full in found if full}
    places = {around.place(home) for home in homes if home}
    return {place for place in places if place}


def _dotted(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            text = ast.unparse(node)
            if all(part.isidentifier() for part in text.split(".")):
                yield text


def _code(notebook: Path) -> str:
    """Return the code of a notebook, without lines that only IPython reads."""
    if not notebook.exists():
        return ""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    lines = "\n".join(code).splitlines()
    return "\n".join(line for line in lines if not line.startswith(("%", "!")))
