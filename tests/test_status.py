"""The page on status: every number is that of a file in results/, or is not there."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import run
from richregime import commands, durations, pages, tables, tiers
from richregime.chapters import BookError, code_cells, read_chapters
from richregime.executions import Execution, read_executions, write_execution
from richregime.site.status import SECTIONS
from test_book import make_book, small
from test_experiment import spec
from test_record import FULL

ROOT = Path(__file__).resolve().parents[1]
NAME = "01-small"

PAGE = """
# Status

{record}`the record <01-small>`, {record}`its schema <schema>`

""" + "\n".join(f"```{{status}} {name}\n```\n" for name in SECTIONS)


@pytest.fixture
def book(tmp_path):
    """A small book with an execution of which everything is recorded."""
    root = make_book(tmp_path / "book")
    (root / "requirements.lock").write_text("numpy==2.0\n")
    write_execution(root, NAME, FULL)
    return root


@pytest.fixture(scope="module")
def executed_once(tmp_path_factory):
    root = make_book(tmp_path_factory.mktemp("executed") / "book")
    (root / "requirements.lock").write_text("numpy==2.0\n")
    commands.execute(root)
    return root


@pytest.fixture
def executed(executed_once, tmp_path):
    """A small book that was executed, to do anything with."""
    return Path(shutil.copytree(executed_once, tmp_path / "executed"))


def rows(text):
    """The cells of a Markdown table's body."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines]


def test_a_chapter_says_when_where_and_what(book):
    (row,) = rows(tables.executions(book))
    assert row[0] == "[1. A small chapter](chapters/01-small.md)"
    assert row[1:5] == ["2026-01-02", "0:12 min", "2 cores of Abacus", "7 runs"]
    assert row[6] == "{record}`JSON <01-small>`"


def test_what_is_not_recorded_is_said_and_what_never_ran_too(book):
    write_execution(book, NAME, Execution(seconds=70.0, cells=(70.0,)))
    (row,) = rows(tables.executions(book))
    assert row[1:5] == ["not recorded", "1:10 min", "not recorded", "not recorded"]
    assert tables.environment(book).count("not recorded") == 1
    assert "not recorded yet for: chapter 1." in tables.data(book)
    (book / "results/executions.json").unlink()
    assert rows(tables.executions(book))[0][2] == "never"


def test_a_gpu_is_named_by_its_kind():
    device = {"platform": "gpu", "kind": "Some GPU", "count": 4, "cores": 16}
    assert replace(FULL, device=device).place == "4 × Some GPU"


@pytest.mark.parametrize("chapter", read_chapters(ROOT), ids=lambda c: c.name)
def test_the_counts_of_verdicts_are_those_of_the_claims(chapter):
    judged = pages.read_claims(ROOT / pages.CLAIMS)
    for tier in ("live", "paper"):
        text = tables.verdicts(judged, chapter.name, tier)
        total = sum(int(number) for number in re.findall(r"\d+", text))
        mine = [j for j in judged if j.claim.chapter == chapter.name]
        assert total == sum(j.claim.tier == tier for j in mine)
        good = sum(
            j.claim.tier == tier and j.verdict.value == "reproduced" for j in mine
        )
        assert (f"{good}&nbsp;✓" in text) == bool(good)


def test_data_are_named_with_source_hash_and_users(book):
    digits, noise = rows(tables.data(book))
    assert digits[0] == "`digits`" and digits[1] == "packaged: scikit-learn"
    assert re.fullmatch("`[0-9a-f]{12}`", digits[2])
    assert digits[3] == "chapter 1 (1 selection)"
    assert noise[1].startswith("drawn") and noise[3] == "chapter 1 (12 draws)"


def test_equal_environments_share_a_column_and_a_changed_lock_is_said(book):
    assert "not that of this page's version" in tables.environment(book)
    lock = tables.file_sha256(book / "requirements.lock")
    write_execution(book, NAME, replace(FULL, lock_sha256=lock))
    text = tables.environment(book)
    assert "this page's version" not in text and lock[:12] in text
    shutil.copy(small(book).source, book / "chapters" / "02-more.md")
    toc = book / "_toc.yml"
    toc.write_text(toc.read_text() + "- file: chapters/02-more\n")
    write_execution(book, "02-more", replace(FULL, lock_sha256=lock, seconds=1.0))
    assert "chapters 1, 2" in tables.environment(book)
    write_execution(book, "02-more", replace(FULL, versions={"jax": "0.11"}))
    assert "| chapter 1 | chapter 2 |" in tables.environment(book)


def test_the_slowest_cells_of_the_book_come_first():
    found = rows(tables.slowest(ROOT))
    seconds = [int(row[-1].removesuffix(" s")) for row in found]
    assert seconds == sorted(seconds, reverse=True)
    recorded = [s for e in read_executions(ROOT).values() for s in e.cells]
    assert seconds[0] == round(max(recorded))


def test_cells_edited_since_are_not_listed(executed):
    assert len(rows(tables.slowest(executed))) == 3
    path = small(executed).notebook
    notebook = nbformat.read(path, as_version=4)
    _, cell, _ = code_cells(notebook)[0]
    notebook.cells.remove(cell)
    nbformat.write(notebook, path)
    assert rows(tables.slowest(executed)) == []


def test_measured_durations_add_up_and_missing_ones_are_said(book):
    install, chapter, all_chapters, checks = rows(durations.measured(book))
    assert install[2] == checks[2] == "not recorded"
    assert chapter[2] == all_chapters[2] == "0:12 min"
    found = {"cpu": "Abacus", "cores": 2, "install": 61.0}
    found["stages"] = {"unit": 100.0, "nbval": 20.0}
    (book / durations.CHECKS).write_text(json.dumps(found))
    install, *_, checks = rows(durations.measured(book))
    assert install[2:] == ["1:01 min", "2 cores of Abacus"]
    assert checks[2] == "2:00 min, of which 0:20 the chapters"


def test_what_follows_for_other_hardware_is_what_the_benchmarks_read(book):
    shutil.copytree(ROOT / durations.BENCHMARKS, book / durations.BENCHMARKS)
    (path,) = (book / durations.BENCHMARKS).glob("*.json")
    readings = json.loads(path.read_text())
    text = durations.elsewhere(book)
    first = [
        r for r in readings["parts"]["compilation"]["readings"] if r["cache"] == "empty"
    ]
    for reading in first:
        assert f"{100 * reading['share']:.0f} %" in text
    rates = [r["of_square"] for r in readings["parts"]["training"]["readings"]]
    assert f"{min(rates):.2f} to {max(rates):.2f}" in text
    assert "GPU.** Nothing" in text
    readings["machine"] |= {"platform": "gpu", "device": "Some GPU"}
    path.with_name("gpu.json").write_text(json.dumps(readings))
    text = durations.elsewhere(book)
    assert "GPU.** Nothing" not in text and "Some GPU" in text


def test_the_rest_of_a_paper_tier_goes_on_as_it_went(book, monkeypatch):
    runs = [spec(seed=seed) for seed in range(4)]
    monkeypatch.setattr(tiers, "paper_tier", lambda name: runs if name == NAME else [])
    (chapter,) = read_chapters(book)
    found = durations.rest(book, chapter)
    assert found.missing == 4 and found.rate is None and found.hours is None
    assert "not recorded" in durations.paper(book)
    added = tiers.archive(book, NAME).run(runs[:1])
    assert added == 1
    (record,) = tiers.stored(book, NAME).values()
    found = durations.rest(book, chapter)
    expected = 3 * record.provenance["wall_s"] / 3600
    assert found.missing == 3
    assert found.hours == pytest.approx(expected, rel=1e-6)
    assert "3 runs" in durations.paper(book) and "1 of 4 runs" in tables.stored(book)


def test_no_number_of_the_page_is_written_by_hand():
    text = (ROOT / "status.md").read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    assert not re.search(r"\d", prose), "numbers come from results/"
    shown = re.findall(r"```\{status\} (\w+)", text)
    assert sorted(shown) == sorted(SECTIONS)


def test_page_and_records_are_on_the_site(executed, capsys):
    for name in ("_config.yml", "references.bib"):
        shutil.copy(ROOT / name, executed)
    shutil.copytree(ROOT / durations.BENCHMARKS, executed / durations.BENCHMARKS)
    (executed / "assets").mkdir()
    (executed / "status.md").write_text(PAGE)
    toc = executed / "_toc.yml"
    toc.write_text(toc.read_text() + "- file: status\n")
    pages.html(executed)
    site = executed / "_build" / "html"
    page = (site / "status.html").read_text(encoding="utf-8")
    for name in (f"{NAME}.json", "record.schema.json"):
        assert f'href="records/{name}"' in page
        assert json.loads((site / "records" / name).read_text("utf-8"))
    found = json.loads((site / "records" / f"{NAME}.json").read_text("utf-8"))
    assert [claim["id"] for claim in found["claims"]] == ["small.C1"]
    assert tables.day(read_executions(executed)[NAME].date) in page

    wrong = "{record}`this <09-none>`\n\n```{status} weather\n```\n"
    (executed / "status.md").write_text(f"# Status\n\n{wrong}")
    with pytest.raises(BookError):
        pages.html(executed)
    said = capsys.readouterr().out
    assert "no chapter is called '09-none'" in said
    assert "no status is called 'weather'" in said


def test_only_a_complete_run_of_all_checks_is_recorded(tmp_path, monkeypatch, capsys):
    good, bad = run.Result(0, "fine"), run.Result(1, "broken")
    path = tmp_path / "checks.json"
    monkeypatch.setattr(run, "CHECKS", path)
    monkeypatch.setattr(run, "STAGES", {"a": lambda: good, "nbval": lambda: bad})
    assert run.main(["--record"]) == 1 and run.main(["--record", "a"]) == 0
    monkeypatch.setattr(run, "STAGES", {"a": lambda: good, "nbval": lambda: good})
    assert run.main([]) == 0
    assert not path.exists()
    assert run.main(["--record"]) == 0
    found = json.loads(path.read_text())
    assert list(found["stages"]) == ["a", "nbval"] and found["cores"] >= 1
    assert "min, of which" in durations._tests(found)[0]
