"""Writing files: all or nothing, and one writer at a time."""

from __future__ import annotations

import os
import platform
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def host() -> str:
    """Return this machine's name, as it can stand in a file's."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", platform.node())


def temporary_beside(path: Path) -> Path:
    """Return a name of a file's own while it is written, which says who writes it."""
    name = f".{path.name}~{host()}~{os.getpid()}~{uuid.uuid4().hex}.tmp"
    return path.with_name(name)


def write_durably(temporary: Path, path: Path, content: bytes) -> None:
    """Write, flush to the disk, rename; on any failure leave no temporary file."""
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes) -> None:
    """Write a whole file, with its folder, or leave the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(temporary_beside(path), path, content)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file in UTF-8, or leave the old one."""
    write(path, text.encode())


def check_writable(folder: Path) -> None:
    """Write a file into a folder, which is made if need be, and take it away again.

    Raises:
        OSError: the folder cannot be made, or not be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(folder / "check")
    try:
        temporary.write_bytes(b"\n")
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file for one writer, who may read it, change it and write it back.

    The lock is a file beside it, which stays: `.name.lock`, hidden and ignored by git.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield
