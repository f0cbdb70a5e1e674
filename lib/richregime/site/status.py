"""The directive of the page *Status*: its tables, made from `results/` at build."""

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from richregime import durations, tables

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


class Status(SphinxDirective):
    """``{status} NAME``: a table of `SECTIONS`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse the table's Markdown where it stands."""
        (name,) = self.arguments
        if name not in SECTIONS:
            raise self.error(f"no status is called {name!r}; there are {[*SECTIONS]}")
        text = SECTIONS[name](Path(self.env.srcdir))
        holder = nodes.Element()
        lines = StringList(text.splitlines(), source=self.get_source_info()[0])
        self.state.nested_parse(lines, self.content_offset, holder)
        return holder.children


def setup(app: Any) -> None:
    """Register the directive."""
    app.add_directive("status", Status)
