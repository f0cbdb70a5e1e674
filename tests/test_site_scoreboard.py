"""The scoreboard of the site: what is made of the claims, and its filter."""

import io
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from richregime import pages
from richregime.bibliography import title
from richregime.chapters import BookError, Chapter, read_chapters
from richregime.site import assets, scoreboard
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils
from synthetic_claims import JUDGED
from widthlab.claims.verdict import Verdict

ROOT = Path(__file__).resolve().parents[1]
NODE = shutil.which("node")

INDEX = """\
# Front

```{scoreboard} compact
```

```{toctree}
:glob:
scoreboard
chapters/*
```
"""
BOARD = "# Board\n\n```{scoreboard}\n```\n"


def make_book(root, judged=JUDGED):
    """A book of claims of every kind; of the chapters only titles and labels."""
    (root / "chapters").mkdir(parents=True)
    (root / "index.md").write_text(INDEX)
    (root / "scoreboard.md").write_text(BOARD)
    for chapter in read_chapters(ROOT):
        mine = [j.claim.anchor for j in JUDGED if j.claim.chapter == chapter.name]
        parts = [
            f"# {title(chapter)}",
            *(f"({anchor})=\n## At {anchor}" for anchor in dict.fromkeys(mine)),
        ]
        (root / "chapters" / f"{chapter.name}.md").write_text("\n\n".join(parts))
    pages.write_claims(judged, root / pages.CLAIMS)
    return root


def build(root, builder="html"):
    """Build a book; return its folder and the warnings."""
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            *(root, None, root / builder, root / "trees", builder),
            confoverrides={
                "extensions": ["myst_parser", *SITE],
                "html_theme": "basic",
                "nitpicky": True,
            },
            status=None,
            warning=warnings,
        )
        app.build()
    return root / builder, warnings.getvalue()


# The modules under test; others need extensions of the whole book.
SITE = [f"richregime.site.{name}" for name in ("links", "scoreboard")]


def soup(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder, warnings = build(make_book(tmp_path_factory.mktemp("site") / "book"))
    assert warnings == ""
    return folder


@pytest.fixture(scope="module")
def board(site):
    return soup(site / "scoreboard.html")


def test_every_claim_has_one_row_in_each_of_its_tiers(board):
    rows = board.select("table.wl-scoreboard tbody tr")
    found = [(row.a.get_text(), row.th.select_one(".wl-detail").text) for row in rows]
    assert Counter(found) == Counter(
        (j.claim.id, f"{j.claim.tier} tier") for j in JUDGED
    )
    ids = [node["id"] for node in board.select("[id]")]
    assert len(ids) == len(set(ids))


def test_a_row_says_what_the_claim_s_file_says(board):
    for judgement in JUDGED:
        name = scoreboard.name_of(judgement).lower().replace(".", "-")
        row = board.find(id=f"claim-{name}").find_parent("tr")
        cells = [" ".join(cell.text.split()) for cell in row.find_all(["th", "td"])]
        entry, claim = judgement.to_json(), judgement.claim
        text, head = " ".join(cells).replace("’", "'"), entry["primary"]
        assert " ".join(claim.statement.split()) in text
        whence = "Ours, from" if claim.ours else "The paper"
        assert f"{whence}: {claim.source}" in cells[1]
        assert judgement.verdict.badge in cells[2]
        assert judgement.qualification()[1:] in cells[2]
        assert (f"To decide it: {judgement.to_decide()}" in cells[2]) == (
            judgement.verdict == "undecided"
        )
        assert f"{head['predicted']:.4g}" in cells[3]
        tolerance = f"tolerance {head['tolerance']:.4g}"
        assert (tolerance in cells[3]) == bool(head["tolerance"])
        assert ("power" in cells[3]) == bool(claim.plan)
        if head["measured"] is not None:
            low, high = head["interval"]
            measured = f"{head['measured']:.4g} [{low:.4g}, {high:.4g}]"
            assert cells[4].startswith(measured)
        else:
            assert cells[4] == "not measured"
        for kind, words in [("t", "seeds"), ("log-t", "seeds"), ("range", "range of")]:
            assert head["kind"] != kind or words in cells[4]
        assert judgement.control_line() in cells[5]
        kinds = {f"wl-is-{scoreboard.KEYS[judgement.verdict]}", f"wl-in-{claim.tier}"}
        assert kinds <= set(row["class"])


def test_what_is_ours_and_what_is_exploratory_is_marked(site, board):
    front = soup(site / "index.html")
    chips = {chip["href"].split("#")[1]: chip for chip in front.select("a.wl-chip")}
    for judgement in JUDGED:
        claim = judgement.claim
        name = f"claim-{scoreboard.name_of(judgement).lower().replace('.', '-')}"
        row, chip = board.find(id=name).find_parent("tr"), chips[name]
        marks = [mark.text for mark in row.select(".wl-tag")]
        wanted = {"ours": claim.ours, "exploratory": bool(claim.exploratory)}
        assert marks == [mark for mark, holds in wanted.items() if holds]
        assert all(
            (f", {mark}" in chip.text) == holds for mark, holds in wanted.items()
        )
        assert (f"Exploratory: {claim.exploratory}" in row.text) == bool(
            claim.exploratory
        )
        whose = "wl-of-ours" if claim.ours else "wl-of-paper"
        assert whose in row["class"] and whose in chip["class"]


def test_a_row_leads_to_its_section_and_to_itself(site, board):
    for row in board.select("table.wl-scoreboard tbody tr"):
        section, permalink = row.th.find_all("a")
        page, anchor = section["href"].split("#")
        assert soup(site / page).find(id=anchor)
        assert permalink["href"] == f"#{row.select_one('.target')['id']}"
        assert "tier" in permalink.text, "a name besides its sign"


def test_chips_stand_for_all_rows_and_lead_there(site, board):
    front = soup(site / "index.html")
    chips = front.select("a.wl-chip")
    targets = [chip["href"].split("#") for chip in chips]
    assert {page for page, _ in targets} == {"scoreboard.html"}
    rows = [row["id"] for row in board.select("table .target")]
    assert [anchor for _, anchor in targets] == rows
    for chip, judgement in zip(chips, in_order(), strict=True):
        heard = chip.text.replace("’", "'")
        symbol = judgement.verdict.badge[0]
        assert heard.startswith(symbol), "a symbol, not colour alone"
        for said in (judgement.claim.id, judgement.verdict, judgement.claim.tier):
            assert said in heard
        assert " ".join(judgement.claim.statement.split()) in " ".join(heard.split())


def in_order():
    return [j for mine in scoreboard.by_chapter(JUDGED).values() for j in mine]


@pytest.mark.parametrize("page", ["index.html", "scoreboard.html"])
def test_totals_are_those_of_the_claims(site, page):
    line = soup(site / page).select_one(".wl-totals")
    claims, verdicts = re.match(r"(\d+) claims.*?, (\d+) verdicts", line.text).groups()
    assert int(claims) == len({j.claim.id for j in JUDGED})
    assert int(verdicts) == len(JUDGED)
    ours = len({j.claim.id for j in JUDGED if j.claim.ours})
    assert f"({ours} of them ours)" in line.text
    shown = {a["href"].split("?verdict=")[1]: int(a.text.split()[0]) for a in line("a")}
    counted = Counter(scoreboard.KEYS[j.verdict] for j in JUDGED)
    assert shown == counted


def test_style_and_script_are_loaded_where_they_are_used(site):
    def used(page):
        text = (site / page).read_text()
        return "scoreboard.css" in text, "scoreboard.js" in text

    assert used("scoreboard.html") == (True, True)
    assert used("index.html") == (True, False)
    chapter = next((site / "chapters").glob("*.html"))
    assert used(chapter.relative_to(site)) == (False, False)
    for name in ("scoreboard.css", "scoreboard.js"):
        assert (site / "_static" / name).read_text()


def test_the_search_knows_each_claim_by_its_statement_and_its_row(site):
    text = (site / "searchindex.js").read_text()
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    kind = next(k for k, v in index["objnames"].items() if v[:2] == ["book", "claim"])
    found = {
        (f"{prefix}.{name}" if prefix else name, anchor)
        for prefix, entries in index["objects"].items()
        for _, type_, _, anchor, name in entries
        if str(type_) == kind
    }
    assert len(found) == len(JUDGED)
    texts = {shown.replace("&#x27;", "'").replace("&lt;", "<") for shown, _ in found}
    for judgement in JUDGED:
        claim = judgement.claim
        shown = f"{claim.id} ({claim.tier} tier): {claim.statement}"
        assert shown in {text.replace("&gt;", ">") for text in texts}


def test_one_page_for_all_has_unique_ids_and_no_filter_links(tmp_path):
    folder, warnings = build(make_book(tmp_path / "book"), "singlehtml")
    assert warnings == ""
    page = soup(folder / "index.html")
    ids = [node["id"] for node in page.select("[id]")]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    links = [a["href"] for a in page.select(".wl-chip, .wl-totals a, .wl-scoreboard a")]
    assert links and all(link.removeprefix("index.html")[1:] in ids for link in links)


def test_other_formats_have_the_table_too(tmp_path):
    folder, warnings = build(make_book(tmp_path / "book"), "text")
    assert warnings == ""
    text = (folder / "scoreboard.txt").read_text()
    assert all(text.count(j.claim.id) for j in JUDGED)
    assert text.count("Negative control") == len(scoreboard.by_chapter(JUDGED))


def test_a_claim_without_a_section_is_a_warning(tmp_path):
    root = make_book(tmp_path / "book")
    chapter = root / "chapters" / f"{JUDGED[0].claim.chapter}.md"
    label = f"({JUDGED[0].claim.anchor})="
    text = chapter.read_text()
    assert label in text
    chapter.write_text(text.replace(label, ""))
    _, warnings = build(root)
    assert JUDGED[0].claim.anchor in warnings


def test_changed_claims_change_the_page(tmp_path):
    root = make_book(tmp_path / "book")
    build(root)
    pages.write_claims(JUDGED[1:], root / pages.CLAIMS)
    folder, warnings = build(root)
    assert warnings == ""
    rows = soup(folder / "scoreboard.html").select("table .target")
    assert len(rows) == len(JUDGED) - 1


def test_a_book_without_claims_and_a_form_that_there_is_not(tmp_path):
    root = make_book(tmp_path / "book", judged=[])
    (root / "index.md").write_text(INDEX.replace("compact", "small"))
    folder, warnings = build(root)
    assert "No claim has been judged" in (folder / "scoreboard.html").read_text()
    assert "full or compact, not 'small'" in warnings


def test_a_chapter_s_title_is_not_a_comment_of_its_code(tmp_path):
    chapter = Chapter("chapter", tmp_path)
    chapter.source.write_text("```python\n# a comment\n```\n\n# The title\n\n# Other\n")
    assert title(chapter) == "The title"
    chapter.source.write_text("no title\n")
    with pytest.raises(BookError, match=r"chapter\.md has no heading"):
        title(chapter)


ASK = """
const board = require(process.argv[1]);
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map(([name, ...given]) => board[name](...given))));
"""


def in_javascript(*cases):
    done = subprocess.run(
        [NODE, "-e", ASK, str(assets.FOLDER / "scoreboard.js")],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
NONE = {"words": "", "chapter": "", "whose": "", "tier": "", "verdict": ""}
CHOICES = {
    "chapter": ["mup", "ip"],
    "whose": ["paper", "ours"],
    "tier": ["live", "paper"],
    "verdict": [verdict.name.lower() for verdict in Verdict],
}


@needs_node
@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"verdict": "undecided"},
        {"whose": "ours"},
        {"words": "λ_min & width", "tier": "paper"},
        {"words": "50% #1?", "chapter": "ip", "tier": "live", "verdict": "not"},
    ],
)
def test_a_filter_survives_the_address(chosen):
    (address,) = in_javascript(("write", {**NONE, **chosen}))
    assert (address == "") == (chosen == {})
    assert in_javascript(("read", address, CHOICES)) == [{**NONE, **chosen}]


@needs_node
def test_choices_that_do_not_exist_are_none():
    asked = "?verdict=true&chapter=mup&tier=&q=x&tier=paper"
    (found,) = in_javascript(("read", asked, CHOICES))
    assert found == {**NONE, "chapter": "mup"}
    assert in_javascript(("write", {**NONE, "words": "   "})) == [""]


@needs_node
def test_the_rows_of_a_filter_are_those_that_fit_it():
    """Against the claims themselves: choices agree, words are all there."""
    (texts,) = [in_javascript(*(("fold", j.claim.statement) for j in JUDGED))]
    rows = [
        {
            "text": text,
            "chapter": j.claim.id.split(".")[0],
            "whose": "ours" if j.claim.ours else "paper",
            "tier": j.claim.tier,
            "verdict": scoreboard.KEYS[j.verdict],
        }
        for j, text in zip(JUDGED, texts, strict=True)
    ]
    filters = [
        NONE,
        *({**NONE, "verdict": v} for v in CHOICES["verdict"]),
        *({**NONE, "whose": w} for w in CHOICES["whose"]),
        *({**NONE, "tier": t, "chapter": c} for t in CHOICES["tier"] for c in "mup mf"),
        {**NONE, "words": "WIDTH  features"},
    ]
    asked = [(row, one) for one in filters for row in rows]
    passed = iter(in_javascript(*(("passes", *pair) for pair in asked)))
    for row, one in asked:
        words = one["words"].lower().split()
        same = all(one[k] in ("", row[k]) for k in CHOICES)
        assert next(passed) == (same and all(word in row["text"] for word in words))
    assert any(r["text"].count("width") and "features" in r["text"] for r in rows)


@needs_node
@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("under μP", "ΜP"),  # a capital Greek letter
        ("under \N{MICRO SIGN}P", "μp"),
        ("Terjék’s rate", "terjek's"),
        ("slope −0.5", "-0.5"),
        ("m₂ and x²", "m2"),
    ],
)
def test_what_is_typed_finds_what_is_written(written, typed):
    (text,) = in_javascript(("fold", written))
    row = {"text": text, "chapter": "mup", "tier": "live", "verdict": "not"}
    passed = in_javascript(
        ("passes", row, {**NONE, "words": typed}),
        ("passes", row, {**NONE, "words": f"{typed} zebra"}),
    )
    assert passed == [True, False]


@needs_node
def test_what_is_announced_says_how_many_and_what_to_do_if_none():
    some, none = in_javascript(("say", 3, 51), ("say", 0, 51))
    assert some == "3 of 51 rows"
    assert "None of 51" in none and "reset" in none
