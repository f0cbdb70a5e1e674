"""Data sets by specification: `DataSpec(...).load()` gives a `Dataset`.

`mnist-5k` and `digits` come with installed packages and `gaussian-mixture` is drawn:
none needs a network. `mnist`, `fashion-mnist` and `cifar10` are downloaded once into a
folder that the environment variable WIDTHLAB_DATA moves. `Synthetic` draws regression
tasks, and `Stream` fresh examples at every step of training. `register`,
`register_task` and `register_stream` add one's own.
"""

from collections.abc import Mapping
from typing import Any

from widthlab.data.sources import register
from widthlab.data.spec import DataSpec
from widthlab.data.stream import Stream, register_stream
from widthlab.data.synthetic import Synthetic, register_task

__all__ = [
    "DataSpec",
    "Stream",
    "Synthetic",
    "from_json",
    "register",
    "register_stream",
    "register_task",
]


def from_json(fields: Mapping[str, Any]) -> DataSpec | Synthetic | Stream:
    """Read what the `to_json` of any data wrote."""
    if "stream" in fields:
        return Stream.from_json(fields)
    return Synthetic(**fields) if "task" in fields else DataSpec.from_json(fields)
