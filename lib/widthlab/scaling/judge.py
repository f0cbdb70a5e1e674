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
        layer: whether it has parameters of its own.
    """

    name: str
    grows: bool
    read_out: bool
    layer: bool


class Expected(NamedTuple):
    """What is predicted of an output: exponents, or None where nothing is judged.

    Attributes:
        name: path of the module.
        start: of its size at the start.
        change: of its change in training.
        own: of what its own parameters change, its inputs being those at the start.
        at_most: which of these are upper bounds.
        decided: whether the module is judged at all.
    """

    name: str
    start: float | None
    change: float | None
    own: float | None
    at_most: tuple[str, ...] = ()
    decided: bool = True


class Rules(NamedTuple):
    """What a check is judged by.

    Attributes:
        arms: names of the table, and of the control if there is one.
        expected: of the modules, in the order in which they run.
        margin: tolerance of a slope.
        along: what grows, "width" or "depth".
    """

    arms: tuple[str, ...]
    expected: tuple[Expected, ...]
    margin: float
    along: str = "width"


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


QUANTITIES = ("start", "change", "own")
"""What is measured of a module: as in `Expected`."""


class ModuleJudgement(NamedTuple):
    """What one module came to.

    Attributes:
        name: path of the module; "model" for the whole.
        start: the check of its size at the start; None where that is zero.
        change: the check of its change.
        own: the check of what its own parameters change; None where it has none.
        decided: whether it is judged at all.
        gone: quantities that are zero, or no number, at some sizes and not at others:
            no power of the size, and wrong.
    """

    name: str
    start: Check | None
    change: Check | None
    own: Check | None = None
    decided: bool = True
    gone: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Fail if one check fails, pass if all pass."""
        checks = (self.start, self.change, self.own)
        found = {c.outcome() for c in checks if c is not None}
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

    def fails_in(self, quantity: str) -> bool:
        """Whether one of its quantities is wrong."""
        check = getattr(self, quantity)
        failed = check is not None and check.outcome() is Outcome.FAIL
        return quantity in self.gone or failed


def judge(frame: pd.DataFrame, rules: Rules) -> tuple[ModuleJudgement, ...]:
    """Judge every module of a table of measurements.

    Args:
        frame: as in `CoordinateCheck`, of one parametrization.
        rules: what is predicted.
    """
    found = []
    for one in rules.expected:
        rows = frame.loc[frame["module"] == one.name]
        start, change, own = (_check(rows, one, q, rules) for q in QUANTITIES)
        gone = tuple(q for q in QUANTITIES if _goes(rows, q, rules.along))
        found.append(ModuleJudgement(one.name, start, change, own, one.decided, gone))
    return tuple(found)


def along_width(
    signals: Iterable[Signal], name: str, undecided: Sequence[str], *, tied: bool
) -> tuple[Expected, ...]:
    """Return what a table predicts of a model's outputs as the width grows.

    Args:
        signals: the outputs.
        name: of the table.
        undecided: words in names of what is not judged.
        tied: whether an embedding is the read-out, which then cannot start at zero.

    Raises:
        ScalingError: nothing is predicted for the table.
    """
    predicted, found = predicted_for(name), []
    for signal in signals:
        # A layer of constant width inside a network is judged as what it feeds.
        output = signal.read_out and not signal.grows
        # Logits of a tied embedding: of each token's own row of order one, and others'.
        # Own changes as bounded: beside what is learned they have a part of order
        # n^(-1/2) that is random, which is no small one where gradients are (keys).
        at_most = QUANTITIES if output and tied else ("own",)
        start = predicted.output_start if output and not tied else 0.0
        change = 0.0 if output else predicted.change
        # What a tied embedding gives back is right only behind its multiplier.
        before = tied and signal.name.endswith(".attend")
        decided = not before and not any(word in signal.name for word in undecided)
        found.append(Expected(signal.name, start, change, change, at_most, decided))
    return tuple(found)


def _goes(rows: pd.DataFrame, quantity: str, along: str) -> bool:
    """Whether all seeds of one size are zero or no number, and none of another."""
    chosen = rows.loc[rows["quantity"] == quantity]
    there = (chosen["value"] > 0) & chosen["value"].map(math.isfinite)
    by_size = there.groupby(chosen[along]).mean()
    return bool((by_size == 0).any() and (by_size == 1).any())


def _check(
    rows: pd.DataFrame, expected: Expected, quantity: str, rules: Rules
) -> Check | None:
    chosen = rows.loc[rows["quantity"] == quantity]
    exponent = getattr(expected, quantity)
    if exponent is None or not len(chosen):
        return None
    if not all(0 < value < math.inf for value in chosen["value"]):
        return None  # zero at the start, or not finite: no logarithm
    estimate = slope(chosen, width=rules.along)
    what = f"slope of {quantity} against {rules.along}"
    if quantity in expected.at_most:
        return Check.at_most(
            expected.name, what, exponent, estimate, slack=rules.margin
        )
    return Check.equals(expected.name, what, exponent, rules.margin, estimate)


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
