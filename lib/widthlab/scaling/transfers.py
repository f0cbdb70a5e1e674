"""Does the best learning rate of a small model serve a large one?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optax

from widthlab.claims import Estimate
from widthlab.claims.estimates import ClaimError, mean
from widthlab.claims.slopes import slope
from widthlab.runs import frame, sweep
from widthlab.scaling.errors import POSITIVE, ScalingError, integers, seeds_of
from widthlab.scaling.observed import ModelLoss
from widthlab.scaling.survey import Build
from widthlab.scaling.trained import TrainedWidth

if TYPE_CHECKING:
    import pandas as pd


class Transfer(NamedTuple):
    """Losses by table, width, learning rate and seed, and what follows.

    Attributes:
        frame: a row a run; a loss that is no number is of a run that diverged.
    """

    frame: pd.DataFrame

    def optima(self, name: str) -> pd.DataFrame:
        r"""Return the best learning rate of each width and seed.

        It is the minimum of the parabola through the least loss and its neighbours, in
        $\log$ of the rate.

        Raises:
            ClaimError: the least loss is at an end of the rates.
            ScalingError: the table was not trained.
        """
        import pandas as pd

        chosen = self._arm(name)
        pairs = chosen[["width", "seed"]].drop_duplicates().to_numpy().tolist()
        rows = [
            {"width": width, "seed": seed,
             "value": _best(_of(chosen, width=width, seed=seed), name, width)}
            for width, seed in pairs
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def _arm(self, name: str) -> pd.DataFrame:
        known = self.frame["parametrization"].unique()
        if name not in known:
            raise ScalingError(
                f"{name!r} was not trained; the parametrizations are {', '.join(known)}"
            )
        return self.frame.loc[self.frame["parametrization"] == name]

    def drift(self, name: str) -> Estimate:
        """Return the exponent of the best learning rate against width."""
        return slope(self.optima(name))

    def cost(self, name: str) -> Estimate:
        """Return what the small model's best rate costs the largest model.

        Its loss at that rate, less its loss at its own best one; by seed.
        """
        optima = self.optima(name)
        first, last = optima["width"].min(), optima["width"].max()
        chosen = self._arm(name)
        lost = []
        for seed in optima["seed"].unique():
            x, y = _curve(_of(chosen, width=last, seed=seed))
            small, own = (
                np.log(_of(optima, width=width, seed=seed)["value"].item())
                for width in (first, last)
            )
            lost.append(np.interp(small, x, y) - np.interp(own, x, y))
        return mean(lost)

    def __str__(self) -> str:
        lines = []
        for name in self.frame["parametrization"].unique():
            try:
                drift, cost = self.drift(name), self.cost(name)
                lines.append(f"{name}: best rate ~ width^{drift}; costs {cost}")
            except ClaimError as error:
                lines.append(f"{name}: {error}")
        return "\n".join(lines)


def transfer(
    build: Build,
    *,
    widths: Sequence[int],
    lrs: Sequence[float],
    data: Callable[[Any, Any], Any],
    loss: ModelLoss,
    steps: int,
    seeds: int | Sequence[int] = 4,
    parametrizations: Sequence[str] = ("mup", "sp"),
    base_width: int | None = None,
    optimizer: str = "adam",
    tx: Callable[[Any], optax.GradientTransformation] = optax.adam,
    **options: Any,
) -> Transfer:
    """Train a model at several widths and learning rates under two parametrizations.

    Each width is one computation, whose losses are kept: what was interrupted goes on
    with the next one.

    Args:
        build: makes the model, `build(width, rngs)`.
        widths: at least three.
        lrs: learning rates, at least three, above 0 and increasing.
        data: `data(key, step)`, a batch, of JAX's functions.
        loss: `loss(model, batch)`.
        steps: of training.
        seeds: how many, or which.
        parametrizations: names of tables.
        base_width: where the model is the user's own; by default the least width.
        optimizer: name of the update rule.
        tx: makes the optimizer from its learning rate.
        **options: as for `widthlab.sweep`: `store`, `executor`, `progress`.

    Raises:
        ScalingError: too few widths or rates, rates, steps, seeds or tables that make
            no sense, or a model that cannot be scaled.
    """
    rates = tuple(map(float, lrs))
    if len({*widths}) < 3 or len(rates) < 3 or rates != tuple(sorted({*rates})):
        raise ScalingError(
            f"widths are {[*widths]} and lrs {[*lrs]}; give three or more of each, the "
            "rates increasing"
        )
    numbers, sizes = seeds_of(seeds), integers("widths", widths)
    POSITIVE.take("steps", steps, ScalingError)
    _refuse(rates, parametrizations)
    base = min(sizes) if base_width is None else base_width
    tables = tuple(parametrizations)
    runs = [
        TrainedWidth(
            build, data, loss, tx, tables, width, base, rates, numbers, steps, optimizer
        )
        for width in sizes
    ]
    return Transfer(frame(sweep(runs, **options)))


def _refuse(rates: Sequence[float], tables: Sequence[str]) -> None:
    """Refuse rates and names of tables that make no sense."""
    if not all(0 < rate < np.inf for rate in rates):
        raise ScalingError(f"lrs are {[*rates]}; each must be a number above 0")
    if isinstance(tables, str) or not tables or len({*tables}) < len(tables):
        raise ScalingError(
            f"parametrizations is {tables!r}; give a sequence of names, each once, "
            'such as ("mup", "sp")'
        )


def _of(frame: pd.DataFrame, *, width: Any, seed: Any) -> pd.DataFrame:
    return frame.loc[(frame["width"] == width) & (frame["seed"] == seed)]


def _curve(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the rates, and losses; what diverged is as bad as can be."""
    part = part.sort_values("lr")
    losses = part["loss"].to_numpy(float)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    return np.log(part["lr"].to_numpy(float)), losses


def _best(part: pd.DataFrame, name: str, width: Any) -> float:
    x, y = _curve(part)
    least = int(np.argmin(y))
    if least in (0, len(y) - 1):
        end = "low" if least == 0 else "high"
        raise ClaimError(
            f"the least loss of {name!r} at width {width} is at the {end} end of the "
            f"learning rates, {np.exp(x[least]):g}; give more of them"
        )
    near = slice(least - 1, least + 2)
    if not np.isfinite(y[near]).all():
        return float(np.exp(x[least]))  # beside it training diverges
    a, b, _ = np.polyfit(x[near] - x[least], y[near], 2)
    return float(np.exp(x[least] - (b / (2 * a) if a > 0 else 0.0)))
