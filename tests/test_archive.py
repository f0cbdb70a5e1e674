"""The archive of the paper tier: what it keeps, what it refuses, how it goes on."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from test_experiment import spec
from widthlab.runs import archive as module
from widthlab.runs.archive import MEASUREMENTS, SIDECAR, Archive, ArchiveError, name_of
from widthlab.runs.record import Record
from widthlab.runs.store import Store
from widthlab.runs.sweep import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One record, of a network trained in earnest."""
    return run(spec(), Store(tmp_path_factory.mktemp("store")))


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "results" / "chapter")


@pytest.fixture
def ran(monkeypatch, trained):
    """Seeds of the runs, cell by cell; all leave the numbers of the one record."""
    seen = []

    def instead(specs, *, together, **_):
        for start in range(0, len(specs), together):
            cell = specs[start : start + together]
            seen.append([one.seed for one in cell])
            yield [dataclasses.replace(trained, spec=one) for one in cell]

    monkeypatch.setattr(module, "finish", instead)
    monkeypatch.setattr(module, "runs_in_a_cell", lambda *_, **__: 2)
    return seen


SPECS = [spec(seed=seed) for seed in range(5)]


def copies(trained, specs=SPECS):
    return [dataclasses.replace(trained, spec=one) for one in specs]


def stamps(archive):
    return {path.name: path.stat().st_mtime_ns for path in archive.path.iterdir()}


# --- what is kept ------------------------------------------------------------


def test_a_record_comes_back_with_eight_digits(archive, trained):
    archive.add(trained)
    assert set(stamps(archive)) == {MEASUREMENTS, SIDECAR}
    (found,) = archive.records()
    assert list(archive.find([trained.spec])) == [trained.spec] == [found.spec]
    for name in ("step", "layer", "quantity"):
        assert found.columns[name] == trained.columns[name]
    values = found.columns["value"], trained.columns["value"]
    np.testing.assert_allclose(*values, rtol=5e-8)
    # They are float32: nothing is lost.
    np.testing.assert_array_equal(*(np.float32(v) for v in values))
    for name in ("diverged_at", "stopped_at", "provenance"):
        assert getattr(found, name) == getattr(trained, name)


def test_what_is_not_a_number_is_kept(archive, trained):
    values = [math.nan, math.inf, -math.inf, 1 / 3, 0.0]
    columns = {"step": [0] * 5, "layer": [0] * 5, "quantity": ["q"] * 5}
    odd = dataclasses.replace(
        trained, columns=columns | {"value": values}, diverged_at=1
    )
    archive.add(odd)
    (found,) = archive.records()
    np.testing.assert_array_equal(found.columns["value"][:3], values[:3])
    assert found.columns["value"][3:] == [0.33333333, 0.0] and found.diverged_at == 1


def test_the_table_is_for_anyone(archive, trained):
    """Tidy columns that any reader of Parquet opens, named as in the sidecar."""
    archive.add(*copies(trained))
    table = pd.read_parquet(archive.path / MEASUREMENTS)
    assert list(table.columns) == ["run", "step", "layer", "quantity", "value"]
    sidecar = json.loads((archive.path / SIDECAR).read_text())
    assert set(table["run"]) == set(sidecar["runs"]) == {name_of(one) for one in SPECS}
    one = sidecar["runs"][name_of(SPECS[3])]
    assert one["spec"] == SPECS[3].to_json()
    assert one["provenance"]["precision"] == "float32"
    assert {"data_sha256", "wall_s", "commit", "jax", "device"} <= set(
        one["provenance"]
    )


def test_equal_records_are_equal_files(archive, trained, tmp_path):
    def contents(archive):
        return [(archive.path / name).read_bytes() for name in (MEASUREMENTS, SIDECAR)]

    archive.add(*copies(trained))
    other = Archive(tmp_path / "other")
    for record in reversed(copies(trained)):  # one by one, in another order
        other.add(Record.from_json(record.to_json(), record.spec))
    first = contents(archive)
    assert contents(other) == first
    # Also when they have been read back, and when they are written over.
    archive.add(*archive.records())
    assert contents(archive) == first


def test_those_that_are_there_are_selected_in_the_order_asked_for(archive, trained):
    assert archive.records() == [] and archive.select(SPECS) == []
    archive.add(*copies(trained, SPECS[:3]))
    wanted = [SPECS[2], SPECS[4], SPECS[0]]
    found = [record.spec for record in archive.select(wanted)]
    assert found == [SPECS[2], SPECS[0]]


def test_a_writer_killed_between_both_files_leaves_what_there_was(
    archive, trained, monkeypatch
):
    archive.add(*copies(trained, SPECS[:2]))
    original = module.write

    def die(path, content):
        if path.name == SIDECAR:
            raise KeyboardInterrupt
        original(path, content)

    monkeypatch.setattr(module, "write", die)
    with pytest.raises(KeyboardInterrupt):
        archive.add(*copies(trained, SPECS[2:3]))
    assert set(archive.find(SPECS)) == set(SPECS[:2])


# --- what is refused ------------------------------------------------------------


@pytest.mark.parametrize("name", [MEASUREMENTS, SIDECAR])
@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: b"version https://git-lfs.github.com/spec/v1\n",
        lambda raw: b"[]",
        lambda raw: b'{"format": 2, "runs": {}}',
    ],
)
def test_a_damaged_file_is_named(archive, trained, name, damage):
    archive.add(*copies(trained))
    file = archive.path / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ArchiveError, match="from version control"):
        archive.records()


def test_a_missing_table_is_an_error(archive, trained):
    archive.add(trained)
    (archive.path / MEASUREMENTS).unlink()
    with pytest.raises(ArchiveError, match=r"runs\.parquet"):
        archive.records()


def test_changed_values_are_noticed(archive, trained):
    archive.add(*copies(trained))
    table = pd.read_parquet(archive.path / MEASUREMENTS)
    table.loc[len(table) // 2, "value"] *= 1.001
    table.to_parquet(archive.path / MEASUREMENTS, index=False)
    with pytest.raises(ArchiveError, match="are not those that were written"):
        archive.records()


def test_a_record_of_an_unknown_field_is_named(archive, trained):
    archive.add(trained)
    file = archive.path / SIDECAR
    file.write_text(file.read_text().replace('"width"', '"wdith": 3, "width"'))
    with pytest.raises(ArchiveError, match="wdith"):
        archive.records()


# --- what is run ------------------------------------------------------------


def test_only_what_is_missing_is_run(archive, ran):
    told = []
    assert archive.run(SPECS[1:3], done=lambda *counts: told.append(counts)) == 2
    assert ran == [[1, 2]] and told == [(2, 2)]
    wanted = [*SPECS, SPECS[0]]  # a duplicate is run once
    assert archive.run(wanted, done=lambda *counts: told.append(counts)) == 3
    assert ran[1:] == [[0, 3], [4]] and told[1:] == [(4, 5), (5, 5)]
    assert set(archive.find(SPECS)) == set(SPECS)
    before = stamps(archive)
    assert archive.run(wanted) == 0 and len(ran) == 3
    assert stamps(archive) == before


def test_no_time_is_no_runs(archive):
    assert archive.run(SPECS, minutes=-1) == 0
    assert archive.records() == []


def test_what_was_finished_before_an_error_stays(archive, ran, monkeypatch):
    original = module.finish

    def fail(specs, **options):
        yield next(original(specs, **options))
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(module, "finish", fail)
        with pytest.raises(RuntimeError, match="killed"):
            archive.run(SPECS)
    assert set(archive.find(SPECS)) == set(SPECS[:2])
    assert archive.run(SPECS) == 3


def test_runs_in_earnest_the_most_important_first(archive):
    """From the specification to the files, cells of a program in order."""
    order = []
    wanted = [spec(seed=7), spec(seed=7, depth=3), spec(seed=8)]

    def done(finished, total):
        order.append((finished, total, len(archive.records())))

    assert archive.run(wanted, together=1, done=done) == 3
    assert order == [(1, 3, 1), (2, 3, 2), (3, 3, 3)]
    (alone,) = archive.select(wanted[:1])
    again = run(wanted[0])
    np.testing.assert_allclose(
        alone.columns["value"], again.columns["value"], rtol=5e-8
    )
