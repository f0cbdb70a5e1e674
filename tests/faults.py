"""Faults while records are written: what is injected, and what is left afterwards.

    python tests/faults.py FOLDER

Every call by which a writer reaches the disk is counted: folders, locks, files opened,
written, flushed, synced, closed, renamed and removed. For each of them a forked writer
runs until that call and then is killed in it (half of a write is on the disk, nothing
is cleaned up), or the disk is full from there on, or turns read-only, or fails once.
Then the folder is read as anybody would read it. Prints counts as JSON.
"""

import contextlib
import errno
import io
import json
import os
import shutil
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from unittest import mock

from widthlab.canonical import digest
from widthlab.runs.archive import MEASUREMENTS, SIDECAR, Archive, ArchiveError
from widthlab.runs.record import Record
from widthlab.runs.spec import Described
from widthlab.runs.store import Store, StoreError

KILLED, REFUSED, WRONG = 9, 7, 8
FAULTS = {
    "killed": None,
    "disk full": (errno.ENOSPC, True),
    "read-only": (errno.EROFS, True),
    "one error": (errno.EIO, False),
}
FREES = ("remove", "close")  # what a full disk does not refuse


class Faults:
    """The fault of one writer: which, and in which of its calls."""

    def __init__(self, fault, call):
        self.fault, self.left = fault, call

    def call(self, name, half=None):
        """Pass a call, or let it fail."""
        self.left -= 1
        if self.left >= 0:
            return
        if self.fault == "killed":
            if half is not None:
                half()
            os._exit(KILLED)
        code, lasting = FAULTS[self.fault]
        if self.left == -1 or lasting:
            if self.fault != "disk full" or name not in FREES:
                raise OSError(code, os.strerror(code))

    def wrapped(self, name, function):
        def instead(*args, **options):
            self.call(name)
            return function(*args, **options)

        return instead

    def opened(self, original):
        def instead(path, mode="r", *args, **options):
            if mode[0] == "r":
                return original(path, mode, *args, **options)
            self.call("open")
            return Stream(original(path, mode, *args, **options), self)

        return instead

    @contextlib.contextmanager
    def everywhere(self):
        functions = [
            *((os, "replace", "rename"), (os, "fsync", "sync")),
            *((os, "open", "lock"), (os, "mkdir", "mkdir")),
            *((os, "unlink", "remove"), (Path, "touch", "open")),
        ]
        with contextlib.ExitStack() as stack:
            for home, name, called in functions:
                instead = self.wrapped(called, getattr(home, name))
                stack.enter_context(mock.patch.object(home, name, instead))
            stack.enter_context(mock.patch.object(io, "open", self.opened(io.open)))
            yield


class Stream:
    """A file whose calls are counted, and whose writes can be cut in half."""

    def __init__(self, stream, faults):
        self.stream, self.faults = stream, faults

    def write(self, content):
        def half():
            self.stream.write(content[: len(content) // 2])
            self.stream.flush()

        self.faults.call("write", half)
        return self.stream.write(content)

    def flush(self):
        self.faults.call("flush")
        self.stream.flush()

    def fileno(self):
        return self.stream.fileno()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.faults.call("close")


# --- who writes, and what may be found ------------------------------------------------


class OfStore:
    """Two records are there; one of them is written anew and a third is added."""

    error, named = StoreError, "WIDTHLAB_STORE"
    old = {digest("a"): {"v": [1.0] * 99}, digest("b"): {"v": [2.0] * 99}}
    new = {digest("a"): {"v": [3.0] * 99}, digest("c"): {"v": [4.0] * 99}}

    def __init__(self, folder):
        self.folder = folder

    def write(self, records):
        store = Store(self.folder)
        store.check_writable()
        for key, payload in records.items():
            store.put(key, payload)

    def read(self):
        return dict(Store(self.folder).items())

    def is_whole(self, found):
        """Every record is the old one or the new one, and none is lost."""
        both = [(self.old.get(k), self.new.get(k)) for k in {*self.old, *self.new}]
        seen = [found.get(k) for k in {*self.old, *self.new}]
        return all(one in pair for one, pair in zip(seen, both, strict=True))

    def left_over(self):
        return [p for p in self.folder.rglob("*") if p.suffix in (".tmp", ".corrupt")]


class Careless(OfStore):
    """The control: records are written where they will be read."""

    def write(self, records):
        for key, payload in records.items():
            there = Store(self.folder)
            path = there.put(key, payload)  # first as it should be
            content = path.read_bytes()
            with path.open("wb") as stream:
                stream.write(content)


def record(name, value):
    spec = Described("computations", {"fields": {"name": name}})
    columns = {"step": [0, 1], "value": [value, value / 3]}
    return Record(spec, columns, None, None, {"device": "a"})


def by_name(*records):
    return {r.spec.description["fields"]["name"]: dict(r.columns) for r in records}


class OfArchive:
    """The same in an archive, where all or nothing of a call is written."""

    error, named = ArchiveError, "cannot write into"
    old = by_name(record("a", 1.0), record("b", 2.0))
    new = by_name(record("a", 3.0), record("c", 4.0))

    def __init__(self, folder):
        self.folder = folder

    def write(self, records):
        archive = Archive(self.folder)
        archive.add(*(record(name, c["value"][0]) for name, c in records.items()))

    def read(self):
        return by_name(*Archive(self.folder).records())

    def is_whole(self, found):
        return found in (self.old, self.old | self.new)

    def left_over(self):
        wanted = {MEASUREMENTS.replace("runs", "computations"), SIDECAR}
        found = {p.name for p in self.folder.iterdir()}
        return sorted(found - wanted - {f".{SIDECAR}.lock"})


# --- the faults, one after the other --------------------------------------------------


def forked(work):
    """Return the exit status of a process that does only this."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of forks; it is not used here
        process = os.fork()
    if process == 0:
        status = WRONG
        with contextlib.suppress(BaseException):
            status = work()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def writes(writer, faults):
    """Write, and tell how it ended."""

    def work():
        with faults.everywhere():
            try:
                writer.write(writer.new)
            except writer.error as error:
                return REFUSED if writer.named in str(error) else WRONG
        return 0

    return work


def survives(kind, folder, fault, call):
    """Return whether nothing is lost, and how the writer ended."""
    shutil.rmtree(folder, ignore_errors=True)
    writer = kind(folder)
    writer.write(writer.old)
    faults = Faults(fault, call)
    status = forked(writes(writer, faults))
    found = writer.read()
    fine = writer.is_whole(found)
    if status == 0:  # the fault hit what does not matter
        fine = fine and found == writer.old | writer.new
    elif status != (KILLED if fault == "killed" else REFUSED):
        fine = False
    writer.write(writer.new)  # the next one finds no trace of it
    fine = fine and writer.read() == writer.old | writer.new and not writer.left_over()
    return fine, status


def calls(kind, folder):
    """Return how many calls a writer makes."""
    shutil.rmtree(folder, ignore_errors=True)
    writer = kind(folder)
    writer.write(writer.old)
    faults = Faults("killed", 10**6)
    with faults.everywhere():
        writer.write(writer.new)
    return 10**6 - faults.left


def beside_another(kind, folder, call):
    """Kill one of two writers; the other loses nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    writer = kind(folder)
    writer.write(writer.old)
    names = [digest(str(i)) for i in range(3)]
    value = next(iter(writer.old.values()))
    other = {name: value for name in names}
    killed = os.fork()
    if killed == 0:
        writes(writer, Faults("killed", call))()
        os._exit(0)
    for name in names:
        writer.write({name: value})
    os.waitpid(killed, 0)
    found = writer.read()
    fine = {name: found.pop(name, None) for name in names} == other
    return fine and writer.is_whole(found)


def under_another_clock(kind, folder, hours):
    """A writer whose clock is off by so many hours takes no other's files away."""
    shutil.rmtree(folder, ignore_errors=True)
    writer = kind(folder)
    writer.write(writer.old)
    at_work = folder / digest("a")[:2] / f".{digest('a')}~elsewhere~1~0.tmp"
    if kind is OfStore:
        at_work.touch()
    now = time.time
    with mock.patch.object(time, "time", lambda: now() + 3600 * hours):
        writer.write(writer.new)
    fine = writer.read() == writer.old | writer.new
    return fine and (kind is not OfStore or at_work.exists())


def main(folder):
    """Inject everything and count."""
    warnings.simplefilter("ignore")  # what is damaged is counted
    injected, survived, wrong = Counter(), Counter(), []

    def note(what, fine, *more):
        injected[what] += 1
        survived[what] += bool(fine)
        if not fine:
            wrong.append([what, *map(str, more)])

    for kind in (OfStore, OfArchive):
        at = Path(folder) / kind.__name__
        count = calls(kind, at)
        for fault in FAULTS:
            for call in range(count):
                fine, status = survives(kind, at, fault, call)
                note(fault, fine, kind.__name__, call, status)
        for call in range(0, count, 2):
            note("killed beside another", beside_another(kind, at, call), kind, call)
        for hours in (-48, -2, 2, 48):
            fine = under_another_clock(kind, at, hours)
            note("another clock", fine, kind.__name__, hours)
    control = [
        survives(Careless, Path(folder) / "control", "killed", call)[0]
        for call in range(calls(Careless, Path(folder) / "control"))
    ]
    counts = {name: [injected[name], survived[name]] for name in injected}
    careless = [len(control), sum(control)]
    print(json.dumps({"counts": counts, "wrong": wrong, "control": careless}))


if __name__ == "__main__":
    main(sys.argv[1])
