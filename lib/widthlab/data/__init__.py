"""Data sets by specification: `DataSpec(...).load()` gives a `Dataset`.

`mnist-5k` and `digits` come with installed packages and `gaussian-mixture` is drawn:
none needs a network. `mnist`, `fashion-mnist` and `cifar10` are downloaded once into a
folder that the environment variable WIDTHLAB_DATA moves. `Synthetic` draws regression
tasks.
"""

from widthlab.data.dataset import Dataset
from widthlab.data.pipeline import load_dataset
from widthlab.data.raw import DataError
from widthlab.data.sources import SOURCES
from widthlab.data.spec import PREPROCESS, TARGETS, VARIANTS, DataSpec
from widthlab.data.synthetic import Sample, Synthetic

__all__ = [
    "PREPROCESS",
    "SOURCES",
    "TARGETS",
    "VARIANTS",
    "DataError",
    "DataSpec",
    "Dataset",
    "Sample",
    "Synthetic",
    "load_dataset",
]
