"""Store: hashes that never drift, records that are whole or absent, provenance."""

import dataclasses
import enum
import hashlib
import importlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from widthlab import machine
from widthlab.canonical import canonical_json, digest
from widthlab.data import DataSpec
from widthlab.runs import store as store_module
from widthlab.runs.provenance import (
    code_version,
    numeric_modules,
    provenance,
    record_key,
)
from widthlab.runs.store import Store, StoreError, StoreWarning, default_store

KEY = digest("a key")
OTHER = digest("another key")

finite = st.none() | st.booleans() | st.integers() | st.text()
finite |= st.floats(allow_nan=False, allow_infinity=False)
trees = st.recursive(
    finite,
    lambda t: st.lists(t, max_size=4) | st.dictionaries(st.text(), t, max_size=4),
)
payloads = st.dictionaries(
    st.text(),
    st.recursive(
        finite | st.floats(),
        lambda t: st.lists(t, max_size=4) | st.dictionaries(st.text(), t, max_size=4),
    ),
    max_size=4,
)


@pytest.fixture
def records(tmp_path):
    return Store(tmp_path / "records")


def same(a, b) -> bool:
    """Equality to the bit for floats, with NaN equal to NaN and 1 unlike 1.0."""
    return repr(a) == repr(b)


# --- canonical JSON ----------------------------------------------------------------


def test_the_canonical_form_is_pinned():
    value = {
        "z": Fraction(-3, 6),
        "a": (1, 1.0, 1e-7, 0.1, 1e22, -0.0),
        "µ": [None, True, "é\n"],
        "n": Fraction(2),
    }
    text = (
        '{"a":[1,1.0,1e-07,0.1,1e+22,0.0],"n":"2/1","z":"-1/2",'
        '"\\u00b5":[null,true,"\\u00e9\\n"]}'
    )
    assert canonical_json(value) == text
    assert digest(value) == hashlib.sha256(text.encode()).hexdigest()


@given(trees)
def test_canonical_json_is_json_and_a_fixed_point(value):
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()


@given(st.dictionaries(st.text(), finite, min_size=2), st.randoms())
def test_the_order_of_keys_does_not_matter(value, random):
    items = list(value.items())
    random.shuffle(items)
    assert digest(dict(items)) == digest(value)


def test_numpy_scalars_enums_and_nested_specs_are_plain_values():
    class Role(enum.StrEnum):
        HIDDEN = "hidden"

    class Old(str, enum.Enum):  # noqa: UP042
        HIDDEN = "hidden"

    assert canonical_json([Role.HIDDEN, Old.HIDDEN]) == '["hidden","hidden"]'
    assert canonical_json([np.int32(3), np.float32(0.5), np.float64(0.1)]) == (
        "[3,0.5,0.1]"
    )
    spec = DataSpec("digits")
    assert canonical_json({"data": spec}) == canonical_json({"data": spec.to_json()})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_specification_must_be_finite(bad):
    with pytest.raises(ValueError, match=r"spec\.lr\[1\].*finite"):
        canonical_json({"lr": [0.1, bad]})


@pytest.mark.parametrize("bad", [{1: 2}, {"a": {None: 1}}, {"a": object()}, {"a": {1}}])
def test_what_json_cannot_hold_is_refused(bad):
    with pytest.raises(TypeError, match="spec"):
        canonical_json(bad)


def test_the_same_digest_in_processes_with_other_hash_seeds():
    code = (
        "from fractions import Fraction; from widthlab.canonical import digest;"
        "print(digest({'lr': 0.1, 'b': (1, Fraction(1, 2)), 'a': {'y': 1, 'x': 2.5}}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    expected = '{"a":{"x":2.5,"y":1},"b":[1,"1/2"],"lr":0.1}'
    assert found == {hashlib.sha256(expected.encode()).hexdigest()}


def test_spec_data_and_code_all_enter_the_key():
    base = record_key({"lr": 0.1}, "d", "c")
    others = {
        record_key({"lr": 0.2}, "d", "c"),
        record_key({"lr": 0.1}, "e", "c"),
        record_key({"lr": 0.1}, "d", "b"),
        record_key({"lr": 0.1}, "d"),
    }
    assert len(others | {base}) == 5
    assert record_key({"lr": 0.1}, "d") == record_key({"lr": 0.1}, "d", code_version())


# --- records -----------------------------------------------------------------------


@given(payloads)
def test_payloads_come_back_exactly(tmp_path_factory, payload):
    records = Store(tmp_path_factory.getbasetemp() / "round-trip")
    records.put(KEY, payload)
    found = records.get(KEY)
    assert same(dict(sorted(found.items())), dict(sorted(_sorted(payload).items())))


def _sorted(tree):
    if isinstance(tree, dict):
        return {k: _sorted(tree[k]) for k in sorted(tree)}
    return [_sorted(v) for v in tree] if isinstance(tree, list) else tree


def test_divergence_survives_the_round_trip(records):
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
    records.put(KEY, {"value": values})
    assert same(records.get(KEY)["value"], values)


def test_records_appear_are_listed_and_are_replaced(records, tmp_path):
    assert KEY not in records
    assert records.keys() == []
    with pytest.raises(KeyError, match=KEY):
        records.get(KEY)
    path = records.put(KEY, {"v": (1, Fraction(1, 3))})
    assert path == tmp_path / "records" / KEY[:2] / f"{KEY}.json"
    assert KEY in records and OTHER not in records
    assert records.get(KEY) == {"v": [1, "1/3"]}
    records.put(KEY, {"v": 2})
    records.put(OTHER, {"v": 3})
    assert records.keys() == sorted([KEY, OTHER])
    assert dict(records.items()) == {KEY: {"v": 2}, OTHER: {"v": 3}}
    assert dict(pickle.loads(pickle.dumps(records)).items()) == dict(records.items())


@pytest.mark.parametrize("key", ["", "abc", "../" * 21 + "x", KEY.upper(), KEY + "\n"])
def test_a_key_is_a_sha256(records, key):
    for use in (records.get, records.__contains__, lambda k: records.put(k, {})):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            use(key)


def test_a_payload_that_cannot_be_stored_leaves_nothing(records):
    with pytest.raises(TypeError, match=r"payload\.a\[0\]"):
        records.put(KEY, {"a": [object()]})
    assert not records.path.exists()


def damage(text: str, how: str) -> bytes:
    return {
        "empty": b"",
        "half": text[: len(text) // 2].encode(),
        "last byte": text.rstrip("\n")[:-1].encode(),
        "edited": text.replace("0.5", "0.6").encode(),
        "added": text.replace('"loss"', '"x":1,"loss"').encode(),
        "not text": b"\xff\xfe\x00" * 20,
        "list": b"[]",
        "old format": text.replace('"format":1', '"format":0').encode(),
        "other key": text.replace(KEY, OTHER).encode(),
        "no payload": b'{"format":1,"key":"%s"}' % KEY.encode(),
        "payload not a dict": text.replace(
            text[text.index('"sha256"') :],
            f'"sha256":"{hashlib.sha256(b"[]").hexdigest()}","payload":[]}}',
        ).encode(),
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "half",
        "last byte",
        "edited",
        "added",
        "not text",
        "list",
        "old format",
        "other key",
        "no payload",
        "payload not a dict",
    ],
)
def test_a_damaged_record_is_missing_and_put_aside_with_a_warning(records, how):
    path = records.put(KEY, {"loss": [0.5]})
    records.put(OTHER, {"loss": [1.0]})
    bad = damage(path.read_text(), how)
    assert bad != path.read_bytes()
    path.write_bytes(bad)
    with pytest.warns(StoreWarning, match=f"{KEY}.json"):
        assert records.keys() == [OTHER]
    assert KEY not in records
    assert path.with_suffix(".corrupt").read_bytes() == bad
    records.put(KEY, {"loss": [2.0]})
    assert records.get(KEY) == {"loss": [2.0]}


def test_a_damaged_record_in_a_read_only_store_is_still_only_missing(
    records, monkeypatch
):
    path = records.put(KEY, {"loss": [0.5]})
    path.write_text("{")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.warns(StoreWarning, match="left in place"):
        assert KEY not in records


def refuse(*_args, **_kwargs):
    raise PermissionError(13, "Permission denied")


def test_a_store_that_cannot_be_written_names_the_folder_and_the_variable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    blocked = Store(tmp_path / "file" / "records")
    with pytest.raises(StoreError) as caught:
        blocked.put(KEY, {})
    assert str(blocked.path) in str(caught.value)
    assert "WIDTHLAB_STORE" in str(caught.value)
    assert KEY not in blocked and blocked.keys() == []


def test_a_read_only_store_can_be_read(records, monkeypatch):
    records.put(KEY, {"v": 1})
    for call in ("mkdir", "open", "unlink", "write_text"):
        monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(StoreError, match="WIDTHLAB_STORE"):
        records.put(OTHER, {})
    monkeypatch.undo()
    assert records.keys() == [KEY]


def test_a_failed_write_leaves_the_old_record_and_no_temporary(records, monkeypatch):
    path = records.put(KEY, {"v": 1})
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match="Permission denied"):
        records.put(KEY, {"v": 2})
    assert records.get(KEY) == {"v": 1}
    assert list(path.parent.iterdir()) == [path]


def test_the_default_store_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("WIDTHLAB_STORE", str(tmp_path / "mine"))
    assert default_store().path == tmp_path / "mine"
    monkeypatch.setenv("WIDTHLAB_STORE", "")
    assert default_store().path.parts[-2:] == ("widthlab", "records")


# --- killed and concurrent writers -------------------------------------------------

# Every write pauses half-way, so that kills and readers do fall into the middle of one;
# with a third argument the process kills itself there, at that record.
WRITER = """
import itertools, os, pathlib, signal, sys, time
from widthlab.runs.store import Store
from widthlab.canonical import digest

folder, name, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
count = itertools.count()
open_plainly = pathlib.Path.open

def open_slowly(self, mode="r", *args, **kwargs):
    stream = open_plainly(self, mode, *args, **kwargs)
    write = stream.write
    def write_in_two(text):
        write(text[: len(text) // 2])
        stream.flush()
        if next(count) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.005)
        write(text[len(text) // 2 :])
    if "r" not in mode:
        stream.write = write_in_two
    return stream

pathlib.Path.open = open_slowly
store = Store(folder)
for i in itertools.count():
    key = digest({"i": i % 20})
    store.put(key, {"i": i % 20, "writer": name, "table": [i % 20 / 7] * 5_000})
    print(i, flush=True)
"""


@pytest.fixture
def writer(records):
    """Start processes that write to the store; none outlives the test."""
    processes = []

    def start(name, last=-1):
        command = [sys.executable, "-c", WRITER, str(records.path), name, str(last)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        end(process)


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def read_lines(process, count):
    for _ in range(count):
        assert process.stdout.readline(), "the writer ended by itself"


def check_all(records):
    """Every record on disk must load, and hold what its writers wrote."""
    files = len(list(records.path.glob("*/*.json")))
    found = dict(records.items())
    for key, payload in found.items():
        assert key == digest({"i": payload["i"]})
        assert payload["table"] == [payload["i"] / 7] * 5_000
    assert len(found) >= files  # more only if somebody is writing
    assert not list(records.path.glob("*/*.corrupt"))
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_writer_leaves_only_whole_records(records, writer):
    process = writer("w", last=8)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert len(check_all(records)) == 8, "the ninth was half-written"
    assert len(list(records.path.glob("*/.*.tmp"))) == 1, "its temporary stays"
    # Over existing records, and from outside at moments of chance.
    rng = np.random.default_rng(0)
    for _ in range(3):
        process = writer("w")
        read_lines(process, 22)
        time.sleep(float(rng.uniform(0, 0.01)))
        end(process)
        assert len(check_all(records)) == 20
    # Whether or not a kill hit between open and rename, leave one such file for sure.
    stray = records.path / KEY[:2] / f".{KEY}~{store_module.host()}~{process.pid}~0.tmp"
    stray.parent.mkdir(exist_ok=True)
    stray.write_text('{"half')
    before = check_all(records)
    assert KEY not in records and KEY not in before
    Store(records.path).put(KEY, {"i": 0})
    assert not list(records.path.glob("*/.*.tmp"))


def test_two_writers_of_the_same_keys_do_not_disturb_each_other(records, writer):
    processes = [writer(name) for name in "ab"]
    for _ in range(25):
        for process in processes:
            read_lines(process, 1)
        check_all(records)  # a reader among the writers sees whole records only
    for process in processes:
        end(process)
    found = check_all(records)
    assert len(found) == 20
    records.sweep_temporaries()
    assert not list(records.path.glob("*/.*.tmp"))


def test_sweeping_spares_writers_at_work_and_other_hosts_until_they_are_old(records):
    path = records.put(KEY, {})
    host = store_module.host()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    alive = path.with_name(f".{KEY}~{host}~{os.getpid()}~0.tmp")
    dead = path.with_name(f".{KEY}~{host}~{ended.pid}~0.tmp")
    away = path.with_name(f".{KEY}~not-{host}~{ended.pid}~0.tmp")
    old = path.with_name(f".{KEY}~not-{host}~{ended.pid}~1.tmp")
    for file in (alive, dead, away, old):
        file.write_text("{")
    os.utime(old, (0, time.time() - 2 * store_module._STALE_S))
    assert sorted(records.sweep_temporaries()) == sorted([dead, old])
    assert alive.exists() and away.exists()
    assert records.keys() == [KEY]


# --- code version and provenance ---------------------------------------------------


def test_the_code_version_sees_code_and_not_line_endings(tmp_path):
    versions = []
    for i, text in enumerate((b"a = 1\nb = 2\n", b"a = 1\r\nb = 2\r\n", b"a = 2\n")):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "module.py").write_bytes(text)
        versions.append(code_version([folder / "module.py"]))
    assert versions[0] == versions[1] != versions[2]
    (tmp_path / "0" / "renamed.py").write_bytes(b"a = 1\nb = 2\n")
    assert code_version([tmp_path / "0" / "renamed.py"]) != versions[0]


def test_drawing_and_judging_are_no_part_of_the_code_version():
    root = Path(machine.__file__).parent
    names = {file.relative_to(root).as_posix() for file in numeric_modules()}
    assert {"data/pipeline.py", "data/spec.py", "model.py"} <= names
    for prefix in ("plots", "claims", "machine", "files", "runs/store"):
        assert not any(name.startswith(prefix) for name in names)


def test_the_code_version_is_the_same_in_another_process_and_folder(tmp_path):
    code = "from widthlab.runs.provenance import code_version; print(code_version())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.strip() == code_version()


def test_provenance_names_versions_device_and_time_and_can_be_stored(records):
    import jax

    found = provenance()
    assert found["jax"] == jax.__version__ and found["numpy"] == np.__version__
    assert found["device"] == jax.devices()[0].device_kind
    assert found["python"].split(".")[:2] == [str(v) for v in sys.version_info[:2]]
    assert found["created"].endswith("+00:00")
    assert found["code"] == code_version()
    assert all(found[name] for name in ("widthlab", "jaxlib", "flax", "optax"))
    records.put(KEY, found)
    assert records.get(KEY) == found


def test_the_commit_is_that_of_the_checkout_or_none(monkeypatch, tmp_path):
    machine.commit.cache_clear()
    package = Path(machine.__file__).parent
    found = machine.commit(package)
    if (package.parents[1] / ".git").exists():
        assert found is not None and len(found) == 40
    # A copy inside somebody else's checkout must not claim that one's commit.
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert machine.commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    machine.commit.cache_clear()
    assert machine.commit(package) is None
    machine.commit.cache_clear()


def test_a_store_is_a_plain_value():
    assert Store(Path("/a")) == Store(Path("/a"))
    assert [f.name for f in dataclasses.fields(Store) if f.init] == ["path"]


def test_where_nothing_can_be_written_nothing_is_trained(tmp_path, monkeypatch):
    """The store is asked before the first cell, and only if there is one."""
    from test_experiment import spec

    sweeps = importlib.import_module("widthlab.runs.sweep")
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "records")
    ran = []
    monkeypatch.setattr(sweeps, "finish", lambda *specs, **_: ran.append(specs))
    with pytest.raises(StoreError, match="WIDTHLAB_STORE"):
        sweeps.sweep([spec()], store)
    assert ran == []


def test_asking_leaves_nothing_behind(tmp_path):
    store = Store(tmp_path / "records")
    store.check_writable()
    assert list(store.path.iterdir()) == []
