"""The networks that are timed, and the library's own work on them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import Quiet, timed
from widthlab import parametrization
from widthlab.model import Scales, Shape
from widthlab.training import ensemble as training
from widthlab.training.optimizer import Optimizer
from widthlab.training.state import Data, Members, Plan

TRAIN_SIZE, INPUTS, CLASSES = 2048, 784, 10
LR = 1e-3


@dataclass(frozen=True)
class Case:
    """One network, its batches, and how many of it are trained."""

    width: int
    members: int = 1
    depth: int = 3
    batch: int = 64
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            members = f"-members{self.members}" if self.members > 1 else ""
            name = f"width{self.width}-depth{self.depth}-batch{self.batch}{members}"
            object.__setattr__(self, "name", name)

    @property
    def shape(self) -> Shape:
        return Shape(INPUTS, (self.width,) * self.depth, CLASSES, "tanh")

    @property
    def flops(self) -> int:
        """Operations of a step of all members, matrix products only."""
        return self.shape.flops * self.batch * self.members

    def plan(self, steps: int) -> Plan:
        sgd = Optimizer("sgd")
        return Plan(self.shape, "cross-entropy", sgd, self.batch, steps, TRAIN_SIZE)

    def steps(self, seconds: float, rate: float) -> int:
        """Steps of each member that take about so long, given a product's rate."""
        # No step is faster than this: it starts a few dozen small kernels.
        floor = 2e-4 if jax.default_backend() != "cpu" else 1e-4
        least = 20 if self.members > 1 else 4
        return max(int(seconds / max(self.flops / (0.7 * rate), floor)), least)


@dataclass(frozen=True)
class Pulse:
    """A probe that makes a checkpoint wait for weights; `tag` separates programs."""

    tag: str = ""

    @property
    def name(self) -> str:
        return "pulse"

    def measure(self, model: Any, initial: Any, data: Data, loss: Any) -> Any:
        del initial, data, loss
        return model.layers[-1].kernel[...][0, 0]


@dataclass(frozen=True)
class Kernels:
    """A probe that returns all weights, to start both sides from the same ones."""

    name: str = "kernels"

    def measure(self, model: Any, initial: Any, data: Data, loss: Any) -> Any:
        del initial, data, loss
        return [layer.kernel[...] for layer in model.layers]


def make_data(size: int = TRAIN_SIZE) -> Data:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((size, INPUTS)) / np.sqrt(INPUTS)
    y = rng.integers(0, CLASSES, size).astype(np.int32)
    x = x.astype(np.float32)
    return Data(x, y, x[:2], y[:2])


def make_members(case: Case) -> Members:
    one = case.shape.scales(parametrization.get("sp"), lr=LR)
    n = case.members
    return Members(
        key=jnp.stack([jax.random.key(seed) for seed in range(n)]),
        scales=Scales(*(np.stack([column] * n) for column in one)),
        stop_below=np.full(n, -np.inf, np.float32),
        real=np.ones(n, bool),
    )


def weights(case: Case) -> list[list[np.ndarray]]:
    """Draw weights for a peer, of the sizes that the library's have."""
    rng = np.random.default_rng(0)

    def draw(fan_in: int, fan_out: int) -> np.ndarray:
        w = rng.standard_normal((fan_in, fan_out), np.float32)
        return w / np.float32(np.sqrt(fan_in))

    layers = [(fan_in, fan_out) for _, fan_in, fan_out in case.shape.layers]
    one = [draw(*layer) for layer in layers]
    return [one] * case.members  # a side copies what it is given


def step_seconds(
    case: Case, steps: int, warm: int = 2, tag: str = "", devices: Any = None
) -> float:
    """Train, and return the seconds of a step of all members after the first ones."""
    times: list[float] = []

    def pause(stop: int) -> None:
        times.append(time.perf_counter())
        if stop == warm:
            Quiet.wait()
            times[-1] = time.perf_counter()

    training.train(
        case.plan(warm + steps),
        make_members(case),
        make_data(),
        (0, warm, warm + steps),
        (Pulse(tag),),
        devices=devices,
        on_checkpoint=pause,
    )
    return (times[-1] - times[-2]) / steps


# --- a step's products alone


@functools.partial(jax.jit, static_argnums=0)
def _products(steps: int, inputs: Any, errors: Any, kernels: Any) -> Any:
    """Do a step's matrix products and nothing else, each result written out."""
    dot = functools.partial(jnp.matmul, precision="highest")

    def all_products(shift: Any) -> list[Any]:
        results = []
        triples = zip(inputs, errors, kernels, strict=True)
        for i, (x, e, w) in enumerate(triples):
            # The shift is zero, but the compiler cannot move products out of the loop.
            x, e = x + shift, e + shift
            results += [dot(x, w), dot(x.T, e)]
            if i > 0:
                results.append(dot(e, w.T))
        return results

    def again(_: Any, carry: Any) -> Any:
        return all_products(0.0 * carry[0][0, 0])

    zeros = [jnp.zeros(v.shape, v.dtype) for v in jax.eval_shape(all_products, 0.0)]
    return jax.lax.fori_loop(0, steps, again, zeros)


def products(case: Case, seconds: float, rate: float) -> Callable[[], float]:
    """Return a reading: seconds of the products of one member's step, alone."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return jnp.asarray(rng.standard_normal(shape).astype(np.float32))

    layers = [(fan_in, fan_out) for _, fan_in, fan_out in case.shape.layers]
    one = Case(case.width, 1, case.depth, case.batch)
    steps = one.steps(seconds, rate)
    arguments = (
        [draw(case.batch, i) for i, _ in layers],
        [draw(case.batch, o) for _, o in layers],
        [draw(i, o) for i, o in layers],
    )

    def work() -> None:
        jax.block_until_ready(_products(steps, *arguments))

    work()  # compiles
    return lambda: timed(work) / steps
