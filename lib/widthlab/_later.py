"""Names of a package that are loaded when first asked for.

A process that runs one cell, or reads one claim, should not wait for all of the library
and for all that it is built on: worker processes start in half the time.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def later(
    package: str, places: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__` (PEP 562).

    What is no name of `places` may be a module of the package: it need not be imported
    before it is used, either. Type checkers are told of the names by imports of their
    own. A name must not be that of the module that it is in: whoever imports the module
    would have it in the name's place.

    Args:
        package: its `__name__`.
        places: names, by the module of the package that defines them.
    """
    place = {name: module for module, names in places.items() for name in names}

    def get(name: str) -> Any:
        if name in place:
            found = getattr(_module(f"{package}.{place[name]}"), name)
        elif _is_module(package, name):
            found = _module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, found)  # the next time it is there
        return found

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *place})

    return get, listed


def _is_module(package: str, name: str) -> bool:
    public = name.isidentifier() and not name.startswith("_")
    return public and find_spec(f"{package}.{name}") is not None


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except AttributeError as error:
        # Else it would pass for a name that is missing here, and its cause be lost.
        raise ImportError(f"{name} cannot be loaded: {error}", name=name) from error
