"""Runs: specified, cut into cells, run anywhere, and kept as records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from widthlab._later import later
from widthlab.runs.executors import LostWorkersError, Processes
from widthlab.runs.grid import grid
from widthlab.runs.record import Record, frame
from widthlab.runs.spec import Spec
from widthlab.runs.store import Store
from widthlab.runs.sweep import run, sweep
from widthlab.runs.tables import by_seed, paired, select

if TYPE_CHECKING:
    from widthlab.runs.archive import Archive
    from widthlab.runs.computed import Computed
    from widthlab.runs.ensembles import first_rates
    from widthlab.runs.experiment import Experiment
    from widthlab.runs.flows import FlowRun, solve

__all__ = [
    "Archive",
    "Computed",
    "Experiment",
    "FlowRun",
    "LostWorkersError",
    "Processes",
    "Record",
    "Spec",
    "Store",
    "by_seed",
    "first_rates",
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
        "ensembles": ("first_rates",),
        "experiment": ("Experiment",),
        "flows": ("FlowRun", "solve"),
    },
)
