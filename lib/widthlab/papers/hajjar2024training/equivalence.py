r"""IP-LLR as a modified μP: Proposition 15 and Theorem 16.

From the first step on, IP-LLR computes what HP does, μP whose initial hidden weights
shrink to IP's size, if HP takes its first step at the rates of IP-LLR times
$\ell'(f_{\mathrm{IP}}) / \ell'(f_{\mathrm{HP}})$. This holds at every width, for a
positively homogeneous activation, a scalar output and batches of one example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from attrs import evolve

from widthlab.runs.experiment import Experiment
from widthlab.runs.record import Record, frame
from widthlab.runs.sweep import sweep
from widthlab.training.calibration import report

if TYPE_CHECKING:
    import pandas as pd

_RUN = ["depth", "width", "seed"]


def first_step_of(
    runs: Sequence[Experiment], parametrization: str, *, ratio: bool = True
) -> list[Experiment]:
    r"""Return runs like these, of another parametrization, with their first rates.

    The loss is the square loss on targets $\pm 1$ and the batch one example, so that
    the ratio of the loss's derivatives is the root of the ratio of losses.

    Args:
        runs: of IP-LLR, with a calibration of their first step.
        parametrization: "hp", "hpz" or "mup", which start alike.
        ratio: whether rates are multiplied by that ratio; without it they are the
            control of Proposition 15.
    """
    plain = [evolve(run, parametrization="mup", first_lr=None) for run in runs]
    records = sweep([*runs, *plain])
    changed = []
    pairs = zip(records[: len(runs)], records[len(runs) :], strict=True)
    for run, (ours, theirs) in zip(runs, pairs, strict=True):
        factor = np.sqrt(_first_loss(ours) / _first_loss(theirs)) if ratio else 1.0
        rates = tuple(factor * report([ours])["lr"])
        changed.append(evolve(run, parametrization=parametrization, first_lr=rates))
    return changed


def gaps(
    reference: Sequence[Experiment], others: Mapping[str, Sequence[Experiment]]
) -> pd.DataFrame:
    r"""Return distances $|f - f_0| / |f_0|$ over inputs between the functions of runs.

    Args:
        reference: runs of $f_0$, with the probe `Outputs`.
        others: runs of $f$ by what they are called, each of a depth, width and seed
            that the reference has too.

    Returns:
        One row for each run and step behind the first, with its name as `series`.
    """
    import pandas as pd

    every = [*others.values(), reference]
    sweep(run for runs in every for run in runs)  # sharing programs
    first = _outputs(reference)
    parts = []
    for name, runs in others.items():
        theirs = _outputs(runs)
        ours = first.loc[theirs.index]
        with np.errstate(over="ignore"):  # what blows up is infinitely far away
            gap = np.linalg.norm(theirs - ours, axis=1) / np.linalg.norm(ours, axis=1)
        part = pd.DataFrame({"value": gap}, index=ours.index).reset_index()
        parts.append(part.assign(series=name, quantity="gap"))
    return pd.concat(parts, ignore_index=True)


def moves(records: Sequence[Record]) -> pd.DataFrame:
    r"""Return how far outputs move from one checkpoint to the next.

    Args:
        records: of runs with the probe `Outputs`, all with the same checkpoints.

    Returns:
        One row for each run and step behind the first, with the root mean square of
        $f_t - f_s$ over inputs and outputs as the quantity "move", where $s$ is the
        checkpoint before $t$.
    """
    rows = frame(records)
    rows = rows[rows["quantity"].str.startswith("output[")]
    run = ["parametrization", *_RUN]
    outputs = rows.pivot_table("value", [*run, "quantity"], "step")
    squares = outputs.diff(axis=1).iloc[:, 1:] ** 2
    sizes = squares.groupby(run).mean() ** 0.5
    return sizes.stack().rename("value").reset_index().assign(quantity="move")


def _first_loss(record: Record) -> float:
    rows = record.table.query("quantity == 'loss' and step == 0")
    return float(rows["value"].iloc[0])


def _outputs(runs: Sequence[Experiment]) -> pd.DataFrame:
    rows = frame(sweep(runs))
    rows = rows[rows["quantity"].str.startswith("output[") & (rows["step"] > 0)]
    return rows.pivot_table("value", [*_RUN, "step"], "quantity")
