"""The archive of the paper tier: what it keeps, what it refuses, how it goes on."""

import dataclasses
import gzip
import json
import math

import numpy as np
import pytest
from test_experiment import spec
from widthlab import archive as module
from widthlab.archive import Archive
from widthlab.book import commands
from widthlab.book.chapters import BookError
from widthlab.records import Record
from widthlab.setups import hajjar2024training
from widthlab.store import Store
from widthlab.sweeps import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One record, of a network trained in earnest."""
    return run(spec(), Store(tmp_path_factory.mktemp("store")))


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "results" / "key")


@pytest.fixture
def batches(monkeypatch, trained):
    """Seeds of the runs, batch by batch; all leave the numbers of the one record."""
    seen = []

    def instead(specs, store):
        seen.append([one.seed for one in specs])
        return [dataclasses.replace(trained, experiment=one) for one in specs]

    monkeypatch.setattr(module, "sweep", instead)
    monkeypatch.setattr("widthlab.training.use_all_cores", lambda: 2)
    return seen


SPECS = [spec(seed=seed) for seed in range(5)]


# --- what is kept ------------------------------------------------------------


def test_a_record_comes_back_with_eight_digits(archive, trained):
    file = archive.add(trained)
    assert file.parent == archive.path and len(file.name) == len("0" * 16 + ".json.gz")
    (found,) = archive.records().values()
    assert list(archive.records()) == [trained.experiment] == [found.experiment]
    for name in ("step", "layer", "quantity"):
        assert found.columns[name] == trained.columns[name]
    values = found.columns["value"], trained.columns["value"]
    np.testing.assert_allclose(*values, rtol=5e-8)
    # They are float32: nothing is lost.
    np.testing.assert_array_equal(*(np.float32(v) for v in values))
    for name in ("diverged_at", "stopped_at", "provenance"):
        assert getattr(found, name) == getattr(trained, name)
    assert [p.name for p in archive.path.iterdir()] == [file.name]


def test_adding_leaves_the_record_as_it_was(archive, trained):
    before = list(trained.columns["value"])
    archive.add(trained)
    assert trained.columns["value"] == before


def test_what_is_not_a_number_is_kept(archive, trained):
    values = [math.nan, math.inf, -math.inf, 1 / 3, 0.0]
    columns = {"step": [0] * 5, "layer": [0] * 5, "quantity": ["q"] * 5}
    odd = dataclasses.replace(
        trained, columns=columns | {"value": values}, diverged_at=1
    )
    archive.add(odd)
    (found,) = archive.records().values()
    np.testing.assert_array_equal(found.columns["value"][:3], values[:3])
    assert found.columns["value"][3:] == [0.33333333, 0.0] and found.diverged_at == 1


def test_equal_records_are_equal_files(archive, trained, tmp_path, monkeypatch):
    first = archive.add(trained)
    monkeypatch.setattr("time.time", lambda: 1e9)
    monkeypatch.setattr("os.getpid", lambda: 7)
    other = Archive(tmp_path / "other").add(Record.from_json(trained.to_json()))
    assert first.name == other.name and first.read_bytes() == other.read_bytes()
    # Also when it has been read back, and when it is written over.
    archive.add(*archive.records().values())
    assert first.read_bytes() == other.read_bytes()
    assert archive.add(dataclasses.replace(trained, experiment=spec(lr=0.1))) != first


def test_those_that_are_there_are_selected_in_the_order_asked_for(archive, trained):
    assert archive.records() == {} and archive.select(SPECS) == []
    for one in SPECS[:3]:
        archive.add(dataclasses.replace(trained, experiment=one))
    wanted = [SPECS[2], SPECS[4], SPECS[0]]
    found = [record.experiment for record in archive.select(wanted)]
    assert found == [SPECS[2], SPECS[0]]


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: b"version https://git-lfs.github.com/spec/v1\n",
        lambda raw: gzip.compress(raw),
        lambda raw: gzip.compress(b"{"),
        lambda raw: gzip.compress(b"[]"),
        lambda raw: gzip.compress(b"{}"),
        lambda raw: gzip.compress(b'{"experiment": []}'),
    ],
)
def test_a_damaged_file_is_named(archive, trained, damage):
    archive.add(dataclasses.replace(trained, experiment=spec(seed=9)))
    file = archive.add(trained)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"is not a stored record") as caught:
        archive.records()
    assert str(file) in str(caught.value)
    assert "restore it from version control" in str(caught.value)


def test_any_changed_byte_is_noticed(archive, trained):
    """Those of the header aside, which says nothing about the content."""
    file = archive.add(trained)
    raw = file.read_bytes()
    for place in {*range(10, len(raw), 29), *range(len(raw) - 8, len(raw))}:
        changed = bytearray(raw)
        changed[place] ^= 0xFF
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=f"{file.name} is not a stored record"):
            archive.records()


def test_a_record_of_an_unknown_field_is_named(archive, trained):
    file = archive.add(trained)
    payload = json.loads(gzip.decompress(file.read_bytes()))
    payload["experiment"]["wdith"] = 3
    file.write_bytes(gzip.compress(json.dumps(payload).encode()))
    with pytest.raises(ValueError, match=f"{file.name} is not a stored record.*wdith"):
        archive.records()


# --- what is run ------------------------------------------------------------


def test_only_what_is_missing_is_run(archive, batches):
    told = []
    assert archive.run(SPECS[1:3], done=lambda *counts: told.append(counts)) == 2
    assert batches == [[1, 2]] and told == [(2, 2)]
    wanted = [*SPECS, SPECS[0]]  # a duplicate is run once
    assert archive.run(wanted, done=lambda *counts: told.append(counts)) == 3
    assert batches[1:] == [[0, 3], [4]] and told[1:] == [(4, 5), (5, 5)]
    assert set(archive.records()) == set(SPECS)
    files = {p: p.stat().st_mtime_ns for p in archive.path.iterdir()}
    assert archive.run(wanted) == 0 and len(batches) == 3
    assert files == {p: p.stat().st_mtime_ns for p in archive.path.iterdir()}


def test_no_time_is_no_runs(archive, batches):
    assert archive.run(SPECS, minutes=0) == 0
    assert batches == [] and archive.records() == {}


def test_no_run_begins_after_the_time(archive, batches, monkeypatch):
    clock = iter([0.0, 30.0, 59.0, 61.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert archive.run(SPECS, minutes=1) == 4
    assert batches == [[0, 1], [2, 3]]


def test_what_was_finished_before_an_error_stays(archive, batches, monkeypatch):
    original = module.sweep

    def fail(specs, store):
        if specs[0].seed == 2:
            raise RuntimeError("killed")
        return original(specs, store)

    with monkeypatch.context() as patch:
        patch.setattr(module, "sweep", fail)
        with pytest.raises(RuntimeError, match="killed"):
            archive.run(SPECS)
    assert set(archive.records()) == set(SPECS[:2])
    assert archive.run(SPECS) == 3
    assert batches == [[0, 1], [2, 3], [4]]


def test_batches_share_a_program_and_the_most_important_comes_first(archive, batches):
    deep = [spec(seed=seed, depth=3) for seed in (10, 11, 12)]
    assert archive.run([SPECS[0], deep[0], SPECS[1], SPECS[2], *deep[1:]]) == 6
    assert batches == [[0, 1], [10, 11], [2], [12]]


# --- the command ------------------------------------------------------------


def test_the_paper_command_runs_what_is_missing(tmp_path, monkeypatch, capsys):
    tier = [spec(seed=seed) for seed in (0, 1)]
    monkeypatch.setattr(hajjar2024training, "paper_tier", lambda: iter(tier))
    commands.paper(tmp_path, "hajjar2024training")
    out = capsys.readouterr().out
    assert "2 of 2 runs" in out and "2 run(s) added" in out
    folder = tmp_path / "results" / "hajjar2024training"
    assert set(Archive(folder).records()) == set(tier)
    for minutes in (math.inf, 0):
        commands.paper(tmp_path, "hajjar2024training", minutes)
        assert capsys.readouterr().out == f"0 run(s) added to {folder}\n"


def test_an_unknown_paper_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(BookError, match=r"is called 'hajjar'; .*hajjar2024"):
        commands.paper(tmp_path, "hajjar")
    assert list(tmp_path.iterdir()) == []
