"""Runs: specified, cut into cells, run anywhere, and kept as records."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from widthlab.runs.computed import Computed
from widthlab.runs.executors import Processes
from widthlab.runs.experiment import Experiment
from widthlab.runs.grid import grid
from widthlab.runs.record import Record, frame
from widthlab.runs.store import Store
from widthlab.runs.sweep import run, sweep
from widthlab.runs.tables import by_seed, paired, select

if TYPE_CHECKING:
    from widthlab.runs.archive import Archive
    from widthlab.runs.flows import FlowRun, solve

__all__ = [
    "Archive",
    "Computed",
    "Experiment",
    "FlowRun",
    "Processes",
    "Record",
    "Store",
    "by_seed",
    "frame",
    "grid",
    "paired",
    "run",
    "select",
    "solve",
    "sweep",
]

# Loaded when first asked for: diffrax and pyarrow take as long to import as the rest.
_LATER = {"Archive": "archive", "FlowRun": "flows", "solve": "flows"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
