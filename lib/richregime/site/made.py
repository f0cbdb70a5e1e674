"""What the directives share whose tables are made from `results/` at build."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class MadeTable(SphinxDirective):
    """A table by its name, written in Markdown by a function of the book's folder."""

    required_arguments = 1
    tables: ClassVar[Mapping[str, Callable[[Path], str]]]
    called: ClassVar[str]

    def run(self) -> list[nodes.Node]:
        """Parse the table's Markdown where it stands."""
        (name,) = self.arguments
        if name not in self.tables:
            raise self.error(
                f"no {self.called} called {name!r}; there are {[*self.tables]}"
            )
        text = self.tables[name](Path(self.env.srcdir))
        holder = nodes.Element()
        lines = StringList(text.splitlines(), source=self.get_source_info()[0])
        self.state.nested_parse(lines, self.content_offset, holder)
        return holder.children
