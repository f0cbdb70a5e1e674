"""Sphinx extension of the book's site: what its pages make from the results at build.

Each module adds its own directives, nodes and scripts in a `setup` of its own.
"""

from typing import Any

from richregime.site import (
    a11y,
    commandline,
    gallery,
    links,
    meta,
    records,
    reference,
    scoreboard,
    status,
    verdicts,
    weight,
)

_MODULES = (
    a11y,
    commandline,
    gallery,
    links,
    meta,
    records,
    reference,
    scoreboard,
    status,
    verdicts,
    weight,
)


def setup(app: Any) -> dict[str, Any]:
    """Register what the modules of this package add."""
    for module in _MODULES:
        module.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
