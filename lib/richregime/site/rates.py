"""The directive of *How verdicts are reached*: its tables, from what was simulated."""

from pathlib import Path
from typing import Any

from docutils import nodes

from richregime import rates
from richregime.site.made import MadeTable

TABLES = {
    "designs": rates.table_of_designs,
    "curvatures": rates.table_of_curvatures,
    "orderings": rates.table_of_orderings,
    "families": rates.table_of_families,
}


class Rates(MadeTable):
    """``{rates} NAME``: a table of `TABLES`."""

    tables = TABLES
    called = "rates are"

    def run(self) -> list[nodes.Node]:
        """Return the table, which is another when the file of rates is."""
        self.env.note_dependency(str(Path(self.env.srcdir) / rates.RATES))
        return super().run()


def setup(app: Any) -> None:
    """Register the directive."""
    app.add_directive("rates", Rates)
