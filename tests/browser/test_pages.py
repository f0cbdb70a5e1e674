"""Every page in a browser, without a network: equations, figures, search, weight."""

import json
import re

import pytest
from reading import ROOT, pages

CHAPTER = "chapters/03-integrable-parametrizations.html"
FIRST_PAGE_BYTES = 1_750_000  # with the figures of seven chapters

EQUATIONS = """() => [...document.querySelectorAll('.bd-article .math')].map((node) => {
  const set = node.querySelector('mjx-container');
  const box = set?.getBoundingClientRect();
  const hidden = node.closest('details:not([open]), .toggle-hidden');
  const wrong = node.querySelector('mjx-merror, merror, [data-mjx-error]');
  const seen = box && (hidden || (box.width > 0 && box.height > 0));
  return [node.textContent.slice(0, 80), Boolean(seen), wrong ? wrong.textContent : ''];
})"""

DOLLARS = """() => {
  const text = document.querySelector('.bd-article').cloneNode(true);
  for (const node of text.querySelectorAll('pre, code, script, style, mjx-container')) {
    node.remove();
  }
  return text.textContent.match(/.{0,40}[$].{0,40}/g) ?? [];
}"""

FIGURES = """() => Promise.all(
  [...document.querySelectorAll('.bd-article img')].map(async (image) => {
    image.loading = 'eager';
    await image.decode();
    const shown = image.getBoundingClientRect().width;
    return [image.alt, image.naturalWidth, shown];
  }))"""


def assert_set(page):
    """Every equation is set and none has an error or is left as TeX."""
    equations = page.evaluate(EQUATIONS)
    assert [e for e in equations if not e[1] or e[2]] == []
    assert page.evaluate(DOLLARS) == []
    return equations


def test_a_chapter(reader, screen):
    width, theme = screen
    r = reader(*screen).open(CHAPTER)
    assert r.page.get_attribute("html", "data-theme") == theme
    assert assert_set(r.page)
    figures = r.page.evaluate(FIGURES)
    assert figures
    for alt, natural, shown in figures:
        assert alt and natural > 0 and 0 < shown <= width
    r.assert_well()


@pytest.mark.parametrize("path", pages())
def test_every_page(reader, path):
    r = reader().open(path)
    assert_set(r.page)
    for width in (1280, 768, 390, 320):
        r.page.set_viewport_size({"width": width, "height": 800})
        r.assert_well()


def test_a_wide_equation_is_reached_by_keyboard(reader):
    r = reader(390).open("library/kernels.html")
    wide = r.page.locator("mjx-container[tabindex='0']")
    assert wide.count()
    box = wide.first
    assert box.evaluate("node => node.scrollWidth > node.clientWidth")
    box.focus()
    r.page.keyboard.press("ArrowRight")
    r.page.wait_for_function("() => document.activeElement.scrollLeft > 0")
    r.page.set_viewport_size({"width": 1280, "height": 800})
    r.page.wait_for_function("() => !document.querySelector('mjx-container[tabindex]')")


def test_the_first_page_is_light(reader, record_testsuite_property):
    r = reader().open("index.html")
    r.page.wait_for_load_state("networkidle")
    sizes = {answer.url: len(answer.body()) for answer in r.answers}
    assert len(sizes) == len(set(r.requests))
    record_testsuite_property("first page, bytes", sum(sizes.values()))
    assert sum(sizes.values()) < FIRST_PAGE_BYTES, sizes


def claims():
    """The first claim of the first and of the last chapter."""
    found = {}
    text = (ROOT / "results" / "claims.json").read_text(encoding="utf-8")
    for claim in json.loads(text):
        found.setdefault(claim["chapter"], claim["statement"])
    chapters = sorted(found)
    return [(name, found[name]) for name in (chapters[0], chapters[-1])]


@pytest.mark.parametrize(("chapter", "statement"), claims())
def test_search_finds_a_claim(reader, chapter, statement):
    words = re.findall(r"\b[a-z]{6,}\b", statement)[:3]
    r = reader().open("search.html")
    field = r.page.locator("main input[type=search], .search-page input").first
    field.fill(" ".join(words))
    field.press("Enter")
    r.page.wait_for_function(
        "() => /found|matching|no(t| ) match/.test("
        "document.querySelector('#search-results .search-summary')?.textContent)"
    )
    links = r.page.locator("#search-results .search a")
    found = links.evaluate_all("links => links.map((link) => link.href)")
    assert any(chapter in url or "scoreboard" in url for url in found), (words, found)
    r.assert_well()
