"""The template as a chapter: begun, executed and built as its author would do it.

Also the tutorial that walks through it: what it shows is what the template says and
prints.
"""

import re
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from matplotlib.testing.compare import compare_images
from richregime import commands, pages
from richregime.chapters import Chapter, code_cells, read_chapters
from widthlab.plots.style import missing_alt

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "library" / "tutorial.md"
FIGURE = ROOT / "library" / "tutorial-figure.png"
NUMBER = max(chapter.number or 0 for chapter in read_chapters(ROOT)) + 1
NAME = f"{NUMBER:02d}-my-paper"
CLAIM = "mp.C1"

NOT_OF_THE_BOOK = shutil.ignore_patterns(".*", "_build", "__pycache__")
DECIMAL = re.compile(r"-?\d+\.\d+")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A copy of the book with a chapter more, and what its author was told."""
    root = tmp_path_factory.mktemp("copy") / "book"
    shutil.copytree(ROOT, root, ignore=NOT_OF_THE_BOOK)
    command = [sys.executable, "-m", "richregime", "--root", str(root), "new", NAME]
    said = subprocess.run(
        [*command, "--title", "My paper", "--paper", "chen2025global"],
        capture_output=True,
        text=True,
        check=True,
    )
    return root, said.stdout


@pytest.fixture(scope="module")
def book(begun):
    """The same, executed."""
    root, _ = begun
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XLA_FLAGS")  # compiled as for its readers: its networks are wide
        commands.execute(root, [NAME])
    return root


@pytest.fixture(scope="module")
def notebook(book):
    return nbformat.read(Chapter(NAME, book / "chapters").notebook, as_version=4)


def outputs(notebook):
    return [out for _, cell, _ in code_cells(notebook) for out in cell.outputs]


def printed(notebook):
    """All that the chapter prints or shows as text."""
    texts = (
        out.get("text") or out.get("data", {}).get("text/plain", "")
        for out in outputs(notebook)
    )
    return "\n".join(texts)


def test_the_template_runs_and_says_nothing_on_stderr(notebook):
    assert outputs(notebook)
    for out in outputs(notebook):
        assert out.output_type != "error" and out.get("name") != "stderr"


def test_its_claim_is_reproduced_and_its_control_fails(book, notebook):
    lines = [x for x in printed(notebook).splitlines() if x.startswith(CLAIM)]
    assert lines == [f"{CLAIM} reproduced"]
    found = [j for j in pages.read_claims(book / pages.CLAIMS) if j.claim.id == CLAIM]
    (judgement,) = found
    assert judgement.verdict == "reproduced"
    assert judgement.claim.power > 0.9 and judgement.claim.exploratory
    assert [outcome.value for outcome in judgement.outcomes] == ["pass"] * 5
    assert judgement.claim.chapter == NAME
    assert judgement.claim.paper == "chen2025global"
    assert {check.outcome() for check in judgement.controls} == {"fail"}
    checks = (judgement.primary, *judgement.secondary, *judgement.controls)
    assert all(check.estimate.seeds == 8 for check in checks)


def test_the_claims_of_other_chapters_stay(book):
    kept = [j for j in pages.read_claims(book / pages.CLAIMS) if j.claim.id != CLAIM]
    assert kept == pages.read_claims(ROOT / pages.CLAIMS)


def test_its_figure_has_alt_text(notebook):
    figures = [out for out in outputs(notebook) if "image/png" in out.get("data", {})]
    assert figures and missing_alt(notebook) == []


def test_the_book_is_content_with_it(book):
    commands.status(book)


@pytest.fixture
def alone(book, tmp_path):
    """The book with this chapter for its only one, whose site is soon built."""
    root = tmp_path / "alone"
    for name in ("_config.yml", "references.bib", "references.md", "scoreboard.md"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(book / name, root / name)
    shutil.copytree(book / "assets", root / "assets")
    others = shutil.ignore_patterns("0[!_]*", "[1-9]*", "__pycache__")
    shutil.copytree(book / "chapters", root / "chapters", ignore=others)
    for file in (book / "chapters").glob(f"{NAME}.*"):
        shutil.copy(file, root / "chapters")
    mine = [j for j in pages.read_claims(book / pages.CLAIMS) if j.claim.id == CLAIM]
    pages.write_claims(mine, root / pages.CLAIMS)
    (root / "index.md").write_text("# A book\n")
    (root / "library").mkdir()
    (root / "library" / "verdicts.md").write_text("# How verdicts are reached\n")
    listed = (f"chapters/{NAME}", "scoreboard", "library/verdicts", "references")
    lines = "".join(f"- file: {name}\n" for name in listed)
    toc = f"format: jb-book\nroot: index\nchapters:\n{lines}"
    (root / "_toc.yml").write_text(toc)
    return root


def test_the_site_takes_it_and_leaves_the_template_out(alone):
    pages.html(alone)
    site = alone / "_build" / "html" / "chapters"
    page = (site / f"{NAME}.html").read_text(encoding="utf-8")
    (box,) = BeautifulSoup(page, "html.parser").select(".wl-verdict.wl-reproduced")
    assert f"{CLAIM} reproduced" in box.text and "Yours:" not in page
    assert not list(site.glob("_template*"))
    scoreboard = (site.parent / "scoreboard.html").read_text(encoding="utf-8")
    assert f'id="claim-{CLAIM.lower().replace(".", "-")}"' in scoreboard


# --- the tutorial


def blocks(kind):
    """Fenced blocks of the tutorial of one kind."""
    text = TUTORIAL.read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)\n```$", text, re.M | re.S)


def shows(block, text):
    """Whether a text has the words of a block in a row, decimals to within 0.02."""
    wanted, words = block.split(), text.split()
    windows = (words[i : i + len(wanted)] for i in range(len(words)))
    return any(alike(wanted, window) for window in windows)


def alike(wanted, found):
    return [DECIMAL.sub("#", word) for word in found] == [
        DECIMAL.sub("#", word) for word in wanted
    ] and decimals(found) == pytest.approx(decimals(wanted), abs=0.02)


def decimals(words):
    return [float(number) for word in words for number in DECIMAL.findall(word)]


def test_the_tutorial_shows_what_the_template_prints(begun, notebook):
    said = f"{begun[1]}\n{printed(notebook)}"
    assert len(blocks("text")) > 4
    for block in blocks("text"):
        assert shows(block, said), f"no output of the template:\n{block}"


def test_showing_is_told_from_not_showing():
    said = "one line\nslope -0.25 [-0.30, -0.20]\nthe end"
    assert shows("slope -0.255 [-0.31, -0.2]\nthe end", said)
    assert not shows("slope -0.35 [-0.30, -0.20]", said)
    assert not shows("slope 0.25 [-0.30, -0.20]", said)
    assert not shows("one line\nthe end", said)


def test_the_tutorial_shows_the_templates_figure(notebook, tmp_path):
    found = [
        out.data["image/png"]
        for out in outputs(notebook)
        if "image/png" in out.get("data", {})
    ]
    path = tmp_path / "figure.png"
    path.write_bytes(b64decode(found[0]))
    # None means alike; else the message says where the differing files are.
    assert compare_images(str(FIGURE), str(path), tol=5) is None
    (alt,) = re.findall(r"^:alt: (.*)$", TUTORIAL.read_text("utf-8"), re.M)
    (cell,) = [c for c in notebook.cells if "image" in c.metadata.get("mystnb", {})]
    assert cell.metadata["mystnb"]["image"]["alt"] == alt


def test_the_tutorials_paper_tier_can_be_run():
    (source,) = blocks("python")
    module = {}
    exec(source, module)
    specs = list(module["paper_tier"]())
    assert len(specs) == 24 and {s.width for s in specs} == {1024, 2048, 4096, 8192}
    # The number that is free: a tutorial of an older book would overwrite a chapter.
    assert module["CHAPTER"] == f"{NUMBER:02d}-my-paper"


def test_what_the_tutorial_tells_to_run_is_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"make ([a-z]+)", TUTORIAL.read_text(encoding="utf-8"))
    assert {"chapter", "execute", "test", "html"} <= set(named)
    for target in set(named):
        assert re.search(rf"^{target}:", makefile, re.M), f"make {target}"
