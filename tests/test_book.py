"""The book's own program on a miniature book, and the committed chapters."""

import asyncio
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import nbformat
import pytest
from bs4 import BeautifulSoup
from jupyter_core.utils import ensure_event_loop
from nbclient import NotebookClient
from richregime import commands, pages
from richregime.address import read_address
from richregime.chapters import (
    BookError,
    Chapter,
    canonical,
    chapter_problems,
    code_cells,
    output_problems,
    read_chapters,
    read_source,
)
from richregime.cli import main
from richregime.execution import CellError, kernel_environment, run_notebook
from richregime.executions import read_executions
from richregime.progress import Progress, Step

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = read_chapters(ROOT) if any((ROOT / "chapters").glob("*.md")) else []

ELSEWHERE = "/" + "home/ann/x.npy"

# One claim, whose measured value and whose cell's waiting time the tests can change; it
# leaves one record in the store, as a finished training run would. The library, which
# takes seconds to import, comes last: some tests end before.
CHAPTER = """\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A small chapter

```{code-cell} ipython3
import os, time
from pathlib import Path
record = Path(os.environ["WIDTHLAB_STORE"]) / "ab" / "record.json"
print("here" if Path("jupytext.toml").exists() else "elsewhere")
```

## One claim

```{code-cell} ipython3
---
tags: [nbval-ignore-output]
---
known = record.exists()
record.parent.mkdir(parents=True, exist_ok=True)
record.write_text("{}")
Path(os.environ["WIDTHLAB_STORE"], "../seen.txt").write_text(str(known))
time.sleep(float(os.environ.get("SMALL_WAIT", "0")))
```

```{code-cell} ipython3
from richregime.study import Study
from widthlab.claims import Prediction, exact
study = Study("01-small", key="small", paper="chen2025global")
zero = Prediction("value", 0.0, within=0.1)
measured = float(os.environ.get("SMALL_MEASURED", "0"))
claim = study.claim(
    1,
    "It is zero.",
    source="abstract",
    origin="rounding",
    primary=zero.endpoint("it"),
)
study.publish(claim.judge(exact(measured), controls={"one": exact(1.0)}))
```
"""


def make_book(root):
    """A book with one small chapter that was never executed."""
    (root / "chapters").mkdir(parents=True)
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nchapters:\n- file: chapters/01-small\n"
    )
    (root / "index.md").write_text("# A small book\n")
    (root / "chapters" / "01-small.md").write_text(CHAPTER)
    shutil.copy(ROOT / "jupytext.toml", root / "chapters")
    # No need to list the machine's fonts for a chapter without figures.
    (root / ".cache" / "matplotlib").mkdir(parents=True)
    (root / ".cache" / "matplotlib" / "fontlist.json").touch()
    return root


@pytest.fixture
def book(tmp_path):
    return make_book(tmp_path / "book")


@pytest.fixture(scope="module")
def executed_once(tmp_path_factory):
    root = make_book(tmp_path_factory.mktemp("executed") / "book")
    commands.execute(root)
    return root


@pytest.fixture
def executed(executed_once, tmp_path):
    """A book whose chapter was executed, to do anything with."""
    # Brackets are a pattern to whoever looks for files.
    return Path(shutil.copytree(executed_once, tmp_path / "a [1] book"))


def small(root):
    return Chapter("01-small", root / "chapters")


def test_execute_writes_a_chapter_fit_to_publish(executed):
    notebook = nbformat.read(small(executed).notebook, as_version=4)
    assert [cell.execution_count for _, cell, _ in code_cells(notebook)] == [1, 2, 3]
    printed = "".join(
        output.text for _, cell, _ in code_cells(notebook) for output in cell.outputs
    )
    assert "here" in printed, "the kernel works in the chapter's folder"
    assert "small.C1 reproduced" in printed
    assert chapter_problems(small(executed)) == []
    (judgement,) = pages.read_claims(executed / pages.CLAIMS)
    assert judgement.verdict == "reproduced"
    assert list(notebook.metadata) == ["kernelspec", "language_info"]
    assert len(read_executions(executed)["01-small"].cells) == 3
    commands.status(executed)


def test_reproduce_agrees_leaves_the_book_alone_and_starts_afresh(executed, capsys):
    before = {
        path: path.read_bytes()
        for path in executed.rglob("*")
        if path.is_file() and not {"_build", ".cache"} & set(path.parts)
    }
    commands.reproduce(executed, build=False)
    out = capsys.readouterr().out
    assert "all 1 are those of" in out and "✓ reproduced" in out
    assert "01-small | cell 2/3" in out and "One claim" in out
    for path, content in before.items():
        assert path.read_bytes() == content, path
    assert not (executed / "_build/reproduce/store").exists()
    assert (executed / "_build/reproduce/seen.txt").read_text() == "False"


def test_reproduce_reports_a_changed_verdict(executed, monkeypatch, capsys):
    monkeypatch.setenv("SMALL_MEASURED", "0.5")
    committed = (executed / pages.CLAIMS).read_bytes()
    with pytest.raises(BookError, match=r"small\.C1 .*changed: reproduced -> not rep"):
        commands.reproduce(executed, build=False)
    assert (executed / pages.CLAIMS).read_bytes() == committed


def test_a_killed_reproduction_is_resumed(executed, monkeypatch, capsys):
    """Kill it with a run stored and the chapter unfinished; the store must be used."""
    store = executed / "_build" / "reproduce" / "store"
    command = [sys.executable, "-m", "richregime", "--root", str(executed)]
    process = subprocess.Popen(
        [*command, "reproduce"],
        env={**os.environ, "SMALL_WAIT": "60"},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not any(store.glob("??/*.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    commands.reproduce(executed, build=False)
    assert "Resuming an interrupted reproduction: 1 " in capsys.readouterr().out
    assert (executed / "_build/reproduce/seen.txt").read_text() == "True"
    assert not store.exists()


def test_an_interrupt_says_how_to_go_on(executed):
    command = [sys.executable, "-m", "richregime", "--root", str(executed)]
    # A shell's background jobs ignore interrupts, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*command, "reproduce"],
        env={**os.environ, "SMALL_WAIT": "60"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    store = executed / "_build" / "reproduce" / "store"
    deadline = time.monotonic() + 60
    while not any(store.glob("??/*.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on" in err and "Traceback" not in err
    assert any(store.glob("??/*.json"))


# The first is called by the task that reads outputs, the second by the one that watches
# the kernel, the third by the one that waits for the reply.
@pytest.mark.parametrize(
    "hit", ["process_message", "_async_check_alive", "_async_handle_timeout"]
)
def test_an_interrupt_leaves_no_task_to_complain(book, monkeypatch, caplog, hit):
    """Nothing is pending when the kernel is shut down, and nothing is said later."""
    pending = []
    clean_up = NotebookClient._cleanup_kernel

    def look_and_clean_up(client):
        pending.append(asyncio.all_tasks(ensure_event_loop()))
        clean_up(client)

    monkeypatch.setattr(NotebookClient, "_cleanup_kernel", look_and_clean_up)
    monkeypatch.setattr(NotebookClient, hit, Mock(side_effect=KeyboardInterrupt))
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("import time; time.sleep(60)")]
    env = kernel_environment(book, book / "_build")
    with pytest.raises(KeyboardInterrupt):
        run_notebook(notebook, folder=book, env=env, timeout=2)
    gc.collect()
    assert pending == [set()] and not caplog.records


def test_a_failing_cell_is_named_and_nothing_is_written(book, capsys):
    chapter = small(book)
    chapter.source.write_text(CHAPTER.replace("known = ", "known = 1 / 0 or "))
    assert main(["--root", str(book), "execute"]) == 1
    err = capsys.readouterr().err
    assert "01-small, cell 3 (One claim) failed" in err
    assert "ZeroDivisionError" in err and "\x1b" not in err
    assert not chapter.notebook.exists() and not (book / pages.CLAIMS).exists()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys; print('note', file=sys.stderr)", "text on stderr: 'note'"),
        (f"print({ELSEWHERE!r})", f"a path of this machine: {ELSEWHERE!r}"),
    ],
)
def test_outputs_that_must_not_be_kept(book, code, problem):
    small(book).source.write_text(CHAPTER.replace("known = ", f"{code}\nknown = "))
    with pytest.raises(BookError, match="outputs cannot be kept") as caught:
        commands.execute(book)
    assert problem in str(caught.value)
    assert not small(book).notebook.exists()


def test_links_and_images_are_not_paths_of_a_machine():
    notebook = nbformat.v4.new_notebook()
    data = {"image/png": "abc/tmp/def", "text/html": "<a href='https://x.org/home/y'>"}
    output = nbformat.v4.new_output("display_data", data=data)
    cell = nbformat.v4.new_code_cell("show()", outputs=[output], execution_count=1)
    notebook.cells = [cell]
    assert output_problems(notebook) == ["cell 0 (show()): no alt text"]
    cell.metadata = {"mystnb": {"image": {"alt": "A line"}}}
    assert output_problems(nbformat.from_dict(notebook)) == []


def test_a_source_edited_after_the_run_is_noticed(executed):
    source = small(executed).source
    source.write_text(source.read_text().replace("It is zero.", "It is nothing."))
    with pytest.raises(BookError, match=r"01-small\.md and 01-small\.ipynb differ"):
        commands.status(executed)


def test_alt_text_edited_after_the_run_is_noticed(executed):
    source = small(executed).source
    setting = "tags: [nbval-ignore-output]\n"
    edited = f"{setting}mystnb: {{image: {{alt: A line}}}}\n"
    source.write_text(source.read_text().replace(setting, edited))
    assert any("differ" in problem for problem in chapter_problems(small(executed)))


def test_cells_out_of_order_are_noticed(executed):
    notebook = nbformat.read(small(executed).notebook, as_version=4)
    code_cells(notebook)[1][1].execution_count = 7
    assert output_problems(notebook) == [
        "cell 3 (One claim): execution count 7, expected 2"
    ]


def test_executing_one_chapter_keeps_the_claims_of_the_others(executed):
    toc = executed / "_toc.yml"
    toc.write_text(toc.read_text() + "- file: chapters/02-other\n")
    other = CHAPTER.replace('key="small"', 'key="other"')
    other = other.replace("01-small", "02-other")
    (executed / "chapters" / "02-other.md").write_text(other)
    commands.execute(executed, ["02-other"])
    ids = [item.claim.id for item in pages.read_claims(executed / pages.CLAIMS)]
    assert ids == ["other.C1", "small.C1"]


def test_a_chapter_shows_the_claims_that_it_has_just_reached(executed):
    """Its cell ran before any of them was judged."""
    glance = "\n```{code-cell} ipython3\nstudy.glance()\n```\n"
    with open(small(executed).source, "a", encoding="utf-8") as text:
        text.write(glance)
    (executed / pages.CLAIMS).unlink()
    commands.execute(executed)
    cells = code_cells(nbformat.read(small(executed).notebook, as_version=4))
    (output,) = cells[-1][1].outputs
    assert (
        "| [small.C1](#small-c1) | It is zero. | ✓ reproduced |"
        in (output.data["text/markdown"])
    )
    commands.status(executed)


def test_an_unknown_chapter_and_a_missing_page_are_named(book):
    with pytest.raises(BookError, match=r"No chapter is called .09-none.*01-small"):
        commands.execute(book, ["09-none"])
    (book / "chapters" / "01-small.md").unlink()
    with pytest.raises(BookError, match="names 'chapters/01-small', but there is"):
        read_chapters(book)


def test_cell_ids_depend_on_content_only(book):
    first, second = read_source(small(book)), read_source(small(book))
    assert [cell.id for cell in first.cells] == [cell.id for cell in second.cells]
    assert len({cell.id for cell in first.cells}) == len(first.cells)
    nbformat.validate(canonical(first))


def test_a_cell_that_runs_too_long_is_stopped(book):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("import time; time.sleep(60)")]
    env = kernel_environment(book, book / "_build")
    with pytest.raises(CellError, match="cell 0"):
        run_notebook(notebook, folder=book, env=env, timeout=1)


def test_site_is_built_and_a_warning_fails_it(executed, capsys):
    shutil.copy(ROOT / "_config.yml", executed)
    shutil.copy(ROOT / "references.bib", executed)
    (executed / "assets").mkdir()
    pages.html(executed)
    page = (executed / "_build" / "html" / "chapters" / "01-small.html").read_text()
    (box,) = BeautifulSoup(page, "html.parser").select(".wl-verdict")
    assert "small.C1 reproduced" in box.text and "No secondary checks" in box.text
    here = read_address(executed)
    path = "chapters/01-small.ipynb"
    for address in (
        f"mybinder.org/v2/gh/{here.name}/main?urlpath=lab/tree/{path}",
        f"colab.research.google.com/github/{here.name}/blob/main/{path}",
    ):
        assert f'href="https://{address}"' in page
    other = (executed / "_build" / "html" / "index.html").read_text()
    assert "mybinder" not in other and "colab" not in other
    index = executed / "index.md"
    index.write_text("# A small book\n\n[nowhere](no-such-page.md)\n")
    with pytest.raises(BookError, match="without warnings"):
        pages.html(executed)
    assert "no-such-page" in capsys.readouterr().out


def test_of_two_builds_one_waits_for_the_other(book, monkeypatch, capsys):
    """Another process holds the folder, as `make html` in another window does."""
    holding = f"""
import pathlib, time
from richregime.pages import building
with building(pathlib.Path({str(book)!r})):
    print("held", flush=True)
    time.sleep(1)
    pathlib.Path({str(book / "ended")!r}).touch()
"""
    built = []

    def build(root):
        built.append((root / "ended").exists())

    monkeypatch.setattr(pages, "_build", build)
    with subprocess.Popen(
        [sys.executable, "-c", holding], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        pages.html(book)
    assert built == [True]
    assert "Another build is at work" in capsys.readouterr().out
    with pages.building(book):  # as the PDF does, which builds the site first
        pages.html(book)
    assert capsys.readouterr().out == ""


def at(progress, seconds):
    """Let the bar believe that so many seconds have passed."""
    progress.bar.start_t, progress.bar._time = 0.0, lambda: seconds


def test_progress_scales_recorded_times_by_the_pace_so_far():
    steps = [Step("one", "setup", 10.0), Step("one", "fit", 20.0), Step("two", "", 5.0)]
    stream = io.StringIO()
    with Progress(steps, stream) as progress:
        progress.start(0)
        at(progress, 20.0)  # the first cell took twice its record
        progress.start(1)
        progress.start(2)
    lines = stream.getvalue().splitlines()
    assert lines[1] == "one | cell 2/3 | fit | 29 % in 00:20, 00:50 left"
    assert len(lines) == 3


def test_progress_without_records_counts_cells():
    stream = io.StringIO()
    with Progress([Step("one", "a"), Step("one", "b", 9.0)], stream) as progress:
        progress.start(0)
        at(progress, 4.0)
        progress.start(1)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("? left")
    assert second == "one | cell 2/2 | b | 50 % in 00:04, 00:04 left"


def test_what_a_cell_prints_is_one_output(tmp_path):
    slowly = """
import time
for word in "ab":
    print(word, flush=True)
    time.sleep(0.3)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(slowly)])
    run_notebook(notebook, folder=tmp_path, env=kernel_environment(ROOT, tmp_path))
    assert [output.text for output in notebook.cells[0].outputs] == ["a\nb\n"]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_no_cell_is_longer_than_a_screen(chapter):
    lines = {
        where: cell.source.count("\n") + 1
        for where, cell, _ in code_cells(read_source(chapter))
    }
    assert {where: n for where, n in lines.items() if n > 40} == {}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_committed_chapter_is_fit_to_publish(chapter):
    assert chapter_problems(chapter) == []


def test_committed_claims_have_verdicts_and_chapters():
    names = {chapter.name for chapter in CHAPTERS}
    judgements = pages.read_claims(ROOT / pages.CLAIMS)
    assert {judgement.claim.chapter for judgement in judgements} == names
    keys = (ROOT / "references.bib").read_text(encoding="utf-8")
    for judgement in judgements:
        assert judgement.verdict
        assert f"{{{judgement.claim.paper}," in keys
