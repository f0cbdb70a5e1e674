"""The book as one PDF: the pages of the site in their order, printed by Chromium.

There is nothing to keep in step: what is printed is what the site shows, without the
frame that only a screen needs. Links between pages become links within the PDF.
"""

import re
import time
from collections.abc import Sequence
from datetime import date
from html import escape
from importlib.metadata import version
from pathlib import Path
from posixpath import join, normpath
from typing import Any

from richregime.chapters import BookError, page_names
from richregime.chromium import chromium
from richregime.pages import building, html
from richregime.progress import clock

PDF = Path("_build/pdf/the-rich-regime.pdf")

_STYLE = Path(__file__).with_name("print.css")
_MARK = Path(__file__).parent / "site" / "brand" / "mark.svg"
# Of an A4 page, within the margins of print.css, in CSS pixels.
_TEXT_WIDTH = 657

# Wait until all equations are set, then shrink what is wider than the text.
# Pictures that load when they are seen would never load.
_FIT = """async (width) => {
  await window.MathJax?.startup?.promise;
  for (const image of document.images) image.loading = 'eager';
  await Promise.all([...document.images].map((image) => image.decode()));
  const wide = 'table, mjx-container[display="true"]';
  for (const node of document.querySelectorAll(wide)) {
    const inner = node.querySelector(':scope > mjx-math') ?? node;
    const ratio = width / inner.getBoundingClientRect().width;
    if (ratio < 1) node.style.zoom = Math.floor(ratio * 100) / 100;
  }
}"""


def pdf(root: Path) -> None:
    """Build the site and print it into ``_build/pdf``.

    Raises:
        BookError: if the site does not build or there is nothing to print it with.
    """
    # First the browser: without one the site is built for nothing.
    with chromium() as browser, building(root):
        html(root)
        start = time.monotonic()
        print_site(root, root / PDF, browser)
    size = (root / PDF).stat().st_size / 1e6
    print(f"PDF printed in {clock(time.monotonic() - start)}, {size:.1f} MB: {PDF}")


def print_site(root: Path, path: Path, browser: Any) -> None:
    """Print the built site of a book as one PDF, by a browser of Playwright."""
    site = root / "_build" / "html"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the pages that it is made of, so that what they name is found.
    book = site / "_print.html"
    book.write_text(assemble(site, page_names(root)), encoding="utf-8")
    try:
        _print(browser, book, path)
    finally:
        book.unlink()


def assemble(site: Path, names: Sequence[str]) -> str:
    """Return the articles of these pages as one page, with links among them."""
    pages = {name: _soup(site / f"{name}.html") for name in names}
    styles, articles, contents = {}, [], []
    for name, page in pages.items():
        for link in page.select("head link[rel=stylesheet]"):
            styles[normpath(join(name, "..", str(link["href"]).split("?")[0]))] = None
        article = page.select_one("article.bd-article")
        if article is None:
            raise BookError(f"{name}.html has no article: is it a page of the site?")
        contents.append(f'<li><a href="#{_key(name)}">{_title(article)}</a></li>')
        _localize(article, name, set(names), _address(page, name))
        articles.append(f'<div class="book-page" id="{_key(name)}">{article}</div>')
    first = pages[names[0]]
    links = "".join(f'<link rel="stylesheet" href="{href}">' for href in styles)
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8">
<title>{_name(first)}</title>{links}
<style>{_STYLE.read_text(encoding="utf-8")}</style>
{_mathjax(pages)}</head><body>
<div class="book-title">{_MARK.read_text(encoding="utf-8")}
<h1>{_name(first)}</h1>{_imprint(first)}</div>
<nav class="book-contents"><h2>Contents</h2><ol>{"".join(contents)}</ol></nav>
{"".join(articles)}</body></html>"""


def _soup(path: Path) -> Any:
    from bs4 import BeautifulSoup

    if not path.exists():
        raise BookError(f"{path} is missing: run make html first.")
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def _key(name: str) -> str:
    return re.sub(r"\W+", "-", name)


def _name(page: Any) -> str:
    return escape(page.select_one("meta[property='og:site_name']")["content"])


def _title(article: Any) -> str:
    heading = article.h1
    return escape(heading.get_text().removesuffix("#").strip())


def _address(page: Any, name: str) -> str:
    """Return the address of the site, which a page knows for itself."""
    canonical = str(page.select_one("link[rel=canonical]")["href"])
    return canonical.removesuffix(f"{name}.html")


def _imprint(page: Any) -> str:
    author = page.select_one(".component-author")
    today = date.today()
    return (
        f"<p>{escape(author.get_text(strip=True))}</p>"
        f"<p>Version {version('widthlab')}, printed on {today:%-d %B %Y}</p>"
        f"<p>{escape(_address(page, 'index'))}</p>"
    )


def _mathjax(pages: dict[str, Any]) -> str:
    """Return the scripts that set equations, as the first page that has some does."""
    for name, page in pages.items():
        loader = page.select_one("head script[src*='/mathjax/']")
        if loader is not None:
            source = normpath(join(name, "..", str(loader["src"]).split("?")[0]))
            settings = page.find("script", string=re.compile(r"^window\.MathJax"))
            return f'{settings}<script defer src="{source}"></script>'
    return ""


def _localize(article: Any, name: str, names: set[str], address: str) -> None:
    """Make ids unique in the book, links within it local, and pictures findable."""
    for node in article.select("script, details.above-input, link"):
        node.decompose()
    for node in article.select("details"):
        node["open"] = ""
    for node in article.find_all(id=True):
        node["id"] = f"{_key(name)}--{node['id']}"
    for label in ("aria-labelledby", "aria-describedby", "for"):
        for node in article.find_all(attrs={label: True}):
            node[label] = f"{_key(name)}--{node[label]}"
    for node in article.find_all(src=True):
        node["src"] = normpath(join(name, "..", node["src"]))
    for node in article.find_all(href=True):
        node["href"] = _target(node["href"], name, names, address)


def _target(href: str, name: str, names: set[str], address: str) -> str:
    """Return where a link leads: into the book, or to what only the site has."""
    if "://" in href or href.startswith("mailto:"):
        return href
    path, _, anchor = href.partition("#")
    page = normpath(join(name, "..", path)).removesuffix(".html") if path else name
    if page not in names:
        return address + normpath(join(name, "..", path))
    return f"#{_key(page)}--{anchor}" if anchor else f"#{_key(page)}"


def _print(browser: Any, page: Path, path: Path) -> None:
    size = {"width": _TEXT_WIDTH, "height": 1000}
    tab = browser.new_page(viewport=size, color_scheme="light")
    tab.set_default_timeout(300_000)
    tab.emulate_media(media="print")
    tab.goto(page.as_uri())
    tab.evaluate(_FIT, _TEXT_WIDTH)
    tab.pdf(
        path=path,
        prefer_css_page_size=True,
        print_background=True,
        outline=True,
        tagged=True,
    )
    tab.close()
