"""What the theme leaves out for readers with a keyboard, a screen reader or a phone."""

from typing import Any

from docutils import nodes
from docutils.writers.html5_polyglot import HTMLTranslator

from richregime.site import assets


def _visit_citation(translator: Any, node: Any) -> None:
    """Make an entry of the bibliography an item of its list.

    docutils gives it the role of a bibliography's entry, which ARIA does not count as
    an item, inside an element with the role of a list.
    """
    HTMLTranslator.visit_citation(translator, node)
    role = '"doc-biblioentry"', '"listitem"'
    translator.body[-1] = translator.body[-1].replace(*role)


def setup(app: Any) -> None:
    """Register with Sphinx."""
    visitors = (_visit_citation, HTMLTranslator.depart_citation)
    app.add_node(nodes.citation, override=True, html=visitors, singlehtml=visitors)
    app.connect("builder-inited", assets.serve)
    app.add_css_file("a11y.css")
    app.add_js_file("a11y.js", loading_method="defer")
