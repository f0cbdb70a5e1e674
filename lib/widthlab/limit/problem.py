"""What is trained in the limit: data, network, loss, rates, and a sequence of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from jaxtyping import Float, Shaped

from widthlab import activations
from widthlab.canonical import content_sha256
from widthlab.fields import (
    Rule,
    count,
    either,
    instance,
    known,
    number,
    optional,
    several,
    text,
)
from widthlab.limit.tables import Canonical, LimitError, canonical
from widthlab.training.losses import LOSSES

if TYPE_CHECKING:
    from widthlab.runs.experiment import Experiment

Rows = tuple[tuple[float, ...], ...]
"""A matrix, row by row."""

Targets = tuple[tuple[float, ...], ...] | tuple[int, ...]
"""Rows of numbers, or labels."""

Batches = tuple[tuple[int, ...], ...]
"""Places of the examples of each step."""

_MATRIX = several(several(number(), least=1))
_LABELS = several(count(0), least=1)


def _activation() -> Rule:
    return known(lambda name: activations.get(name).name, "a name")


@attrs.frozen(kw_only=True)
class Problem:
    r"""Gradient descent of an infinitely wide MLP, without biases.

    Arrays are welcome for matrices; they are kept as tuples, by value.

    Attributes:
        inputs: training inputs $\xi$, one a row.
        targets: a row for each of them ("mse"), or the index of a class.
        tests: further inputs whose outputs are followed.
        outputs: number $K$ of outputs.
        canonical: the numbers on which the limit depends, which has the depth too.
        activation: name of the nonlinearity.
        loss: name of the loss, a mean over the batch.
        steps: number of steps.
        batches: the examples of each step, by place; None for all at every step.
        name: what the table is called in results.

    Example:
        >>> from widthlab import parametrization
        >>> from widthlab.limit import canonical
        >>> one = Problem(
        ...     inputs=[[1.0]], targets=[[1.0]], outputs=1, steps=2,
        ...     canonical=canonical(parametrization.get("mup"), depth=2, lr=0.5),
        ... )
        >>> one.depth, one.size
        (2, 1)
    """

    inputs: Rows = attrs.field(
        converter=several(several(number(), least=1), least=1), repr=False
    )
    targets: Targets = attrs.field(
        converter=either(_LABELS, several(several(number(), least=1), least=1)),
        repr=False,
    )
    tests: Rows = attrs.field(default=(), converter=_MATRIX, repr=False)
    outputs: int = attrs.field(converter=count())
    canonical: Canonical = attrs.field(converter=instance(Canonical))
    activation: str = attrs.field(default="tanh", converter=_activation())
    loss: str = attrs.field(default="mse", converter=known(LOSSES.known, "a name"))
    steps: int = attrs.field(converter=count(0))
    batches: Batches | None = attrs.field(
        default=None,
        converter=optional(several(several(count(0), least=1)), "for all"),
        repr=False,
    )
    name: str = attrs.field(default="limit", converter=text())

    def __attrs_post_init__(self) -> None:
        """Refuse sizes that do not go together."""
        if len({len(row) for row in (*self.inputs, *self.tests)}) > 1:
            raise ValueError("inputs and tests have rows of different lengths")
        if len(self.targets) != self.size:
            raise ValueError(
                f"there are {len(self.targets)} targets for {self.size} inputs; each "
                "has one"
            )
        labels = not isinstance(self.targets[0], tuple)
        if labels != (LOSSES[self.loss].targets == "labels"):
            wanted = LOSSES[self.loss].targets
            raise ValueError(
                f"loss {self.loss!r} takes {wanted}, and targets are "
                f"{'labels' if labels else 'values'}"
            )
        given = {t if labels else len(t) for t in self.targets}  # pyright: ignore[reportArgumentType]
        if (max(given) >= self.outputs) if labels else (given != {self.outputs}):  # pyright: ignore[reportOperatorIssue]
            raise ValueError(
                f"outputs is {self.outputs}; targets have "
                f"{'labels to' if labels else 'rows of'} {max(given)}"  # pyright: ignore[reportArgumentType]
            )
        self._check_batches()

    def _check_batches(self) -> None:
        if self.batches is None:
            return
        if len(self.batches) != self.steps:
            raise ValueError(
                f"there are {len(self.batches)} batches for {self.steps} steps"
            )
        if self.batches and max(map(max, self.batches)) >= self.size:
            raise ValueError(
                f"batches name example {max(map(max, self.batches))}, counted from 0, "
                f"of {self.size}"
            )

    @property
    def size(self) -> int:
        """Number of training examples."""
        return len(self.inputs)

    @property
    def depth(self) -> int:
        """Number $L$ of hidden layers."""
        return self.canonical.depth

    def batch(self, step: int) -> Shaped[np.ndarray, " batch"]:
        """Return the places of the examples of a step."""
        if self.batches is None:
            return np.arange(self.size)
        return np.array(self.batches[step])

    def every_input(self) -> Float[np.ndarray, "all input"]:
        """Return training inputs, and then the others."""
        return np.array([*self.inputs, *self.tests])

    def every_target(self) -> Shaped[np.ndarray, "train ..."]:
        """Return targets: integers, or a row each."""
        return np.array(self.targets)

    def centred(self) -> Problem:
        """Return this for networks whose outputs at the start are taken off.

        It is of use where the limit is a kernel's: outputs at the start are random then
        at every width. Where features move they vanish, and nothing changes.
        """
        if self.canonical.kind != "kernel":
            return self
        gains = (*self.canonical.gains[:-1], 0.0)
        return attrs.evolve(self, canonical=attrs.evolve(self.canonical, gains=gains))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with hashes for the data."""
        fields = attrs.asdict(self)
        for name, array in (
            ("inputs", np.array(self.inputs)),
            ("targets", self.every_target()),
            ("tests", np.array(self.tests)),
        ):
            fields[name] = content_sha256(array)
        return fields

    @classmethod
    def of(cls, experiment: Experiment, **changes: Any) -> Problem:
        """Return the limit of what an experiment trains, whatever its width and seed.

        Args:
            experiment: full-batch gradient descent of a network without biases.
            **changes: fields to be others. Its test inputs are not followed unless
                they are given as `tests`: each costs about what a training input does.

        Raises:
            LimitError: the experiment is of a kind whose limit is not computed, or its
                table has none.
        """
        _refuse_others(experiment)
        data = experiment.data.load()
        labels = LOSSES[experiment.loss].targets == "labels"
        rows = np.asarray(data.y_train)
        rows = rows if labels or rows.ndim == 2 else rows[:, None]
        return cls(
            **{
                "inputs": np.asarray(data.x_train, float),
                "targets": rows if labels else rows.astype(float),
                "outputs": experiment.data.output_dim,
                "canonical": canonical(
                    experiment.table,
                    depth=experiment.depth,
                    activation=experiment.activation,
                    lr=experiment.lr,
                    base_width=experiment.base_width,
                    gains=experiment.gains,
                ),
                "activation": experiment.activation,
                "loss": experiment.loss,
                "steps": experiment.steps,
                "name": experiment.table.name,
                **changes,
            }
        )


def _refuse_others(experiment: Experiment) -> None:
    """Refuse experiments that differ from gradient descent without biases."""
    reasons = {
        "its batches follow from its seed, and a limit has one order for all networks: "
        "give batch_size=None, or a Problem with batches": experiment.batch_size
        is not None,
        "it has biases": experiment.biases != "none",
        "its layers are not of one width": experiment.growth != 0,
        "its optimizer is not sgd": experiment.optimizer.name != "sgd",
        "its learning rate follows a schedule": experiment.schedule.varies,
        "its first step has rates of its own": experiment.first_lr is not None,
        "it stops at a loss (stop_below), and a limit takes all its steps": (
            experiment.stop_below is not None
        ),
    }
    if found := [reason for reason, is_so in reasons.items() if is_so]:
        raise LimitError(f"the limit of this experiment is not computed: {found[0]}")
