"""What training passes round: data, plan, members, state, what is left, and probes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import attrs
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from widthlab.data.stream import Stream
from widthlab.fields import choice, count, instance, optional, several, text
from widthlab.model import MLP, AnyArray, Scales, Shape
from widthlab.training.optimizer import Optimizer
from widthlab.training.schedules import (
    PRODUCTS,
    Schedule,
)

DTYPES = ("float32", "float64")
"""Types of weights and data."""

TRACKED = (*PRODUCTS, "cosine")
"""What can be measured at every step."""


class Data(NamedTuple):
    """The arrays that a training run reads."""

    x_train: Float[AnyArray, "train input"]
    y_train: Int[AnyArray, " train"] | Float[AnyArray, "train output"]
    x_test: Float[AnyArray, "test input"]
    y_test: Int[AnyArray, " test"] | Float[AnyArray, "test output"]


@attrs.frozen
class Plan:
    """Everything about an ensemble that is compiled in.

    Attributes:
        shape: sizes and activation of the networks.
        loss: a key of `training.losses.LOSSES`.
        optimizer: update rule.
        batch_size: examples per step, or None for the full training set.
        steps: length of the loss history, the last step at most.
        train_size: number of training examples.
        dtype: "float32" or "float64".
        schedule: rule for the common factor of the learning rates, whose target is of
            no account here: it belongs to the members.
        track: what to measure at every step: "gauss-newton", "hessian", "cosine".
        stream: draws fresh examples at every step, in the place of a training set.
    """

    shape: Shape = attrs.field(converter=instance(Shape))
    loss: str = attrs.field(converter=text())
    optimizer: Optimizer = attrs.field(converter=instance(Optimizer))
    batch_size: int | None = attrs.field(converter=optional(count(), "for all"))
    steps: int = attrs.field(converter=count(0))
    train_size: int = attrs.field(converter=count())
    dtype: str = attrs.field(default="float32", converter=choice(DTYPES))
    schedule: Schedule = attrs.field(factory=Schedule, converter=instance(Schedule))
    track: tuple[str, ...] = attrs.field(default=(), converter=several(choice(TRACKED)))
    stream: Stream | None = attrs.field(
        default=None, converter=optional(instance(Stream), "for a training set")
    )

    @property
    def curvatures(self) -> tuple[str, ...]:
        """Curvatures that are measured at every step."""
        return tuple(name for name in PRODUCTS if name in self.track)

    @property
    def sees_curvature(self) -> bool:
        """Whether a step takes products with a curvature."""
        return self.schedule.varies or bool(self.curvatures)

    @property
    def beginning(self) -> Plan:
        """The plan whose members begin as those of this one do, and of many others.

        Neither the draw of the weights nor the optimizer's state sees activation, loss,
        examples or steps: plans that differ in these share one compiled program.
        """
        shape = attrs.evolve(self.shape, activation="relu", rounding="none")
        unseen = {"loss": "mse", "batch_size": None, "steps": 0, "train_size": 1}
        return attrs.evolve(self, shape=shape, **unseen, stream=None)

    @property
    def flops_per_step(self) -> int:
        """Floating-point operations of one member's step, matrices only."""
        return self.shape.flops * (self.batch_size or self.train_size)

    def fresh(self, key: Any, size: int) -> tuple[Array, Array]:
        """Draw examples from the stream, in the plan's precision."""
        assert self.stream is not None
        x, y = self.stream.draw(key, size)
        is_float = jnp.issubdtype(y.dtype, jnp.floating)
        return x.astype(self.dtype), y.astype(self.dtype) if is_float else y


class Members(NamedTuple):
    """What distinguishes the members of an ensemble; every leaf has them in front.

    The `target` is that of a schedule that varies; None if it does not. The `base_lr`
    is for weight decay that is multiplied by it; None if none is.
    """

    key: Any
    scales: Scales
    stop_below: Float[AnyArray, " members"]
    real: Bool[AnyArray, " members"]
    target: Float[AnyArray, " members"] | None = None
    base_lr: Float[AnyArray, " members"] | None = None


class Begun(NamedTuple):
    """What is drawn or computed for a member before its first step."""

    parameters: Any
    multipliers: Any
    optimizer: Any


class State(NamedTuple):
    """A member in training; the first three are those of `Begun`."""

    parameters: Any
    multipliers: Any
    optimizer: Any
    scales: Scales
    order: Int[Array, "steps batch"] | None
    losses: Float[Array, " steps"]
    step: Int[Array, ""]
    stop_below: Float[AnyArray, ""]
    running: Bool[AnyArray, ""]
    diverged_at: Int[Array, ""]
    target: Float[AnyArray, ""] | None
    tracked: dict[str, Float[Array, "steps ..."]]
    stream: Any = None  # the key of its fresh examples, if there are any
    base_lr: Float[AnyArray, ""] | None = None


@runtime_checkable
class Probe(Protocol):
    """Something measured at checkpoints: a small array of each member.

    A probe is hashable, since it is compiled in. It may have a method
    `check(experiment)`, which raises a ValueError where it cannot be taken, and
    `inputs`, how many training inputs it looks at.
    """

    @property
    def name(self) -> str:
        """Key of its values in the observations."""
        ...

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> Any:
        """Return arrays that describe a model (`initial` is the untrained one)."""
        ...


class Trained(NamedTuple):
    """What a trained ensemble leaves, with members in front, on the host.

    Attributes:
        losses: loss of each step's batch before its update; NaN where none was taken.
        diverged_at: step whose loss or gradient was not finite, or -1.
        stopped_at: step at which the loss was below the member's threshold, or -1.
        observations: for each checkpoint, the values of each probe by name.
        traces: number of times that a program was traced for this call.
        tracked: what was measured at each step before its update, by quantity; NaN
            where no update was taken. With learning rates as given: "lr" is the factor
            on them, and curvatures are those of the optimizer's metric.
    """

    losses: np.ndarray
    diverged_at: np.ndarray
    stopped_at: np.ndarray
    observations: list[dict[str, Any]]
    traces: int
    tracked: dict[str, np.ndarray]
