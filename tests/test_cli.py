"""The command line: what it runs, estimates, lists and refuses."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from richregime import cli, tiers
from richregime.chapters import find_root, read_chapters
from test_experiment import spec
from test_sweeps import PATH
from widthlab.papers import hajjar2024training as setup

CHAPTER = "03-integrable-parametrizations"


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of two chapters, the second with a paper tier of two small runs."""
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nchapters:\n"
        f"  - file: chapters/02-other\n  - file: chapters/{CHAPTER}\n"
    )
    (tmp_path / "chapters").mkdir()
    for name in ("02-other", CHAPTER):
        (tmp_path / "chapters" / f"{name}.ipynb").write_text("{}")
    (tmp_path / "results").mkdir()
    tier = [spec(seed=seed) for seed in (0, 1)]
    monkeypatch.setattr(setup, "paper_tier", lambda: iter(tier))

    def call(*words):
        return cli.main(["--root", str(tmp_path), *words])

    call.root, call.tier = tmp_path, tier
    return call


def test_every_tier_belongs_to_a_chapter():
    root = find_root(Path(__file__).parent)
    names = [chapter.name for chapter in read_chapters(root)]
    assert set(tiers.setups()) <= set(names)
    assert tiers.paper_tier("04-symmetries") == []


@pytest.mark.parametrize("word", ["3", "03", CHAPTER, "03-int"])
def test_run_stores_what_is_missing_and_then_nothing(book, word, capfd):
    assert book("run", word, "--tier", "paper") == 0
    out, err = capfd.readouterr()
    assert "paper tier: 0 of 2 runs" in out and "2 run(s) added" in out
    assert re.search(r"2/2 \[.*run/s|2/2 \[.*s/run", err)  # done, time left, rate
    assert set(tiers.stored(book.root, CHAPTER)) == set(book.tier)
    assert book("run", word, "--tier", "paper") == 0
    assert capfd.readouterr().out == f"{CHAPTER}, paper tier: 2 of 2 runs\n"


def test_a_dry_run_estimates_and_runs_nothing(book, monkeypatch, capsys):
    monkeypatch.setattr(tiers, "measured_rate", lambda: 1e6)
    words = ("--tier", "paper", "--dry-run", "--together", "2")
    assert book("run", "3", *words) == 0
    out = " ".join(capsys.readouterr().out.split())
    one = book.tier[0]
    flops = 2 * one.plan.flops_per_step * one.steps
    assert f"2 runs in 1 cell(s), {flops:.1e} operations: about 0 s on this" in out
    assert "digits, width 16, depth 2, tanh, 4 steps of 8" in out
    assert not list((book.root / "results").iterdir())


def test_costs_follow_from_the_specification():
    (small,) = tiers.costs([spec(seed=s) for s in range(3)])
    assert small.runs == 3
    assert small.flops == 3 * spec().plan.flops_per_step * 4
    adam = spec(optimizer=type(spec().optimizer)("adam"))
    assert tiers.costs([adam])[0].bytes > small.bytes
    assert len(tiers.costs([spec(), spec(width=17)])) == 2


def test_no_time_runs_nothing(book, capsys):
    assert book("run", "3", "--tier", "paper", "--minutes", "-1") == 0
    assert "0 run(s) added" in capsys.readouterr().out


def test_workers_of_its_own(book):
    words = ("--tier", "paper", "--workers", "1", "--together", "1")
    assert book("run", "3", *words) == 0
    assert len(tiers.stored(book.root, CHAPTER)) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "7"), "No chapter is called '7'; there are 02-other, 03-int"),
        (("run", "0", "--tier", "paper"), "No chapter is called '0'"),
        (("run", "2", "--tier", "paper"), "02-other has no paper tier"),
        (("fetch", "imagenet"), "no data set is called 'imagenet'; there are mnist-5k"),
        (
            ("run", "3", "--tier", "paper", "--scheduler", "tcp://127.0.0.1:1"),
            "No scheduler answers at tcp://127.0.0.1:1",
        ),
    ],
)
def test_what_cannot_be_done_is_said(book, words, message, capsys, monkeypatch):
    if "--scheduler" in words:
        distributed = pytest.importorskip("distributed")
        original = distributed.Client
        monkeypatch.setattr(
            distributed, "Client", lambda address, timeout: original(address, timeout=1)
        )
    assert book(*words) == 1
    assert message in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(book, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("widthlab.runs.archive.Archive.run", interrupt)
    assert book("run", "3", "--tier", "paper") == 130
    assert "the same command goes on" in capsys.readouterr().err


LONG_TIER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # deaf in a background job
from test_experiment import spec
from richregime import cli
from widthlab.papers import hajjar2024training as setup
tier = [spec(), spec(width=512, steps=100_000)]
setup.paper_tier = lambda: iter(tier)
sys.argv[1:] = ["--root", sys.argv[1], "run", "3", "--tier", "paper"]
cli.script()
"""


def test_an_interrupt_does_not_wait_for_a_long_cell(book, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", LONG_TIER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": PATH},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (book.root / "results" / CHAPTER / "runs.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "the same command goes on" in err
    assert "Traceback" not in err
    assert list(tiers.stored(book.root, CHAPTER)) == [spec()]


def test_status_and_claims_of_the_book(capsys):
    root = str(find_root(Path(__file__).parent))
    assert cli.main(["--root", root, "status"]) == 0
    out = capsys.readouterr().out
    assert "04-symmetries" in out and "paper  no paper tier" in out
    assert re.search(r"paper  \d+ of \d+ runs, [\d.]+ h on cpu", out)
    assert cli.main(["--root", root, "claims", "4"]) == 0
    out = capsys.readouterr().out
    assert "sym.C1" in out and "mup.C1" not in out


def test_fetching_packaged_data_says_what_it_is(capsys):
    assert cli.main(["fetch", "digits"]) == 0
    assert re.match(
        r"digits: 1442 and 355 rows of 64, sha256 [0-9a-f]{16}\n",
        capsys.readouterr().out,
    )
