"""A chapter begun from the template, in a book of which nothing is executed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from richregime.chapters import BookError, read_chapters, read_source
from richregime.cli import main
from richregime.new import MARK, SAMPLE, TEMPLATE, new_chapter

ROOT = Path(__file__).resolve().parents[1]
TOC = """\
# A comment that stays.
format: jb-book
root: index
parts:
  - caption: Chapters
    numbered: 1
    chapters:
      - file: chapters/01-one
      - file: chapters/02-two
  - caption: Back matter
    chapters:
      - file: library/page
"""
STUB = "---\nkernelspec:\n  name: python3\n---\n\n# {}\n\n({}-c1)=\n## C1\n"


@pytest.fixture
def book(tmp_path):
    """Two chapters, a page, a bibliography and the template."""
    for folder in ("chapters", "library"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "library" / "page.md").write_text("# A page\n")
    for name, claims in (("01-one", "one"), ("02-two", "tw")):
        text = STUB.format(name, claims)
        (tmp_path / "chapters" / f"{name}.md").write_text(text)
    shutil.copy(ROOT / TEMPLATE, tmp_path / TEMPLATE)
    shutil.copy(ROOT / "references.bib", tmp_path)
    return tmp_path


def contents(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_a_new_chapter_says_nothing_of_the_template(book, capsys):
    new_chapter(book, "03-my-paper", title="Mine", paper="chen2025global")
    text = (book / "chapters" / "03-my-paper.md").read_text(encoding="utf-8")
    for mark in SAMPLE.values():
        assert not re.search(mark, text), mark
    assert "\n# Mine\n" in text and "title        = {Mine}" in text
    assert 'Study("03-my-paper", key="mp", paper="chen2025global")' in text
    assert "{cite}`chen2025global`" in text
    assert "\n(mp-c1)=\n" in text and "mp.C1" in text
    assert text.count("cite-chapter-3") == 2 and "chapter 3}" in text
    out = capsys.readouterr().out
    assert "make execute CHAPTER=03-my-paper" in out and "mp.C1" in out
    assert f"{len(re.findall(f'^{MARK}', text, re.M))} lines" in out
    assert "references.bib has no entry" not in out


def test_only_what_is_replaced_differs_from_the_template(book):
    new_chapter(book, "03-my-paper", title="Mine", paper="chen2025global")
    before = (book / TEMPLATE).read_text("utf-8").splitlines()
    after = (book / "chapters" / "03-my-paper.md").read_text("utf-8").splitlines()
    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    assert changed
    for line in changed:
        assert any(re.search(mark, line) for mark in SAMPLE.values()), line


def test_the_contents_gain_one_line_behind_the_last_chapter(book):
    new_chapter(book, "03-my-paper")
    behind = "      - file: chapters/02-two\n"
    added = "      - file: chapters/03-my-paper\n"
    assert (book / "_toc.yml").read_text() == TOC.replace(behind, behind + added)
    assert [c.name for c in read_chapters(book)] == ["01-one", "02-two", "03-my-paper"]


def test_the_books_own_contents_take_a_chapter(book):
    shutil.copy(ROOT / "_toc.yml", book)
    for page in re.findall(r"file: (\S+)", (book / "_toc.yml").read_text()):
        path = book / f"{page}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STUB.format(page, "x") if "chapters/" in page else "# A page\n")
    before = yaml.safe_load((book / "_toc.yml").read_text())
    number = max(chapter.number or 0 for chapter in read_chapters(book)) + 1
    for stub in ("01-one", "02-two"):
        (book / "chapters" / f"{stub}.md").unlink()
    new_chapter(book, f"{number:02d}-my-paper")
    after = yaml.safe_load((book / "_toc.yml").read_text())
    added = {"file": f"chapters/{number:02d}-my-paper"}
    last = next(part for part in before["parts"] if "Part II" in part["caption"])
    last["chapters"].append(added)
    assert after == before


def test_title_paper_and_claims_have_defaults(book):
    new_chapter(book, "03-symmetry")
    text = (book / "chapters" / "03-symmetry.md").read_text(encoding="utf-8")
    assert "\n# Symmetry\n" in text and 'key="symmetry"' in text
    assert SAMPLE["paper"] in text


def test_a_paper_that_the_bibliography_lacks_is_asked_for(book, capsys):
    assert main(["--root", str(book), "new", "03-my-paper", "--paper", "me2030"]) == 0
    assert "references.bib has no entry me2030" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["My Paper"], "'My Paper' cannot be the next chapter's name"),
        (["3-my-paper"], "its number and words"),
        (["03-my--paper"], "its number and words"),
        (["03-../x"], "its number and words"),
        (["02-two"], "as 03-my-paper"),
        (["05-my-paper"], "as 03-my-paper"),
        (["03-to-work", "--claims", "tw"], "other claims are"),
        (["03-my-paper", "--claims", "one"], "other claims are"),
        (["03-my-paper", "--claims", "a b"], "small letters and digits"),
    ],
)
def test_what_cannot_be_begun_changes_nothing(book, capsys, options, message):
    before = contents(book)
    assert main(["--root", str(book), "new", *options]) == 1
    assert message in capsys.readouterr().err
    assert contents(book) == before


def test_contents_without_chapters_are_named(book):
    (book / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    for path in (book / "chapters").glob("0*"):
        path.unlink()
    with pytest.raises(BookError, match="has no line"):
        new_chapter(book, "01-my-paper")


def test_the_template_is_no_chapter():
    """It is neither listed nor has it outputs; the site leaves its folder's .md out."""
    assert "_template" not in [chapter.name for chapter in read_chapters(ROOT)]
    assert not (ROOT / TEMPLATE).with_suffix(".ipynb").exists()
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["only_build_toc_files"]
    assert f"{TEMPLATE.parent}/*.md" in config["exclude_patterns"]


def test_pages_are_made_from_the_notebooks_and_not_from_their_texts():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    texts = [c.source.relative_to(ROOT) for c in read_chapters(ROOT)]
    patterns = config["exclude_patterns"]
    assert [t for t in texts if not any(map(t.match, patterns))] == []


def test_what_is_marked_stays_out_of_the_code(book):
    """A mark in a code cell would be a magic, and one amid text would be shown."""
    new_chapter(book, "03-my-paper")
    chapter = read_chapters(book)[-1]
    cells = read_source(chapter).cells
    assert all(MARK not in c.source for c in cells if c.cell_type == "code")
    lines = [
        line
        for c in cells
        if c.cell_type == "markdown"
        for line in c.source.splitlines()
    ]
    marked = [line for line in lines if MARK in line]
    assert len(marked) > 5 and all(line.startswith(MARK) for line in marked)


@pytest.mark.parametrize("chapter", read_chapters(ROOT), ids=lambda c: c.name)
def test_no_chapter_of_the_book_is_left_unfinished(chapter):
    text = chapter.source.read_text(encoding="utf-8")
    left = [number for number, line in enumerate(text.splitlines(), 1) if MARK in line]
    assert not left, f"{chapter.source.name}: lines {left} begin with {MARK!r}"


def test_make_hands_name_and_title_on():
    command = ["make", "-n", "chapter", "NAME=03-my-paper", "TITLE=It's mine"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert """new "03-my-paper" --title "It's mine\"""" in shown.stdout
