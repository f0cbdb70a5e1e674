"""Links of the site's own directives, and claims as what a search can lead to.

Sphinx's own cross-references keep the text of what they wrap. Those of this domain keep
any content, badges and figures too:

- `claim`: a row of the scoreboard, by its name (`mup.C1`, `mup.C1-paper`);
- `verdict`: the scoreboard with the rows of one verdict;
- `place`: a page, or a labelled section of one.

Claims are objects of the domain: the search lists each with its statement and leads to
its row, and other sites can link to it by its name.
"""

from typing import Any

from docutils import nodes
from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.domains import Domain, ObjType
from sphinx.util.nodes import make_refnode

BOARD = "scoreboard"
"""The page that has the full scoreboard."""


_OBJECTS = {"claim": ObjType("claim", "claim", searchprio=0)}
_EMPTY: dict[str, Any] = {"claims": {}}  # name -> (page, id, what a search shows)
_DANGLING = {
    kind: f"the book has no {kind} %(target)r to link to"
    for kind in ("claim", "verdict", "place")
}


def link(
    kind: str, target: str, docname: str, *content: nodes.Node, **more: Any
) -> pending_xref:
    """Return a link of this domain around any content, to be resolved at the end."""
    return pending_xref(
        "",
        *content,
        refdomain=BookDomain.name,
        reftype=kind,
        reftarget=target,
        refdoc=docname,
        refexplicit=True,
        refwarn=True,
        **more,
    )


class BookDomain(Domain):
    """Claims, and links to them and to other places of the book."""

    name = "book"
    label = "Book"
    object_types = _OBJECTS
    initial_data = _EMPTY
    dangling_warnings = _DANGLING

    def note_claim(self, name: str, node_id: str, shown: str) -> None:
        """Remember where a claim's row stands."""
        self.data["claims"][name] = (self.env.docname, node_id, shown)

    def clear_doc(self, docname: str) -> None:
        """Forget the claims of a page that is read anew."""
        claims = self.data["claims"]
        for name in [name for name, (page, *_) in claims.items() if page == docname]:
            del claims[name]

    def merge_domaindata(self, docnames: Any, otherdata: dict[str, Any]) -> None:
        """Take over what a parallel process read."""
        for name, entry in otherdata["claims"].items():
            if entry[0] in docnames:
                self.data["claims"][name] = entry

    def resolve_xref(
        self,
        env: Any,
        fromdocname: str,
        builder: Any,
        typ: str,
        target: str,
        node: pending_xref,
        contnode: Element,
    ) -> Element | None:
        """Return the link, or None where there is nothing to link to."""
        place = self._place(typ, target)
        if place is None:
            return None
        page, anchor = place
        found = make_refnode(builder, fromdocname, page, anchor, list(node.children))
        found["classes"] += node["classes"]
        # A filter is a matter of the page's script, and one page for all has none.
        if (
            typ == "verdict"
            and builder.format == "html"
            and builder.name != "singlehtml"
        ):
            found["refuri"] += f"?verdict={target}"
        return found

    def _place(self, kind: str, target: str) -> tuple[str, str] | None:
        """Return page and id, the id empty for the whole page."""
        if kind == "claim":
            entry = self.data["claims"].get(target)
            return entry and entry[:2]
        page = BOARD if kind == "verdict" else target
        if page in self.env.all_docs:
            return page, ""
        standard: Any = self.env.get_domain("std")
        return standard.anonlabels.get(target)

    def resolve_any_xref(
        self,
        env: Any,
        fromdocname: str,
        builder: Any,
        target: str,
        node: pending_xref,
        contnode: Element,
    ) -> list[Any]:
        """Stay out of links whose kind the author left open."""
        return []

    def get_objects(self) -> Any:
        """Yield the claims for search and inventory."""
        for name, (page, node_id, shown) in self.data["claims"].items():
            yield name, shown, "claim", page, node_id, 0


def setup(app: Any) -> dict[str, Any]:
    """Register the domain."""
    app.add_domain(BookDomain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
