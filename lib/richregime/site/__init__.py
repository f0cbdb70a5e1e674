"""Sphinx extension of the book's site: what its pages make from the results at build.

Each module has a `setup` of its own.
"""

from importlib import import_module
from typing import Any

_MODULES = (
    *("a11y", "gallery", "links", "meta", "rates", "records", "reference"),
    *("scoreboard", "status", "verdicts", "weight"),
)


def setup(app: Any) -> None:
    """Register what the modules of this package add."""
    for name in _MODULES:
        import_module(f"{__name__}.{name}").setup(app)
