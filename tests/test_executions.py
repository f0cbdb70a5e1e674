"""What an execution records, about the machine and about what the chapter did."""

import json
import re
from datetime import datetime

import nbformat
import numpy as np
import pytest
from richregime import cli, commands, tiers
from richregime.executions import (
    EXECUTIONS,
    Execution,
    file_sha256,
    read_executions,
    write_execution,
)
from test_book import make_book, small
from widthlab import ledger, machine
from widthlab.data import DataSpec
from widthlab.runs.provenance import code_version

USES = """
```{code-cell} ipython3
from widthlab import DataSpec, Experiment, flow, sweep
from widthlab.data import Synthetic
from widthlab.runs import solve
digits = DataSpec("digits", n_train=20, n_test=0, targets="labels")
runs = [Experiment(data=digits, parametrization="mup", width=32, lr=0.1, seed=s,
                   batch_size=10, steps=2) for s in range(3)]
sweep(runs[:2]), sweep(runs)
tasks = [Synthetic(task="noise", n_train=3, dim=5, seed=s) for s in range(2)]
network = flow.Shallow(width=4, activation="relu")
flows = [network.flow(task, seed=0) for task in tasks]
found = solve(flows, [0.0, 0.1])
```
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A book whose chapter trains, flows and reads data, and its execution."""
    root = make_book(tmp_path_factory.mktemp("recorded") / "book")
    (root / "requirements.lock").write_text("numpy==2.0\n")
    small(root).source.write_text(small(root).source.read_text() + USES)
    commands.execute(root)
    return root, read_executions(root)["01-small"]


def test_an_execution_says_when_where_and_with_what(recorded):
    root, found = recorded
    assert datetime.fromisoformat(found.date).utcoffset().total_seconds() == 0
    assert len(found.cells) == 4 and found.seconds == pytest.approx(
        sum(found.cells), abs=0.3
    )
    assert found.text_sha256 == file_sha256(small(root).source)
    assert found.lock_sha256 == file_sha256(root / "requirements.lock")
    assert found.device["platform"] == "cpu" and found.device["kind"]
    assert found.device["cores"] == machine.cores() and found.gflops > 0
    assert found.versions == machine.versions()
    assert found.versions["numpy"] == np.__version__
    assert found.code == code_version() and found.system == machine.system()


def test_an_execution_counts_what_was_trained_and_not_what_was_read_back(recorded):
    assert recorded[1].runs == 3
    assert recorded[1].flows == 2


def test_an_execution_names_the_data_by_their_content(recorded):
    spec = DataSpec("digits", n_train=20, n_test=0, targets="labels")
    read, drawn = recorded[1].data
    assert read == {
        "name": "digits",
        "selections": [{**spec.changed(), "sha256": spec.load().sha256}],
    }
    assert drawn == {"name": "noise", "tasks": 2}


def test_the_question_leaves_no_trace_in_the_notebook(recorded):
    root, _ = recorded
    notebook = nbformat.read(small(root).notebook, as_version=4)
    assert "witness" not in nbformat.writes(notebook)
    assert commands.chapter_problems(small(root)) == []


def test_executions_are_kept_apart_and_replaced(tmp_path):
    first = Execution(seconds=1.0, cells=(0.4, 0.6))
    write_execution(tmp_path, "02-b", first)
    write_execution(tmp_path, "01-a", first)
    again = Execution(
        seconds=2.0,
        cells=(2.0,),
        date="2026-01-01T00:00:00+00:00",
        runs=1,
    )
    write_execution(tmp_path, "02-b", again)
    assert read_executions(tmp_path) == {"01-a": first, "02-b": again}
    text = (tmp_path / EXECUTIONS).read_text()
    assert list(json.loads(text)) == ["01-a", "02-b"], "in order"
    assert "null" not in text, "what was not recorded is left out"
    write_execution(tmp_path, "02-b", again)
    assert (tmp_path / EXECUTIONS).read_text() == text


def test_nothing_executed_is_no_error(tmp_path):
    assert read_executions(tmp_path) == {}


def test_the_ledger_forgets_nothing_that_another_selection_adds(monkeypatch):
    monkeypatch.setattr(ledger, "_data", {})
    for n in (30, 20, 30):
        ledger.note_data("digits", {"n_train": n}, f"hash of {n}")
    (entry,) = ledger.report()["data"]
    assert [one["n_train"] for one in entry["selections"]] == [20, 30]


def dry_run(root, capsys, word="1"):
    assert cli.main(["--root", str(root), "run", word, "--dry-run"]) == 0
    return capsys.readouterr().out


def test_a_dry_run_scales_the_recorded_seconds_by_the_rate_of_products(
    recorded, monkeypatch, capsys
):
    root, found = recorded
    monkeypatch.setattr(tiers, "product_rate", lambda: 2e9 * found.gflops)
    out = dry_run(root, capsys)
    assert f"{found.seconds} s when last executed, on {found.place}" in out
    assert f"About {found.seconds / 2:.0f} s here" in out and "an estimate" in out


def test_a_dry_run_does_not_estimate_from_nothing(tmp_path, capsys):
    root = make_book(tmp_path / "book")
    assert "never executed" in dry_run(root, capsys)
    write_execution(root, "01-small", Execution(seconds=12.0, cells=(12.0,)))
    out = dry_run(root, capsys)
    assert "12.0 s when last executed, on a machine that was not recorded" in out
    assert "no estimate" in out and not re.search("[Aa]bout", out)
