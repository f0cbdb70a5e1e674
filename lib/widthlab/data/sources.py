"""The data sets there are, and what is known of each before it is read."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """What is known of a data set before it is read: sizes, classes, integer scale."""

    n_train: int
    n_test: int
    dim: int
    scale: int
    classes: tuple[str, ...]


_DIGITS = tuple("0123456789")
_FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CIFAR = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "mnist-5k": Source(4000, 1000, 784, 255, _DIGITS),
        "digits": Source(1442, 355, 64, 16, _DIGITS),
        "mnist": Source(60_000, 10_000, 784, 255, _DIGITS),
        "fashion-mnist": Source(60_000, 10_000, 784, 255, tuple(_FASHION.split(","))),
        "cifar10": Source(50_000, 10_000, 3072, 255, tuple(_CIFAR.split(","))),
        "gaussian-mixture": Source(20_000, 20_000, 192, 1024, _DIGITS),
    }
)
"""The data sets by name."""
