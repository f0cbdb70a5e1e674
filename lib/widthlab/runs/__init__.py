"""Runs: specified, cut into cells, run anywhere, and kept as records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from widthlab._later import later
from widthlab.runs.executors import Processes
from widthlab.runs.grid import grid
from widthlab.runs.record import Record, frame
from widthlab.runs.store import Store
from widthlab.runs.sweep import run, sweep
from widthlab.runs.tables import by_seed, paired, select

if TYPE_CHECKING:
    from widthlab.runs.archive import Archive
    from widthlab.runs.computed import Computed
    from widthlab.runs.experiment import Experiment
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

# What they need, flax, diffrax and pyarrow among it, takes longest to import.
__getattr__, __dir__ = later(
    __name__,
    {
        "archive": ("Archive",),
        "computed": ("Computed",),
        "experiment": ("Experiment",),
        "flows": ("FlowRun", "solve"),
    },
)
