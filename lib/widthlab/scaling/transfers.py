"""Does the best learning rate of a small model serve a large one?"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from widthlab.canonical import digest
from widthlab.claims import Estimate
from widthlab.claims.estimates import ClaimError, mean
from widthlab.claims.slopes import slope
from widthlab.parametrization import get
from widthlab.runs import Computed, frame, sweep
from widthlab.runs.provenance import code_version
from widthlab.scaling.activity import Carry, ModelLoss, carry_of, stacked, step
from widthlab.scaling.errors import ScalingError, seeds_of
from widthlab.scaling.laws import measure
from widthlab.scaling.plans import ScalingPlan, plan
from widthlab.scaling.programs import Program
from widthlab.scaling.scaled import PlanNumbers, scale_updates, start
from widthlab.scaling.survey import Build
from widthlab.source import source_sha256

if TYPE_CHECKING:
    import pandas as pd

_FUNCTIONS = ("build", "data", "loss", "tx")


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedWidth(Computed):
    """Models of one width, by table, learning rate and seed: one program.

    Attributes:
        build: makes the model.
        data: `data(key, step)`, a batch; the key is the seed's own.
        loss: `loss(model, batch)`.
        tx: makes the optimizer from its learning rate, such as optax.adam.
        parametrizations: names of tables.
        width: of the models.
        base_width: where they are the user's own.
        lrs: learning rates.
        seeds: seeds of weights and data.
        steps: of training.
        optimizer: name of the update rule.
    """

    kind: ClassVar[str] = "computations"

    build: Build
    data: Callable[[Any, Any], Any]
    loss: ModelLoss
    tx: Callable[[Any], optax.GradientTransformation]
    parametrizations: tuple[str, ...]
    width: int
    base_width: int
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int
    optimizer: str

    @property
    def columns(self) -> dict[str, Any]:
        """What tells one from another in a table."""
        return {"width": self.width}

    def to_json(self) -> dict[str, Any]:
        """Return the settings, with functions as the hash of their source."""
        return self._said

    @functools.cached_property
    def _said(self) -> dict[str, Any]:
        # Once: what a function of a notebook refers to may change while this runs.
        here = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        sources = {name: source_sha256(here.pop(name)) for name in _FUNCTIONS}
        # The library's own version does not cover this room, which stored runs of
        # other kinds do not depend on.
        room = code_version(sorted(File(__file__).parent.glob("*.py")))
        plain = super().to_json()
        return {**plain, "fields": {**here, **sources}, "source": room}

    def __hash__(self) -> int:
        return hash(digest(self.to_json()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainedWidth) and self.to_json() == other.to_json()

    def run(self) -> list[dict[str, Any]]:
        """Return the loss of each: the mean over the last quarter of training."""
        sizes = measure(self.build, self.base_width)
        plans = [
            plan(
                self.build,
                get(name),
                width=self.width,
                base_width=self.base_width,
                optimizer=self.optimizer,
                sizes=sizes,
            )
            for name in self.parametrizations
        ]
        names = [made.parametrization.name for made in plans]
        losses = self.losses(plans)
        return [
            {"parametrization": name, "lr": lr, "seed": seed, "loss": float(loss)}
            for name, by_rate in zip(names, losses, strict=True)
            for lr, by_seed in zip(self.lrs, by_rate, strict=True)
            for seed, loss in zip(self.seeds, by_seed, strict=True)
        ]

    def losses(self, plans: Sequence[ScalingPlan]) -> np.ndarray:
        """Losses by plan, rate and seed: one program trains all."""
        made = plans[0]
        factors, numbers = stacked(plans)
        graph = nnx.graphdef(
            nnx.eval_shape(lambda: start(self.build, made, nnx.Rngs(0)))
        )

        def draw(given: Any, seed: Any) -> Any:
            weights, order = jax.random.split(jax.random.key(seed))
            model = start(self.build, made, nnx.Rngs(weights), numbers(given))
            return nnx.as_pure(nnx.state(model)), order

        def begin(given: Any, lr: Any, drawn: Any) -> Carry:
            model = nnx.merge(graph, drawn[0])
            return carry_of(model, self._optimizer(lr, made, numbers(given)))

        def train(given: Any, lr: Any, order: Any, carry: Carry, number: Any) -> Any:
            optimizer = self._optimizer(lr, made, numbers(given))
            batch = self.data(order, number)
            return step(graph, optimizer, self.loss, carry, batch)[:2]

        rates, seeds = jnp.asarray(self.lrs), jnp.asarray(self.seeds)
        # Drawn one after another, as in `laws.log_sizes`.
        drawn = Program(
            lambda factors, seeds: jax.lax.map(
                lambda given: jax.lax.map(lambda seed: draw(given, seed), seeds),
                factors,
            )
        )(factors, seeds)
        carry = Program(_over(begin, (0, None, 0), (None, 0, None), (None, None, 0)))(
            factors, rates, drawn
        )
        work = Program(
            _over(
                train,
                (0, None, 0, 0, None),
                (None, 0, None, 0, None),
                (None, None, 0, 0, None),
            ),
            many=True,
        )
        losses = []
        for number in range(self.steps):
            carry, loss = work(factors, rates, drawn[1], carry, jnp.asarray(number))
            losses.append(np.asarray(loss))
        return np.mean(losses[-max(1, self.steps // 4) :], axis=0)

    def _optimizer(self, lr: Any, made: ScalingPlan, numbers: PlanNumbers) -> Any:
        return scale_updates(self.tx(lr), made, numbers=numbers)


def _over(function: Callable[..., Any], *axes: tuple[int | None, ...]) -> Any:
    """Vectorise over plans, rates and seeds, in this order of axes."""
    for ins in reversed(axes):
        function = jax.vmap(function, ins)
    return function


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
    numbers = seeds_of(seeds)
    _refuse(rates, steps, parametrizations)
    base = min(widths) if base_width is None else base_width
    tables = tuple(parametrizations)
    runs = [
        TrainedWidth(
            build, data, loss, tx, tables, width, base, rates, numbers, steps, optimizer
        )
        for width in widths
    ]
    return Transfer(frame(sweep(runs, **options)))


def _refuse(rates: Sequence[float], steps: int, tables: Sequence[str]) -> None:
    """Refuse rates, steps and names of tables that make no sense."""
    if not all(0 < rate < np.inf for rate in rates):
        raise ScalingError(f"lrs are {[*rates]}; each must be a number above 0")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ScalingError(f"steps is {steps!r}; it must be an integer from 1 on")
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
