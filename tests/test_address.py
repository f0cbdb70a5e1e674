"""The book's address: one home, one command to move, and who disagrees."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest
from richregime.address import Address, address_problems, move, read_address
from richregime.chapters import (
    BookError,
    canonical,
    chapter_problems,
    read_chapters,
    read_source,
)
from richregime.cli import main
from richregime.executions import EXECUTIONS, file_sha256

ROOT = Path(__file__).resolve().parents[1]
NAME = "01-small"

CONFIG = """\
# Kept.
repository:
  url: https://github.com/ann/regime
  branch: main
html:
  baseurl: https://ann.github.io/regime/
"""
CHAPTER = f"""\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A chapter

[Binder](https://mybinder.org/v2/gh/ann/regime/main?urlpath=lab/tree/chapters/{NAME}.ipynb),
[Colab](https://colab.research.google.com/github/ann/regime/blob/main/chapters/{NAME}.ipynb),
`git clone https://github.com/ann/regime`. Not ours: https://github.com/ann/regime-change,
https://github.com/bob/regime and https://bob.github.io/regime/.

```{{code-cell}} ipython3
REPOSITORY = "https://github.com/ann/regime"
```

```bibtex
url = {{https://ann.github.io/regime/chapters/{NAME}.html}}
```
"""
CITATION = """\
repository-code: "https://github.com/ann/regime"
url: "https://ann.github.io/regime/"
"""


@pytest.fixture
def book(tmp_path):
    root = tmp_path / "book"
    (root / "chapters").mkdir(parents=True)
    (root / "results").mkdir()
    shutil.copy(ROOT / "jupytext.toml", root / "chapters")
    (root / "_toc.yml").write_text(
        f"format: jb-book\nroot: index\nchapters:\n- file: chapters/{NAME}\n"
    )
    (root / "index.md").write_text("# A book at https://ann.github.io/regime.\n")
    (root / "_config.yml").write_text(CONFIG)
    (root / "CITATION.cff").write_text(CITATION)
    (root / "chapters" / f"{NAME}.md").write_text(CHAPTER)
    (chapter,) = read_chapters(root)
    notebook = read_source(chapter)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = number, []
    chapter.notebook.write_text(nbformat.writes(notebook) + "\n")
    digest = {"text_sha256": file_sha256(chapter.source)}
    (root / EXECUTIONS).write_text(json.dumps({NAME: digest}))
    return root


def texts(root):
    return {
        path.relative_to(root): path.read_text()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("tail", ["", "/", ".git"])
def test_an_address_is_read_as_people_paste_it(book, tail):
    assert read_address(book, f"https://github.com/Ann/regime{tail}") == Address(
        "Ann/regime", "https://ann.github.io/regime/"
    )


def test_the_site_is_githubs_own_or_the_one_given(book):
    given = read_address(book, "https://github.com/ann/regime", "https://regime.org")
    assert given.site == "https://regime.org/"


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/ann/regime",
        "https://github.com/ann",
        "https://gitlab.com/ann/regime",
        "https://github.com/ann/regime/tree/main",
        "https://github.com/ann/regime extra",
        "ann/regime",
        "",
    ],
)
def test_what_is_no_repository_is_refused_and_nothing_is_written(book, url, capsys):
    before = texts(book)
    assert main(["--root", str(book), "address", url]) == 1
    assert "https://github.com/OWNER/REPOSITORY" in capsys.readouterr().err
    assert texts(book) == before


def test_what_is_no_site_is_refused(book):
    with pytest.raises(BookError, match=r"and regime\.org are not the addresses"):
        move(book, "https://github.com/ann/regime", "regime.org")


def test_a_configuration_without_an_address_says_what_it_lacks(book):
    (book / "_config.yml").write_text("repository:\n  branch: main\n")
    with pytest.raises(BookError, match="addresses of a repository"):
        read_address(book)


def test_a_move_rewrites_every_place_and_no_other_address(book):
    before = texts(book)
    move(book, "https://github.com/ann/regime-2", "https://regime.org/book/")
    for path, text in texts(book).items():
        old = before[path].replace("\\", "")
        assert 'github.com/ann/regime"' not in text and "regime/main" not in text
        assert "https://ann.github.io" not in text
        for kept in (
            "ann/regime-change",
            "bob/regime",
            "https://bob.github.io/regime/",
        ):
            assert text.count(kept) == old.count(kept), path
    assert read_address(book) == Address("ann/regime-2", "https://regime.org/book/")
    config = (book / "_config.yml").read_text()
    assert config.startswith("# Kept.\n") and config.count("\n") == CONFIG.count("\n")
    citation = (book / "CITATION.cff").read_text()
    assert 'repository-code: "https://github.com/ann/regime-2"\n' in citation
    assert address_problems(book) == []


def test_a_moved_chapter_is_still_a_pair_that_was_executed(book):
    (chapter,) = read_chapters(book)
    assert chapter_problems(chapter) == []
    move(book, "https://github.com/bob/other")
    assert chapter_problems(chapter) == []
    notebook = nbformat.read(chapter.notebook, as_version=4)
    ids = [cell.id for cell in notebook.cells]
    assert ids == [cell.id for cell in canonical(notebook).cells]
    assert ids == [cell.id for cell in read_source(chapter).cells]
    recorded = json.loads((book / EXECUTIONS).read_text())[NAME]["text_sha256"]
    assert recorded == file_sha256(chapter.source)


def test_there_and_back_leaves_the_book_as_it_was(book):
    before = texts(book)
    move(book, "https://github.com/bob/other", "https://regime.org/")
    assert texts(book) != before
    move(book, "https://github.com/ann/regime")
    assert texts(book) == before


@pytest.mark.parametrize(
    ("place", "old"),
    [
        (f"chapters/{NAME}.md", "mybinder.org/v2/gh/ann/regime/main"),
        (f"chapters/{NAME}.md", "github/ann/regime/blob/main"),
        (f"chapters/{NAME}.md", "git clone https://github.com/ann/regime"),
        (f"chapters/{NAME}.md", 'REPOSITORY = "https://github.com/ann/regime"'),
        (f"chapters/{NAME}.md", f"https://ann.github.io/regime/chapters/{NAME}.html"),
        (f"chapters/{NAME}.ipynb", r"REPOSITORY = \"https://github.com/ann/regime\""),
        ("CITATION.cff", 'repository-code: "https://github.com/ann/regime"'),
    ],
)
def test_a_place_that_disagrees_is_named(book, place, old, capsys):
    path = book / place
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, old.replace("ann", "zoe")))
    (problem,) = address_problems(book)
    assert problem.startswith(f"{place}: ") and "zoe" in problem
    assert main(["--root", str(book), "address"]) == 1
    err = capsys.readouterr().err
    assert "ann/regime" in err and "make address" in err


def test_the_place_to_publish_has_to_be_the_address(book, capsys):
    assert address_problems(book, "https://github.com/Ann/regime") == []
    before = texts(book)
    url = "https://github.com/bob/fork"
    assert main(["--root", str(book), "address", url, "--check"]) == 1
    err = capsys.readouterr().err
    assert "bob/fork" in err and "says ann/regime" in err and "make address" in err
    (problem,) = address_problems(
        book, "https://github.com/ann/regime", "https://regime.org"
    )
    assert "https://regime.org/" in problem
    assert texts(book) == before


def test_the_committed_book_has_one_address():
    assert address_problems(ROOT) == []
