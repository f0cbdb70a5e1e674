"""What the theme leaves out for readers with a keyboard, a screen reader or a phone."""

from pathlib import Path
from typing import Any

STATIC = Path(__file__).parent / "static"


def _add_static(app: Any) -> None:
    app.config.html_static_path.append(str(STATIC))


def _visit_citation(translator: Any, node: Any) -> None:
    """Make an entry of the bibliography an item of its list.

    docutils gives it the role of a bibliography's entry, which ARIA does not count as
    an item, inside an element with the role of a list.
    """
    from docutils.writers.html5_polyglot import HTMLTranslator

    HTMLTranslator.visit_citation(translator, node)
    opening = translator.body[-1]
    translator.body[-1] = opening.replace('"doc-biblioentry"', '"listitem"')


def _depart_citation(translator: Any, node: Any) -> None:
    from docutils.writers.html5_polyglot import HTMLTranslator

    HTMLTranslator.depart_citation(translator, node)


def setup(app: Any) -> None:
    """Register with Sphinx."""
    from docutils import nodes

    visitors = (_visit_citation, _depart_citation)
    app.add_node(nodes.citation, override=True, html=visitors, singlehtml=visitors)
    app.connect("builder-inited", _add_static)
    app.add_css_file("a11y.css")
    app.add_js_file("a11y.js", loading_method="defer")
