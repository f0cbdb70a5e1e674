"""What a module's source defines, imports and exports, read without running it."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True, slots=True)
class Module:
    """What a module's source says.

    Attributes:
        name: dotted name.
        is_package: whether it is the `__init__` of a folder.
        defined: what it defines at the top level, by name.
        imported: full names of what it imports, by local name.
        exported: its `__all__`; None if it has none.
    """

    name: str
    is_package: bool
    defined: dict[str, Definition] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    exported: tuple[str, ...] | None = None

    @property
    def public(self) -> list[str]:
        """Names defined here that are meant for others."""
        if self.exported is None:
            return [n for n, node in self.defined.items() if _is_public(n, node)]
        return [name for name in self.defined if name in self.exported]


def read_module(name: str, source: str, is_package: bool = False) -> Module:
    """Read one module from its source."""
    defined: dict[str, Definition] = {}
    imported, exported = {}, None
    for node in ast.walk(tree := ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                local = alias.asname or alias.name
                imported[local] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                imported[alias.asname or alias.name] = alias.name
    for node in tree.body:
        for local in _names(node):
            if local == "__all__" and isinstance(node, ast.Assign):
                exported = tuple(ast.literal_eval(node.value))
            elif isinstance(node, Definition):
                defined[local] = node
    return Module(name, is_package, defined, imported, exported)


def _is_public(name: str, node: Definition) -> bool:
    value = getattr(node, "value", None)
    is_variable = value is not None and ast.unparse(value).startswith("TypeVar(")
    return not (name.startswith("_") or is_variable)


def _names(node: ast.AST) -> list[str]:
    """Return the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    names = (part for target in targets if target for part in ast.walk(target))
    return [part.id for part in names if isinstance(part, ast.Name)]


def members(node: ast.AST) -> dict[str, Definition]:
    """Return the public methods and properties of a class, and the members of an enum.

    Empty for anything but a class.
    """
    if not isinstance(node, ast.ClassDef):
        return {}
    values = is_enum(node)
    return {
        name: part
        for part in node.body
        if isinstance(part, ast.FunctionDef)
        or (values and isinstance(part, ast.Assign))
        for name in _names(part)
        if not name.startswith("_")
    }


def fields(node: ast.ClassDef) -> dict[str, ast.AnnAssign]:
    """Return the annotated fields of a class, in order; class variables are not."""
    return {
        part.target.id: part
        for part in node.body
        if isinstance(part, ast.AnnAssign)
        and isinstance(part.target, ast.Name)
        and "ClassVar" not in ast.unparse(part.annotation)
    }


def is_enum(node: ast.ClassDef) -> bool:
    """Whether a class is an enumeration."""
    return any(ast.unparse(base).endswith("Enum") for base in node.bases)
