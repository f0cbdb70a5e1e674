"""Verdict lines on a chapter's page: callouts with the claim's committed numbers."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from richregime import pages
from synthetic_claims import JUDGED
from test_site_scoreboard import SITE as BOARD
from test_site_scoreboard import build
from widthlab.claims.verdict import Verdict

PAPER = next(j for j in JUDGED if j.claim.tier == "paper")
MINE = [j for j in JUDGED if j.claim.chapter == PAPER.claim.chapter]
LIVE = next(j for j in MINE if j.claim.tier == "live" and j.controls)
OURS = next(j for j in MINE if j.claim.ours)
OPEN = next(j for j in MINE if j.verdict == "undecided")


def printed(*lines):
    """What a cell's standard output is on a page."""
    text = "\n".join(lines)
    return f"```{{code-block}} text\n:class: output stream\n{text}\n```"


PAGE = "\n\n".join(
    [
        "# A chapter",
        *(
            f"({j.claim.anchor})=\n## {j.claim.id}"
            for j in MINE
            if j.claim.tier == "live"
        ),
        printed(LIVE.line(), PAPER.line()),
        printed(OURS.line(), OPEN.line()),
        printed("none.C9 reproduced"),
        printed(LIVE.line(), "and more"),
    ]
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("verdicts")
    (root / "chapters").mkdir()
    (root / "index.md").write_text(
        "# Front\n\n```{toctree}\n:glob:\nscoreboard\nchapters/*\n```\n"
    )
    (root / "scoreboard.md").write_text("# Board\n\n```{scoreboard}\n```\n")
    (root / "chapters" / f"{LIVE.claim.chapter}.md").write_text(PAGE)
    pages.write_claims(MINE, root / pages.CLAIMS)
    BOARD.append("richregime.site.verdicts")
    folder, warnings = build(root)
    BOARD.pop()
    assert warnings == ""
    text = (folder / "chapters" / f"{LIVE.claim.chapter}.html").read_text("utf-8")
    return BeautifulSoup(text, "html.parser")


def test_each_line_is_a_callout_that_says_verdict_numbers_and_control(page):
    live, paper, *_ = page.select("div.admonition.wl-verdict")
    head = LIVE.rounded().primary
    for part in (
        f"{LIVE.verdict.badge.split()[0]} {LIVE.line()}",
        f"{head.quantity}, {head.label}: {head.estimate}, 95 % interval, 8 seeds.",
        f"Predicted = 0, tolerance {head.tolerance:g}, power above 0.99 with 8 seeds; ",
        LIVE.qualification()[1:],
        LIVE.control_line(),
        LIVE.controls[0].label,
    ):
        assert part in live.get_text()
    assert PAPER.line() in paper.get_text()
    board = f"../scoreboard.html#claim-{LIVE.claim.anchor}"
    assert live.select_one("p.admonition-title a")["href"] == board
    assert paper.select_one("a")["href"].endswith("-paper")


def test_a_callout_says_whose_a_claim_is_and_what_would_decide_it(page):
    *_, ours, undecided = page.select("div.admonition.wl-verdict")
    assert [mark.text for mark in ours.select(".wl-tag")] == ["ours", "exploratory"]
    assert f"Exploratory: {OURS.claim.exploratory}." in ours.text
    assert undecided.select(".wl-tag") == []
    assert OPEN.to_decide() and f"To decide it: {OPEN.to_decide()}." in undecided.text


def test_what_is_not_such_a_line_or_not_committed_stays(page):
    blocks = [block.get_text().strip() for block in page.select("div.stream")]
    assert blocks == ["none.C9 reproduced", f"{LIVE.line()}\nand more"]


def test_the_style_has_every_verdicts_colours():
    css = Path(pages.__file__).with_name("site") / "static" / "scoreboard.css"
    text = css.read_text(encoding="utf-8")
    assert ".wl-verdict" in text
    assert all(f".wl-{verdict.name.lower()}" in text for verdict in Verdict)
