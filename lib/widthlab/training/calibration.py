r"""Base learning rates of the first step, found layer by layer on two batches.

Exponents fix how the first update of IP-LLR scales with width, not how large it is. The
rule of Hajjar, Chizat and Giraud 2024 (Section 6) chooses the constants so that the
update $\Delta W^l$ of one batch adds pre-activations of a given size on another:

$$\eta_l = \tau_l \big/ \operatorname{mean} |m_l \Delta w^l x^{l-1}|,
  \qquad \Delta w^l = -n^{-c_l} \nabla_{w^l} \mathcal L,$$

for $l \ge 2$, where $x^{l-1}$ is computed with the first $l - 1$ matrices already
updated. The first matrix keeps the base rate, and no rate exceeds a cap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from widthlab import activations
from widthlab.compilation import compiled
from widthlab.fields import number
from widthlab.model import MLP, AnyArray, Scales, Shape, by_tensor
from widthlab.training.devices import precision
from widthlab.training.losses import LOSSES
from widthlab.training.member import untrained
from widthlab.training.state import Data, Members, Plan

if TYPE_CHECKING:
    import pandas as pd


@attrs.frozen
class Calibration:
    r"""The rule for the base learning rates of the first step.

    Attributes:
        target: $\tau_l$ of the hidden matrices $2, \dots, L$.
        output_target: $\tau_{L+1}$ of the output matrix.
        cap: largest base rate; infinity for none.
    """

    target: float = attrs.field(default=1.0, converter=number(above=0))
    output_target: float = attrs.field(default=0.1, converter=number(above=0))
    cap: float = attrs.field(default=500.0, converter=number(above=0, infinite=True))


class Calibrated(NamedTuple):
    """Base learning rates of the first step, one for each matrix.

    Attributes:
        lr: the rates to train with.
        uncapped: what they would be without the cap.
    """

    lr: Float[AnyArray, " layers"]
    uncapped: Float[AnyArray, " layers"]

    def rows(self) -> list[tuple[int, int, str, float]]:
        """Return rows of a record's table: step 0, layer, quantity, value."""
        return [
            (0, layer, f"first_lr{name}", float(value))
            for name, values in (("", self.lr), ("_uncapped", self.uncapped))
            for layer, value in enumerate(values, 1)
        ]


def calibrate(
    model: MLP,
    scales: Scales,
    lr: Float[AnyArray, ""],
    rule: Calibration,
    loss: Callable[[Any, Any], Any],
    update: tuple[Any, Any],
    probe: Any,
) -> Calibrated:
    r"""Find the base learning rates $\eta_l$ of the first step of one network.

    Layer by layer, with the matrices before it already updated,
    $\eta_l = \tau_l / \operatorname{mean} |m_l \Delta w^l x^{l-1}|$ for $l \ge 2$, and
    the base rate for $l = 1$ (Hajjar, Chizat and Giraud 2024, Section 6).

    Args:
        model: the untrained network.
        scales: its scales; `first_lr` holds `lr` times powers of the width.
        lr: base learning rate.
        rule: sizes to reach, and the cap.
        loss: of outputs and targets, as in `training.LOSSES`.
        update: inputs and targets of the batch that gives the updates.
        probe: inputs of the batch on which they are measured.
    """
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)

    def loss_of(parameters: Any) -> Any:
        return loss(nnx.merge(graph, parameters, rest)(update[0]), update[1])

    powers = by_tensor(parameters, scales.first_lr / lr)
    grads = jax.grad(loss_of)(parameters)
    updates = jax.tree.map(lambda g, power: -power * g, grads, powers)
    step = nnx.merge(graph, updates, rest)

    function = activations.get(model.activation)
    x, rates, last = probe, [jnp.asarray(lr)], len(model.layers) - 1
    for index, (layer, change) in enumerate(
        zip(model.layers, step.layers, strict=True)
    ):
        if index > 0:
            size = jnp.mean(jnp.abs((x @ change.kernel[...]) * change.multiplier[...]))
            target = rule.output_target if index == last else rule.target
            # Dead layers do not move at any rate. Theirs stays so far from overflow
            # that neither powers of the width nor biases that do move reach it.
            least = jnp.finfo(size.dtype).tiny ** 0.5
            rates.append(target / jnp.maximum(size, least))
        # As in the authors' code, later layers see rates without the cap.
        x = function(layer(x) + rates[-1] * change(x))
    uncapped = jnp.stack(rates)
    return Calibrated(jnp.minimum(uncapped, rule.cap).at[0].set(lr), uncapped)


def calibrate_members(
    plan: Plan,
    members: Members,
    data: Data,
    lrs: Sequence[float],
    rules: Sequence[Calibration | None],
) -> tuple[Members, list[Calibrated | None]]:
    """Give each member that has a rule its own rates for the first step.

    Returns:
        The members with their rates, and what was found for each that has a rule.
    """
    calibrated: list[Calibrated | None] = [None] * len(rules)
    if not any(rules):
        return members, calibrated
    first_lr = np.array(members.scales.first_lr)
    layers = [tensor.layer - 1 for tensor in plan.shape.tensors]
    one = compiled(_calibrate_one, jax.default_backend(), static=(0, 1, 2), brief=True)
    with precision(plan.dtype):
        for index, (lr, rule) in enumerate(zip(lrs, rules, strict=True)):
            if rule is not None:
                key = members.key[index]
                scales = Scales(*(jnp.asarray(v[index]) for v in members.scales))
                base = jnp.asarray(lr, plan.dtype)
                batches = _batches(plan, key, data)
                rates = one(plan.shape, plan.loss, rule, key, scales, base, *batches)
                calibrated[index] = Calibrated(*map(np.asarray, rates))
                first_lr[index] *= np.asarray(rates.lr)[layers] / lr
    return members._replace(
        scales=members.scales._replace(first_lr=first_lr)
    ), calibrated


def draw(size: int, train_size: int, key: Any) -> np.ndarray:
    """Draw the examples of both batches, `size` each; all again, where the set ends.

    At random, as in training: in a batch with equally many examples of each class the
    error signals of an untrained network cancel, and with them most of the update.
    """
    order = jax.random.permutation(jax.random.fold_in(key, 2), train_size)
    return np.resize(np.asarray(order), 2 * size)


def _batches(plan: Plan, key: Any, data: Data) -> tuple[Array, Array]:
    size = plan.batch_size or plan.train_size
    if plan.stream is not None:
        x, y = plan.fresh(jax.random.fold_in(key, 2), 2 * size)
        return x, y[:size]
    rows = draw(size, plan.train_size, key)
    x = jnp.asarray(data.x_train[rows], plan.dtype)
    y = jnp.asarray(data.y_train[rows[:size]])
    is_float = jnp.issubdtype(y.dtype, jnp.floating)
    return x, y.astype(plan.dtype) if is_float else y


def _calibrate_one(
    shape: Shape,
    loss: str,
    rule: Calibration,
    key: Any,
    scales: Scales,
    lr: Any,
    x: Any,
    y: Any,
) -> Calibrated:
    model = untrained(shape, scales, key)
    update, probe = (x[: len(y)], y), x[len(y) :]
    return calibrate(model, scales, lr, rule, LOSSES[loss], update, probe)


def report(records: Iterable[Any]) -> pd.DataFrame:
    """Return the rates that runs found for their first step, and where the cap bound.

    Args:
        records: of runs; those without a calibration are left out.

    Returns:
        One row for each run and matrix, with the run's parametrization, activation,
        depth, width and seed, then `layer`, `lr`, `uncapped` and `capped`.
    """
    rows = []
    for record in records:
        values = {
            (quantity, layer): value
            for quantity, layer, value in zip(
                *(record.columns[name] for name in ("quantity", "layer", "value")),
                strict=True,
            )
            if quantity.startswith("first_lr")
        }
        layers = sorted(layer for quantity, layer in values if quantity == "first_lr")
        if layers:
            lr, uncapped = (
                np.array([values[name, layer] for layer in layers])
                for name in ("first_lr", "first_lr_uncapped")
            )
            rows.append((record.spec, Calibrated(lr, uncapped)))
    return rate_rows(rows)


def rate_rows(rows: Iterable[tuple[Any, Calibrated]]) -> pd.DataFrame:
    """Return the table of `report`, given specifications with their rates."""
    import pandas as pd

    columns = ["parametrization", "activation", "depth", "width", "seed"]
    columns += ["layer", "lr", "uncapped", "capped"]
    out = []
    for spec, rates in rows:
        run = (spec.table.name, spec.activation, spec.depth, spec.width, spec.seed)
        pairs = zip(map(float, rates.lr), map(float, rates.uncapped), strict=True)
        for layer, (lr, uncapped) in enumerate(pairs, 1):
            out.append((*run, layer, lr, uncapped, uncapped > lr))
    return pd.DataFrame(out, columns=columns)
