"""The book printed: every page of the site in one PDF."""

import re
import shutil
import subprocess

import pytest
from bs4 import BeautifulSoup
from reading import ROOT, SITE, pages
from richregime.chapters import page_names
from richregime.pdf import assemble, print_site


@pytest.fixture(scope="module")
def book(site):
    """The one page that is printed."""
    return BeautifulSoup(assemble(site, page_names(ROOT)), "html.parser")


def heading(path):
    page = BeautifulSoup((SITE / path).read_text(encoding="utf-8"), "html.parser")
    return page.select_one("article h1").get_text().removesuffix("#").strip()


def test_links_within_the_book_stay_within_it(book):
    ids = [node["id"] for node in book.find_all(id=True)]
    assert len(set(ids)) == len(ids)
    links = [link["href"] for link in book.find_all("a", href=True)]
    inner = [href.removeprefix("#") for href in links if href.startswith("#")]
    assert len(inner) > 100
    assert set(inner) <= set(ids)
    assert [href for href in links if href.startswith(("..", "/"))] == []


def test_what_the_book_shows_is_there(book):
    named = [node["src"] for node in book.find_all(src=True)]
    named += [node["href"] for node in book.select("link[href]")]
    assert len(named) > 20
    assert [path for path in named if not (SITE / path).is_file()] == []
    assert book.select("details.above-input, button[onclick]") == []


def test_the_book_is_printed(browser, site, tmp_path):
    path = tmp_path / "book.pdf"
    print_site(ROOT, path, browser)
    assert not (SITE / "_print.html").exists()
    content = path.read_bytes()
    # Some 30 MB with the figures of nine executed pages.
    assert content.startswith(b"%PDF") and 1e6 < len(content) < 40e6
    assert b"/StructTreeRoot" in content and b"/Outlines" in content
    assert len(re.findall(rb"/Type\s*/Page\b", content)) > 50
    if shutil.which("pdftotext"):
        done = subprocess.run(["pdftotext", path, "-"], capture_output=True, check=True)
        words = "".join(done.stdout.decode().split())
        for title in map(heading, pages()):
            assert "".join(title.split()) in words
        assert "MathProcessingError" not in words
