"""Links of the site's own directives, and claims as what a search can lead to.

Sphinx's own cross-references keep the text of what they wrap. Those of this domain keep
any content, badges and figures too:

- `claim`: a row of the scoreboard, by its name (`mup.C1`, `mup.C1-paper`);
- `verdict`: the scoreboard with the rows of one verdict;
- `place`: a page, or a labelled section of one.

The search lists claims with their statements, and leads to their rows.
"""

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.domains import Domain, ObjType
from sphinx.util.nodes import make_refnode

BOARD = "scoreboard"
"""The page that has the full scoreboard."""


def link(kind: str, target: str, page: str, *content: nodes.Node, **more: Any) -> Any:
    """Return a link from a page around any content, to be resolved at the end."""
    about = {"refdomain": "book", "reftype": kind, "reftarget": target}
    return pending_xref("", *content, **about, refdoc=page, refwarn=True, **more)


class BookDomain(Domain):
    """Claims, and links to them and to other places of the book."""

    name = "book"
    label = "Book"
    object_types = {"claim": ObjType("claim", "claim", searchprio=0)}  # noqa: RUF012
    initial_data = {"claims": {}}  # noqa: RUF012  name -> (page, id, what is shown)
    dangling_warnings = dict.fromkeys(
        ("claim", "verdict", "place"), "the book has no %(target)r to link to"
    )

    def note_claim(self, name: str, node_id: str, shown: str) -> None:
        """Remember where a claim's row stands."""
        self.data["claims"][name] = (self.env.docname, node_id, shown)

    def clear_doc(self, docname: str) -> None:
        """Forget the claims of a page that is read anew."""
        kept = {n: c for n, c in self.data["claims"].items() if c[0] != docname}
        self.data["claims"] = kept

    def resolve_xref(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, env: Any, page: str, builder: Any, kind: str, target: str, *nodes: Any
    ) -> Any:
        """Return the link, or None where there is nothing to link to."""
        place = self._place(kind, target)
        if place is None:
            return None
        found = make_refnode(builder, page, place[0], place[1], list(nodes[0].children))
        found["classes"] += nodes[0]["classes"]
        # A filter is a matter of the page's script, and one page for all has none.
        if kind == "verdict" and builder.name == "html":
            found["refuri"] += f"?verdict={target}"
        return found

    def _place(self, kind: str, target: str) -> tuple[str, ...] | None:
        """Return page and id, the id empty for the whole page."""
        if kind == "claim":
            return self.data["claims"].get(target)
        page = BOARD if kind == "verdict" else target
        standard: Any = self.env.get_domain("std")
        there = (page, "") if page in self.env.all_docs else None
        return there or standard.anonlabels.get(target)

    def get_objects(self) -> Any:
        """Yield the claims for search and inventory."""
        for name, (page, node_id, shown) in self.data["claims"].items():
            yield name, shown, "claim", page, node_id, 0


def setup(app: Any) -> None:
    """Register the domain."""
    app.add_domain(BookDomain)
