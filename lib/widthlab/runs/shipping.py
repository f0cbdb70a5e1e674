"""Work on its way to a process that does not know what a chapter has registered.

Classes and functions of `__main__`, a notebook's or a script's, cannot be imported in a
worker: `cloudpickle` sends them as they are, there and back.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle

from widthlab.registry import REGISTRIES


def packed(work: Callable[[Any], Any], cell: Any) -> bytes:
    """Return a call of `work`, with all plug-ins of this process, for `run_packed`."""
    plugins = [
        (registry.how, kind, name, item, registry.source(name))
        for kind, registry in REGISTRIES.items()
        for name, item in registry.own().items()
    ]
    return cloudpickle.dumps((plugins, work, cell))


def run_packed(call: bytes) -> bytes:
    """Register the plug-ins of a call, then do it; `unpacked` reads the result."""
    plugins, work, cell = pickle.loads(call)
    for how, kind, name, item, source in plugins:
        importlib.import_module(how.rpartition(".")[0])  # has the registry
        REGISTRIES[kind].adopt(name, item, source)
    return cloudpickle.dumps(work(cell))


def unpacked(result: bytes) -> Any:
    """Return the result of `run_packed`."""
    return pickle.loads(result)
