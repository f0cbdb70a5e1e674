"""The paper tier of each chapter: which runs it has, what they cost, what is stored."""

from __future__ import annotations

import importlib
import math
import pkgutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from widthlab.runs.archive import Archive
from widthlab.runs.cells import by_program
from widthlab.runs.experiment import Experiment
from widthlab.runs.record import Record
from widthlab.runs.spec import Spec

_GUESS = 0.5  # share of the large product's rate that training reaches, about


def setups() -> dict[str, Any]:
    """Return the modules of `widthlab.papers` that have a paper tier, by chapter."""
    from widthlab import papers as setups

    names = [module.name for module in pkgutil.iter_modules(setups.__path__)]
    modules = [importlib.import_module(f"widthlab.papers.{name}") for name in names]
    return {m.CHAPTER: m for m in modules if hasattr(m, "paper_tier")}


def paper_tier(chapter: str) -> list[Spec]:
    """Return the runs of a chapter's paper tier, the most telling first; maybe none."""
    found = setups()
    return list(found[chapter].paper_tier()) if chapter in found else []


@dataclass(frozen=True, slots=True)
class Cost:
    """What the runs that share one compiled program will take.

    Attributes:
        label: what they are, in words.
        runs: how many there are.
        flops: floating-point operations in products of matrices, all runs together.
        bytes: memory of one run: weights, their initial copy, gradients, updates and
            activations; the data apart.
        data_bytes: memory of the data, which the runs share.
    """

    label: str
    runs: int
    flops: float
    bytes: int
    data_bytes: int


def costs(specs: Iterable[Spec]) -> list[Cost]:
    """Return what runs will take, those of a compiled program together.

    Numbers follow from the specifications alone; nothing is loaded or compiled.
    """
    return [_cost(group) for group in by_program(specs)]


def _cost(specs: Sequence[Spec]) -> Cost:
    spec = specs[0]
    if not isinstance(spec, Experiment):
        flops = sum(getattr(one, "flops", 0.0) for one in specs)
        name = type(spec).__name__
        label = name if flops else f"{name}, not estimated"
        return Cost(label, len(specs), flops, 0, 0)
    item = np.dtype(spec.dtype).itemsize
    batch = spec.batch_size or spec.data.train_size
    states = 4 + 2 * spec.optimizer.normalises + (spec.optimizer.name == "momentum")
    numbers = states * spec.shape.parameters + 3 * batch * sum(spec.shape.widths)
    rows = spec.data.train_size + spec.data.test_size
    kind = f"{spec.data.name}, width {spec.width}, depth {spec.depth}"
    return Cost(
        label=f"{kind}, {spec.activation}, {spec.steps} steps of {batch}",
        runs=len(specs),
        flops=float(len(specs)) * spec.plan.flops_per_step * spec.steps,
        bytes=item * numbers,
        data_bytes=item * rows * spec.data.input_dim,
    )


def measured_rate() -> float:
    """Return the operations per second that training should reach on this machine.

    Half of what a large float32 product reaches on each device, times the devices.
    """
    return _GUESS * product_rate()


def product_rate(seconds: float = 1.0) -> float:
    """Return the operations per second of a large float32 product, on all devices."""
    import jax
    import jax.numpy as jnp
    from widthlab.training.devices import use_all_cores

    devices = use_all_cores()
    size = 2048 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    product(square).block_until_ready()
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        product(square).block_until_ready()
        best = min(best, time.perf_counter() - start)
    # A CPU's cores share one product already.
    scale = 1 if jax.default_backend() == "cpu" else devices
    return scale * 2 * size**3 / best


def archive(root: Path, chapter: str) -> Archive:
    """Return where a chapter's paper tier is stored; maybe nothing is yet."""
    return Archive(root / "results" / chapter)


def stored(root: Path, chapter: str) -> dict[Spec, Record]:
    """Return the stored records of a chapter's paper tier, by specification."""
    return archive(root, chapter).find(paper_tier(chapter))
