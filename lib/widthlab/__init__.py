"""Reproducible studies of feature learning and convergence in wide neural networks.

From a specification to a verdict there is one way: `Experiment`, or a `grid` of
them -> `run` or `sweep` -> `Record` -> `frame`, of which `select` takes rows ->
`Prediction` and `Claim`. A `Parametrization` is a table of exponents with one row for
each `Role`. The modules hold the rest: `probes` what is measured, `regimes` what theory
expects, `plots` how it is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from widthlab._later import later

if TYPE_CHECKING:
    from widthlab.claims import Check, Claim, Prediction
    from widthlab.data import DataSpec
    from widthlab.parametrization import Parametrization, Role
    from widthlab.runs import (
        Experiment,
        Record,
        by_seed,
        frame,
        grid,
        paired,
        run,
        select,
        sweep,
    )

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

_RUNS = ("Experiment", "Record", "by_seed", "frame", "grid", "paired", "run", "select")
__getattr__, __dir__ = later(
    __name__,
    {
        "claims": ("Check", "Claim", "Prediction"),
        "data": ("DataSpec",),
        "parametrization": ("Parametrization", "Role"),
        "runs": (*_RUNS, "sweep"),
    },
)
