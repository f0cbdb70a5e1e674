"""The built site as files: links, pictures, metadata, the sitemap, weight."""

import re
from itertools import pairwise
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from xml.etree import ElementTree

import pytest
import yaml
from bs4 import BeautifulSoup
from reading import ROOT, SITE, pages

SITE_BYTES = 20_000_000
BASE = yaml.safe_load((ROOT / "_config.yml").read_text())["html"]["baseurl"]
FETCHED = {
    "img": "src",
    "script": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
}
LOADING = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "manifest"}


@pytest.fixture(scope="module")
def texts(site):
    """Every page of the site, parsed, by its address."""
    files = sorted(site.rglob("*.html"))
    return {
        path.relative_to(site).as_posix(): BeautifulSoup(
            path.read_text(encoding="utf-8"), "html.parser"
        )
        for path in files
    }


def fetched(page):
    """What a browser loads for a page by itself."""
    for tag, attribute in FETCHED.items():
        yield from (n[attribute] for n in page.find_all(tag, attrs={attribute: True}))
    for link in page.find_all("link", href=True):
        if LOADING & set(link.get("rel", [])):
            yield link["href"]
    for style in page.find_all("style"):
        yield from re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")]+)", style.text)


def test_there_is_a_page_for_each_entry_of_the_table_of_contents(texts):
    assert len(pages()) > 10
    assert set(pages()) <= set(texts)


def test_nothing_is_loaded_from_elsewhere(texts):
    found = [
        (name, url)
        for name, page in texts.items()
        for url in fetched(page)
        if urlsplit(url).netloc
    ]
    assert found == []
    sheets = SITE.rglob("*.css")
    imported = [
        (sheet.name, url)
        for sheet in sheets
        for url in re.findall(
            r"(?:url\(|@import)\s*['\"]?(https?:[^'\")]+)", sheet.read_text()
        )
    ]
    assert imported == []


def test_internal_links_lead_somewhere(texts):
    ids = {
        name: {n["id"] for n in page.find_all(id=True)}
        | {n["name"] for n in page.find_all("a", attrs={"name": True})}
        for name, page in texts.items()
    }
    broken = []
    for name, page in texts.items():
        links = [n["href"] for n in page.find_all(["a", "area"], href=True)]
        for href in (*links, *fetched(page)):
            parts = urlsplit(href)
            if parts.scheme or parts.netloc:
                continue
            path, anchor = urldefrag(urljoin(name, parts._replace(query="").geturl()))
            path, anchor = unquote(path) or name, unquote(anchor)
            if not (SITE / path).is_file():
                broken.append(f"{name}: {href}, no such file")
            elif anchor and path in ids and anchor not in ids[path]:
                broken.append(f"{name}: {href}, no such place")
    assert broken == []


def test_external_links_are_https(texts):
    plain = [
        (name, link["href"])
        for name, page in texts.items()
        for link in page.find_all("a", href=True)
        if urlsplit(link["href"]).scheme not in ("", "https", "mailto")
    ]
    assert plain == []


def test_pictures_have_alt_text(texts):
    pictures = [(name, i) for name, page in texts.items() for i in page.find_all("img")]
    assert len(pictures) > 20
    assert [(n, i["src"]) for n, i in pictures if not i.get("alt", "").strip()] == []


def test_ids_are_unique(texts):
    for name, page in texts.items():
        ids = [node["id"] for node in page.find_all(id=True)]
        assert sorted({i for i in ids if ids.count(i) > 1}) == [], name


@pytest.mark.parametrize("path", pages())
def test_a_page_says_what_it_is(texts, path):
    page = texts[path]

    def said(kind, name):
        found = page.find_all("meta", attrs={kind: name})
        assert len(found) == 1, (name, found)
        assert found[0]["content"].strip()
        return found[0]["content"]

    for name in ("og:title", "og:description", "og:type"):
        said("property", name)
    said("name", "description")
    assert said("property", "og:site_name") == texts["index.html"].title.text
    assert said("property", "og:url") == BASE + path
    assert page.find("link", rel="canonical")["href"] == BASE + path
    image = said("property", "og:image")
    assert image.startswith(BASE) and (SITE / image.removeprefix(BASE)).is_file()
    assert (
        (SITE / path).parent.joinpath(page.find("link", rel="icon")["href"]).is_file()
    )


@pytest.mark.parametrize("path", pages())
def test_headings_are_in_order(texts, path):
    page = texts[path]
    assert page.html["lang"] == "en"
    found = page.select_one("article.bd-article").find_all(re.compile("^h[1-6]$"))
    levels = [int(heading.name[1]) for heading in found]
    assert levels[0] == 1 and levels.count(1) == 1
    for (above, below), heading in zip(pairwise(levels), found[1:], strict=True):
        assert below <= above + 1, f"{heading.text!r} skips a level"


def test_titles_differ(texts):
    titles = [texts[path].title.text for path in pages()]
    assert len(set(titles)) == len(titles)


def test_the_sitemap_lists_the_pages(site):
    tree = ElementTree.parse(site / "sitemap.xml")
    found = [node.text for node in tree.findall(".//{*}loc")]
    assert sorted(found) == sorted(BASE + path for path in pages())


def test_the_site_is_light(site, record_testsuite_property):
    files = [path for path in site.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    record_testsuite_property("site, bytes", size)
    assert size < SITE_BYTES
    assert [path for path in files if path.suffix == ".map"] == []


def test_what_mathjax_loads_later_is_there(site):
    """Extensions that an equation may ask for, and the fonts."""
    mathjax = site / "_static" / "mathjax"
    assert (mathjax / "input/tex/extensions/boldsymbol.js").is_file()
    fonts = list((mathjax / "output/chtml/fonts/woff-v2").glob("*.woff"))
    assert len(fonts) > 20
