"""What each submodule of a model puts out, before and after some steps of training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from widthlab.scaling.laws import QUICK
from widthlab.scaling.plans import ScalingPlan
from widthlab.scaling.scaled import PlanNumbers, scale_updates, start
from widthlab.scaling.survey import Build, Path, parameters

ModelLoss = Callable[[Any, Any], Any]
"""`loss(model, batch)`, a number."""

MODEL = "model"
"""What the output of the whole model is called."""


class Activity(NamedTuple):
    """Root mean squares by module: at the start, and of what training changes.

    Attributes:
        start: of each output with the model's own initial values.
        change: of how each output moves, the read-out starting at zero.
        loss: after training.
    """

    start: dict[str, Any]
    change: dict[str, Any]
    loss: Any


def measure_activity(
    build: Build,
    plans: Sequence[ScalingPlan],
    tx: optax.GradientTransformation,
    batch: Any,
    loss: ModelLoss,
    steps: int,
    keys: Any,
    together: int,
    read_outs: Collection[str],
) -> Activity:
    """Train models of one width, one for each plan and key; return what they do.

    One program for all: plans and keys are vectorised, steps are a loop, and so are the
    three forward passes (as the model starts, with a silent read-out, and after
    training).

    Returns:
        Arrays of shape (plans, keys).
    """
    made = plans[0]
    graph = nnx.graphdef(_abstract(build, made))
    paths = [row.tensor.path for row in made.rows]
    factors = _factors(plans)

    def numbers(given: Any) -> PlanNumbers:
        init, lr, multipliers = given
        return PlanNumbers(
            dict(zip(paths, init, strict=True)),
            dict(zip(paths, lr, strict=True)),
            multipliers,
        )

    def begin(given: Any, key: Any) -> Any:
        model = start(build, made, nnx.Rngs(key), numbers(given))
        own = _values(model)
        silence(model, made, read_outs)
        return own, _values(model)

    def one(given: Any, begun: Any) -> Activity:
        own, silent = begun
        model = nnx.merge(graph, *silent)
        optimizer = scale_updates(tx, made, numbers=numbers(given))
        losses = train(model, optimizer, lambda step: batch, loss, steps)
        three = jax.tree.map(lambda *x: jnp.stack(x), own, silent, _values(model))
        seen = jax.lax.map(
            lambda values: outputs(nnx.merge(graph, *values), batch, loss), three
        )
        return Activity(
            {name: _rms(value[0]) for name, value in seen.items()},
            {name: _rms(value[2] - value[1]) for name, value in seen.items()},
            losses[-1],
        )

    # Drawing is compiled by itself, and quickly: it takes longer than training else.
    # One after another, as in `laws.log_sizes`.
    draw = jax.jit(
        lambda given, keys: jax.lax.map(
            lambda numbers: jax.lax.map(lambda key: begin(numbers, key), keys), given
        )
    )
    work = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, 0)))
    parts, drawn, worked = [], None, None
    for keys_here in _chunks(keys, together):
        if drawn is None:
            drawn = draw.lower(factors, keys_here).compile(compiler_options=QUICK)
        begun = drawn(factors, keys_here)
        if worked is None:
            worked = work.lower(factors, begun).compile(compiler_options=QUICK)
        active = worked(factors, begun)
        parts.append(jax.tree.map(np.asarray, active))
    joined = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *parts)
    return jax.tree.map(lambda x: x[:, : len(keys)], joined)


def _chunks(keys: Any, together: int) -> list[Any]:
    """Keys in parts of equal length, the last filled up with the last one again."""
    size = min(together, len(keys))
    count = -(-len(keys) // size)
    places = np.minimum(np.arange(count * size), len(keys) - 1)
    return [keys[part] for part in places.reshape(count, size)]


def _factors(plans: Sequence[ScalingPlan]) -> Any:
    """All numbers of several plans, with the plans in front."""
    init, lr = (
        list(
            np.array([[getattr(r, name) for r in p.rows] for p in plans], np.float32).T
        )
        for name in ("init", "lr")
    )
    names = plans[0].multipliers
    return (
        init,
        lr,
        {n: np.array([p.multipliers[n] for p in plans], np.float32) for n in names},
    )


def _abstract(build: Build, made: ScalingPlan) -> Any:
    """Return a scaled model without numbers."""
    return nnx.eval_shape(lambda: start(build, made, nnx.Rngs(0)))


def _values(model: nnx.Module) -> Any:
    _, params, rest = nnx.split(model, nnx.Param, ...)
    return nnx.as_pure(params), nnx.as_pure(rest)


def silence(model: nnx.Module, made: ScalingPlan, read_outs: Collection[str]) -> None:
    r"""Let the read-out start at zero.

    What it starts with is noise of order $n^{-1/2}$ in μP, which hides the exponent of
    its change. Only layers that return what the model does: one of constant width
    inside it, or an adapter whose other half is zero, would stop all training.
    """
    rows = made.by_path
    for path, variable in parameters(model):
        layer = ".".join(map(str, path[:-1]))
        if rows[path].tensor.growing(rows[path].fan.inputs) and layer in read_outs:
            variable[...] = jnp.zeros_like(variable[...])


def train(
    model: nnx.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    batch_of: Callable[[Any], Any],
    loss: ModelLoss,
    steps: int,
) -> Any:
    """Train a model in place, by a loop that is compiled once; return the losses."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    values = nnx.as_pure(params)
    others = nnx.as_pure(rest)

    def step(carry: Any, number: Any) -> Any:
        values, others, state = carry

        def of(values: Any) -> Any:
            here = nnx.merge(graph, values, others)
            # What a model sows is taken away from it, step by step.
            run = nnx.capture(lambda m: loss(m, batch_of(number)), nnx.Intermediate)
            found, _ = run(here)
            return found, nnx.as_pure(nnx.state(here, nnx.Not(nnx.Param)))

        (found, others), gradients = jax.value_and_grad(of, has_aux=True)(values)
        updates, state = optimizer.update(gradients, state, values)
        return (optax.apply_updates(values, updates), others, state), found

    carry = (values, others, optimizer.init(values))
    (values, others, _), losses = jax.lax.scan(step, carry, jnp.arange(steps))
    nnx.update(model, values)
    nnx.update(model, others)
    return losses


def outputs(model: nnx.Module, batch: Any, loss: ModelLoss) -> dict[str, Any]:
    """Return the output of each submodule by its path, and what the model sows.

    A module that runs several times has several, stacked; what is no array of
    floating-point numbers is left out.
    """

    def run(model: Any) -> Any:
        return loss(model, batch)

    forward = nnx.capture(run, nnx.Intermediate, method_outputs=nnx.Intermediate)
    _, sown = forward(model)
    found: dict[str, Any] = {}
    for path, variable in nnx.to_flat_state(sown):
        for place, leaf in enumerate(_floats(variable.get_value())):
            name = _name(path)
            found[name if not place else f"{name}[{place}]"] = leaf
    return found


def _floats(value: Any) -> list[Any]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(value)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _name(path: Path) -> str:
    parts = path[:-1] if path[-1] == "__call__" else path
    return ".".join(map(str, parts)) or MODEL


def _rms(value: Any) -> Any:
    return jnp.sqrt(jnp.mean(jnp.square(value.astype(jnp.float32))))
