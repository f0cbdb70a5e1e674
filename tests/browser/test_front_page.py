"""The front page and the scoreboard in a browser."""

import re
from collections import Counter
from itertools import pairwise

import pytest
from reading import ROOT
from richregime import pages
from richregime.site.scoreboard import KEYS, by_chapter, marks_of, name_of

JUDGED = pages.read_claims(ROOT / pages.CLAIMS)
TOTAL = len(JUDGED)
BOARD = "scoreboard.html"
ROWS = ".wl-scoreboard tbody tr"
STATUS = ".wl-filter [role=status]"
FIRST_PAGE_BYTES = 1_750_000  # with the figures of seven chapters


def shown(page):
    """The ids of the rows that are to be seen."""
    rows = f"{ROWS}:not([hidden]) [id]"
    return page.eval_on_selector_all(
        rows, "all => all.filter((n) => n.checkVisibility()).map((n) => n.id)"
    )


def expected(**wanted):
    return [
        f"claim-{name_of(j).lower().replace('.', '-')}"
        for mine in by_chapter(JUDGED).values()
        for j in mine
        if all(value == facts(j)[key] for key, value in wanted.items())
    ]


def facts(judgement):
    claim = judgement.claim
    key = claim.id.partition(".")[0]
    return {
        "chapter": key,
        "whose": "ours" if claim.ours else "paper",
        "tier": claim.tier,
        "verdict": KEYS[judgement.verdict],
    }


def common(key):
    """The value that most rows have."""
    return Counter(facts(j)[key] for j in JUDGED).most_common(1)[0][0]


def contrast(page, selector):
    """The least contrast of text and what is behind it, over some nodes."""
    return page.eval_on_selector_all(
        selector,
        """(all) => Math.min(...all.filter((n) => n.checkVisibility()).map((node) => {
          const light = (text) => {
            const rgb = text.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
            const [r, g, b] = rgb.map((v) => v <= 0.04045 ? v / 12.92
              : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          let back = node;
          const clear = (n) => /rgba\\(.*, 0\\)|transparent/.test(
            getComputedStyle(n).backgroundColor);
          while (back.parentElement && clear(back)) back = back.parentElement;
          const pair = [light(getComputedStyle(node).color),
            light(getComputedStyle(back).backgroundColor)].sort((x, y) => y - x);
          return (pair[0] + 0.05) / (pair[1] + 0.05);
        }))""",
    )


def test_the_front_page_is_well_on_every_screen(reader, screen):
    r = reader(*screen).open()
    page = r.page
    figures = page.locator(".wl-gallery img")
    assert figures.count() == len(by_chapter(JUDGED))
    for figure in figures.all():
        figure.scroll_into_view_if_needed()
        figure.evaluate("(one) => one.decode()")  # fails if it is no picture
        assert len(figure.get_attribute("alt")) > 20
        assert figure.get_attribute("width") and figure.get_attribute("height")
    levels = page.eval_on_selector_all(
        "article :is(h1, h2, h3, h4)", "all => all.map((n) => Number(n.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    for selector in (".wl-chip", ".wl-totals .wl-badge", ".wl-question"):
        assert contrast(page, selector) >= 4.5, selector
    r.assert_well()


def test_the_front_page_is_light(reader):
    r = reader().open()
    r.page.wait_for_load_state("networkidle")
    assert sum(len(answer.body()) for answer in r.answers) < FIRST_PAGE_BYTES
    assert not any("mathjax" in url for url in r.requests), "it has no equations"


def test_figures_below_the_fold_wait(reader):
    r = reader(390).open()
    r.page.wait_for_load_state("networkidle")
    lazy = r.page.locator(".wl-gallery img[loading=lazy]")
    assert lazy.count() == r.page.locator(".wl-gallery img").count() - 1


def test_a_chip_tells_its_claim_and_leads_to_its_row(reader, screen):
    r = reader(*screen).open()
    page = r.page
    for judgement in (JUDGED[0], next(j for j in JUDGED if j.claim.tier == "paper")):
        claim = judgement.claim
        marks = "".join(f", {mark}" for mark in marks_of(judgement))
        name = f"{claim.id}, {claim.tier} tier{marks}, {judgement.verdict}"
        chip = page.get_by_role("link", name=re.compile(re.escape(name))).first
        chip.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")  # by keyboard, so that focus is to be seen
        tip = chip.locator(".wl-tip")
        box = tip.bounding_box()
        assert tip.evaluate("n => getComputedStyle(n).clipPath") == "none"
        assert box["x"] >= 0 and box["x"] + box["width"] <= screen[0]
        assert contrast(page, ".wl-chip:focus-visible .wl-tip") >= 4.5
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(BOARD))
        row = page.locator(f"{ROWS}:has(:target)")
        assert claim.id in row.inner_text()
        assert row.evaluate("n => n.getBoundingClientRect().top < innerHeight")
        page.go_back()
    r.assert_well()


def test_the_scoreboard_is_well_on_every_screen(reader, screen):
    r = reader(*screen).open(BOARD)
    page = r.page
    assert page.inner_text(STATUS) == f"{TOTAL} of {TOTAL} rows"
    assert shown(page) == expected()
    for selector in (f"{ROWS} .wl-badge", f"{ROWS} .wl-detail", ".wl-filter label"):
        assert contrast(page, selector) >= 4.5, selector
    for selector in (".wl-permalink", f"{ROWS} th a", f"{ROWS} .wl-tag", ".wl-count"):
        assert contrast(page, selector) >= 4.5, selector
    first = page.locator(ROWS).first
    assert first.evaluate("n => n.scrollWidth <= n.clientWidth + 1")
    cards = first.evaluate("n => getComputedStyle(n).display") == "block"
    assert cards == (screen[0] < 600)
    if cards:  # a card says what a column's head says elsewhere
        heads = page.locator(".wl-scoreboard").first.locator("thead th")
        names = [name.strip() for name in heads.all_text_contents()]
        for place in (4, 5, 6):
            cell = first.locator(f"> :nth-child({place})")
            label = cell.evaluate("n => getComputedStyle(n, '::before').content")
            assert label == f'"{names[place - 1]}"'
    r.assert_well()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_filter_by_keyboard(reader, width):
    r = reader(width).open(BOARD)
    page = r.page
    verdict = common("verdict")
    r.tab_to(".wl-filter [name=words]", most=90)
    r.press(".wl-filter [name=verdict]", "ArrowDown")
    chosen = page.input_value("[name=verdict]")
    assert chosen and shown(page) == expected(verdict=chosen)
    assert page.url.endswith(f"?verdict={chosen}")
    page.select_option("[name=verdict]", verdict)
    page.select_option("[name=tier]", "live")
    rows = expected(verdict=verdict, tier="live")
    assert shown(page) == rows
    assert page.inner_text(STATUS) == f"{len(rows)} of {TOTAL} rows"
    page.select_option("[name=whose]", "paper")
    assert shown(page) == expected(verdict=verdict, tier="live", whose="paper")

    page.focus("[name=words]")
    page.keyboard.type("no such word")
    assert shown(page) == []
    assert "None of" in page.inner_text(STATUS)
    assert page.locator("section.wl-chapter:visible").count() == 0
    r.press(".wl-filter button", "Enter")
    assert shown(page) == expected()
    assert page.url.endswith(BOARD)
    assert page.evaluate("document.activeElement.name") == "words"
    assert page.locator(".wl-filter button").is_disabled()
    r.assert_well()


@pytest.mark.parametrize("files", [False, True])
def test_an_address_brings_the_filter_back(reader, files):
    first = reader(files=files).open(BOARD)
    chapter, tier = common("chapter"), "live"
    first.page.select_option("[name=chapter]", chapter)
    first.page.select_option("[name=tier]", tier)
    first.page.fill("[name=words]", "μP")
    found = shown(first.page)
    assert 0 < len(found) < len(expected(chapter=chapter))
    second = reader(390, files=files).open(BOARD, first.page.url.split(BOARD)[1])
    assert shown(second.page) == found
    assert second.page.input_value("[name=words]") == "μP"
    assert second.page.input_value("[name=chapter]") == chapter
    assert second.page.inner_text(STATUS) == first.page.inner_text(STATUS)


def test_counts_of_the_front_page_lead_to_their_rows(reader):
    r = reader().open()
    link = r.page.locator(".wl-totals a").last
    count = int(link.inner_text().split()[0])
    link.click()
    r.page.wait_for_selector(STATUS)
    assert len(shown(r.page)) == count < TOTAL
    assert r.page.inner_text(STATUS) == f"{count} of {TOTAL} rows"


def test_a_permalink_shows_a_row_that_the_filter_hides(reader):
    chosen = common("tier")
    other = next(j for j in JUDGED if facts(j)["tier"] != chosen)
    name = f"claim-{name_of(other).lower().replace('.', '-')}"
    r = reader().open(BOARD, f"?tier={chosen}#{name}")
    rows = expected(tier=chosen)
    assert set(shown(r.page)) == {*rows, name}
    box = r.page.locator(f"#{name}").bounding_box()
    assert 0 < box["y"] < 800
    hidden = next(i for i in expected() if i not in rows and i != name)
    r.page.evaluate("id => { location.hash = id }", hidden)
    r.page.wait_for_function(
        "id => document.getElementById(id).checkVisibility()", arg=hidden
    )
    assert set(shown(r.page)) == {*rows, hidden}
    verdict = common("verdict")
    r.page.select_option("[name=verdict]", verdict)
    assert shown(r.page) == expected(tier=chosen, verdict=verdict)
    assert "#" not in r.page.url


def test_a_permalink_s_sign_is_the_address_of_its_row(reader):
    r = reader(390).open(BOARD)
    sign = r.page.locator(".wl-permalink").nth(3)
    assert sign.is_visible() and "#" in sign.inner_text()
    sign.click()
    name = r.page.url.split("#")[1]
    assert r.page.locator(f"{ROWS}:has(#{name}) .wl-permalink").count() == 1
    assert len(shown(r.page)) == TOTAL


def test_every_row_can_be_read_without_javascript(reader):
    r = reader(java_script_enabled=False).open(BOARD, "?verdict=not")
    assert r.page.locator(f"{ROWS}:visible").count() == TOTAL
    assert r.page.locator(".wl-filter").count() == 0
    chips = reader(java_script_enabled=False).open().page.locator(".wl-chip:visible")
    assert chips.count() == TOTAL


WORDS = re.compile(r"[a-z]{6,}")


@pytest.mark.parametrize(
    "judgement", [mine[-1] for mine in by_chapter(JUDGED).values()], ids=name_of
)
def test_the_search_finds_a_claim_by_its_words(reader, judgement):
    claim = judgement.claim
    words = WORDS.findall(claim.statement)[:3]
    r = reader().open("search.html", f"?q={'+'.join(words)}")
    name = f"claim-{name_of(judgement).lower().replace('.', '-')}"
    hit = r.page.locator(f"#search-results a[href*='{BOARD}#{name}']")
    hit.wait_for()
    assert claim.id in hit.inner_text()
    assert r.outside == []
