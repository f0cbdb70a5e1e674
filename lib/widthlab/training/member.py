"""One member of an ensemble: how it starts, and how it takes a step.

All of it is traced: `training.ensemble` compiles it for all members together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from widthlab.model import MLP, Multiplier, Scales, Shape, by_tensor
from widthlab.training.curvature import Product, gauss_newton_product, hessian_product
from widthlab.training.losses import LOSSES
from widthlab.training.path import CosineState, track_cosine
from widthlab.training.schedules import (
    CurvatureState,
    followed_curvatures,
    scale_by_curvature,
)
from widthlab.training.state import Begun, Data, Members, Plan, State


@functools.lru_cache(maxsize=128)
def graph(shape: Shape) -> nnx.GraphDef:
    """Return the static part of the model, without weights."""
    # Scales are traced, so any will do for the structure.
    zeros = Scales(*(jnp.zeros(len(shape.tensors)) for _ in Scales._fields))
    model = nnx.eval_shape(lambda: MLP(shape, zeros, key=jax.random.key(0)))
    return nnx.split(model)[0]


def untrained(shape: Shape, scales: Scales, key: Any) -> MLP:
    """Return the network that a member with this key starts from."""
    # A number for each use of a key: 0 weights, 1 the order of examples, 2 what a
    # calibration sees, 3 a stream's examples.
    return MLP(shape, scales, key=jax.random.fold_in(key, 0))


def begin(plan: Plan, key: Any, scales: Scales, base_lr: Any) -> Begun:
    """Return the networks and the optimizer's state that a member begins with."""
    model = untrained(plan.shape, scales, key)
    _, parameters, multipliers = nnx.split(model, nnx.Param, Multiplier)
    rule = _rule(plan, parameters, scales, None, base_lr)
    return Begun(parameters, multipliers, rule.init(parameters))


def start(
    plan: Plan, members: Members, begun: Begun, order: Any, zeros: Any = np.zeros
) -> State:
    """Return all members before their first step.

    Args:
        plan: what is compiled in.
        members: the members.
        begun: what `begin` returned for them, or its form.
        order: the batches of all steps, or their form; None for a stream or no batches.
        zeros: makes an array of a shape and type. Those of NumPy take no memory before
            they are read; `jax.ShapeDtypeStruct` makes a form.
    """
    count, dtype = len(members.stop_below), members.scales.std.dtype
    measure = jax.vmap(functools.partial(_measured, plan))
    measures = plan.sees_curvature or plan.track
    measured = jax.eval_shape(measure, begun.optimizer) if measures else {}
    fold = jax.vmap(jax.random.fold_in, (0, None))
    return State(
        *begun,
        scales=members.scales,
        order=order,
        # Zeros and no NaN where no step was taken: JAX_DEBUG_NANS would stop at it.
        losses=zeros((count, plan.steps), dtype),
        step=zeros((count,), np.int32),
        stop_below=members.stop_below,
        running=members.real,
        diverged_at=np.full(count, -1, np.int32),  # pyright: ignore[reportArgumentType]
        target=members.target,
        tracked={
            name: zeros((count, plan.steps, *value.shape[1:]), dtype)
            for name, value in measured.items()
        },
        stream=fold(members.key, 3) if plan.stream else None,
        base_lr=members.base_lr,
    )


def _rule(
    plan: Plan, parameters: Any, scales: Scales, target: Any, base_lr: Any
) -> optax.GradientTransformationExtraArgs:
    numbers = (scales.lr, scales.first_lr, scales.retained)
    # The rule is made anew at every step, since the rates in it are traced.
    lr, first_lr, retained = (by_tensor(parameters, s) for s in numbers)
    before, after = [], []
    if plan.sees_curvature:
        rule = scale_by_curvature(plan.schedule, target, lr, plan.curvatures)
        before.append(rule)
    if "cosine" in plan.track:
        after.append(track_cosine(lr))
    rates = (lr, first_lr, retained)
    return plan.optimizer.transform(*rates, before, after, base_lr)


def _measured(plan: Plan, optimizer: Any) -> dict[str, Array]:
    """Return what the rules of a plan have measured, by quantity."""
    measured = {}
    for state in optimizer:
        if isinstance(state, CurvatureState):
            values = state.eigenvalues.items()
            measured["lr"] = state.factor
            measured |= {name.replace("-", "_"): value for name, value in values}
        elif isinstance(state, CosineState):
            measured["cosine"] = jnp.stack(
                [state.whole, *_matrices(plan.shape, state.each)]
            )
            measured["parameter_change"] = state.change
    return measured


def _matrices(shape: Shape, tree: Any) -> list[Any]:
    """Return what a tree of parameters' form holds for the matrices, in order."""
    variables = jax.tree.leaves(tree, is_leaf=lambda v: isinstance(v, nnx.Variable))
    by_place = {v.get_metadata()["tensor"]: v[...] for v in variables}
    return [by_place[place] for place in range(shape.depth + 1)]


def _curvature_products(
    plan: Plan, outputs_of: Callable[[Any], Any], targets: Any, parameters: Any
) -> dict[str, Product]:
    """Return the products with each curvature that a step needs."""
    needed = set(followed_curvatures(plan.schedule, plan.curvatures))
    if plan.schedule.varies:
        needed.add(plan.schedule.curvature)

    def loss_of_outputs(outputs: Any) -> Any:
        return LOSSES[plan.loss](outputs, targets)

    products = {}
    if "gauss-newton" in needed:
        products["gauss-newton"] = gauss_newton_product(
            outputs_of, loss_of_outputs, parameters
        )
    if "hessian" in needed:
        products["hessian"] = hessian_product(
            lambda w: loss_of_outputs(outputs_of(w)), parameters
        )
    return products


def advance(plan: Plan, state: State, data: Data, stop: Array) -> State:
    """Train a member until a step, its end, or a loss or gradient that is not finite.

    Each step is a gradient, the weights that it proposes, and whether to accept them.
    """

    def go_on(state: State) -> Any:
        return state.running & (state.step < stop)

    def step(state: State) -> State:
        loss, grads, extra = _gradient(plan, state, *_batch(plan, state, data))
        proposed, optimizer = _propose(plan, state, grads, extra)
        return _accept(plan, state, loss, proposed, optimizer)

    # Not a scan: where members take turns, one that has ended costs nothing more.
    return jax.lax.while_loop(go_on, step, state)


def _batch(plan: Plan, state: State, data: Data) -> tuple[Any, Any]:
    """Return the inputs and targets of a step."""
    if plan.stream is not None:
        assert plan.batch_size is not None
        # From the step and not the last key: a checkpoint more changes no example.
        key = jax.random.fold_in(state.stream, state.step)
        return plan.fresh(key, plan.batch_size)
    x, y = data.x_train, data.y_train
    if state.order is not None:
        batch = state.order[state.step]
        x, y = x[batch], y[batch]
    return x, y


def _gradient(plan: Plan, state: State, x: Any, y: Any) -> tuple[Array, Any, dict]:
    """Return a batch's loss and gradient, and what rules that see curvature need."""
    static = graph(plan.shape)

    def loss_of(parameters: Any, multipliers: Any, x: Any, y: Any) -> Any:
        model = nnx.merge(static, parameters, multipliers)
        return LOSSES[plan.loss](model(x), y)

    loss, grads = jax.value_and_grad(loss_of)(state.parameters, state.multipliers, x, y)
    if not plan.sees_curvature:
        return loss, grads, {}

    def outputs_of(parameters: Any) -> Any:
        return nnx.merge(static, parameters, state.multipliers)(x)

    products = _curvature_products(plan, outputs_of, y, state.parameters)
    return loss, grads, {"products": products, "grad": grads}


def _propose(plan: Plan, state: State, grads: Any, extra: dict) -> tuple[Any, Any]:
    """Return the weights that the rule wants next, and its state with them."""
    rule = _rule(plan, state.parameters, state.scales, state.target, state.base_lr)
    updates, optimizer = rule.update(grads, state.optimizer, state.parameters, **extra)
    return optax.apply_updates(state.parameters, updates), optimizer


def _accept(
    plan: Plan, state: State, loss: Array, proposed: Any, optimizer: Any
) -> State:
    """Go on with proposed weights, or end with the last ones.

    A member ends where its loss or its weights are not finite, or where its loss is
    below its threshold.
    """
    finite = jnp.isfinite(loss) & _all_finite(proposed)
    below = loss < state.stop_below
    # Below its threshold a member keeps the weights whose loss that is.
    keep = finite & ~below
    tracked = {
        name: state.tracked[name].at[state.step].set(new)
        for name, new in _measured(plan, optimizer).items()
    }
    return state._replace(
        parameters=_where(keep, proposed, state.parameters),
        optimizer=_where(keep, optimizer, state.optimizer),
        losses=state.losses.at[state.step].set(loss),
        step=state.step + keep.astype(jnp.int32),
        running=keep,
        diverged_at=jnp.where(finite, state.diverged_at, state.step),
        tracked=tracked,
    )


def _all_finite(tree: Any) -> Array:
    # A sum is not finite as soon as a term is not, and costs one pass over the weights.
    return functools.reduce(
        jnp.logical_and, [jnp.isfinite(jnp.sum(leaf)) for leaf in jax.tree.leaves(tree)]
    )


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
