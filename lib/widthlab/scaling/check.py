"""The coordinate check: do a model's signals and their changes scale as predicted?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import optax

from widthlab.parametrization import Parametrization, get
from widthlab.scaling.cases import Roles
from widthlab.scaling.draws import draws_of
from widthlab.scaling.errors import ScalingError, options_of
from widthlab.scaling.judge import (
    Rules,
    Signal,
    along_width,
    judge,
    predicted_for,
    verdict_of,
)
from widthlab.scaling.laws import measure
from widthlab.scaling.measured import Setting, measured
from widthlab.scaling.observed import MODEL, ModelLoss
from widthlab.scaling.plans import plan
from widthlab.scaling.signals import signals_of
from widthlab.scaling.survey import Build
from widthlab.scaling.tables import judgements_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from widthlab.claims.check import Outcome
    from widthlab.scaling.judge import ModuleJudgement

MARGIN = 0.15
"""Tolerance of a slope: below half of the least distance between exponents, ½."""


class CoordinateCheck(NamedTuple):
    """What a coordinate check came to.

    Attributes:
        frame: a row a module, width or depth, seed and quantity: "start", "change", or
            "own", by how much a layer's own parameters change its output alone.
        judgements: one a module, in the order in which they run.
        control: those of the control, judged as the parametrization itself; it must
            fail. Empty without a control.
        label: what was checked.
        rules: what is predicted of which module.
    """

    frame: pd.DataFrame
    judgements: tuple[ModuleJudgement, ...]
    control: tuple[ModuleJudgement, ...]
    label: str
    rules: Rules

    def of(self, seeds: Iterable[int]) -> CoordinateCheck:
        """Judge some of the seeds alone, as another check would have had them.

        Raises:
            ScalingError: a seed was not measured, or there are fewer than two.
        """
        chosen = {*seeds}
        if len(chosen) < 2 or not chosen <= {*self.frame["seed"]}:
            raise ScalingError(
                f"seeds are {sorted(chosen)}; give two or more of those that were "
                f"measured, {sorted({*self.frame['seed']})}"
            )
        rows = self.frame.loc[self.frame["seed"].isin(sorted(chosen))]
        label = f"{self.label}, of which {len(chosen)}"
        return judged(rows, self.rules, label)

    @property
    def outcome(self) -> Outcome:
        """Fail if a module does; pass if all that are judged pass, and a control fails.

        Open where nothing is judged, or where no output moved at all.

        A control that does not fail leaves all open: this check could not have told.
        """
        return verdict_of(self.judgements, self.control)

    @property
    def wrong(self) -> str | None:
        """The module in which the fault is, as far as can be told; None without one.

        Of the innermost modules that fail, the first to run whose start is wrong; if
        all starts are right, the first whose own change is, which nothing in front of
        it can spoil; and if these are right, too, the first whose change is.
        """
        failing = [j for j in self.judgements if j.fails]
        inner = [
            j
            for j in failing
            if j.name != MODEL
            and not any(k.name.startswith(f"{j.name}.") for k in failing)
        ] or failing
        for quantity in ("start", "own", "change"):
            for j in inner:
                if j.fails_in(quantity):
                    return j.name
        return None

    def __str__(self) -> str:
        lines = [judgements_table(self.label, self.judgements)]
        lines.append(f"outcome: {self.outcome}")
        if self.wrong:
            lines.append(f"look at: {self.wrong}")
        if self.control:
            failed = sum(j.fails for j in self.control)
            lines.append(f"control: {failed} of {len(self.control)} modules fail")
        return "\n".join(lines)

    def figure(self, quantity: str = "change") -> Figure:
        """Draw a quantity of each innermost module against width, by arm."""
        from widthlab import plots

        rows = self.frame.loc[
            (self.frame["quantity"] == quantity) & (self.frame["value"] > 0)
        ]
        chosen = rows.loc[rows["module"].isin(self._innermost(rows))]
        chosen = chosen.assign(width=chosen[self.rules.along])
        figure = plots.small_multiples(
            chosen, panels="module", titles=str, height=1.7, title=quantity
        )
        for ax in figure.axes:
            if ax.get_xlabel():
                ax.set_xlabel(self.rules.along)
        return figure

    def _innermost(self, rows: pd.DataFrame) -> list[str]:
        """Return modules that hold no others; of the model what no other puts out."""
        names = [j.name for j in self.judgements]
        values = {
            name: rows.loc[rows["module"] == name, "value"].tolist() for name in names
        }
        return [
            n
            for n in names
            if not any(m.startswith(f"{n}.") for m in names)
            and not (
                n == MODEL and any(values[n] == values[m] for m in names if m != n)
            )
        ]


def coordinate_check(
    build: Build,
    parametrization: str | Parametrization = "mup",
    *,
    widths: Sequence[int],
    batch: Any,
    loss: ModelLoss,
    base_width: int | None = None,
    optimizer: str = "adam",
    tx: optax.GradientTransformation | None = None,
    steps: int = 4,
    seeds: int | Sequence[int] = 4,
    roles: Roles | None = None,
    tied: bool | None = None,
    control: str | None = "sp",
    undecided: Sequence[str] = ("scores",),
    margin: float = MARGIN,
    together: int = 8,
) -> CoordinateCheck:
    r"""Train a model at several widths for a few steps, and judge each module's output.

    Of each output the root mean square at the start, that of its change, and that of
    what its own parameters change while its inputs are those of the start, have a slope
    against width by seed, whose mean with Student's interval is judged against the
    exponent predicted for μP or NTP. Changes are measured with a read-out that
    starts at zero: one that starts at $1/n$ moves by a random part of order
    $n^{-1/2}$ too, which hides the exponent at a small rate. Such a part is in what a
    layer changes of its own as well, so that its exponent is judged as a bound: too
    large a learning rate of a single layer is seen there, and too small a one is not.

    Attention scores are not decided: at such sizes $q \cdot k / d$ and
    $q \cdot k / \sqrt d$ cannot be told apart by their change, since queries and keys
    align only slowly. Keep the size of a head fixed.

    Args:
        build: makes the model, `build(width, rngs)`.
        parametrization: "mup" or "ntk", or a table with their predictions.
        widths: at least three.
        batch: what the loss takes, the same at each step.
        loss: `loss(model, batch)`.
        base_width: where the model is the user's own; by default the least width.
        optimizer: name of the update rule.
        tx: the optimizer itself, with its rate; by default Adam with 0.003.
        steps: of training, at least two: the first one only wakes the read-out.
        seeds: how many models of each width, or their seeds.
        roles: as for `widthlab.scaling.parametrize`.
        tied: as for `widthlab.scaling.parametrize`.
        control: a table that must fail; None for none.
        undecided: outputs in whose name one of these words is are not judged.
        margin: tolerance of a slope.
        together: seeds that are trained at a time, as far as memory goes.

    Raises:
        ScalingError: the model cannot be scaled, nothing is predicted, or the model
            draws random numbers when it runs, as dropout does (`model.eval()` inside
            build turns it off).
    """
    table = parametrization
    if isinstance(table, str):
        table = get(table)
    predicted_for(table.name)
    ascending, numbers = options_of(
        "width", widths, steps=steps, seeds=seeds, together=together, margin=margin,
        undecided=undecided,
    )  # fmt: skip
    base = ascending[0] if base_width is None else base_width
    arms = [table, *([get(control)] if control else [])]
    signals = seen(signals_of(build, batch, loss, ascending))
    setting = Setting(
        batch, loss, optax.adam(3e-3) if tx is None else tx, steps, numbers,
        together, silent(signals),
    )  # fmt: skip
    names = tuple(arm.name for arm in arms)
    draws = draws_of(build)
    sizes, frames, is_tied = measure(build, base, draws=draws), [], False
    for width in ascending:
        plans = [
            plan(
                build, arm, width=width, base_width=base, optimizer=optimizer,
                roles=roles, tied=tied, sizes=sizes,
            )
            for arm in arms
        ]  # fmt: skip
        is_tied = bool(plans[0].multipliers)
        layers = [s.name for s in signals if s.layer]
        frames.append(
            measured(setting, draws(width), names, plans, layers).assign(width=width)
        )
    expected = along_width(signals, table.name, undecided, tied=is_tied)
    label = f"{table.label}, {optimizer}, widths {', '.join(map(str, ascending))}"
    label += f", {len(numbers)} seeds, {steps} steps"
    return judged(joined(frames), Rules(names, expected, margin), label)


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of several sizes as one."""
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def seen(signals: list[Signal]) -> list[Signal]:
    """Return the outputs that were seen.

    Raises:
        ScalingError: there are none.
    """
    if not signals:
        raise ScalingError(
            "no module's output was seen: the loss calls neither the model nor any of "
            "its modules, so that there is nothing to judge; write it as "
            "`loss(model, batch)` with model(x) inside"
        )
    return signals


def silent(signals: Sequence[Signal]) -> frozenset[str]:
    """Return the layers that return what the model does: they start at zero."""
    return frozenset(s.name for s in signals if s.read_out and not s.grows)


def judged(frame: pd.DataFrame, rules: Rules, label: str) -> CoordinateCheck:
    """Judge a table, and the control as if it were the table."""
    arms = [
        judge(frame.loc[frame["parametrization"] == arm], rules) for arm in rules.arms
    ]
    return CoordinateCheck(
        frame, arms[0], arms[1] if len(arms) > 1 else (), label, rules
    )
