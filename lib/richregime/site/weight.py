"""What the site need not carry: two thirds of the theme and of MathJax."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes

# One component, its fonts, and what an equation may ask for later.
_KEPT = (
    r"tex-chtml\.js|input/tex/extensions/(?!all-packages)|output/chtml/fonts/woff-v2"
)
_DROPPED = re.compile(
    rf"mathjax/(?!{_KEPT})|/fontawesome\.js|\.map$|\.ttf$|/locales/|webpack-macros"
)
_ICONS = re.compile(r"<script[^>]*/fontawesome\.js[^>]*></script>")


def _prune(app: Any, error: Exception | None) -> None:
    for path in () if error else list(Path(app.outdir, "_static").rglob("*")):
        if path.is_file() and _DROPPED.search(path.as_posix()):
            path.unlink()


def _lighten(app: Any, page: str, template: str, context: Any, tree: Any) -> None:
    """Take icons from the theme's font; load MathJax where there are equations."""
    context["without_icon_script"] = lambda head: _ICONS.sub("", str(head))
    maths = nodes.math | nodes.math_block
    if tree is None or not any(isinstance(node, maths) for node in tree.findall()):
        scripts = context["script_files"]
        known = [f"{script.filename} {script.attributes}".lower() for script in scripts]
        scripts[:] = [
            s for s, k in zip(scripts, known, strict=True) if "mathjax" not in k
        ]


def setup(app: Any) -> None:
    """Register with Sphinx, behind those who add what is taken away."""
    app.connect("html-page-context", _lighten, priority=900)
    app.connect("build-finished", _prune, priority=900)
