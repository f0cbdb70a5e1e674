"""Content-addressed, atomic store of records, and the provenance they carry.

A record's key is the SHA-256 of its specification, the hash of its data and the code
version, all in canonical JSON. A record is one file, written under a temporary name and
renamed when complete: a reader sees all of it or nothing, whoever is killed and when.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from widthlab.canonical import _dumps, plain_value
from widthlab.files import check_writable, host, temporary_beside, write_durably

STORE_VARIABLE = "WIDTHLAB_STORE"
"""Environment variable that moves the user's store."""

_FORMAT = 1
_KEY = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\..+~(?P<host>[^~]*)~(?P<pid>\d+)~[0-9a-f]+\.tmp")
# Temporaries of other hosts cannot be asked whether their writer lives; no write of a
# record takes an hour.
_STALE_S = 3600.0


class StoreError(RuntimeError):
    """A record cannot be written or read where the store lies."""


class StoreWarning(UserWarning):
    """A damaged record was found and is treated as missing."""


@dataclasses.dataclass(slots=True)
class Store:
    """Records by key in a folder: `<path>/<first two digits>/<key>.json`.

    Payloads are dictionaries that JSON can hold. Floats come back exactly, NaN and
    infinity too (as the words NaN and Infinity, an extension of JSON that Python's own
    module reads); tuples come back as lists and fractions as "p/q". A file that is
    damaged, seen by its checksum, counts as missing: a warning names it and it is
    moved aside to `<key>.corrupt`. A store can be pickled and used by many processes.

    Examples:
        >>> import tempfile
        >>> store = Store(Path(tempfile.mkdtemp()))
        >>> from widthlab.canonical import digest
        >>> key = digest({"width": 64})
        >>> _ = store.put(key, {"loss": [0.5, float("inf")]})
        >>> key in store, store.get(key)
        (True, {'loss': [0.5, inf]})
    """

    path: Path
    _swept: bool = dataclasses.field(
        default=False, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Accept a string, and stay valid when the working directory changes."""
        self.path = Path(self.path).expanduser().absolute()

    def __contains__(self, key: str) -> bool:
        """Whether a complete and undamaged record of that key is there."""
        return self.find(key) is not None

    def get(self, key: str) -> dict[str, Any]:
        """Return the payload of a record.

        Raises:
            KeyError: If there is no such record, or only a damaged one.
            StoreError: If the file is there and may not be read.
        """
        if (payload := self.find(key)) is None:
            raise KeyError(f"no record {key} in store {self.path}")
        return payload

    def keys(self) -> list[str]:
        """Return the keys of all undamaged records, sorted."""
        return [key for key, _ in self.items()]

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield key and payload of all undamaged records, sorted by key."""
        for path in sorted(self.path.glob("[0-9a-f][0-9a-f]/*.json")):
            if _KEY.fullmatch(path.stem):
                payload = self.find(path.stem)
                if payload is not None:
                    yield path.stem, payload

    def put(self, key: str, payload: Mapping[str, Any]) -> Path:
        """Write a record, all or nothing, and return its file; replaces an older one.

        Raises:
            StoreError: If the folder cannot be written to.
        """
        path = self._file(key)
        plain = plain_value(payload, "payload")
        body = _dumps(plain)
        checksum = hashlib.sha256(body.encode()).hexdigest()
        text = (
            f'{{"format":{_FORMAT},"key":"{key}","sha256":"{checksum}",'
            f'"payload":{body}}}\n'
        )
        temporary = temporary_beside(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self._swept:
                self.sweep_temporaries()
            write_durably(temporary, path, text.encode())
        except OSError as error:
            raise self._refusal(path, error) from error
        return path

    def check_writable(self) -> None:
        """Find out before anything is computed for it.

        Raises:
            StoreError: The folder cannot be made or written to.
        """
        try:
            check_writable(self.path)
        except OSError as error:
            raise self._refusal(self.path, error) from error

    def _refusal(self, what: Path, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write {what.name} into folder {what.parent}: "
            f"{type(error).__name__}: {error}. Set the environment variable "
            f"{STORE_VARIABLE} to a folder that can be written to."
        )

    def sweep_temporaries(self) -> list[Path]:
        """Delete what killed writers left behind; those at work keep their files."""
        removed = []
        patterns = (".*.tmp", "[0-9a-f][0-9a-f]/.*.tmp")
        found = [path for pattern in patterns for path in self.path.glob(pattern)]
        now = _clock(self.path) if found else 0.0
        for path in found:
            if _is_abandoned(path, now):
                path.unlink(missing_ok=True)
                removed.append(path)
        self._swept = True
        return removed

    def _file(self, key: str) -> Path:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(
                f"a key is 64 hexadecimal digits, as digest() gives; got {key!r}"
            )
        return self.path / key[:2] / f"{key}.json"

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the payload of a record; None if there is none, or a damaged one.

        Raises:
            StoreError: If the file is there and may not be read.
        """
        path = self._file(key)
        try:
            raw = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"cannot read record {path}: {error}") from error
        try:
            return _open_envelope(raw, key)
        except ValueError as error:
            _set_aside(path, error)
            return None


def _open_envelope(raw: bytes, key: str) -> dict[str, Any]:
    """Payload in a record file's bytes; ValueError if anything about it is wrong."""
    envelope = json.loads(raw.decode())
    if not isinstance(envelope, dict):
        raise ValueError("not a record")
    if envelope.get("format") != _FORMAT:
        raise ValueError(f"format {envelope.get('format')!r}, expected {_FORMAT}")
    if envelope.get("key") != key:
        raise ValueError(f"the record inside is {envelope.get('key')!r}")
    payload = envelope.get("payload")
    sha256 = hashlib.sha256(_dumps(payload).encode()).hexdigest()
    if not isinstance(payload, dict) or sha256 != envelope.get("sha256"):
        raise ValueError(f"expected sha256 {envelope.get('sha256')}, found {sha256}")
    return payload


def _set_aside(path: Path, error: ValueError) -> None:
    aside = path.with_suffix(".corrupt")
    try:
        os.replace(path, aside)
        fate = f"moved to {aside.name}"
    except OSError:  # a read-only store: the record still counts as missing
        fate = "left in place"
    warnings.warn(
        f"damaged record {path} treated as missing and {fate}: {error}",
        StoreWarning,
        stacklevel=4,
    )


def _clock(folder: Path) -> float:
    """Return the time of the machine that a folder lies on, which may be another."""
    file = temporary_beside(folder / "clock")
    try:
        file.touch()
        return file.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def _is_abandoned(temporary: Path, now: float) -> bool:
    """Whether the writer of a temporary file is dead, or it is older than an hour."""
    try:
        if now - temporary.stat().st_mtime > _STALE_S:
            return True
    except FileNotFoundError:
        return False
    named = _TEMPORARY.fullmatch(temporary.name)
    # On Windows os.kill(pid, 0) would end the process instead of asking after it.
    if named is None or named["host"] != host() or sys.platform == "win32":
        return False
    try:
        os.kill(int(named["pid"]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it lives, under another user
        return False
    return False


def default_store() -> Store:
    """Return the store in the folder of `STORE_VARIABLE`, else in the user's cache."""
    if given := os.environ.get(STORE_VARIABLE):
        return Store(Path(given))
    import pooch

    return Store(Path(pooch.os_cache("widthlab")) / "records")
