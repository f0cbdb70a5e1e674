"""Signatures as the source spells them, with links from the types to their pages.

Evaluated annotations of arrays are long unions; in the source they are one short type.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator

from richregime.site.source import Definition, fields, is_enum

Link = Callable[[str], str | None]
"""From a name in a module to the full name of what it is, if that is documented."""


def signature(node: Definition, link: Link, *, bound: bool = False) -> tuple[str, str]:
    """Return the arguments in brackets and the returned type, either maybe empty.

    Args:
        node: a function or a class. A class is called with its fields or as its
            `__init__` says; one that has neither is not meant to be called.
        link: says which types lead somewhere.
        bound: whether the first argument is the object itself, which nobody gives.
    """
    if isinstance(node, ast.ClassDef):
        return _class_arguments(node, link), ""
    if not isinstance(node, ast.FunctionDef):
        return "", ""
    returns = "" if node.returns is None else annotation(node.returns, link)
    return _arguments(node, link, bound), returns


def annotation(node: ast.expr, link: Link) -> str:
    """Return a type as the source has it: the names in it linked, its strings trimmed.

    A single axis of an array is written `" n"` in the source for the linter's sake.
    """
    return ast.unparse(_Types(link).visit(copy.deepcopy(node)))


class _Types(ast.NodeTransformer):
    """Puts in front of a name that leads somewhere what Sphinx reads as a link."""

    def __init__(self, link: Link):
        self.link = link

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str):
            return ast.Constant(node.value.strip())
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._linked(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return self._linked(node)

    def _linked(self, node: ast.expr) -> ast.expr:
        target = self.link(ast.unparse(node))
        return ast.UnaryOp(ast.Invert(), ast.Name(target)) if target else node


def _arguments(node: ast.FunctionDef, link: Link, bound: bool) -> str:
    arguments = copy.deepcopy(node.args)
    if bound:
        (arguments.posonlyargs or arguments.args).pop(0)
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg) and argument.annotation:
            argument.annotation = ast.Name(annotation(argument.annotation, link))
    return f"({ast.unparse(arguments)})"


def _class_arguments(node: ast.ClassDef, link: Link) -> str:
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return _arguments(part, link, bound=True)
    decorators = " ".join(map(ast.unparse, node.decorator_list))
    bases = [ast.unparse(base) for base in node.bases]
    made = "dataclass(" in decorators or "attrs.frozen" in decorators
    if is_enum(node) or not (made or "NamedTuple" in bases):
        return ""
    parts = list(_fields(node, link))
    if parts and "kw_only=True" in decorators:
        parts.insert(0, "*")
    return f"({', '.join(parts)})"


def _fields(node: ast.ClassDef, link: Link) -> Iterator[str]:
    for name, part in fields(node).items():
        default = "" if part.value is None else _default(part.value)
        if default is not None:
            yield f"{name}: {annotation(part.annotation, link)}" + (
                f" = {default}" if default else ""
            )


def _default(value: ast.expr) -> str | None:
    """Return a field's default; None if the field is no argument."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func).endswith("field")):
        text = ast.unparse(value)
        return "..." if text.startswith("_") else text  # a private name says nothing
    given = {word.arg: word.value for word in value.keywords}
    if "init" in given and not ast.literal_eval(given["init"]):
        return None
    for factory in {"default_factory", "factory"} & set(given):
        return f"{ast.unparse(given[factory])}()"
    return ast.unparse(given["default"]) if "default" in given else ""
