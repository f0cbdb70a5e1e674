"""Runs: specified, cut into cells, run anywhere, and kept as records."""

from widthlab.runs.archive import Archive
from widthlab.runs.computed import Computed
from widthlab.runs.ensembles import first_rates
from widthlab.runs.executors import LostWorkersError, Processes
from widthlab.runs.experiment import Experiment
from widthlab.runs.flows import FlowRun, solve
from widthlab.runs.grid import grid
from widthlab.runs.record import Record, frame
from widthlab.runs.spec import Spec
from widthlab.runs.store import Store
from widthlab.runs.sweep import run, sweep
from widthlab.runs.tables import by_seed, paired, select

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
