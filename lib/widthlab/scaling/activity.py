"""What each submodule of a model puts out, before and after some steps of training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from widthlab.scaling.draws import Draw
from widthlab.scaling.noise import refuse_noise
from widthlab.scaling.observed import ModelLoss, observed, outputs
from widthlab.scaling.plans import ScalingPlan
from widthlab.scaling.programs import Program
from widthlab.scaling.scaled import PlanNumbers, rescale, scale_updates
from widthlab.scaling.survey import Path, parameters, path_of


class Activity(NamedTuple):
    """Root mean squares by module: at the start, and of what training changes.

    Attributes:
        start: of each output with the model's own initial values.
        change: of how each output moves, the read-out starting at zero.
        own: of how a layer's output moves if its own parameters alone do.
        loss: after training.
    """

    start: dict[str, Any]
    change: dict[str, Any]
    own: dict[str, Any]
    loss: Any


def measure_activity(
    draw: Draw,
    plans: Sequence[ScalingPlan],
    tx: optax.GradientTransformation,
    batch: Any,
    loss: ModelLoss,
    steps: int,
    keys: Any,
    together: int,
    read_outs: Collection[str],
    layers: Sequence[str] = (),
) -> Activity:
    """Train models of one width, one for each plan and key; return what they do.

    Plans and keys are vectorised in a program, a step that puts out all. It runs once
    with the model as it starts, then through training with a silent read-out, and once
    more. Steps are no loop: XLA's gradients of convolutions are ten times slower there.

    What a layer's own parameters change is seen with those that it has after training
    in a model that has the first ones otherwise, so that its input is that of the
    start, and nothing that others did is in it.

    Args:
        draw: makes the models.
        plans: of the width and depth of these.
        tx: the optimizer.
        batch: what the loss takes.
        loss: `loss(model, batch)`.
        steps: of training.
        keys: one a model, as `widthlab.scaling.draws.keys_of` makes them.
        together: how many of them are trained at a time.
        read_outs: layers that start at zero for training.
        layers: of which the own change is asked for.

    Returns:
        Arrays of shape (plans, keys).

    Raises:
        ScalingError: the models are random when they run, or hold bare arrays.
    """
    made = plans[0]
    graph = draw.graph
    factors, numbers = stacked(plans)

    def begin(given: Any, drawn: Any) -> Any:
        model = nnx.merge(graph, drawn)
        rescale(model, numbers(given))
        optimizer = scale_updates(tx, made, numbers=numbers(given))
        own = carry_of(model, optimizer)
        silence(model, made, read_outs)
        return own, carry_of(model, optimizer)

    def one(given: Any, carry: Carry) -> Stepped:
        optimizer = scale_updates(tx, made, numbers=numbers(given))
        return step(graph, optimizer, loss, carry, batch)

    rescaled = Program(jax.vmap(jax.vmap(begin, (None, 0)), (0, None)))
    work = Program(jax.vmap(jax.vmap(one, (None, 0)), (0, 0)))
    alone = own_change(graph, made, loss, batch, layers)
    parts = []
    for keys_here in _chunks(keys, together):
        as_built, silent = rescaled(factors, draw(keys_here))
        at_start, before = work(factors, as_built), work(factors, silent)
        refuse_noise(draw.model, silent.others, before.carry.others)
        stepped = before
        for _ in range(steps - 1):
            stepped = work(factors, stepped.carry)
        trained = stepped.carry
        after = work(factors, trained)
        change = {
            name: _rms(np.asarray(value) - np.asarray(before.seen[name]))
            for name, value in after.seen.items()
        }
        begun = {name: _rms(value) for name, value in at_start.seen.items()}
        seen = {name: before.seen[name] for name in layers}
        own = {
            name: np.asarray(alone(silent, trained, seen, np.int32(place)))
            for place, name in enumerate(layers)
        }
        parts.append(Activity(begun, change, own, np.asarray(stepped.loss)))
    joined = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *parts)
    return jax.tree.map(lambda x: x[:, : len(keys)], joined)


def own_change(
    graph: Any,
    made: ScalingPlan,
    loss: ModelLoss,
    batch: Any,
    layers: Sequence[str],
) -> Program:
    """Return what moves a layer's parameters alone, and sees how far its output goes.

    It takes begin and end of training, what layers put out first, and a layer's place.
    """
    places = {name: place for place, name in enumerate(layers)}
    paths = [row.tensor.path for row in made.rows]
    place_of = {path: places.get(_layer(path), -1) for path in paths}

    def one(begun: Carry, ended: Carry, before: dict[str, Any], place: Any) -> Any:
        values = jax.tree_util.tree_map_with_path(
            lambda keys, a, b: jnp.where(place == place_of[path_of(keys)], b, a),
            begun.values,
            ended.values,
        )
        seen = outputs(nnx.merge(graph, values, begun.others), batch, loss)
        moved = [
            jnp.sqrt(jnp.mean(jnp.square(seen[name] - before[name]))) for name in layers
        ]
        return jnp.stack(moved)[place]

    by_key = jax.vmap(one, (0, 0, 0, None))
    return Program(jax.vmap(by_key, (0, 0, 0, None)))


def _layer(path: Path) -> str:
    return ".".join(map(str, path[:-1]))


def _chunks(keys: Any, together: int) -> list[Any]:
    """Keys in parts of equal length, the last filled up with the last one again."""
    size = min(together, len(keys))
    count = -(-len(keys) // size)
    places = np.minimum(np.arange(count * size), len(keys) - 1)
    return [keys[part] for part in places.reshape(count, size)]


def stacked(
    plans: Sequence[ScalingPlan],
) -> tuple[Any, Callable[[Any], PlanNumbers]]:
    """Return all numbers of several plans, plans in front, and what reads one's.

    They are lists, since paths are no keys that JAX can sort.
    """
    paths = [row.tensor.path for row in plans[0].rows]
    init, lr = (
        list(
            np.array([[getattr(r, name) for r in p.rows] for p in plans], np.float32).T
        )
        for name in ("init", "lr")
    )
    names = plans[0].multipliers
    multipliers = {
        n: np.array([p.multipliers[n] for p in plans], np.float32) for n in names
    }

    def numbers(given: Any) -> PlanNumbers:
        init, lr, multipliers = given
        return PlanNumbers(
            dict(zip(paths, init, strict=True)),
            dict(zip(paths, lr, strict=True)),
            multipliers,
        )

    return (init, lr, multipliers), numbers


def silence(model: nnx.Module, made: ScalingPlan, read_outs: Collection[str]) -> None:
    r"""Let the read-out start at zero.

    What it starts with is noise of order $n^{-1/2}$ in μP, which hides the exponent of
    its change. Only layers that return what the model does: one of constant width
    inside it, or an adapter whose other half is zero, would stop all training.
    """
    rows = made.by_path
    for path, variable in parameters(model):
        grows = rows[path].tensor.growing(rows[path].fan.inputs)
        if grows and _layer(path) in read_outs:
            variable[...] = jnp.zeros_like(variable[...])


class Carry(NamedTuple):
    """What training passes on from step to step: parameters, other state, optimizer."""

    values: Any
    others: Any
    state: Any


class Stepped(NamedTuple):
    """After a step: what goes on, and the loss and outputs from before it."""

    carry: Carry
    loss: Any
    seen: dict[str, Any]


def carry_of(
    model: nnx.Module, optimizer: optax.GradientTransformationExtraArgs
) -> Carry:
    """Return a model's numbers as training begins with them."""
    _, params, rest = nnx.split(model, nnx.Param, ...)
    values = nnx.as_pure(params)
    return Carry(values, nnx.as_pure(rest), optimizer.init(values))


def step(
    graph: Any,
    optimizer: optax.GradientTransformationExtraArgs,
    loss: ModelLoss,
    carry: Carry,
    batch: Any,
    *,
    watch: Callable[..., Any] = observed,
) -> Stepped:
    """Train for one step; what of the result is not used is not computed."""

    def of(values: Any) -> Any:
        here = nnx.merge(graph, values, carry.others)
        # What a model sows is taken away from it, step by step.
        found, seen = watch(here, batch, loss)
        return found, (nnx.as_pure(nnx.state(here, nnx.Not(nnx.Param))), seen)

    values, others, state = carry
    (found, (others, seen)), gradients = jax.value_and_grad(of, has_aux=True)(values)
    updates, state = optimizer.update(gradients, state, values)
    return Stepped(
        Carry(optax.apply_updates(values, updates), others, state), found, seen
    )


def _rms(value: Any) -> np.ndarray:
    """Root mean square of all but the first two axes, plans and keys."""
    squares = np.square(np.asarray(value, np.float32), dtype=np.float64)
    return np.sqrt(squares.reshape(*squares.shape[:2], -1).mean(-1))
