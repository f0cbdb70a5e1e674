"""The map of parametrizations in a browser: the built page, without a network."""

import re
from fractions import Fraction as F

import pytest

PAGE = "library/map.html"


class Map:
    """The map's page, as its reader uses it."""

    def __init__(self, reader):
        self.reader, self.page = reader, reader.page
        self.tab_to, self.press = reader.tab_to, reader.press

    def open(self, fragment=""):
        self.reader.open(PAGE, fragment)
        return self

    def verdict(self):
        return self.page.inner_text("#parametrization-map [role=status]")

    def value(self, field):
        return self.page.input_value(f"#wl-{field}")

    def from_the_top(self):
        """Forget the focus: the next Tab begins at the map."""
        self.page.evaluate(
            "document.querySelector('#parametrization-map button').focus()"
        )


@pytest.fixture
def reader(reader):
    """The page also works from a file, which these tests open."""
    return lambda *args, **more: Map(reader(*args, files=True, **more))


def test_the_map_by_keyboard(reader, screen):
    r = reader(*screen).open()
    page = r.page
    assert page.get_attribute("html", "data-theme") == screen[1]
    assert "Feature learning" in r.verdict() and "μP" in r.verdict()

    r.from_the_top()
    r.press("[data-preset=ip]", "Enter")
    assert "Trivial" in r.verdict() and "L = 3" in r.verdict()
    assert page.get_attribute("[data-preset=ip]", "aria-pressed") == "true"
    r.press("#wl-depth", "ArrowLeft")
    assert "Feature learning" in r.verdict() and "L = 2" in r.verdict()
    r.press("#wl-depth", "ArrowRight")

    r.from_the_top()
    r.press("[data-preset=mup]", "Space")
    r.press("#wl-hidden-c", "ArrowDown")
    assert r.value("hidden-c") == "−1/4"
    assert "Unstable" in r.verdict() and "at step 1" in r.verdict()
    reasons = page.inner_text(".wl-reasons")
    assert "step 1 moves" in reasons and "✗ fails" in reasons
    assert page.url.endswith("#p=mup&L=3&hidden=0,1/2,-1/4")
    r.press("#wl-hidden-c", "ArrowUp")
    assert "Feature learning" in r.verdict()

    r.reader.assert_well()


def test_bad_input_is_explained_and_changes_nothing(reader):
    r = reader().open()
    before = r.verdict()
    r.from_the_top()
    r.tab_to("#wl-output-b")
    for text, why in (("1/0", "not a fraction"), ("9", "range"), ("1/25", "above 24")):
        r.page.fill("#wl-output-b", text)
        r.page.keyboard.press("Enter")
        assert why in r.page.inner_text("#wl-wrong-output")
        assert r.page.get_attribute("#wl-output-b", "aria-invalid") == "true"
        assert r.verdict() == before
    r.page.fill("#wl-output-b", "0.25")
    r.page.keyboard.press("Enter")
    assert r.value("output-b") == "1/4"
    assert r.page.inner_text("#wl-wrong-output") == ""
    assert "Unstable" in r.verdict()


def test_gauges_change_the_table_and_nothing_else(reader):
    r = reader().open(fragment="#p=ip-llr&L=4")
    page = r.page

    def seen():
        return page.inner_text(".wl-layers"), page.inner_text(".wl-reasons")

    before = seen()
    for gauge, letter in enumerate("abc"):
        page.locator(".wl-gauges button").nth(gauge).click()
        roles = ("input", "hidden", "output")
        assert [r.value(f"{role}-{letter}") for role in roles] == ["0"] * 3
        assert seen() == before
        assert "same training as IP-LLR" in r.verdict()
    page.locator(".wl-shift button").nth(3).click()
    assert r.value("hidden-a") == "1/4" and seen() == before


def test_what_a_preset_fixes_besides_can_be_left_out(reader):
    r = reader().open(fragment="#p=ip-llr&L=3")
    assert "Feature learning" in r.verdict()
    r.from_the_top()
    r.press("#wl-first", "Space")
    assert "Trivial" in r.verdict() and "same training as IP." in r.verdict()
    assert "c_first=None" in r.page.inner_text(".wl-python")
    assert r.page.evaluate("document.activeElement.id") == "wl-first"


def test_a_permalink_brings_the_table_back(reader):
    first = reader().open()
    first.page.select_option("#wl-biases", "all")
    first.page.locator("#wl-hidden-b").fill("3/4")
    first.page.keyboard.press("Enter")
    link = first.page.get_attribute(".wl-link", "href")
    second = reader(390).open(fragment=link)
    assert second.verdict() == first.verdict()
    assert second.value("hidden-b") == "3/4"
    assert second.page.input_value("#wl-biases") == "all"
    second.page.click(".wl-link")
    assert second.verdict() == first.verdict()
    first.reader.assert_well()
    second.reader.assert_well()
    damaged = reader().open(fragment="#p=mup&L=3&hidden=0,1/0,0")
    assert "same training as μP" in damaged.verdict()


def test_a_click_on_the_slice_moves_the_table(reader):
    r = reader().open()
    r.page.locator(".wl-cell.wl-kernel").first.click()
    assert "Kernel" in r.verdict()
    assert "moved from μP" in r.verdict()


@pytest.mark.parametrize(
    "fragment",
    [
        "#p=mean-field&L=1",
        "#p=mup&L=4&biases=input&hidden=1/4,1/4,-1/4&output=0,1,2/3",
        "#p=ip-bias&L=3&input=1/2,-1/2,-2,-3/2",
        "#p=ip-llr&L=3&off=first&output=1,0,-5/4,-1/2",
        "#p=hpz&L=2&off=retained",
        "#p=ip-non-centred&L=5&off=mean",
    ],
)
def test_the_code_that_the_page_shows_gives_its_verdict(reader, capsys, fragment):
    r = reader().open(fragment=fragment)
    exec(r.page.inner_text(".wl-python"), {})
    printed = capsys.readouterr().out
    regime = re.search(r"regime=<Regime\.\w+: '([\w ]+)'>", printed).group(1)
    assert r.verdict().lower().split(":")[0].endswith(regime)
    change = re.search(r"output_change=Fraction\((-?\d+), (\d+)\)", printed).groups()
    shown = r.page.inner_text(".wl-layers tr:last-child td:nth-child(5)")
    assert f"n{F(*map(int, change))}".replace("-", "−") == shown.split()[0]


def test_a_kernel_by_absolute_sizes_alone_comes_with_a_warning(reader):
    """The page's own example: with ReLU it trains the function of mup."""
    scaled = "#p=mup&L=1&input=0,1/2,0&output=0,1/2,0"
    for fragment, warned in ((scaled, True), ("#p=ntk&L=3", False)):
        r = reader().open(fragment=fragment)
        assert "Kernel" in r.verdict()
        assert ("absolute sizes" in r.page.inner_text(".wl-reasons")) == warned


LUMINANCE = """([selector]) => {
  const node = document.querySelector(selector);
  const light = (text) => {
    const rgb = text.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
    const [r, g, b] = rgb.map((v) => v <= 0.04045 ? v / 12.92
      : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = node;
  const clear = (n) => /rgba\\(.*, 0\\)|transparent/.test(
    getComputedStyle(n).backgroundColor);
  while (behind.parentElement && clear(behind)) behind = behind.parentElement;
  const pair = [light(getComputedStyle(node).color),
    light(getComputedStyle(behind).backgroundColor)].sort((x, y) => y - x);
  return (pair[0] + 0.05) / (pair[1] + 0.05);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast_and_focus_is_visible(reader, theme):
    r = reader(theme=theme)
    texts = ".wl-status", ".wl-note", ".wl-presets button", "#wl-input-a", ".wl-arrow"
    for preset in ("sp", "ip", "ntk", "mup"):
        r.open(fragment=f"#p={preset}&L=3")
        r.page.reload()
        r.page.wait_for_timeout(300)  # until colours have changed
        for selector in (*texts, "#parametrization-map figcaption"):
            assert r.page.evaluate(LUMINANCE, [selector]) >= 4.5, (preset, selector)
    r.from_the_top()
    for selector in ("[data-preset=ip]", "#wl-depth", "#wl-biases", "#wl-hidden-b"):
        r.tab_to(selector)
        style = r.page.evaluate(
            "s => getComputedStyle(document.querySelector(s)).outlineStyle", selector
        )
        assert style != "none", selector


def test_the_page_without_javascript(reader):
    r = reader(java_script_enabled=False).open()
    assert "The map needs JavaScript" in r.page.inner_text("#parametrization-map")
    row = r.page.locator("tr", has_text="IP-LLR").first.inner_text()
    assert "feature learning" in row and "(1, 0, −2)" in row.replace("\xa0", " ")
