"""Limits as runs: a repeat is a specification, kept, resumed and sent to workers."""

from __future__ import annotations

import functools
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np

from widthlab import perturbation
from widthlab.fields import (
    choice,
    count,
    either,
    instance,
    number,
    several,
    shown,
    truth,
)
from widthlab.limit.draws import DRAWS
from widthlab.limit.kernel import descend
from widthlab.limit.particles import Particles
from widthlab.limit.problem import Problem
from widthlab.limit.trajectory import Trajectory, feature_changes, gathered
from widthlab.runs.provenance import code_version, named, provenance
from widthlab.runs.record import Record
from widthlab.runs.spec import Spec
from widthlab.runs.sweep import sweep

_NAMES = ("outputs", "loss", "gram", "ranks")
_SEEDS = either(count(), several(count(0), least=1))


@attrs.frozen(kw_only=True)
class LimitRun(Spec):
    """One repeat of a limit, as a run: its rows are those of a network's probes.

    They have the quantities of `probes.Features` and `probes.Outputs` for the training
    inputs at every step, and the loss, and the width is infinite. Many repeats are one
    `Trajectory` (`solve`), which has errors, and the smallest eigenvalue of the mean
    Gram matrix: that of one repeat is too low.

    Attributes:
        problem: what is trained.
        particles: $M$, a power of two: the error falls about like $M^{-2/3}$.
        seed: of the draws. Nothing is drawn where the limit is a kernel's.
        draws: "matched", with the limit's second moments; "gaussian" is exactly a
            network of width $M$, in law.
        tolerance: what part of how far features move, and of the size of gradients,
            may be left out. The error it makes is nearly quadratic in it.
        response: whether the response to what training has drawn from initial weights
            is there; without it, it is not the limit of any network: a control.
    """

    kind: ClassVar[str] = "computations"
    together: ClassVar[int | None] = 1

    problem: Problem = attrs.field(converter=instance(Problem))
    particles: int = attrs.field(default=8192, converter=count(16))
    seed: int = attrs.field(default=0, converter=count(0))
    draws: str = attrs.field(default="matched", converter=choice(DRAWS))
    tolerance: float = attrs.field(default=1e-3, converter=number(least=1e-6, below=1))
    response: bool = attrs.field(default=True, converter=truth())

    def __attrs_post_init__(self) -> None:
        """Refuse numbers of particles for which there is no Sobol sequence."""
        if self.draws == "matched" and self.particles & (self.particles - 1):
            raise ValueError(
                f"particles is {self.particles}; matched draws take a power of two, "
                f"such as {2 ** round(math.log2(self.particles))}"
            )

    @property
    def program(self) -> Any:
        """Nothing is shared: each is a cell of its own."""
        return self

    @property
    def key(self) -> str:
        """Name of the record: a hash of the specification and of the source."""
        return named(self.to_json(), code_version(), limit=code_version(_sources()))

    @property
    def columns(self) -> dict[str, Any]:
        """What tells its record apart in a table of many."""
        problem = self.problem
        return {
            "parametrization": problem.name,
            "width": math.inf,
            **{n: getattr(problem, n) for n in ("depth", "activation", "loss")},
            **{n: getattr(self, n) for n in ("particles", "seed", "draws", "response")},
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with hashes for the data."""
        own = {f.name: getattr(self, f.name) for f in attrs.fields(type(self))}
        return {"class": "widthlab.limit.LimitRun", **own}

    @classmethod
    def run_cell(cls, cell: Sequence[Any]) -> list[Record]:
        """Run each by itself."""
        return [_record(spec) for spec in cell]

    def found(self, record: Record) -> dict[str, np.ndarray]:
        """Return the arrays that a repeat left."""
        return {name: record.arrays[name] for name in _NAMES}


def solve(
    problem: Problem,
    *,
    particles: int = 8192,
    seeds: int | Sequence[int] = 4,
    draws: str = "matched",
    tolerance: float = 1e-3,
    response: bool = True,
    **options: Any,
) -> Trajectory:
    """Compute a limit, from several repeats that are kept.

    Args:
        problem: what is trained.
        particles: $M$.
        seeds: how many repeats, or the seed of each, all different. Errors take two or
            more: of one they are NaN.
        draws: as for `LimitRun`.
        tolerance: as for `LimitRun`.
        response: as for `LimitRun`.
        **options: as for `sweep`: `store`, `executor`, `progress`.

    Raises:
        LimitError: the limit is a kernel's, and of a loss other than "mse" (`descend`).

    Example:
        >>> from widthlab import parametrization
        >>> from widthlab.limit import Problem, canonical
        >>> one = Problem(
        ...     inputs=[[1.0]], targets=[[1.0]], outputs=1, steps=2,
        ...     canonical=canonical(parametrization.get("mup"), depth=2, lr=0.5),
        ... )
        >>> import tempfile
        >>> from widthlab.runs import Store
        >>> found = solve(one, particles=4096, store=Store(tempfile.mkdtemp()))
        >>> print(found.outputs.value[1:, 0, 0].round(2))
        [0.35 0.54]
    """
    each = _SEEDS.take("seeds", seeds)
    each = range(each) if isinstance(each, int) else each
    if len({*each}) < len(each):
        raise ValueError(
            f"seeds is {shown(seeds)}; a seed twice is the same repeat twice, and no "
            "error can be told from it: give each once"
        )
    if problem.canonical.kind == "kernel":
        each = [0]
    runs = [
        LimitRun(
            problem=problem,
            particles=particles,
            seed=seed,
            draws=draws,
            tolerance=tolerance,
            response=response,
        )
        for seed in each
    ]
    records = sweep(runs, **options)
    return gathered(
        problem, [run.found(r) for run, r in zip(runs, records, strict=True)]
    )


@functools.cache
def _sources() -> tuple[Path, ...]:
    return tuple(sorted(Path(__file__).parent.glob("*.py")))


def _record(spec: LimitRun) -> Record:
    start = time.perf_counter()
    if spec.problem.canonical.kind == "kernel":
        found = descend(spec.problem)
    else:
        repeat = Particles(
            spec.problem,
            spec.particles,
            spec.seed,
            draws=spec.draws,
            tolerance=spec.tolerance,
            response=spec.response,
        )
        if chosen := perturbation.chosen():
            repeat.first = perturbation.moved([repeat.first[None]], chosen)[0][0]
        found = repeat.run()
        _warn_of_ranks(spec, found["ranks"])
    rows = list(_rows(spec.problem, found))
    seconds = round(time.perf_counter() - start, 4)
    names = ("step", "layer", "quantity", "value")
    diverged = np.flatnonzero(~np.isfinite(found["loss"]))
    return Record(
        spec=spec,
        columns={
            n: list(c) for n, c in zip(names, zip(*rows, strict=True), strict=True)
        },
        diverged_at=int(diverged[0]) if diverged.size else None,
        stopped_at=None,
        provenance=provenance() | {"precision": "float64", "wall_s": seconds},
        arrays={name: np.ascontiguousarray(found[name]) for name in _NAMES},
    )


def _warn_of_ranks(spec: LimitRun, ranks: np.ndarray) -> None:
    if spec.draws == "matched" and ranks.size and 4 * ranks.max() > spec.particles:
        warnings.warn(
            f"{spec.particles} particles carry {ranks.max()} directions; the limit "
            "needs many more particles than directions: take more, or fewer inputs",
            RuntimeWarning,
            stacklevel=2,
        )


def _rows(
    problem: Problem, found: dict[str, np.ndarray]
) -> Iterator[tuple[int, int, str, float]]:
    """Yield step, layer, quantity and value, as a network's probes have them."""
    size, outputs = problem.size, found["outputs"][:, : problem.size]
    for step, loss in enumerate(found["loss"][:-1]):
        yield step, 0, "loss", float(loss)
    for step, now in enumerate(outputs):
        for (i, k), value in np.ndenumerate(now):
            yield step, 0, f"output[{i},{k}]", float(value)
        yield step, 0, "output_mean_abs", float(np.mean(np.abs(now)))
        yield step, 0, "output_rms", float(np.sqrt(np.mean(now**2)))
        moved = np.sqrt(np.mean((now - outputs[0]) ** 2))
        yield step, 0, "output_rms_change", float(moved)
    for kind, prefix in enumerate(("pre_", "")):
        grams = found["gram"][:, :, kind]
        squares = np.diagonal(grams, axis1=-2, axis2=-1)
        both = np.diagonal(grams[..., :size, size:], axis1=-2, axis2=-1)
        now = np.mean(squares[..., size:], axis=-1)
        moved = now + np.mean(squares[..., :size] - 2 * both, axis=-1)
        measured = {
            "feature_change": feature_changes(grams),
            "lambda_min": np.linalg.eigvalsh(grams[..., size:, size:])[..., 0],
            "lambda_min_joint": np.linalg.eigvalsh(grams)[..., 0],
            "rms": np.sqrt(now),
            "rms_change": np.sqrt(np.maximum(moved, 0)),
        }
        for quantity, values in measured.items():
            for (step, layer), value in np.ndenumerate(values):
                yield step, layer + 1, f"{prefix}{quantity}", float(value)
