"""Models of one width, trained with several learning rates: one computation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path as File
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from widthlab.canonical import digest
from widthlab.parametrization import get
from widthlab.runs import Computed
from widthlab.runs.provenance import code_version
from widthlab.scaling.activity import Carry, carry_of, stacked, step
from widthlab.scaling.draws import Draw, draws_of, pairs_of_keys
from widthlab.scaling.laws import measure
from widthlab.scaling.observed import ModelLoss, unwatched
from widthlab.scaling.plans import ScalingPlan, plan
from widthlab.scaling.programs import Program
from widthlab.scaling.scaled import PlanNumbers, rescale, scale_updates
from widthlab.scaling.survey import Build
from widthlab.source import source_sha256

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
        draws = draws_of(self.build)
        sizes = measure(self.build, self.base_width, draws=draws)
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
        losses = self.losses(plans, draws(self.width))
        return [
            {"parametrization": name, "lr": lr, "seed": seed, "loss": float(loss)}
            for name, by_rate in zip(names, losses, strict=True)
            for lr, by_seed in zip(self.lrs, by_rate, strict=True)
            for seed, loss in zip(self.seeds, by_seed, strict=True)
        ]

    def losses(self, plans: Sequence[ScalingPlan], draw: Draw) -> np.ndarray:
        """Losses by plan, rate and seed of what is drawn: one program trains all."""
        made = plans[0]
        factors, numbers = stacked(plans)
        graph = draw.graph

        def begin(given: Any, lr: Any, drawn: Any) -> Carry:
            model = nnx.merge(graph, drawn)
            rescale(model, numbers(given))
            return carry_of(model, self._optimizer(lr, made, numbers(given)))

        def train(given: Any, lr: Any, key: Any, carry: Carry, number: Any) -> Any:
            optimizer = self._optimizer(lr, made, numbers(given))
            batch = self.data(jax.random.wrap_key_data(key), number)
            # Widths are trained in threads, side by side.
            taken = step(graph, optimizer, self.loss, carry, batch, watch=unwatched)
            return taken.carry, taken.loss

        rates, (weights, order) = jnp.asarray(self.lrs), pairs_of_keys(self.seeds)
        by_plan, by_rate, by_seed = (0, None, None), (None, 0, None), (None, None, 0)
        begun = Program(_over(begin, by_plan, by_rate, by_seed))
        axes = [(*by, 0, None) for by in (by_plan, by_rate, by_seed)]
        work = Program(_over(train, *axes), many=True)
        carry = begun(factors, rates, draw(weights))
        losses = []
        for number in range(self.steps):
            carry, loss = work(factors, rates, order, carry, jnp.asarray(number))
            losses.append(np.asarray(loss))
        return np.mean(losses[-max(1, self.steps // 4) :], axis=0)

    def _optimizer(self, lr: Any, made: ScalingPlan, numbers: PlanNumbers) -> Any:
        return scale_updates(self.tx(lr), made, numbers=numbers)


def _over(function: Callable[..., Any], *axes: tuple[int | None, ...]) -> Any:
    """Vectorise over plans, rates and seeds, in this order of axes."""
    for ins in reversed(axes):
        function = jax.vmap(function, ins)
    return function
