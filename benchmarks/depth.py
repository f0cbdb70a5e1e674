"""The check over depth on an MLP and a Transformer, and transfer over depth.

python benchmarks/depth.py check      slopes over depth, by rule
python benchmarks/depth.py transfer   the best learning rate over depth, by rule

Predicted before the first run: under α = 1 (CompleteP) and α = 1/2 (Depth-μP) all
slopes are those of `widthlab.scaling.depth_check` and no module fails, without a rule
some do; the best rate drifts with depth by a power within 0.25 of 0 under α = 1, and by
one below -0.25 without a rule. Readings are kept in `results/scaling-depth.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import attrs
import jax
import optax
import pandas as pd
from common import ROOT, commit, write_json
from flax import nnx
from widthlab import scaling
from widthlab.claims.estimates import ClaimError
from widthlab.scaling.blocks import of_depth
from widthlab.scaling.draws import Draw
from widthlab.scaling.judge import QUANTITIES
from widthlab.scaling.laws import measure
from widthlab.scaling.plans import plan
from widthlab.scaling.trained import TrainedWidth

sys.path.append(str(ROOT / "tests"))

import scaling_models as models  # the users' models of the tests
from scaling_models import of_classes, tokens

KEPT = ROOT / "results" / "scaling-depth.json"
SEEDS = 6


def vectors(key: Any, number: Any, size: int = 32) -> Any:
    x = jax.random.normal(jax.random.fold_in(key, number), (size, 8))
    first, second = x[:, 0] * x[:, 1] > 0, x[:, 2] > 0
    return x, first.astype(int) + second.astype(int)


def decoder(width: int, depth: int, rngs: nnx.Rngs) -> nnx.Module:
    return models.Transformer(width, rngs, layers=depth)


def as_large(width: int, depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """The same with embeddings of order one, as large as what a branch returns.

    Flax starts them at width^(-1/2), so that at α = 1 the stream is mostly the random
    sum of its branches until depth exceeds the width. Added after the first look at
    the Transformer as it is, which the check accuses at depths 2 to 8.
    """
    model = models.Transformer(width, rngs, layers=depth)
    for embedding in (model.embed.embedding, model.positions.embedding):
        embedding[...] = embedding[...] * width**0.5
    return model


CASES: dict[str, Any] = {
    "MLP": (models.deep(), ("blocks.*.down",), (2, 4, 8, 16), 32,
            lambda: vectors(jax.random.key(0), 0)),
    "Transformer": (decoder, ("blocks.*.attention.out", "blocks.*.down"), (2, 4, 8),
                    32, tokens),
    "Transformer, embeddings of order one": (
        as_large, ("blocks.*.attention.out", "blocks.*.down"), (2, 4, 8), 32, tokens
    ),
}  # fmt: skip


def check(name: str) -> dict[str, Any]:
    """Slopes of every module by rule, with intervals, and the verdicts."""
    build, ends, depths, width, batch = CASES[name]
    kept: dict[str, Any] = {"depths": depths, "width": width, "seeds": SEEDS}
    for exponent in (1.0, 0.5):
        begin = time.process_time()
        found = scaling.depth_check(
            build, ends=ends, exponent=exponent, depths=depths, width=width,
            batch=batch(), loss=of_classes, seeds=SEEDS, control=exponent == 1.0,
        )  # fmt: skip
        print(name, found, flush=True)
        kept[f"α = {exponent:g}"] = {
            "outcome": str(found.outcome),
            "accused": found.wrong,
            "slopes": {j.name: slopes(j) for j in found.judgements},
            "cpu_s": round(time.process_time() - begin, 1),
        }
        if found.control:
            kept["no rule"] = {
                "failing": [j.name for j in found.control if j.fails],
                "slopes": {j.name: slopes(j) for j in found.control},
            }
    return kept


def slopes(judged: Any) -> dict[str, list[float]]:
    checks = {name: getattr(judged, name) for name in QUANTITIES}
    return {
        name: [round(x, 3) for x in (c.estimate.value, c.estimate.low, c.estimate.high)]
        for name, c in checks.items()
        if c is not None
    }


def transfer(
    depths: tuple[int, ...] = (2, 4, 8, 16), width: int = 32, steps: int = 60
) -> dict[str, Any]:
    """The exponent of the best rate against depth, by rule, and what it costs."""
    rates = tuple(2.0**k for k in range(-11, -1))
    build, seeds, rows = models.deep(), tuple(range(SEEDS)), []
    begin = time.process_time()
    sizes = measure(of_depth(build, depths[0]), width)
    for now in depths:
        at = scaling.Depth(now=now, base=depths[0], ends=("blocks.*.down",))
        plans = {
            f"α = {alpha:g}": plan(
                build, "mup", width=width, base_width=width, sizes=sizes,
                depth=attrs.evolve(at, exponent=alpha),
            )
            for alpha in (1.0, 0.5)
        }  # fmt: skip
        plans["no rule"] = plans["α = 1"].plain()
        run = TrainedWidth(
            build, vectors, of_classes, optax.adam, ("mup",), width, width, rates,
            seeds, steps, "adam",
        )  # fmt: skip
        losses = run.losses([*plans.values()], Draw(of_depth(build, now), width))
        rows += [
            {"parametrization": name, "width": now, "lr": lr, "seed": seed,
             "loss": float(losses[i, j, k])}
            for i, name in enumerate(plans)
            for j, lr in enumerate(rates) for k, seed in enumerate(seeds)
        ]  # fmt: skip
        print("depth", now, round(time.process_time() - begin), "CPU s", flush=True)
    return summed(scaling.Transfer(pd.DataFrame(rows))) | {
        "depths": depths, "width": width, "steps": steps, "seeds": SEEDS,
        "rates": rates, "cpu_s": round(time.process_time() - begin, 1),
    }  # fmt: skip


def summed(found: scaling.Transfer) -> dict[str, Any]:
    kept = dict[str, Any]()
    for name in found.frame["parametrization"].unique():
        try:
            drift, cost = found.drift(name), found.cost(name)
            best = found.optima(name).groupby("width")["value"].median()
            kept[name] = {
                "drift": [round(x, 3) for x in (drift.value, drift.low, drift.high)],
                "cost": [round(x, 3) for x in (cost.value, cost.low, cost.high)],
                "best": {str(k): round(v, 5) for k, v in best.items()},
            }
        except ClaimError as error:
            kept[name] = {"no optimum": str(error)}
        print(name, json.dumps(kept[name]), flush=True)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("check", "transfer"))
    parser.add_argument("--model", choices=CASES, help="one model only")
    options = parser.parse_args()
    work: dict[str, Callable[[], dict[str, Any]]] = {"transfer": transfer}
    if options.part == "check":
        chosen = [options.model] if options.model else [*CASES]
        work = {name: lambda name=name: check(name) for name in chosen}
    version = commit()  # before what is written changes the tree
    for name, run in work.items():
        kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
        kept[name] = {**run(), "commit": version}
        write_json(KEPT, kept)


if __name__ == "__main__":
    main()
