"""The gallery of the site: which figure of a chapter, how large, and where it leads."""

import base64
import io
import json
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from PIL import Image
from richregime.chapters import read_chapters, read_source
from richregime.site.gallery import WIDTH, choose, figures, shrink
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = read_chapters(ROOT)


def png(width=780, height=500, colour="white"):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, format="png")
    return stream.getvalue()


def text(source):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def figure(alt="A line.", tags=(), picture=None):
    data = {"image/png": base64.b64encode(picture or png()).decode()}
    metadata = {"tags": list(tags), "mystnb": {"image": {"alt": alt}}}
    outputs = [{"data": data}]
    return {"cell_type": "code", "source": "", "metadata": metadata, "outputs": outputs}


def notebook(*cells):
    return {"cells": list(cells)}


def test_the_tagged_figure_is_chosen_else_the_first():
    plain = notebook(text("# A"), figure("first"), figure("second"))
    assert choose(plain).alt == "first"
    tagged = notebook(figure("first"), figure("second", ["hide-input", "gallery"]))
    assert choose(tagged).alt == "second"
    assert choose(notebook(text("# A"))) is None


@pytest.mark.parametrize(
    ("cells", "wrong"),
    [
        ([figure(tags=["gallery"]), figure(tags=["gallery"])], "2 figures are tagged"),
        ([figure(alt=" ")], "no alt text"),
    ],
)
def test_a_choice_that_cannot_be_shown_is_an_error(cells, wrong):
    with pytest.raises(ValueError, match=wrong):
        choose(notebook(*cells))


def test_a_figure_belongs_to_the_labelled_section_it_stands_in():
    found = figures(
        notebook(
            text("# Title"),
            figure("before any"),
            text("(a-c1)=\n## One"),
            figure("in one"),
            text("### Below one"),
            figure("below one"),
            text("Words.\n\n(deep)=\n### Deeper"),
            figure("in deeper"),
            text("## Two, without a label"),
            figure("in two"),
        )
    )
    assert {one.alt: one.label for one in found} == {
        "before any": None,
        "in one": "a-c1",
        "below one": "a-c1",
        "in deeper": "deep",
        "in two": None,
    }


def test_a_copy_is_smaller_and_keeps_the_shape():
    stripes = Image.radial_gradient("L").resize((780, 480)).convert("RGB")
    stream = io.BytesIO()
    stripes.save(stream, format="png")
    copy, size = shrink(stream.getvalue())
    assert Image.open(io.BytesIO(copy)).size == size
    assert size == (WIDTH, round(WIDTH * 480 / 780))
    assert len(copy) < len(stream.getvalue())
    assert shrink(png(200, 100))[1] == (200, 100), "never larger"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_each_chapter_has_one_tagged_figure_with_alt_text(chapter):
    cells = read_source(chapter).cells
    tagged = [c for c in cells if "gallery" in c.metadata.get("tags", ())]
    assert len(tagged) == 1
    assert tagged[0].metadata["mystnb"]["image"]["alt"].strip()


def build(root, lines):
    """Build a book whose front page has a gallery of these lines."""
    (root / "chapters").mkdir(parents=True)
    body = "\n".join(lines)
    toc = "```{toctree}\nchapters/01\n```\n"
    (root / "index.md").write_text(f"# Front\n\n```{{gallery}}\n{body}\n```\n\n{toc}")
    (root / "chapters" / "01.md").write_text("# One\n\n(a-c1)=\n## First\n")
    cells = text("# One"), text("(a-c1)=\n## First"), figure("A <line> & more.")
    (root / "chapters" / "01.ipynb").write_text(json.dumps(notebook(*cells)))
    warnings = io.StringIO()
    site = [f"richregime.site.{name}" for name in ("links", "gallery")]
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            *(root, None, root / "html", root / "trees", "html"),
            confoverrides={
                "extensions": ["myst_parser", *site],
                "exclude_patterns": ["*.ipynb"],
                "html_theme": "basic",
            },
            status=None,
            warning=warnings,
        )
        app.build()
    page = BeautifulSoup((root / "html" / "index.html").read_text(), "html.parser")
    return page, warnings.getvalue()


def test_the_page_shows_size_alt_text_and_question_in_one_link(tmp_path):
    lines = ["chapters/01: Does it move?", "", "chapters/01: And again: where?"]
    page, warnings = build(tmp_path / "book", lines)
    assert warnings == ""
    first, second = page.select(".wl-gallery > li")
    image, link = first.img, first.a
    with Image.open(tmp_path / "book" / "html" / image["src"]) as copied:
        assert copied.size == (int(image["width"]), int(image["height"]))
        assert copied.size == (WIDTH, 359)
    assert image["alt"] == "A <line> & more."
    assert link["href"] == "chapters/01.html#a-c1"
    assert link.text.strip() == "Does it move?" and image in link.find_all("img")
    assert "loading" not in image.attrs and second.img["loading"] == "lazy"
    assert second.text.strip() == "And again: where?"
    assert "style" not in image.attrs
    assert page.select_one("link[href*='gallery.css']")


@pytest.mark.parametrize("line", ["chapters/01", "chapters/09: Is there one?"])
def test_a_line_that_names_no_notebook_is_explained(tmp_path, line):
    _, warnings = build(tmp_path / "book", [line])
    assert "page: caption" in warnings and line in warnings
