"""Data sets by specification: `DataSpec(...).load()` gives a `Dataset`.

`mnist-5k` and `digits` come with installed packages and `gaussian-mixture` is drawn:
none needs a network. `mnist`, `fashion-mnist` and `cifar10` are downloaded once into a
folder that the environment variable WIDTHLAB_DATA moves.
"""

from widthlab.data.pipeline import load_dataset
from widthlab.data.raw import DataError
from widthlab.data.sources import SOURCES
from widthlab.data.spec import PREPROCESS, TARGETS, VARIANTS, Dataset, DataSpec

__all__ = [
    "PREPROCESS",
    "SOURCES",
    "TARGETS",
    "VARIANTS",
    "DataError",
    "DataSpec",
    "Dataset",
    "load_dataset",
]
