"""The library's reference: what autodoc writes, as the library means it.

The inventory says what is public and where it is documented; docstrings are Markdown;
signatures are those of the source.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Any

from richregime.site import assets, documenters
from richregime.site.docstrings import to_rest
from richregime.site.inventory import inventory
from richregime.site.signatures import signature
from richregime.site.source import fields, members
from richregime.site.uses import chapters_using

_LONGEST_VALUE = 200  # of a constant, in characters; longer ones are for the source


def setup(app: Any) -> None:
    """Let autodoc write the library's reference."""
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    documenters.setup(app)
    app.connect("config-inited", _configure)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # then napoleon
    app.connect("missing-reference", _find_constant)
    app.connect("html-page-context", _without_lists)
    assets.use_where(app, "sig-object", css="reference.css")


def _configure(app: Any, config: Any) -> None:
    config.autodoc_member_order = "bysource"
    config.autodoc_default_options = {"members": True, "no-value": True}
    config.autodoc_class_signature = "mixed"
    # A class's fields are one list, and so are a function's arguments: types are in the
    # signature above them.
    config.napoleon_custom_sections = [("Attributes", "params_style")]
    config.napoleon_use_rtype = False
    config.maximum_signature_line_length = 88
    config.add_module_names = False
    config.toc_object_entries_show_parents = "hide"
    # Types of other libraries are named, not linked: the book stands on its own.
    others = ("py:(class|exc)", r"(?!widthlab\.).*")
    config.nitpick_ignore_regex = [*config.nitpick_ignore_regex, others]


def _skip(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Keep what the inventory documents at this place, and nothing else."""
    del obj, skip, options
    module = app.env.temp_data.get("autodoc:module", "")
    if not module.startswith("widthlab"):
        return None
    library = inventory()
    if what == "module":
        return f"{module}.{name}" not in library.homes.values()
    owner = app.env.temp_data.get("autodoc:class")
    node = library.definition(library.origin(f"{module}.{owner}"))
    return node is None or name not in members(node)


def _signature(
    app: Any,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    arguments: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    del app, obj, options, arguments, returns
    library = inventory()
    full = library.origin(name)
    node = library.definition(full)
    if node is None:
        return None
    if what == "property":
        return "", None
    decorators = map(ast.unparse, getattr(node, "decorator_list", []))
    bound = what == "method" and "staticmethod" not in decorators
    link = functools.partial(library.resolve, library.module_of(full))
    found, result = signature(node, link, bound=bound)
    return found, result or None


def _docstring(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    del obj, options
    library = inventory()
    full = name if what == "module" else library.origin(name)
    module = name if what == "module" else library.module_of(full)
    if module not in library.modules:
        return
    node = library.definition(full)
    owner = full.removeprefix(f"{module}.").partition(".")[0]
    near = _own_names(node)

    def link(text: str) -> str | None:
        found = None if text in near else library.resolve(module, text, owner)
        # Neither to itself nor from a member to the class around it.
        return None if found and f"{name}.".startswith(f"{found}.") else found

    lines[:] = to_rest(lines, link)
    if what in ("attribute", "data", "property"):
        # Napoleon takes what stands before a colon in their first line for a type: let
        # that line be an empty comment.
        lines[:0] = ["..", ""]
    if isinstance(node, documenters.CONSTANT):
        lines += _value(node)
    if what == "module":
        lines += _used_in(Path(app.srcdir), name)


def _own_names(node: Any) -> set[str]:
    """Return the arguments or fields of a definition: its docstring speaks of these."""
    if isinstance(node, ast.ClassDef):
        return set(fields(node)).union(*map(_own_names, _init(node)))
    if isinstance(node, ast.FunctionDef):
        return {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
    return set()


def _init(node: ast.ClassDef) -> list[ast.FunctionDef]:
    functions = (part for part in node.body if isinstance(part, ast.FunctionDef))
    return [part for part in functions if part.name == "__init__"]


def _value(node: ast.stmt) -> list[str]:
    """Return a constant as the source defines it, unless that is long."""
    text = ast.unparse(node)
    if len(text) > _LONGEST_VALUE:
        return []
    code = (f"   {line}" for line in text.splitlines())
    return ["", ".. code-block:: python", "", *code, ""]


def _used_in(root: Path, module: str) -> list[str]:
    pages = chapters_using(root).get(module, [])
    links = ", ".join(f":doc:`{page}`" for page in pages)
    return ["", f":Used in: {links}", ""] if pages else []


def _find_constant(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Find a type in a signature that is no class but a name for another type."""
    if node.get("reftype") != "class" or node.get("refdomain") != "py":
        return None
    domain, page = env.get_domain("py"), node["refdoc"]
    target = node["reftarget"]
    return domain.resolve_xref(env, page, app.builder, "obj", target, node, content)


def _without_lists(app: Any, page: str, template: str, context: Any, tree: Any) -> None:
    del app, page, template, tree
    if "body" in context:
        context["body"] = plain_signatures(context["body"])


def plain_signatures(body: str) -> str:
    """Return a page's HTML with the lines of signatures in blocks.

    Sphinx makes a list of definitions of them that defines nothing, which a screen
    reader would announce.
    """

    def plain(match: re.Match[str]) -> str:
        return re.sub(r"<(/?)d[ld]>", r"<\1div>", match[0])

    return re.sub(r'<dt class="sig .*?</dt>', plain, body, flags=re.DOTALL)
