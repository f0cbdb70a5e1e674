"""The public names of the library, read from its source without importing it.

A name is public if it is defined in a public module and has no underscore in front, or
is in the module's `__all__` where there is one. It is documented where a reader imports
it from: at the package if that exports it, else at its own module.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from richregime.site.source import Definition, Module, fields, members, read_module

PACKAGE = "widthlab"
NOT_LIBRARY = ("richregime", "widthlab.__main__")
"""What builds the book and starts the command line: not for import by a reader."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Modules by name, and where each public name is documented.

    Attributes:
        modules: every module of the library.
        homes: full name of the definition of what is public, and the name under which
            it is documented: `widthlab.flow.solve.solve` and `widthlab.flow.solve`.
    """

    modules: dict[str, Module]
    homes: dict[str, str]

    def find(self, module: str, name: str) -> str | None:
        """Return the full name of what `name` means in a module, if it is defined."""
        head, *rest = name.split(".")
        there = self.modules.get(module)
        if there is None:
            return None
        if head in there.defined:
            return ".".join([module, head, *rest])
        if head in there.imported:
            return self.follow(".".join([there.imported[head], *rest]))
        return self.follow(".".join([module, name])) if there.is_package else None

    def follow(self, full: str) -> str | None:
        """Return where something named from outside is defined."""
        parts = full.split(".")
        # A function that has its module's name hides it, as `flow.solve` does: a module
        # comes last.
        for cut in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:cut])
            there = self.modules.get(module)
            if there and (parts[cut] in there.defined or parts[cut] in there.imported):
                found = self.find(module, ".".join(parts[cut:]))
                if found:
                    return found
        return full if full in self.modules else None

    def resolve(self, module: str, name: str, owner: str = "") -> str | None:
        """Return the documented name of what a docstring of a module calls `name`.

        Args:
            module: where the docstring stands.
            name: what it calls it: local, imported, a module, or a full name.
            owner: class around it, whose members need no prefix.
        """
        around = module.rpartition(".")[0]
        found = [self.find(module, f"{owner}.{name}") if owner else None]
        found += [self.find(module, name), self.follow(name)]
        found += [self.follow(f"{place}.{name}") for place in (around, PACKAGE)]
        if "." not in name and "_" not in name:
            # One word such as `data` is rather a variable than the module.
            found = [full for full in found if full not in self.modules]
        head, dot, member = name.partition(".")
        if name[:1].isupper():  # classes have names of their own
            same = (full for full in self.homes if full.endswith(f".{head}"))
            found += [f"{full}{dot}{member}" for full in same]
        documented = (self.documented(full) for full in found if full)
        return next(filter(None, documented), None)

    def documented(self, full: str) -> str | None:
        """Return the name under which a definition, or a member of it, is documented.

        A field is documented with its class.
        """
        if full in self.modules:
            return full if self._is_on_a_page(full) else None
        if full in self.homes:
            return self.homes[full]
        outer, _, member = full.rpartition(".")
        home = self.homes.get(outer)
        node = self.definition(outer) if home else None
        if not isinstance(node, ast.ClassDef):
            return None
        if member in members(node):
            return f"{home}.{member}"
        return home if member in fields(node) else None

    def definition(self, full: str) -> Definition | None:
        """Return the source of a definition, or of a member of a class."""
        for cut in range(full.count("."), 0, -1):
            parts = full.split(".")
            there = self.modules.get(".".join(parts[:cut]))
            if there and parts[cut] in there.defined:
                node = there.defined[parts[cut]]
                if len(parts) == cut + 1:
                    return node
                return members(node).get(parts[-1])
        return None

    def origin(self, documented: str) -> str:
        """Return the full name of the definition of what is documented under a name."""
        for full, home in self.homes.items():
            if documented == home or documented.startswith(f"{home}."):
                return full + documented[len(home) :]
        return documented

    def module_of(self, full: str) -> str:
        """Return the module that defines a full name, or a member of one."""
        module = full
        # A module's own name may be that of a function in the package: begin inside.
        while module := module.rpartition(".")[0]:
            name = full.removeprefix(f"{module}.").partition(".")[0]
            if module in self.modules and name in self.modules[module].defined:
                return module
        raise KeyError(f"{full} is defined in no module of the library")

    def place(self, documented: str) -> str | None:
        """Return the module under which a documented name stands on its page."""
        for home in self.homes.values():
            if f"{documented}.".startswith(f"{home}."):
                return home.rpartition(".")[0]
        return None

    def _is_on_a_page(self, module: str) -> bool:
        return any(home.rpartition(".")[0] == module for home in self.homes.values())


@functools.cache
def inventory() -> Inventory:
    """Return the inventory of the library that is installed."""
    return read_inventory(Path(__file__).parents[2])


def read_inventory(folder: Path) -> Inventory:
    """Read the modules of the library in a folder."""
    modules = {module.name: module for module in _modules(folder)}
    homes = {}
    for module in modules.values():
        outer = modules.get(module.name.rpartition(".")[0])
        # The library's own __init__ gathers names; its modules document them.
        above = outer if outer and outer.name != PACKAGE else None
        for name in module.public:
            full = f"{module.name}.{name}"
            place = above.name if above and _exports(above, full) else module.name
            homes[full] = f"{place}.{name}"
    return Inventory(modules, homes)


def _exports(package: Module, full: str) -> bool:
    name = full.rpartition(".")[2]
    return name in (package.exported or ()) and package.imported.get(name) == full


def _modules(folder: Path) -> Iterator[Module]:
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join([PACKAGE, *(parts[:-1] if is_package else parts)])
        outside = any(f"{name}.".startswith(f"{one}.") for one in NOT_LIBRARY)
        if outside or any(p.startswith("_") for p in parts if p != "__init__"):
            continue
        yield read_module(name, file.read_text(encoding="utf-8"), is_package)
