"""Work on its way to a process that does not know what a chapter has registered.

Classes and functions of `__main__`, a notebook's or a script's, cannot be imported in a
worker: `cloudpickle` sends them as they are, there and back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import cloudpickle
import jax

from widthlab.registry import REGISTRIES


def packed(work: Callable[[Any], Any], cell: Any) -> bytes:
    """Return a call of `work`, with all plug-ins of this process, for `run_packed`."""
    plugins = [
        (registry.how, kind, name, item, registry.source(name))
        for kind, registry in REGISTRIES.items()
        for name, item in registry.own().items()
    ]
    specs = cell if isinstance(cell, list | tuple) else []
    flows = [spec.flow for spec in specs if hasattr(spec, "flow")]
    return cloudpickle.dumps((plugins, _nodes(flows), work, cell))


def _nodes(trees: Iterable[Any]) -> dict[type, tuple[list[str], list[str]]]:
    """Return the dataclasses of pytrees, with the names of their leaves and of others.

    A class that is sent as it is does not bring along that JAX knows it as a pytree.
    """
    found, waiting = {}, list(trees)
    while waiting:
        node = waiting.pop()
        paths, _ = jax.tree_util.tree_flatten_with_path(
            node, is_leaf=lambda part, whole=node: part is not whole
        )
        parts = [(path[0], part) for path, part in paths if path]
        waiting += [part for _, part in parts]
        named = all(isinstance(key, jax.tree_util.GetAttrKey) for key, _ in parts)
        if parts and named and dataclasses.is_dataclass(node):
            data = [key.name for key, _ in parts]
            fields = [f.name for f in dataclasses.fields(node) if f.init]
            found[type(node)] = data, [name for name in fields if name not in data]
    return found


def run_packed(call: bytes) -> bytes:
    """Register the plug-ins of a call, then do it; `unpacked` reads the result."""
    if _FORKED and _in_use():
        raise RuntimeError(
            "this worker is a fork of a process that has used JAX, which would hang "
            "here: have the executor start its workers anew (spawn), or give "
            "widthlab.runs.executors.Processes()"
        )
    try:
        plugins, nodes, work, cell = pickle.loads(call)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this worker has no module {error.name}, in which a plug-in or a "
            "specification of the process that sent it work is defined: install it "
            "for the workers, or define the same in the script or notebook itself, "
            "which is sent along",
            name=error.name,
        ) from error
    for kind, (data, others) in nodes.items():
        with contextlib.suppress(ValueError):  # known here already
            jax.tree_util.register_dataclass(kind, data, others)
    for how, kind, name, item, source in plugins:
        importlib.import_module(how.rpartition(".")[0])  # has the registry
        REGISTRIES[kind].adopt(name, item, source)
    return cloudpickle.dumps(work(cell))


_FORKED = False


def _note_fork() -> None:
    global _FORKED
    _FORKED = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def _in_use() -> bool:
    """Whether JAX has looked for devices, here or in the process this is a fork of."""
    now = getattr(jax.config, "jax_num_cpu_devices", -1)
    try:  # which JAX refuses once it has devices
        jax.config.update("jax_num_cpu_devices", max(now, 0) + 1)
    except RuntimeError:
        return True
    jax.config.update("jax_num_cpu_devices", now)
    return False


def unpacked(result: bytes) -> Any:
    """Return the result of `run_packed`."""
    return pickle.loads(result)
