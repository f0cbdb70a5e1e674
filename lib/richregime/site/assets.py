"""Styles and scripts that only some pages need, loaded by those alone."""

from pathlib import Path
from typing import Any

from docutils import nodes

FOLDER = Path(__file__).parent / "static"


def use_where(
    app: Any, marker: str, *, css: str | None = None, js: str | None = None
) -> None:
    """Load a style or a script on the pages that have a node of this class."""

    def add(app: Any, page: str, template: str, context: Any, tree: Any) -> None:
        if tree is None or not any(
            marker in node.get("classes", ()) for node in tree.findall(nodes.Element)
        ):
            return
        # While a page is rendered, these add to that page only.
        if css:
            app.add_css_file(css)
        if js:
            app.add_js_file(js, loading_method="defer")

    app.connect("html-page-context", add)
    app.connect("builder-inited", serve)


def serve(app: Any) -> None:
    """Let the site have the folder of styles and scripts."""
    # Not before the builder is there: Jupyter Book loads what it finds everywhere.
    if str(FOLDER) not in app.config.html_static_path:
        app.config.html_static_path.append(str(FOLDER))
