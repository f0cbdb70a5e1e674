"""The archive of the paper tier: what it keeps, what it refuses, how it goes on."""

import contextlib
import dataclasses
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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


RESULTS = Path(__file__).parents[1] / "results"
SPECS = [spec(seed=seed) for seed in range(5)]


def copies(trained, specs=SPECS):
    return [dataclasses.replace(trained, spec=one) for one in specs]


def stamps(archive):
    files = (path for path in archive.path.iterdir() if path.name[0] != ".")
    return {path.name: path.stat().st_mtime_ns for path in files}


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


@pytest.mark.parametrize("moment", range(8))
@pytest.mark.parametrize("change", ["more", "other rows", "other columns"])
def test_a_writer_killed_at_any_moment_leaves_old_or_new(
    archive, trained, monkeypatch, change, moment
):
    """Also where runs are replaced, and where a column moves out of the table."""
    old, new = copies(trained, SPECS[:3]), copies(trained, SPECS[2:4])
    if change == "more":
        new = new[1:]
    if change == "other rows":
        rows = trained.columns | {"value": [2 * v for v in trained.columns["value"]]}
        new = [dataclasses.replace(one, columns=rows) for one in new]
    if change == "other columns":
        rows = trained.columns | {"layer": ["a", *trained.columns["layer"][1:]]}
        new = [dataclasses.replace(one, columns=rows) for one in new]
    archive.add(*old)
    left = [moment]  # writes and removals until it is killed

    def killed_in(function):
        def instead(*arguments, **options):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return function(*arguments, **options)

        return instead

    with monkeypatch.context() as patch:
        patch.setattr(module, "write", killed_in(module.write))
        patch.setattr(Path, "unlink", killed_in(Path.unlink))
        with contextlib.suppress(KeyboardInterrupt):
            archive.add(*new)
    reads = {one.spec: dict(one.columns) for one in Archive(archive.path).records()}
    by_spec = [
        {r.spec: dict(module._rounded(r).columns) for r in rs} for rs in (old, new)
    ]
    assert reads in (by_spec[0], by_spec[0] | by_spec[1])
    # And the next writer goes on from there.
    archive.add(*new)
    assert set(stamps(archive)) == {MEASUREMENTS, SIDECAR}
    reads = {one.spec: dict(one.columns) for one in archive.records()}
    assert reads == by_spec[0] | by_spec[1]
    fresh = Archive(archive.path.parent / "fresh")
    fresh.add(*archive.records())
    for name in (MEASUREMENTS, SIDECAR):
        assert (fresh.path / name).read_bytes() == (archive.path / name).read_bytes()


def test_two_writers_lose_nothing(archive, trained):
    many = [spec(seed=seed) for seed in range(16)]
    start = threading.Barrier(4)

    def write(share):
        start.wait()
        for one in copies(trained, share):
            Archive(archive.path).add(one)
            assert one.spec in Archive(archive.path).find([one.spec])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [many[i::4] for i in range(4)]))
    assert set(archive.find(many)) == set(many)


def test_where_nothing_can_be_written_nothing_is_run(tmp_path, ran):
    (tmp_path / "results").write_text("a file")
    archive = Archive(tmp_path / "results" / "chapter")
    with pytest.raises(ArchiveError, match=r"cannot write into .*chapter"):
        archive.run(SPECS)
    assert ran == []
    with pytest.raises(ArchiveError, match="cannot write into"):
        archive.add()


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


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["spec"].update(seed=7),
        lambda facts: facts["spec"].update(lr=0.25),
        lambda facts: facts["provenance"].update(device="another"),
        lambda facts: facts["provenance"].update(more=1),
        lambda facts: facts["provenance"].pop("commit"),
        lambda facts: facts.update(diverged_at=3),
        lambda facts: facts.update(stopped_at=3),
        lambda facts: facts.update(kind="flows"),
        lambda facts: facts.update(arrays={"a": {}}),
        lambda facts: facts.update(later="a field that there is not yet"),
        lambda facts: facts.update(whole="0"),
    ],
)
def test_whatever_is_changed_by_hand_is_noticed(archive, trained, change):
    archive.add(*copies(trained, SPECS[:2]))
    file = archive.path / SIDECAR
    sidecar = json.loads(file.read_text())
    change(sidecar["runs"][name_of(SPECS[1])])
    file.write_text(json.dumps(sidecar))
    with pytest.raises(ArchiveError):
        archive.records()


def test_records_without_a_checksum_of_all_are_read(archive, trained):
    """As those that were written before there was one; not with another seed."""
    archive.add(*copies(trained, SPECS[:2]))
    file = archive.path / SIDECAR
    sidecar = json.loads(file.read_text())
    for facts in sidecar["runs"].values():
        del facts["whole"]
    file.write_text(json.dumps(sidecar))
    assert set(archive.find(SPECS)) == set(SPECS[:2])
    sidecar["runs"][name_of(SPECS[1])]["spec"]["seed"] = 7
    file.write_text(json.dumps(sidecar))
    with pytest.raises(ArchiveError, match="is not the one it is of"):
        archive.records()


def test_the_book_s_own_records_are_read():
    folders = [file.parent for file in RESULTS.glob(f"*/{SIDECAR}")]
    assert folders and all(Archive(folder).records() for folder in folders)


def test_fields_added_later_are_covered_and_read(archive, trained):
    archive.add(*copies(trained, SPECS[:2]))
    file = archive.path / SIDECAR
    sidecar = json.loads(file.read_text())
    for facts in sidecar["runs"].values():
        facts["later"] = "a field of a later version"
        facts["whole"] = module._whole(facts)
    file.write_text(json.dumps(sidecar))
    assert set(archive.find(SPECS)) == set(SPECS[:2])


def test_a_record_of_an_unknown_field_is_named(archive, trained):
    archive.add(trained)
    file = archive.path / SIDECAR
    ((_, facts),) = json.loads(file.read_text())["runs"].items()
    facts["spec"]["wdith"] = 3  # as a later version may write it
    facts["whole"] = module._whole(facts)
    runs = {module.digest(facts["spec"])[:16]: facts}
    table = archive.path / MEASUREMENTS
    pd.read_parquet(table).assign(run=next(iter(runs))).to_parquet(table, index=False)
    file.write_text(json.dumps({"format": 1, "runs": runs}))
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
