"""The library's reference: stock autodoc, set up in _config.yml, for Markdown."""

from __future__ import annotations

import collections
import enum
import functools
import inspect
import re
import sys
from typing import Any

from sphinx.domains.python import PyXRefRole
from sphinx.ext.autodoc import FunctionDocumenter
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode

from richregime.site import assets, markdown

PACKAGE = "widthlab"
_SHOWN = str | int | float | tuple | dict
"""Constants whose value says something, unless that is long or an object's address."""


def setup(app: Any) -> None:
    """Let autodoc write the library's reference, and chapters' code lead to it."""
    # The extension that describes the commands asks for a file that there is not.
    app.registry.css_files.remove(("custom.css", {"priority": 500}))
    app.add_autodocumenter(WrappedDocumenter)
    app.add_role_to_domain("py", "name", PyXRefRole())
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # then napoleon
    app.connect("missing-reference", _find_elsewhere)
    app.connect("html-page-context", _without_lists)
    assets.use_where(app, "sig-object", css="reference.css")


class WrappedDocumenter(FunctionDocumenter):
    """Functions with a derivative of their own, which look like values to autodoc."""

    objtype = "wrapped"
    directivetype = "function"
    priority = FunctionDocumenter.priority + 1

    @classmethod
    def can_document_member(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, member: Any, *_: Any
    ) -> bool:
        """Tell whether something wraps a function."""
        return hasattr(member, "__wrapped__") and not inspect.isclass(member)


def _skip(app: Any, what: str, name: str, obj: Any, *_: Any) -> bool | None:
    """Leave to a package what it exports from its modules, to a class its fields."""
    if (obj.__doc__ or "").startswith("Alias for field number"):
        return True  # of a NamedTuple, whose docstring says what its fields are
    package = app.env.temp_data.get("autodoc:module", "").rpartition(".")[0]
    if what != "module" or package in ("", PACKAGE) or not callable(obj):
        return None
    exported = getattr(sys.modules[package], "__all__", ())
    return True if name in exported else None


def _signature(
    app: Any, what: str, name: str, obj: Any, options: Any, arguments: Any, returns: Any
) -> tuple[str, str | None] | None:
    """Show types as the source has them: evaluated, those of arrays are long unions."""
    del app, name, options
    if not arguments:
        return None
    if what == "class" and (
        issubclass(obj, enum.Enum) or getattr(obj, "_is_protocol", False)
    ):
        return "", None  # nobody calls it
    found = inspect.signature(obj)
    parts = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    if what == "class":  # a converter hides the types of a field
        fields = collections.ChainMap(*map(inspect.get_annotations, obj.__mro__))
        parts = [p.replace(annotation=fields.get(p.name, p.annotation)) for p in parts]
    text = stringify_signature(
        found.replace(parameters=parts),
        show_return_annotation=False,
        unqualified_typehints=True,
    )
    if isinstance(found.return_annotation, str) and returns:
        returns = _linked(found.return_annotation, obj)
    text = re.sub(
        r"attr_dict\['(\w+)'\]\.default",
        lambda match: repr(getattr(obj.__attrs_attrs__, match[1]).default),
        text,
    )
    return _linked(re.sub("<factory>|NOTHING", "...", text), obj), returns


def _linked(text: str, obj: Any) -> str:
    """Write the library's classes as autodoc does, so that they lead to theirs."""
    names = vars(sys.modules[obj.__module__])

    def full(match: re.Match[str]) -> str:
        found = names.get(match[0])
        known = inspect.isclass(found) and found.__module__.startswith(PACKAGE)
        return f"~{found.__module__}.{match[0]}" if known else match[0]

    # A single axis is written " n" in the source, for the linter's sake.
    text = re.sub(r"(, ['\"]) (?=\S)", r"\1", text)
    return re.sub(r"(?<![.\w'\"])[A-Z]\w+(?![\w(.=])", full, text)


def _find_elsewhere(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Find a class, or a name for a type, that is called without its module."""
    name = node.get("reftarget", "")
    if node.get("reftype") not in ("class", "name") or not name[:1].isupper():
        return None
    place = node.get("py:module"), node.get("py:class")
    found = env.get_domain("py").find_obj(env, *place, name, "obj", 1)
    found = [entry for _, entry in found if not entry.aliased]
    if len(found) != 1:
        return None
    place = node["refdoc"], found[0].docname, found[0].node_id
    return make_refnode(app.builder, *place, content, name)


def _docstring(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    del app, options
    lines[:] = markdown.to_rest("\n".join(lines)).split("\n")
    if what in ("attribute", "data", "property"):
        # Napoleon takes what stands before a colon in their first line for a type: let
        # that line be an empty comment.
        lines[:0] = ["..", ""]
    shown = repr(obj) if what == "data" and isinstance(obj, _SHOWN) else "<"
    if "<" not in shown and len(shown) < 200:
        value = f"{name.rpartition('.')[2]} = {shown}"
        lines += ["", ".. code-block:: python", "", f"   {value}"]


def _without_lists(app: Any, page: str, template: str, context: Any, tree: Any) -> None:
    """Put the lines of signatures in blocks.

    Sphinx makes a list of definitions of them that defines nothing, which a screen
    reader would announce.
    """
    del app, page, template, tree
    signature = re.compile(r'<dt class="sig .*?</dt>', re.DOTALL)
    used = re.compile("<summary>Expand for references to .*?</summary>")  # has a link
    plain = functools.partial(re.sub, r"<(/?)d[ld]>", r"<\1div>")
    if "body" in context:
        body = used.sub("<summary>Used in</summary>", context["body"])
        context["body"] = signature.sub(lambda m: plain(m[0]), body)
