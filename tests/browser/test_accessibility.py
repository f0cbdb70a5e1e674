"""No page has a serious barrier that axe-core finds; the theme is kept."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from reading import pages

# Of the library's reference, whose pages are long and all made in one way, two.
REFERENCE = "library/reference/"
KEPT = {f"{REFERENCE}{name}.html" for name in ("commands", "figures")}
PATHS = [path for path in pages() if not path.startswith(REFERENCE) or path in KEPT]

# What axe calls moderate or minor is the theme's (landmarks) or a matter of taste.
BARRIERS = "serious", "critical"

# Most of a page's elements are tokens of code and parts of drawn equations, and axe
# takes its time for each. A block of code that has no kind of token but those of the
# blocks before it becomes plain text. What is drawn of an equation, in the colour of
# its text, becomes a box of the same size: screen readers read the MathML beside it.
SIMPLIFY = """() => {
  const seen = new Set();
  for (const block of document.querySelectorAll('.highlight pre')) {
    const kinds = [...block.querySelectorAll('span')].map((token) => token.className);
    if (kinds.every((kind) => seen.has(kind))) block.textContent = block.textContent;
    kinds.forEach((kind) => seen.add(kind));
  }
  for (const drawn of document.querySelectorAll('mjx-math')) {
    const { width, height } = drawn.getBoundingClientRect();
    drawn.replaceChildren();
    drawn.style.display = 'inline-block';
    drawn.style.width = `${width}px`;
    drawn.style.height = `${height}px`;
  }
}"""

CONTRAST = {"runOnly": ["color-contrast"]}
ALL_BUT_CONTRAST = {"rules": {"color-contrast": {"enabled": False}}}
# What a screen's width changes and what its colours change, each once.
RUNS = [(1280, "light", {}), (1280, "dark", CONTRAST), (390, "light", ALL_BUT_CONTRAST)]


def barriers(page, rules):
    """What axe finds, one line each."""
    options = {"resultTypes": ["violations"], "preload": False, **rules}
    found = Axe().run(page, options=options).response
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for rule in found["violations"]
        if rule["impact"] in BARRIERS
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("path", [*PATHS, "search.html", "genindex.html"])
def test_axe_finds_no_barrier(reader, path):
    r = reader().open(path)
    r.page.evaluate(SIMPLIFY)
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
