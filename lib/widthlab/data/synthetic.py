r"""Synthetic regression tasks, drawn on demand in float64.

Inputs have norm one, or of order one, so that first-layer pre-activations with
standard Gaussian weights are of order one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import attrs
import numpy as np
from jaxtyping import Float

from widthlab import ledger
from widthlab.canonical import digest
from widthlab.data.drawn import _DrawnByName
from widthlab.fields import count, known, number, seed_of_jax
from widthlab.registry import Registry

Draw = Callable[
    [int, int, np.random.Generator, np.random.Generator],
    tuple[np.ndarray, np.ndarray],
]
"""From a number of inputs, their dimension and two streams to inputs and targets."""


def _noise(
    n: int, d: int, inputs: np.random.Generator, targets: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    x = inputs.standard_normal((n, d))
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return x / norms, targets.standard_normal(n)


def _xor(
    n: int, d: int, inputs: np.random.Generator, _: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    signs = 2.0 * inputs.integers(2, size=(n, d)) - 1
    return signs / np.sqrt(d), signs[:, 0] * signs[:, 1]


def _relu_neuron(
    n: int, d: int, inputs: np.random.Generator, _: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    x = inputs.standard_normal((n, d))
    return x / np.sqrt(d), np.maximum(x[:, 0], 0.0)


TASKS: Registry[Draw] = Registry(
    "task",
    "widthlab.data.register_task",
    {"noise": _noise, "xor": _xor, "relu-neuron": _relu_neuron},
)
"""The tasks by name."""


def register_task(name: str, draw: Draw | None = None) -> Any:
    """Add a task of one's own, as a function or as a decorator of one.

    Args:
        name: name under which a `Synthetic` asks for it.
        draw: from a number of inputs, their dimension, a generator for the inputs and
            one for the targets, to float64 arrays of inputs and one target each.
    """
    if draw is None:
        return lambda draw: register_task(name, draw)
    return TASKS.register(name, draw)


@attrs.frozen(kw_only=True)
class Synthetic(_DrawnByName):
    r"""A task: inputs in $R^d$ and one target each.

    Attributes:
        task: "noise": $x$ uniform on the unit sphere, $y \sim N(0, 1)$ independent of
            it. "xor": $x$ uniform on $\{\pm d^{-1/2}\}^d$, $y = d\,x_1 x_2$.
            "relu-neuron": $x \sim N(0, I/d)$, $y = \sqrt d \max(x_1, 0)$. Or one
            that is registered.
        n_train: number of training inputs.
        n_test: number of test inputs.
        dim: the dimension $d$.
        seed: seed of the draws. A smaller training set is a prefix of a larger one.
        target_scale: factor on all targets.

    Example:
        >>> task = Synthetic(task="xor", n_train=3, n_test=2, dim=15, seed=0).load()
        >>> task.x_train.shape, set(np.abs(task.y_train).tolist())
        ((3, 15), {1.0})
    """

    task: str = attrs.field(converter=known(TASKS.known, "a name"))
    n_train: int = attrs.field(converter=count())
    n_test: int = attrs.field(default=0, converter=count(0))
    dim: int = attrs.field(converter=count())
    seed: int = attrs.field(default=0, converter=seed_of_jax())
    target_scale: float = attrs.field(default=1.0, converter=number())

    # What an experiment asks of its data, as of a `DataSpec`.
    targets: ClassVar[str] = "values"
    output_dim: ClassVar[int] = 1

    @property
    def entry(self) -> tuple[Registry[Any], str]:
        """Where a plug-in would be registered: the tasks, under this name."""
        return TASKS, self.task

    @property
    def train_size(self) -> int:
        """Number of training inputs."""
        return self.n_train

    def to_json(self) -> dict[str, Any]:
        """Return all fields as a plain dictionary."""
        return attrs.asdict(self)

    def load(self) -> Sample:
        """Draw the task: always the same arrays for the same specification."""
        # Test and training inputs have streams of their own, and each array one again:
        # a larger set then begins like a smaller one.
        parts = []
        for split, size in (("train", self.n_train), ("test", self.n_test)):
            name = f"{self.task}/{self.dim}/{self.seed}/{split}"
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
            streams = [np.random.Generator(np.random.PCG64([seed, i])) for i in (0, 1)]
            x, y = TASKS[self.task](size, self.dim, *streams)
            parts += [x, self.target_scale * y]
        # As for files, the content's name leaves out what the platform may round.
        sha256 = digest(self)
        ledger.note_data(self.task, self.to_json(), sha256, drawn=True)
        return Sample(*parts, sha256=sha256)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The arrays of a task."""

    x_train: Float[np.ndarray, "n d"]
    y_train: Float[np.ndarray, " n"]
    x_test: Float[np.ndarray, "m d"]
    y_test: Float[np.ndarray, " m"]
    sha256: str
