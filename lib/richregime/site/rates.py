"""The directive of *How verdicts are reached*: its tables, from what was simulated."""

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from richregime import rates

TABLES = {
    "designs": rates.table_of_designs,
    "curvatures": rates.table_of_curvatures,
    "orderings": rates.table_of_orderings,
    "families": rates.table_of_families,
}


class Rates(SphinxDirective):
    """``{rates} NAME``: a table of `TABLES`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse the table's Markdown where it stands."""
        (name,) = self.arguments
        if name not in TABLES:
            raise self.error(f"no rates are called {name!r}; there are {[*TABLES]}")
        root = Path(self.env.srcdir)
        self.env.note_dependency(str(root / rates.RATES))
        holder = nodes.Element()
        lines = TABLES[name](root).splitlines()
        found = StringList(lines, source=self.get_source_info()[0])
        self.state.nested_parse(found, self.content_offset, holder)
        return holder.children


def setup(app: Any) -> None:
    """Register the directive."""
    app.add_directive("rates", Rates)
