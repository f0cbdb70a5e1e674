"""What the site need not carry: files that no page loads, scripts without a use.

The theme and MathJax come with source maps, translations, fonts for old browsers and
every combination of MathJax's components: two thirds of the site.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MATHJAX = "mathjax/tex-chtml.js"
"""The one component that pages load: TeX in, HTML out, MathML for screen readers."""

_KEPT_OF_MATHJAX = (
    MATHJAX,
    "mathjax/output/chtml/fonts/woff-v2/*.woff",
    # Loaded when an equation uses a command of theirs.
    "mathjax/input/tex/extensions/*.js",
)
_DROPPED = (
    "scripts/fontawesome.js*",
    "scripts/*.js.map",
    "styles/*.css.map",
    "vendor/fontawesome/webfonts/*.ttf",
    "locales/**/*",
    "*webpack-macros.html",
    "mathjax/input/tex/extensions/all-packages.js",
)
_ICON_SCRIPT = re.compile(r"<script[^>]*/fontawesome\.js[^>]*></script>")


def unused(static: Path) -> Iterator[Path]:
    """List the files of a site's folder of static files that no page loads."""
    kept = {path for pattern in _KEPT_OF_MATHJAX for path in static.glob(pattern)}
    dropped = {path for pattern in _DROPPED for path in static.glob(pattern)}
    for path in static.rglob("*"):
        if path.is_file():
            foreign = "mathjax" in path.parts and path not in kept
            if foreign or path in dropped:
                yield path


def _prune(app: Any, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    for path in list(unused(static)):
        path.unlink()
    # Deepest first: a folder is empty once its own folders are gone.
    for folder in sorted(static.rglob("*/"), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def _only_with_equations(
    app: Any, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Load MathJax where there are equations.

    Sphinx also loads it on a page whose table of contents leads to equations.
    """
    from docutils import nodes

    if doctree is not None and any(
        doctree.findall(lambda n: isinstance(n, nodes.math | nodes.math_block))
    ):
        return
    context["script_files"][:] = [
        script
        for script in context["script_files"]
        if not (str(script.filename).endswith(MATHJAX) or _sets_mathjax(script))
    ]


def _sets_mathjax(script: Any) -> bool:
    return str(script.attributes.get("body", "")).startswith("window.MathJax")


def _without_icon_script(head: Any) -> str:
    return _ICON_SCRIPT.sub("", str(head))


def _register_filter(app: Any) -> None:
    if app.builder.format == "html":
        filters = app.builder.templates.environment.filters
        filters["without_icon_script"] = _without_icon_script


def setup(app: Any) -> None:
    """Register with Sphinx."""
    app.connect("builder-inited", _register_filter)
    # After Sphinx has added MathJax to the page.
    app.connect("html-page-context", _only_with_equations, priority=900)
    # After the extension that copies MathJax.
    app.connect("build-finished", _prune, priority=900)
