"""How often the coordinate check errs, and what it and a scaled step cost.

python benchmarks/scaling.py rates               all models; half an hour on two cores
python benchmarks/scaling.py rates --model NAME  one model, kept beside the others
python benchmarks/scaling.py cost                the check beside compiling a model

Rates: each model is measured with 80 seeds at once, which are judged in 20 disjoint
sets of four, the check's own number. A sound model is accused if any module fails in a
set; a broken one is found if its fault is named, or noticed if any module fails.
Readings are kept in `results/scaling-rates.json`, a model an entry.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from common import ROOT, alternate, commit, medians, write_json
from flax import nnx
from widthlab import scaling
from widthlab.claims.check import Outcome

sys.path.append(str(ROOT / "tests"))

import scaling_models as models  # the users' models of the tests
from scaling_models import of_classes, tokens

SETS, SEEDS = 20, 4
RATES = ROOT / "results" / "scaling-rates.json"


def vectors() -> Any:
    x = jax.random.normal(jax.random.key(0), (16, 8))
    return x, jax.random.randint(jax.random.key(1), (16,), 0, 3)


def images() -> Any:
    return jax.random.normal(jax.random.key(0), (4, 5, 5, 1)), jnp.arange(4)


class Pooled(nnx.Module):
    """A norm with a fixed number of groups, and a mean over positions behind it."""

    def __init__(self, width: int, rngs: nnx.Rngs, groups: int):
        self.stem = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(width, num_groups=groups, rngs=rngs)
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.norm(self.stem(x)).mean((1, 2)))


def pooled(groups: int) -> Any:
    return lambda width, rngs: Pooled(width, rngs, groups)


class Case(NamedTuple):
    """A model, and the module that is to be named; None for a sound one."""

    build: Any
    batch: Any
    widths: tuple[int, ...]
    fault: str | None = None
    roles: Mapping[str, str] | None = None
    tied: bool | None = None


FOUR = (64, 128, 256, 512)
THREE = (64, 128, 256)
SMALL = (32, 64, 128)  # XLA's convolutions are slow on CPU


def fixed(name: str) -> dict[str, str]:
    """Leave one parameter as it is: the standard parametrization of it alone."""
    return {name: "fixed"}


MLP, SHALLOW = models.perceptron(), models.perceptron(depth=1)
NARROW = models.perceptron(depth=3, middle=24)
CNN, GROUPS = models.convolutional(), models.convolutional(groups=8)
DECODER = models.transformer(layers=1)
TIED = models.transformer(tied=True, layers=1)
FORGOT = models.transformer(tied=True, scaled=False, layers=1)
CASES = {
    "MLP": Case(MLP, vectors, FOUR),
    "MLP, unscaled read-out": Case(
        SHALLOW, vectors, FOUR, "layers.1", fixed("layers.1.kernel")
    ),
    "MLP, standard layer": Case(
        MLP, vectors, FOUR, "layers.1", fixed("layers.1.kernel")
    ),
    "MLP, layer of constant width": Case(NARROW, vectors, FOUR, "layers.1"),
    "CNN": Case(CNN, images, SMALL),
    "CNN, GroupNorm of 8 groups": Case(GROUPS, images, SMALL),
    "CNN, standard convolution": Case(
        CNN, images, SMALL, "blocks.0.conv1", fixed("blocks.0.conv1.kernel")
    ),
    "CNN, unscaled read-out": Case(CNN, images, SMALL, "head", fixed("head.kernel")),
    "pooled GroupNorm of 8 groups": Case(pooled(8), images, THREE),
    "pooled GroupNorm of 64 groups": Case(pooled(64), images, THREE, "head"),
    "Transformer": Case(DECODER, tokens, THREE),
    "Transformer, tied": Case(TIED, tokens, THREE),
    "Transformer, forgotten embedding": Case(
        DECODER, tokens, THREE, "embed", fixed("embed.embedding")
    ),
    "Transformer, standard layer": Case(
        DECODER, tokens, THREE, "blocks.0.up", fixed("blocks.0.up.kernel")
    ),
    "Transformer, tied without multiplier": Case(
        FORGOT, tokens, THREE, "embed.attend", tied=False
    ),
}


def rates(case: Case, sets: int) -> dict[str, Any]:
    """Measure a model once, and judge disjoint sets of its seeds."""
    begin = time.process_time()
    found = scaling.coordinate_check(
        case.build,
        "mup",
        widths=case.widths,
        batch=case.batch(),
        loss=of_classes,
        seeds=sets * SEEDS,
        roles=case.roles,
        tied=case.tied,
        control=None if case.fault else "sp",
    )
    parts = [found.of(range(i * SEEDS, (i + 1) * SEEDS)) for i in range(sets)]
    named = [part.wrong for part in parts]
    slopes = {
        judged.name: judged.change.estimate.value
        for judged in found.judgements
        if judged.decided and judged.change is not None and judged.change.estimate
    }
    return {
        "fault": case.fault,
        "widths": case.widths,
        "sets": sets,
        "passed": sum(part.outcome is Outcome.PASS for part in parts),
        "failed": sum(part.outcome is Outcome.FAIL for part in parts),
        "named": {name: named.count(name) for name in sorted({*named} - {None})},
        "control failed": sum(any(j.fails for j in part.control) for part in parts),
        "largest slope of a change": max(map(abs, slopes.values())),
        "cpu_s": round(time.process_time() - begin, 1),
    }


def all_rates(names: list[str], sets: int) -> None:
    version = commit()  # before what is written changes the tree
    kept = json.loads(RATES.read_text(encoding="utf-8")) if RATES.exists() else {}
    for name in names:
        kept[name] = {**rates(CASES[name], sets), "commit": version}
        print(name, json.dumps(kept[name]), flush=True)
        write_json(RATES, {name: kept[name] for name in CASES if name in kept})


def cost(repetitions: int = 7) -> None:
    """Print what a check adds to compiling a model's step, and a scaled step's time."""
    scaled = scaling.parametrize(
        DECODER, "mup", width=256, base_width=64, rngs=nnx.Rngs(0)
    )
    batch, tx = tokens(), optax.adam(1e-3)
    sides, compiling = {}, {}
    for name, model, used in (
        ("plain", DECODER(256, nnx.Rngs(0)), tx),
        ("scaled", scaled.model, scaled.optimizer(tx)),
    ):
        step = stepper(model, used, batch)
        begin = time.perf_counter(), time.process_time()
        step()
        now = time.perf_counter(), time.process_time()
        compiling[name] = [b - a for a, b in zip(begin, now, strict=True)]
        sides[name] = step
    found, quiet, turns = medians(alternate(sides, repetitions))
    print(f"scaled / plain step: {found['scaled'] / found['plain']:.3f}", end=", ")
    print(f"{quiet} of {turns} turns quiet")
    print(f"compiling a step: {compiling['plain']} s (wall, CPU)")
    for control in (None, "sp"):
        begin = time.perf_counter(), time.process_time()
        scaling.coordinate_check(
            DECODER, widths=THREE, batch=batch, loss=of_classes, control=control
        )
        check = time.perf_counter() - begin[0], time.process_time() - begin[1]
        print(f"check at three widths, control {control}: {check} s (wall, CPU)")


def stepper(model: Any, tx: Any, batch: Any, steps: int = 20) -> Any:
    """Return what trains a model for some steps, and the seconds of one of them."""
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        loss, gradients = nnx.value_and_grad(of_classes)(model, batch)
        optimizer.update(model, gradients)
        return loss

    def reading() -> float:
        begin = time.perf_counter()
        for _ in range(steps):
            loss = step(model, optimizer, batch)
        jax.block_until_ready(loss)
        return (time.perf_counter() - begin) / steps

    return reading


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("rates", "cost"))
    parser.add_argument("--model", choices=CASES, help="one model only")
    parser.add_argument("--sets", type=int, default=SETS, help="disjoint sets of seeds")
    options = parser.parse_args()
    if options.part == "cost":
        cost()
    else:
        all_rates([options.model] if options.model else [*CASES], options.sets)


if __name__ == "__main__":
    main()
