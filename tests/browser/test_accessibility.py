"""No page has a serious barrier that axe-core finds; headings are in order."""

from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from reading import pages

# What axe calls moderate or minor is the theme's (landmarks) or a matter of taste.
BARRIERS = "serious", "critical"

HEADINGS = """() => [...document.querySelectorAll('main :is(h1, h2, h3, h4, h5, h6)')]
  .filter((node) => node.checkVisibility())
  .map((node) => [Number(node.tagName[1]), node.textContent])"""


# Most of a chapter's elements are tokens of code. A block that has no kind of token but
# those of the blocks before it becomes plain text, of the same size.
PLAIN = """() => {
  const seen = new Set();
  for (const block of document.querySelectorAll('.highlight pre')) {
    const kinds = [...block.querySelectorAll('span')].map((token) => token.className);
    if (kinds.every((kind) => seen.has(kind))) block.textContent = block.textContent;
    kinds.forEach((kind) => seen.add(kind));
  }
}"""
# What is drawn of an equation is hidden from screen readers, which read its MathML; it
# has the colour of the text around it.
DRAWN = [["mjx-math"]]

CONTRAST = {"runOnly": ["color-contrast"]}
ALL_BUT_CONTRAST = {"rules": {"color-contrast": {"enabled": False}}}
# What a screen's width changes and what its colours change, each once.
RUNS = [(1280, "light", {}), (1280, "dark", CONTRAST), (390, "light", ALL_BUT_CONTRAST)]


def barriers(page, rules):
    """What axe finds, one line each."""
    page.evaluate(PLAIN)
    options = {"resultTypes": ["violations"], "preload": False, **rules}
    found = Axe().run(page, {"exclude": DRAWN}, options).response
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for rule in found["violations"]
        if rule["impact"] in BARRIERS
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("path", [*pages(), "search.html", "genindex.html"])
def test_axe_finds_no_barrier(reader, path):
    r = reader().open(path)
    short = r.page.locator(".bd-article *").count() < 1000
    for width, theme, rules in [*RUNS, (390, "dark", CONTRAST)][: 4 if short else 3]:
        r.page.set_viewport_size({"width": width, "height": 800})
        r.page.emulate_media(color_scheme=theme)
        r.page.wait_for_function(
            "theme => document.documentElement.dataset.theme === theme", arg=theme
        )
        r.page.wait_for_timeout(300)  # until colours have changed
        assert "\n".join(barriers(r.page, rules)) == "", (width, theme)


def test_axe_sees_a_barrier(reader):
    r = reader().open("index.html")
    r.page.evaluate(
        "document.querySelector('.bd-article p').style.color = 'rgb(200, 200, 200)'"
    )
    assert any(line.startswith("color-contrast") for line in barriers(r.page, CONTRAST))


@pytest.mark.parametrize("path", pages())
def test_headings_are_in_order(reader, path):
    r = reader().open(path)
    headings = r.page.evaluate(HEADINGS)
    levels = [level for level, _ in headings]
    assert levels[0] == 1 and levels.count(1) == 1, headings
    for (above, _), (level, text) in pairwise(headings):
        assert level <= above + 1, f"{text!r} skips a level"
    assert r.page.get_attribute("html", "lang") == "en"


def test_the_theme_is_chosen_and_kept(reader):
    """The button of the theme, by keyboard, outlasts the page."""
    r = reader().open("index.html")
    button = r.page.locator("button.theme-switch-button:visible").first
    for _ in range(3):
        if r.page.get_attribute("html", "data-mode") == "dark":
            break
        button.focus()
        r.page.keyboard.press("Enter")
    assert r.page.get_attribute("html", "data-theme") == "dark"
    r.open("scoreboard.html")
    assert r.page.get_attribute("html", "data-theme") == "dark"
    r.assert_well()
