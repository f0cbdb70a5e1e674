"""The directive of the page *Status*: its tables, made from `results/` at build."""

from typing import Any

from richregime import durations, tables
from richregime.site.made import MadeTable

SECTIONS = {
    name: getattr(module, name)
    for module, names in (
        (
            tables,
            ("executions", "stability", "stored", "data", "environment", "slowest"),
        ),
        (durations, ("measured", "elsewhere", "paper")),
    )
    for name in names
}


class Status(MadeTable):
    """``{status} NAME``: a table of `SECTIONS`."""

    tables = SECTIONS
    called = "status is"


def setup(app: Any) -> None:
    """Register the directive."""
    app.add_directive("status", Status)
