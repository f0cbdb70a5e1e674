"""Writing files: all or nothing, and one writer at a time."""

import os
from pathlib import Path


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
