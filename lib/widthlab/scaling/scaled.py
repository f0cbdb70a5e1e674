"""A model of one's own, scaled: plain Flax with plain optax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from widthlab.parametrization import Parametrization
from widthlab.scaling.blocks import BuildDeep, of_depth
from widthlab.scaling.cases import Roles
from widthlab.scaling.depths import Depth
from widthlab.scaling.errors import ScalingError
from widthlab.scaling.guard import refuse_other
from widthlab.scaling.plans import ScalingPlan, plan
from widthlab.scaling.survey import Build, Path, Width, parameters, path_of
from widthlab.scaling.tables import show
from widthlab.scaling.tied import Multiplier


class Scaled:
    """A scaled model, the factors on its learning rates, and the table of both.

    Attributes:
        model: the model, rescaled; its class and its call are the user's own.
        plan: what was done to each parameter.
    """

    def __init__(self, model: nnx.Module, plan: ScalingPlan):
        """Hold a model that `start` made, and its plan."""
        self.model, self.plan = model, plan

    def optimizer(
        self, tx: optax.GradientTransformation, *, decay: float = 0.0
    ) -> optax.GradientTransformationExtraArgs:
        """Return the optimizer with each parameter's factor on what it does.

        Weight decay inside `tx` (optax.adamw) is multiplied by the same factor, as
        the learning rate is: per step a parameter shrinks by rate × factor × decay, so
        that under μP hidden matrices and the read-out are held back less and less as
        the width grows, and a decay that was tuned small is too small. Prefer `decay`,
        by whose share every parameter shrinks in each step at any width. It does not
        contain the learning rate, and follows no schedule: for what optax.adamw with
        rate η and decay ω does at the base width, give ηω. Adam's ε is not scaled:
        gradients shrink as the width grows, so that it has to stay far below them.

        Another optimizer than the plan's is known by what it keeps. Rules that keep
        nothing (sign descent), or keep what the plan's rule keeps and do something
        else with it (LAMB, LARS, AdaMax), are not told apart: they are yours to avoid.

        Args:
            tx: a whole optimizer of optax, with its learning rate or schedule.
            decay: share by which parameters shrink in each step, from 0 to below 1.

        Raises:
            ScalingError: `decay` is no such share; or, when first used, `tx` keeps what
                the plan's optimizer does not, or lacks what it needs.
        """
        if not 0 <= decay < 1:
            raise ScalingError(
                f"decay is {decay}; it is the share by which parameters shrink in each "
                "step, from 0 to below 1"
            )
        return scale_updates(tx, self.plan, decay)

    def matrices(self, params: Any) -> Any:
        """Return optax's Muon dimensions: hidden matrices, None for all others.

        For `optax.contrib.muon(..., muon_weight_dimension_numbers=scaled.matrices)`,
        which trains the others with Adam.
        """
        from optax.contrib import MuonDimensionNumbers

        rows = self.plan.by_path

        def numbers(keys: Any, leaf: Any) -> Any:
            row, ndim = rows[path_of(keys)], len(leaf.shape)
            if not row.matrix:
                return None
            fans = (row.fan.inputs, row.fan.outputs)
            return MuonDimensionNumbers(*(tuple(a % ndim for a in f) for f in fans))

        return jax.tree_util.tree_map_with_path(numbers, params)

    def __str__(self) -> str:
        return show(self.plan)


def parametrize(
    build: Build | BuildDeep,
    parametrization: str | Parametrization,
    *,
    width: Width,
    base_width: Width,
    optimizer: str = "adam",
    rngs: nnx.Rngs,
    roles: Roles | None = None,
    tied: bool | None = None,
    depth: Depth | None = None,
) -> Scaled:
    """Return a model of one's own under a parametrization.

    At the base width it is bit for bit what `build` makes. At another width its initial
    values and learning rates are multiplied by one factor a parameter, such that sizes
    and updates follow the table from the base width on; multipliers are absorbed.

    Args:
        build: makes the model, `build(width, rngs)`; of several independent widths it
            gets a mapping.
        parametrization: a table of the catalogue, by name or as such.
        width: the width, or widths by name.
        base_width: width at which the model is the user's own, and was tuned.
        optimizer: the update rule: a key of `widthlab.scaling.rules.RULES`.
        rngs: what the initial values are drawn with.
        roles: what parameters do that no rule covers, or for which it errs, by path.
        tied: whether an embedding is the read-out too; by default it is if the model's
            code calls `attend` and no other parameter reads out.
        depth: how many blocks there are, and how their branches scale; `build` is
            then called as `build(width, depth, rngs)`.

    Raises:
        ScalingError: a model that cannot be scaled, with what to write.

    Example:
        >>> def build(width, rngs):
        ...     return nnx.Sequential(
        ...         nnx.Linear(8, width, rngs=rngs),
        ...         nnx.relu,
        ...         nnx.Linear(width, width, rngs=rngs),
        ...         nnx.relu,
        ...         nnx.Linear(width, 3, use_bias=False, rngs=rngs),
        ...     )
        >>> scaled = parametrize(
        ...     build, "mup", width=256, base_width=64, rngs=nnx.Rngs(0)
        ... )
        >>> [row.lr for row in scaled.plan.rows if row.tensor.path[-1] == "kernel"]
        [1.0, 0.25, 0.25]
        >>> tx = scaled.optimizer(optax.adam(1e-2))
        >>> optimizer = nnx.Optimizer(scaled.model, tx, wrt=nnx.Param)
    """
    if not isinstance(rngs, nnx.Rngs):
        raise ScalingError(f"rngs is {rngs!r}; give nnx.Rngs(seed)")
    made = plan(
        build,
        parametrization,
        width=width,
        base_width=base_width,
        optimizer=optimizer,
        roles=roles,
        tied=tied,
        depth=depth,
    )
    return Scaled(start(build, made, rngs), made)


class PlanNumbers(NamedTuple):
    """The factors of a plan, by path and by name; they may be traced.

    Attributes:
        init: on initial values.
        lr: on learning rates.
        multipliers: of each multiplier.
    """

    init: Mapping[Path, Any]
    lr: Mapping[Path, Any]
    multipliers: Mapping[str, Any]

    @classmethod
    def of(cls, made: ScalingPlan) -> PlanNumbers:
        """Return those of a plan, without what is left as it is."""
        init = {row.tensor.path: row.init for row in made.rows if row.init != 1.0}
        lr = {row.tensor.path: row.lr for row in made.rows if row.lr != 1.0}
        return cls(init, lr, made.multipliers)


def start(
    build: Build | BuildDeep,
    made: ScalingPlan,
    rngs: nnx.Rngs,
    numbers: PlanNumbers | None = None,
) -> Any:
    """Return a model with the initial values of a plan; it can be traced."""
    model = of_depth(build, made.depth and made.depth.now)(made.width, rngs)
    rescale(model, PlanNumbers.of(made) if numbers is None else numbers)
    return model


def rescale(model: nnx.Module, numbers: PlanNumbers) -> None:
    """Multiply a model's own initial values, and set its multipliers."""
    for path, variable in parameters(model):
        # Not even multiplied by one: at the base width nothing is touched.
        if path in numbers.init:
            value = variable[...]
            variable[...] = value * jnp.asarray(numbers.init[path], value.dtype)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, Multiplier):
            module.factor[...] = jnp.asarray(numbers.multipliers[module.name])


def scale_updates(
    tx: optax.GradientTransformation,
    made: ScalingPlan,
    decay: float = 0.0,
    numbers: PlanNumbers | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Multiply what an optimizer does to each parameter by its factor."""
    rows = made.by_path
    rates = (PlanNumbers.of(made) if numbers is None else numbers).lr
    shrinks = any(row.retained != 1.0 for row in made.rows)
    inner = optax.with_extra_args_support(tx)

    def init(params: Any) -> Any:
        state = inner.init(params)
        refuse_other(made, state)
        return (state, jnp.zeros((), jnp.int32)) if shrinks else (state,)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        if params is None and (decay or shrinks):
            raise ScalingError("give the parameters: update(updates, state, params)")
        updates, inside = inner.update(updates, state[0], params, **extra)

        def one(keys: Any, update: Any, *weights: Any) -> Any:
            path = path_of(keys)
            if path in rates:
                update = update * jnp.asarray(rates[path], update.dtype)
            for weight in weights:
                lost = decay + _lost(rows[path].retained, state)
                update = update - jnp.asarray(lost, update.dtype) * weight
            return update

        trees = (updates, params) if decay or shrinks else (updates,)
        scaled = jax.tree_util.tree_map_with_path(one, *trees)
        return scaled, (inside, *(step + 1 for step in state[1:]))

    return optax.GradientTransformationExtraArgs(init, update)


def _lost(retained: float, state: Any) -> Any:
    """Share of the initial values that the first step takes (HP and HPZ)."""
    if len(state) == 1:
        return 0.0
    return jnp.where(state[1] == 0, 1.0 - retained, 0.0)


__all__ = ["Scaled", "parametrize", "rescale", "scale_updates", "start"]
