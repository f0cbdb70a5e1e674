"""From decoded integers to the arrays an experiment trains on."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Integer, Real, Shaped

from widthlab import ledger
from widthlab.canonical import canonical_json, content_sha256
from widthlab.data.dataset import Dataset
from widthlab.data.raw import DataError, Raw, balanced_order
from widthlab.data.sources import SOURCES

if TYPE_CHECKING:
    from widthlab.data.spec import DataSpec

_BLOCK = 4096  # rows at a time: CIFAR-10 in int64 would otherwise take 1.2 GB


@functools.lru_cache(maxsize=4)
def load_dataset(spec: DataSpec) -> Dataset:
    """Load what `spec` describes; see `DataSpec.load`."""
    raw = _select(spec)
    prepare = _preprocessor(spec, raw.x_train)
    x_train, y_train = prepare(raw.x_train), raw.y_train
    k = len(SOURCES[spec.name].classes)
    if spec.variant != "plain":
        partner = -x_train if spec.variant == "antipodal" else x_train
        x_train = np.concatenate([x_train, partner])
        y_train = np.concatenate([y_train, (y_train + 1) % k])
    content = content_sha256(raw.x_train, raw.y_train, raw.x_test, raw.y_test)
    sha256 = hashlib.sha256(f"{content}{canonical_json(spec)}".encode()).hexdigest()
    ledger.note_data(spec.name, spec.changed(), sha256)
    return Dataset(
        spec=spec,
        x_train=x_train,
        y_train=encode_targets(y_train, k, spec.targets),
        x_test=prepare(raw.x_test),
        y_test=encode_targets(raw.y_test, k, spec.targets),
        classes=SOURCES[spec.name].classes,
        sha256=sha256,
    )


def _select(spec: DataSpec) -> Raw:
    """The decoded rows that `spec` uses, in its order (first half for variants)."""
    n_train = spec.train_size if spec.variant == "plain" else spec.train_size // 2
    if spec.name == "gaussian-mixture":
        from widthlab.data.packaged import gaussian_mixture

        return gaussian_mixture(
            n_train, spec.test_size, spec.input_dim, spec.subset_seed
        )
    if SOURCES[spec.name].load is not None:
        raw = _load_registered(spec.name)
    elif spec.name in ("mnist-5k", "digits"):
        from widthlab.data.packaged import load_packaged

        raw = load_packaged(spec.name)
    else:
        from widthlab.data.download import load_downloaded

        raw = load_downloaded(spec.name)
    tag = f"{spec.name}/subset/{spec.subset_seed}"
    train = balanced_order(raw.y_train, f"{tag}/train")[:n_train]
    test = balanced_order(raw.y_test, f"{tag}/test")[: spec.test_size]
    gray = _luma if spec.grayscale else np.ascontiguousarray
    return Raw(
        gray(raw.x_train[train]),
        raw.y_train[train],
        gray(raw.x_test[test]),
        raw.y_test[test],
    )


@functools.lru_cache(maxsize=2)
def _load_registered(name: str) -> Raw:
    """Load the arrays of a chapter's own data set, and hold them to what it said."""
    source = SOURCES[name]
    assert source.load is not None
    x_train, y_train, x_test, y_test = map(np.array, source.load())
    for split, count, x, y in (
        ("training", source.n_train, x_train, y_train),
        ("test", source.n_test, x_test, y_test),
    ):
        usable = x.dtype.kind in "iuf" and y.dtype.kind in "iu"
        if x.shape != (count, source.dim) or y.shape != (count,) or not usable:
            raise DataError(
                f"{name}: the {split} set has inputs of shape {x.shape} and type "
                f"{x.dtype}, classes of shape {y.shape} and type {y.dtype}; it is "
                f"registered with {count} rows of {source.dim} numbers and an integer "
                "class for each"
            )
        labels_known = np.isin(y, np.arange(len(source.classes))).all()
        if not (np.isfinite(x).all() and labels_known):
            raise DataError(
                f"{name}: the {split} set has numbers that are not finite, or classes "
                f"beyond the {len(source.classes)} it is registered with"
            )
    return Raw(x_train, y_train, x_test, y_test)


def _luma(x: Integer[np.ndarray, "n d"]) -> Integer[np.ndarray, "n d//3"]:
    """Rec. 601 luma of channel-first colour rows, rounded to the nearest integer."""
    red, green, blue = np.split(x.astype(np.uint32), 3, axis=1)
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)


def _preprocessor(
    spec: DataSpec, base: Real[np.ndarray, "n d"]
) -> Callable[[np.ndarray], np.ndarray]:
    r"""The map from integer rows to float32 inputs, fixed by the training rows `base`.

    With $s = \sum_i x_i$ over the n rows, $n x - s$ is n times the centred row, an
    exact integer. Only the final square root and division round, and IEEE 754 fixes
    both, so the result does not depend on summation order. (Floats of a chapter's own
    data are what they are.)
    """
    if spec.preprocess == "raw01":
        return lambda x: (x / SOURCES[spec.name].scale).astype(np.float32)
    whole = base.dtype.kind in "iu"
    kind = np.int64 if whole else np.float64
    if spec.preprocess == "normalize":  # one mean for all values, not one a pixel
        n, total = base.size, base.sum(dtype=kind)
    else:
        n, total = len(base), base.sum(axis=0, dtype=kind)

    def centred(block: np.ndarray) -> np.ndarray:
        return n * block.astype(kind) - total

    def row_norm(rows: np.ndarray) -> np.ndarray:
        norm = np.sqrt(np.square(rows).sum(axis=1, keepdims=True).astype(np.float64))
        if not norm.all():
            raise ValueError(
                f"preprocess 'unit-norm': an image of {spec.name} equals the mean "
                f"image of the {n} training images and has no direction; "
                f"use more images or preprocess='standardize'"
            )
        return norm

    if spec.preprocess == "standardize" or (
        spec.preprocess == "normalize" and not whole
    ):
        blocks = [np.square(centred(block)).sum(axis=1) for block in _blocks(base)]
        squares = sum(map(int if whole else float, np.concatenate(blocks)))
        deviation = math.sqrt(squares / base.size)
    elif spec.preprocess == "normalize":  # squares of n x - s would not fit 64 bits
        squares = sum(int(np.square(b.astype(np.int64)).sum()) for b in _blocks(base))
        deviation = math.sqrt(n * squares - int(total) ** 2)
    else:
        deviation = None

    def prepare(x: np.ndarray) -> np.ndarray:
        out = np.empty(x.shape, dtype=np.float32)
        for start, block in zip(range(0, len(x), _BLOCK), _blocks(x), strict=True):
            rows = centred(block)
            divisor = row_norm(rows) if deviation is None else deviation
            out[start : start + _BLOCK] = rows / divisor
        return out

    return prepare


def _blocks(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK)]


def encode_targets(
    labels: Integer[np.ndarray, " n"], k: int, kind: str
) -> Shaped[np.ndarray, "n ..."]:
    """Return the class indices as the targets a `DataSpec` names.

    Examples:
        >>> encode_targets(np.array([1, 0]), 2, "centred-one-hot").tolist()
        [[-0.5, 0.5], [0.5, -0.5]]
        >>> encode_targets(np.array([1, 0]), 2, "parity").tolist()
        [[1.0], [-1.0]]
    """
    if kind == "labels":
        return labels.astype(np.int32)
    if kind == "parity":
        return (2.0 * (labels[:, None] % 2) - 1.0).astype(np.float32)
    one_hot = np.eye(k)[labels]
    return (one_hot - (1 / k if kind == "centred-one-hot" else 0)).astype(np.float32)
