"""Slopes of a module's size and change against what theory predicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from widthlab.claims import Check
from widthlab.claims.check import Outcome
from widthlab.claims.slopes import slope
from widthlab.scaling.errors import ScalingError

if TYPE_CHECKING:
    import pandas as pd


class Signal(NamedTuple):
    """An output of a module.

    Attributes:
        name: path of the module.
        grows: whether it has an axis that grows with the width.
        read_out: whether it has the shape of what the model returns.
    """

    name: str
    grows: bool
    read_out: bool


class Rules(NamedTuple):
    """What a check is judged by.

    Attributes:
        arms: names of the table, and of the control if there is one.
        signals: the modules, in the order in which they run.
        undecided: words in names of what is not judged.
        margin: tolerance of a slope.
        tied: whether an embedding is the read-out, too.
    """

    arms: tuple[str, ...]
    signals: tuple[Signal, ...]
    undecided: tuple[str, ...]
    margin: float
    tied: bool


class Predicted(NamedTuple):
    """Exponents of a wide model, of its signals inside and of what it returns.

    Attributes:
        change: of the change of signals inside.
        output_start: of the output at the start, if its weights are random.
    """

    change: float
    output_start: float


PREDICTED = {"mup": Predicted(0.0, -0.5), "ntk": Predicted(-0.5, 0.0)}
"""Exponents by table; that of signals at the start and of the output's change is 0."""


class ModuleJudgement(NamedTuple):
    """What one module came to.

    Attributes:
        name: path of the module; "model" for the whole.
        start: the check of its size at the start; None where that is zero.
        change: the check of its change.
        decided: whether it is judged at all.
        gone: "start" or "change" where it is zero, or no number, at some widths and not
            at others: no power of the width, and wrong.
    """

    name: str
    start: Check | None
    change: Check | None
    decided: bool = True
    gone: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Fail if one check fails, pass if both pass."""
        found = {c.outcome() for c in (self.start, self.change) if c is not None}
        if self.decided and self.gone:
            return Outcome.FAIL
        if not self.decided or not found:
            return Outcome.OPEN
        for outcome in (Outcome.FAIL, Outcome.OPEN):
            if outcome in found:
                return outcome
        return Outcome.PASS

    @property
    def fails(self) -> bool:
        """Whether it is wrong."""
        return self.outcome is Outcome.FAIL

    @property
    def start_fails(self) -> bool:
        """Whether its start is wrong."""
        if "start" in self.gone:
            return True
        return self.start is not None and self.start.outcome() is Outcome.FAIL


def judge(
    frame: pd.DataFrame,
    signals: Iterable[Signal],
    name: str,
    undecided: Sequence[str],
    margin: float,
    *,
    tied: bool,
) -> tuple[ModuleJudgement, ...]:
    """Judge every module of a table of measurements.

    Args:
        frame: as in `CoordinateCheck`, of one parametrization.
        signals: the modules, in order.
        name: the table whose predictions count.
        undecided: words in names of what is not judged.
        margin: tolerance of a slope.
        tied: whether an embedding is the read-out, which then cannot start at zero.

    Raises:
        ScalingError: nothing is predicted for the table.
    """
    predicted = predicted_for(name)
    found = []
    for signal in signals:
        # A layer of constant width inside a network is judged as what it feeds.
        output = signal.read_out and not signal.grows
        start = predicted.output_start if output else 0.0
        change = 0.0 if output else predicted.change
        rows = frame.loc[frame["module"] == signal.name]
        checks = [
            _check(
                rows, signal.name, quantity, exponent, margin, at_most=output and tied
            )
            for quantity, exponent in (("start", start), ("change", change))
        ]
        # What a tied embedding gives back is right only behind its multiplier.
        before = tied and signal.name.endswith(".attend")
        decided = not before and not any(word in signal.name for word in undecided)
        gone = tuple(q for q in ("start", "change") if _goes(rows, q))
        found.append(ModuleJudgement(signal.name, checks[0], checks[1], decided, gone))
    return tuple(found)


def _goes(rows: pd.DataFrame, quantity: str) -> bool:
    """Whether all seeds of one width are zero or no number, and none of another."""
    chosen = rows.loc[rows["quantity"] == quantity]
    there = (chosen["value"] > 0) & chosen["value"].map(math.isfinite)
    by_width = there.groupby(chosen["width"]).mean()
    return bool((by_width == 0).any() and (by_width == 1).any())


def _check(
    rows: pd.DataFrame,
    name: str,
    quantity: str,
    exponent: float,
    margin: float,
    *,
    at_most: bool,
) -> Check | None:
    chosen = rows.loc[rows["quantity"] == quantity]
    if not all(0 < value < math.inf for value in chosen["value"]):
        return None  # zero at the start, or not finite: no logarithm
    estimate = slope(chosen)
    what = f"slope of {quantity} against width"
    if at_most:
        # Logits of a tied embedding: of each token's own row of order one, and others'.
        return Check.at_most(name, what, 0.0, estimate, slack=margin)
    return Check.equals(name, what, exponent, margin, estimate)


def predicted_for(name: str) -> Predicted:
    """Return the exponents that a table predicts.

    Raises:
        ScalingError: nothing is predicted for it.
    """
    if name not in PREDICTED:
        raise ScalingError(
            f"nothing is predicted for {name!r}; a coordinate check is judged for "
            f"{', '.join(PREDICTED)}"
        )
    return PREDICTED[name]


def verdict_of(
    judged: Sequence[ModuleJudgement], control: Sequence[ModuleJudgement]
) -> Outcome:
    """Return what a check came to as a whole.

    It is open where nothing was judged: no module, or none whose output moved.

    Args:
        judged: the modules.
        control: those of the control; empty where none was asked for.
    """
    decided = [j for j in judged if j.decided]
    outcomes = {j.outcome for j in decided}
    if Outcome.FAIL in outcomes:
        return Outcome.FAIL
    moved = any(j.change is not None for j in decided)
    told = not control or any(j.fails for j in control)
    passed = outcomes == {Outcome.PASS}
    return Outcome.PASS if passed and moved and told else Outcome.OPEN


def judgements_table(label: str, judged: Sequence[ModuleJudgement]) -> str:
    """Return a line a module: both slopes with their predictions, and the outcome."""
    head = ("module", "start", "predicted", "change", "predicted", "outcome")
    lines: list[tuple[str, ...]] = [head]
    for one in judged:
        cells = [text for check in (one.start, one.change) for text in _cells(check)]
        outcome = str(one.outcome) if one.decided else "undecided"
        lines.append((one.name, *cells, outcome))
    sizes = [max(len(line[i]) for line in lines) for i in range(len(head))]
    texts = [
        "  ".join(cell.ljust(n) for cell, n in zip(line, sizes, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([label, *texts])


def _cells(check: Check | None) -> tuple[str, str]:
    if check is None or check.estimate is None:
        return "-", "-"
    e = check.estimate
    sign = {"equals": "", "at_most": "≤ "}[check.relation]
    text = f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"
    return text, f"{sign}{check.predicted:g} ± {check.tolerance:g}"
