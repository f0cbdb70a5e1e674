"""What a page would load and does not use: left out.

MathJax is a megabyte. Sphinx loads it on a page without equations, too, if a page below
that one has some; the front page is above all others. The theme's script for icons is
half as much again, and draws what the theme's own style and font draw without it.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes

_ICONS = re.compile(r"<script\b[^>]*/fontawesome\.js\b[^>]*></script>")


def _without_mathjax(
    app: Any, page: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """Take MathJax off a page that sets no equation, in its text or in titles."""
    if app.builder.name == "singlehtml":
        return
    seen = [*app.env.titles.values(), *([] if tree is None else [tree])]
    kinds = nodes.math, nodes.math_block
    if not any(isinstance(node, kinds) for one in seen for node in one.findall()):
        scripts = context["script_files"]
        scripts[:] = [s for s in scripts if "/mathjax/" not in str(s.filename or "")]


def _without_icons_script(app: Any, failure: Exception | None) -> None:
    if failure is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            text = path.read_text(encoding="utf-8")
            path.write_text(_ICONS.sub("", text), encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Register both, after what adds these scripts."""
    app.connect("html-page-context", _without_mathjax, priority=900)
    app.connect("build-finished", _without_icons_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
