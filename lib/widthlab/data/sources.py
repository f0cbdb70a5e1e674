"""The data sets there are, and what is known of each before it is read."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from widthlab.registry import Registry


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """What is known of a data set before it is read: sizes, classes, integer scale.

    `load` returns the arrays of one that a chapter has registered.
    """

    n_train: int
    n_test: int
    dim: int
    scale: int
    classes: tuple[str, ...]
    load: Callable[[], Sequence[Any]] | None = None


_DIGITS = tuple("0123456789")
_FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CIFAR = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"

SOURCES: Registry[Source] = Registry(
    "data set",
    "widthlab.data.register",
    {
        "mnist-5k": Source(4000, 1000, 784, 255, _DIGITS),
        "digits": Source(1442, 355, 64, 16, _DIGITS),
        "mnist": Source(60_000, 10_000, 784, 255, _DIGITS),
        "fashion-mnist": Source(60_000, 10_000, 784, 255, tuple(_FASHION.split(","))),
        "cifar10": Source(50_000, 10_000, 3072, 255, tuple(_CIFAR.split(","))),
        "gaussian-mixture": Source(20_000, 20_000, 192, 1024, _DIGITS),
    },
)
"""The data sets by name."""


def register(
    name: str,
    load: Callable[[], Sequence[Any]] | None = None,
    *,
    n_train: int,
    n_test: int,
    dim: int,
    classes: Sequence[str],
    scale: int = 1,
) -> Any:
    """Add a data set of one's own, as the function that loads it or as its decorator.

    Args:
        name: name under which a `DataSpec` asks for it.
        load: returns training inputs, their class indices, test inputs and theirs:
            inputs as rows of integers or floats, before any preprocessing. The hash of
            their content goes into the key of every record.
        n_train: number of training examples.
        n_test: number of test examples.
        dim: length of an input row.
        classes: names of the classes, by index.
        scale: what "raw01" divides by.
    """
    if load is None:
        sizes = {"n_train": n_train, "n_test": n_test, "dim": dim, "scale": scale}
        return lambda load: register(name, load, classes=classes, **sizes)
    SOURCES.register(name, Source(n_train, n_test, dim, scale, tuple(classes), load))
    return load
