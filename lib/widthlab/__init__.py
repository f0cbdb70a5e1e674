"""Reproducible studies of feature learning and convergence in wide neural networks.

From a specification to a verdict there is one way: `Experiment`, or a `grid` of
them -> `run` or `sweep` -> `Record` -> `frame`, of which `select` takes rows ->
`Prediction` and `Claim`. A `Parametrization` is a table of exponents with one row for
each `Role`. The modules hold the rest: `probes` what is measured, `regimes` what theory
expects, `plots` how it is drawn.
"""

from widthlab.claims import Check, Claim, Prediction
from widthlab.data import DataSpec
from widthlab.parametrization import Parametrization, Role
from widthlab.runs.experiment import Experiment
from widthlab.runs.grid import grid
from widthlab.runs.record import Record, frame
from widthlab.runs.sweep import run, sweep
from widthlab.runs.tables import by_seed, paired, select

__all__ = [
    "Check",
    "Claim",
    "DataSpec",
    "Experiment",
    "Parametrization",
    "Prediction",
    "Record",
    "Role",
    "by_seed",
    "frame",
    "grid",
    "paired",
    "run",
    "select",
    "sweep",
]
