"""MNIST, Fashion-MNIST and CIFAR-10: downloaded once, checked at every read.

A file is verified before it gets its final name (an interrupted or wrong download never
does) and again whenever it is read. Hashes are over decoded content, because mirrors
recompress; for CIFAR-10 it is the MD5 of the archive that its home page states.
"""

import dataclasses
import functools
import gzip
import hashlib
import io
import math
import os
import sys
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from widthlab.data.raw import DataError, Raw

DATA_VARIABLE = "WIDTHLAB_DATA"
"""Environment variable that moves the folder of downloaded data."""

TIMEOUT_S = (10.0, 30.0)
"""Seconds to connect, and between two pieces of the answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file with its public homes and the hash of its content.

    Attributes:
        dataset: Name of the data set, and of the folder the file is kept in.
        name: File name.
        homes: URL prefixes to try in order.
        algorithm: Name of the hash function.
        expected: Hex digest of the content (decompressed, where the name ends in
            `.gz` but not in `.tar.gz`).
    """

    dataset: str
    name: str
    homes: tuple[str, ...]
    algorithm: str
    expected: str

    @property
    def folder(self) -> Path:
        """Where the file is kept."""
        return data_folder() / self.dataset

    @property
    def path(self) -> Path:
        """Where the file is kept, with its name."""
        return self.folder / self.name

    @property
    def hashed(self) -> str:
        """What the hash is taken over, in words."""
        archive = self.name.endswith(".tar.gz")
        return f"{self.algorithm} of the {'archive' if archive else 'decoded content'}"


_MNIST_HOMES = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
_FASHION_HOMES = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
_IDX_PARTS = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_IDX_SHA256: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mnist": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        "fashion-mnist": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    }
)
_CIFAR_ARCHIVE = RemoteFile(
    "cifar10",
    "cifar-10-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/",),
    "md5",
    "c32a1d4ab5d03f1284b67883e8d87530",
)
_CIFAR_FOLDER = "cifar-10-batches-bin"
_CIFAR_TRAIN = tuple(f"{_CIFAR_FOLDER}/data_batch_{i}.bin" for i in range(1, 6))
_CIFAR_TEST = f"{_CIFAR_FOLDER}/test_batch.bin"
_CIFAR_ROWS, _CIFAR_BYTES = 10_000, 1 + 3 * 32 * 32


def data_folder() -> Path:
    """Return the folder of downloads, `DATA_VARIABLE` or in the user's cache."""
    if given := os.environ.get(DATA_VARIABLE):
        return Path(given).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("widthlab")) / "data"


def remote_files(name: str) -> list[RemoteFile]:
    """Return the files of `mnist`, `fashion-mnist` or `cifar10`."""
    if name == "cifar10":
        return [_CIFAR_ARCHIVE]
    homes = _MNIST_HOMES if name == "mnist" else _FASHION_HOMES
    return [
        RemoteFile(name, part, homes, "sha256", expected)
        for part, expected in zip(_IDX_PARTS, _IDX_SHA256[name], strict=True)
    ]


@functools.lru_cache(maxsize=1)
def load_downloaded(name: str) -> Raw:
    """Read `mnist`, `fashion-mnist` or `cifar10`, downloading what is missing."""
    files = remote_files(name)
    if name == "cifar10":
        return _parse_cifar(fetch(*files))
    arrays = [_parse_idx(fetch(file), file) for file in files]
    return Raw(*(a.reshape(len(a), -1) if a.ndim == 3 else a for a in arrays))


def fetch(file: RemoteFile) -> bytes:
    """Return a file's verified content, from the data folder or else from its homes.

    Raises:
        DataError: If the file is there but wrong, or is missing and no home gave it.
    """
    if file.path.is_file():
        return read_verified(file, file.path)
    try:
        file.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(file, error) from error
    import pooch
    import requests

    # pooch's own annotation of a downloader does not fit its own downloaders.
    downloader: Any = functools.partial(_download_verified, file)
    refusals = []
    for home in file.homes:
        try:
            pooch.retrieve(
                home + file.name,
                known_hash=None,  # the downloader checks, over decoded content
                fname=file.name,
                path=file.folder,
                downloader=downloader,
            )
            return read_verified(file, file.path)
        except (requests.exceptions.RequestException, _WrongContentError) as error:
            kind = type(error).__name__.strip("_")
            refusals.append(f"{home}{file.name} ({kind}: {error})")
        except OSError as error:  # after RequestException, which is an OSError too
            raise _unwritable(file, error) from error
    raise DataError(
        f"{file.dataset}: {file.name} is missing from folder {file.folder} and could "
        f"not be downloaded. Tried: {'; '.join(refusals)}. "
        f"Expected {file.hashed}: {file.expected}; found: no file. {_advice(file)}"
    )


def _download_verified(
    file: RemoteFile, url: str, output_file: str, _pooch: object
) -> None:
    """Downloader for pooch: raises before pooch gives a wrong file its final name."""
    import pooch

    # No bar in logs and notebooks: there it would be noise in the stored output.
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=TIMEOUT_S
    )
    download(url, output_file, None)
    _verify(file, Path(output_file).read_bytes())


def read_verified(file: RemoteFile, path: Path) -> bytes:
    """Return the content of `path` if it is what `file` names.

    Raises:
        DataError: If the file cannot be read or decoded, or its hash differs.
    """
    try:
        return _verify(file, path.read_bytes())
    except (OSError, _WrongContentError) as error:
        raise DataError(
            f"{file.dataset}: {path.name} in folder {path.parent} cannot be used: "
            f"{error}. {_advice(file)}"
        ) from error


class _WrongContentError(Exception):
    """Says in a few words how bytes differ from what was expected."""


def _verify(file: RemoteFile, content: bytes) -> bytes:
    size, expected = len(content), f"expected {file.hashed}: {file.expected}"
    # Browsers and some mirrors undo the compression on the way; both forms will do.
    if not file.name.endswith(".tar.gz") and content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise _WrongContentError(
                f"truncated or damaged ({size} bytes; {type(error).__name__}: "
                f"{error}); "
                f"{expected}; found: none, as it cannot be decompressed"
            ) from error
    actual = hashlib.new(file.algorithm, content, usedforsecurity=False).hexdigest()
    if actual != file.expected:
        raise _WrongContentError(
            f"truncated, or another file ({size} bytes); {expected}; found: {actual}"
        )
    return content


def _advice(file: RemoteFile) -> str:
    homes = " or ".join(home + file.name for home in file.homes)
    return (
        f"What to do: delete {file.path} if it is there, then load again with a "
        f"network connection, or download {homes} by hand into "
        f"{file.folder}. The environment variable {DATA_VARIABLE} moves the data "
        f"folder, now {data_folder()}."
    )


def _unwritable(file: RemoteFile, error: OSError) -> DataError:
    return DataError(
        f"{file.dataset}: {file.name} is missing, and folder {file.folder} cannot be "
        f"written to: {type(error).__name__}: {error}. Expected {file.hashed}: "
        f"{file.expected}; found: no file. Set {DATA_VARIABLE} to a folder that can be "
        f"written to, or to one that holds {file.dataset}/{file.name}. {_advice(file)}"
    )


def _parse_idx(content: bytes, file: RemoteFile) -> np.ndarray:
    """Array in an IDX file: two zero bytes, type 8 (uint8), rank, big-endian sizes."""
    rank = content[3] if len(content) > 3 else 0
    start = 4 + 4 * rank
    sizes = (content[i : i + 4] for i in range(4, start, 4))
    shape = tuple(int.from_bytes(size, "big") for size in sizes)
    body = np.frombuffer(content[start:], dtype=np.uint8)
    complete = rank and len(content) == start + math.prod(shape)
    if content[:3] != b"\0\0\x08" or not complete:
        raise DataError(
            f"{file.dataset}: {file.name} in folder {file.folder} is not an IDX file "
            f"of unsigned bytes (header {content[:4].hex()}, shape {shape}, "
            f"{body.size} bytes of data). {_advice(file)}"
        )
    return body.reshape(shape)


def _parse_cifar(archive: bytes) -> Raw:
    """Rows of the binary distribution: one label byte, 3,072 pixel bytes by channel.

    Members are read in memory by their exact names: nothing is extracted or unpickled.
    """
    wanted, size = (*_CIFAR_TRAIN, _CIFAR_TEST), _CIFAR_ROWS * _CIFAR_BYTES
    rows: dict[str, np.ndarray] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                if member.name in wanted and member.isfile() and member.size == size:
                    stream = tar.extractfile(member)
                    content = stream.read() if stream else b""
                    flat = np.frombuffer(content, dtype=np.uint8)
                    rows[member.name] = flat.reshape(_CIFAR_ROWS, _CIFAR_BYTES)
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise _bad_cifar(f"{type(error).__name__}: {error}") from error
    if missing := [name for name in wanted if name not in rows]:
        raise _bad_cifar(f"no file of {size} bytes named {', '.join(missing)}")
    train, test = np.concatenate([rows[n] for n in _CIFAR_TRAIN]), rows[_CIFAR_TEST]
    if max(train[:, 0].max(), test[:, 0].max()) > 9:
        raise _bad_cifar("a label above 9")
    return Raw(train[:, 1:], train[:, 0], test[:, 1:], test[:, 0])


def _bad_cifar(problem: str) -> DataError:
    file = _CIFAR_ARCHIVE
    return DataError(
        f"cifar10: {file.name} in folder {file.folder} does not hold the binary "
        f"distribution: {problem}. {_advice(file)}"
    )
