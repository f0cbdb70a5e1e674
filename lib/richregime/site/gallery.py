"""A gallery: one figure of each chapter, out of its executed notebook.

    ```{gallery}
    chapters/01-mup-global-convergence: Which features move at any width?
    ```

takes a page and what to write below its figure from each line: the figure whose cell
has the tag ``gallery``, else the page's first. It leads to the section it stands in.
"""

import json
import os
import re
from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from richregime.site import assets, links

WIDTH = 560
"""Pixels of a copy: sharp in a column of 280, and enough for a telephone."""
_COLOURS = 64
_LABEL = re.compile(r"^\(([\w-]+)\)=\s*$")
_HEADING = re.compile(r"^(#{1,6}) ")

Section = tuple[str, int] | None  # its label and its level


class Figure(NamedTuple):
    """A figure of a notebook, with the label of the section in which it stands."""

    png: bytes
    alt: str
    label: str | None
    chosen: bool


def figures(notebook: dict[str, Any]) -> Iterator[Figure]:
    """Yield the figures of a notebook (its JSON), in order."""
    section: Section = None
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            section = _section("".join(cell["source"]), section)
        settings = cell["metadata"]
        alt = settings.get("mystnb", {}).get("image", {}).get("alt", "")
        chosen = "gallery" in settings.get("tags", ())
        for output in cell.get("outputs", ()):
            if png := output.get("data", {}).get("image/png"):
                label = section and section[0]
                yield Figure(b64decode("".join(png)), alt, label, chosen)


def choose(notebook: dict[str, Any]) -> Figure | None:
    """Return the figure for the gallery; None from a notebook without figures.

    Raises:
        ValueError: two figures are tagged, or the figure has no alt text.
    """
    found = list(figures(notebook))
    chosen = [figure for figure in found if figure.chosen] or found[:1]
    if len(chosen) > 1:
        raise ValueError(f"{len(chosen)} figures are tagged gallery: leave one")
    if chosen and not chosen[0].alt.strip():
        raise ValueError("its figure for the gallery has no alt text")
    return chosen[0] if chosen else None


def shrink(png: bytes, width: int = WIDTH) -> tuple[bytes, tuple[int, int]]:
    """Return a copy of a picture that is at most so wide, and its size."""
    from PIL import Image

    picture = Image.open(BytesIO(png)).convert("RGB")
    picture.thumbnail((width, picture.height), Image.Resampling.LANCZOS)
    stream = BytesIO()
    picture.quantize(_COLOURS).save(stream, format="png", optimize=True)
    return stream.getvalue(), picture.size


class gallery_image(nodes.image):
    """An image with its true size, so that a page does not jump when it arrives."""


class Gallery(SphinxDirective):
    """The directive: a line for each figure."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return a list of figures."""
        lines = [line for line in self.content if line.strip()]
        # Only the first figure of a page is seen at once; the others may wait.
        above = self.env.temp_data.setdefault("wl-gallery", self.lineno) == self.lineno
        items = [self._item(line, first=above and line is lines[0]) for line in lines]
        return [nodes.bullet_list("", *items, classes=["wl-gallery"])]

    def _item(self, line: str, *, first: bool) -> nodes.list_item:
        page, colon, caption = (part.strip() for part in line.partition(":"))
        path = Path(self.env.srcdir) / f"{page}.ipynb"
        if not (colon and caption and path.exists()):
            raise self.error(
                f"a line of a gallery is 'page: caption', of a page with a notebook; "
                f"got {line!r}"
            )
        self.env.note_dependency(str(path))
        try:
            figure = choose(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise self.error(f"{page}: {error}") from error
        shown: list[nodes.Node] = [nodes.inline("", caption, classes=["wl-question"])]
        if figure:
            shown.insert(0, self._image(figure, first=first))
        target = (figure and figure.label) or page
        link = links.link("place", target, self.env.docname, *shown)
        return nodes.list_item("", nodes.paragraph("", "", link))

    def _image(self, figure: Figure, *, first: bool) -> nodes.image:
        png, (width, height) = shrink(figure.png)
        # Named by its content, where Sphinx keeps what it makes on the way.
        path = Path(self.env.doctreedir) / "gallery" / f"{sha256(png).hexdigest()}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
        uri = Path(os.path.relpath(path, self.env.srcdir)).as_posix()
        size = {"pixels": (width, height), "first": first}
        return gallery_image("", uri=f"/{uri}", alt=figure.alt, **size)


def _section(markdown: str, before: Section) -> Section:
    """Return the labelled section in which a text ends, None outside of any.

    A section ends at the next heading of its level or above.
    """
    section, pending = before, None
    for line in markdown.splitlines():
        if match := _LABEL.match(line):
            pending = match.group(1)
        elif match := _HEADING.match(line):
            level = len(match.group(1))
            if pending:
                section = (pending, level)
            elif section and level <= section[1]:
                section = None
            pending = None
    return section


def _visit_html(self: Any, node: gallery_image) -> None:
    uri = self.builder.images.get(node["uri"], node["uri"])
    size = dict(zip(("width", "height"), node["pixels"], strict=True))
    loading = {} if node["first"] else {"loading": "lazy"}
    atts = {"src": f"{self.builder.imgpath}/{uri}", "alt": node["alt"]}
    self.body.append(self.emptytag(node, "img", "", **atts, **size, **loading))


def setup(app: Any) -> None:
    """Register the directive, its node and its style."""
    visit_html = (_visit_html, lambda *_: None)
    visit = (lambda translator, node: translator.visit_image(node), lambda *_: None)
    others = dict.fromkeys(("latex", "text", "man", "texinfo"), visit)
    app.add_directive("gallery", Gallery)
    app.add_node(gallery_image, html=visit_html, **others)
    assets.use_where(app, "wl-gallery", css="gallery.css")
