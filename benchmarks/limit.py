"""What the limit of infinite width costs, and how far it can be trusted.

python benchmarks/limit.py                     all parts, ten minutes or so
python benchmarks/limit.py --part coverage     one part; --help lists them

The readings go to results/limit.json, from which the page *Infinite width* takes them.

cost       one repeat beside one network, in one process, in CPU seconds; and the
           width at which a network would be as near the limit, with what it would cost
coverage   how often 95 % intervals of four repeats hold the truth, in 100 experiments
agreement  networks of four widths, extrapolated in 1/n, against the limit
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
from common import ROOT, laid_out, part_parser, scratch, write_json
from threadpoolctl import threadpool_limits
from widthlab import DataSpec, Experiment, frame, limit, parametrization, sweep
from widthlab.limit.particles import Particles
from widthlab.limit.trajectory import Mean, gathered
from widthlab.probes import Outputs
from widthlab.runs import Store

RESULTS = ROOT / "results" / "limit.json"
PARTICLES, IMAGES, STEPS, NETWORKS = 8192, 16, 50, 3
# Rates of one half, one input and target 1, two tanh layers: by Gauss-Hermite
# quadrature of the field equations, 32 nodes.
QUADRATURE = (0.345839, 0.535556)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds, which other processes lengthen little, and the result."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def root(values: np.ndarray) -> float:
    """Return the root mean square, over steps and whatever else there is."""
    return float(np.sqrt(np.mean(values**2)))


# --- cost


def images(count: int = IMAGES, seed: int = 0) -> DataSpec:
    return DataSpec(
        "mnist-5k", n_train=count, n_test=0, targets="parity", subset_seed=seed
    )


def cost(quick: bool) -> dict[str, Any]:
    steps, particles, width = (10, 1024, 256) if quick else (STEPS, PARTICLES, 4096)
    spec = Experiment(
        data=images(),
        parametrization="mup",
        depth=3,
        width=width,
        lr=1.0,
        loss="mse",
        steps=steps,
        checkpoints=tuple(range(steps + 1)),
        probes=(Outputs(IMAGES),),
    )
    problem = limit.Problem.of(spec)
    Particles(attrs.evolve(problem, steps=1), particles).run()  # compiles
    repeats = [seconds(Particles(problem, particles, s).run) for s in range(5)]
    whole = gathered(problem, [found for _, found in repeats])
    with scratch() as folder:
        networks = [attrs.evolve(spec, seed=s) for s in range(NETWORKS + 1)]
        sweep(networks[:1], Store(folder))  # compiles
        apart, records = seconds(lambda: sweep(networks[1:], Store(folder)))
    outputs = np.array([_outputs(r, steps) for r in records])
    losses = np.array([r.series("loss") for r in records])
    spread = np.std(whole.all_outputs, axis=0, ddof=1)
    loss_spread = np.std(whole.losses, axis=0, ddof=1)
    off, off_network = root(spread), root(outputs - whole.outputs.value)
    each, one = apart / NETWORKS, float(np.mean([t for t, _ in repeats]))
    same = width * (off_network / off) ** 2
    return {
        "steps": steps,
        "particles": particles,
        "seconds": one,
        "off": off,
        "loss_off": root(loss_spread),
        "loss_worst": float(loss_spread.max()),
        "width": width,
        "width_seconds": each,
        "width_off": off_network,
        "width_loss_off": root(losses - whole.loss.value[:-1]),
        "same_width": same,
        "ratio": each * (same / width) ** 2 / one,
    }


def _outputs(record: Any, steps: int) -> np.ndarray:
    rows = [record.series(f"output[{i},0]") for i in range(IMAGES)]
    return np.array(rows).T[: steps + 1, :, None]


# --- coverage


def sphere(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, 16))
    y = np.sign(rng.standard_normal((count, 1)))
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


def coverage(quick: bool) -> dict[str, Any]:
    """Count experiments of four repeats whose interval holds the truth."""
    half = limit.canonical(parametrization.get("mup"), depth=2, lr=0.5)
    one = limit.Problem(
        inputs=[[1.0]], targets=[[1.0]], outputs=1, steps=2, canonical=half
    )
    x, y = sphere(4)
    few = attrs.evolve(one, inputs=x, targets=y, steps=5)
    times, large = (10, 2) if quick else (100, 12)
    reference = gathered(
        few, [Particles(few, 2**15, 10**6 + s).run() for s in range(large)]
    )
    names = ("quadrature, outputs", "outputs", "loss", "smallest eigenvalue")
    hits: dict[str, list[float]] = {name: [] for name in names}
    for trial in range(times):
        seeds = range(4 * trial, 4 * trial + 4)
        tried = {
            p: gathered(p, [Particles(p, 1024, s).run() for s in seeds])
            for p in (one, few)
        }
        alone, several = tried[one], tried[few]
        judged = (
            (alone.outputs, [0.0, *QUADRATURE]),
            (several.outputs, reference.outputs.value),
            (several.loss, reference.loss.value),
            (several.lambda_min(2), reference.lambda_min(2).value),
        )
        for name, (found, truth) in zip(names, judged, strict=True):
            hits[name].append(_held(found, truth))
    return {"experiments": times, **{n: float(np.mean(v)) for n, v in hits.items()}}


def _held(found: Mean, truth: Any) -> float:
    """Return the share of steps from 1 on, and inputs, whose interval holds it."""
    value = found.value.reshape(len(found.value), -1)
    error = found.error.reshape(value.shape)
    true = np.reshape(truth, value.shape)
    return float(np.mean(np.abs(value - true)[1:] <= 3.182 * error[1:]))


# --- agreement


CASES = [
    *((depth, act, "mse") for depth in (1, 2, 3) for act in ("tanh", "relu")),
    *((2, act, "cross-entropy") for act in ("tanh", "relu")),
]


def agreement(quick: bool) -> list[dict[str, Any]]:
    widths, seeds = ((32, 64), range(4)) if quick else ((64, 128, 256, 512), range(32))
    found = []
    with scratch() as folder:
        for depth, activation, loss in CASES:
            targets = "parity" if loss == "mse" else "labels"
            base = Experiment(
                data=DataSpec("mnist-5k", n_train=8, n_test=0, targets=targets),
                parametrization="mup",
                depth=depth,
                width=64,
                activation=activation,
                loss=loss,
                lr=1.0,
                steps=8,
                probes=(),
            )
            runs = [attrs.evolve(base, width=n, seed=s) for n in widths for s in seeds]
            table = frame(sweep(runs, Store(folder)), "loss")
            known = limit.solve(
                limit.Problem.of(base), particles=8192, store=Store(folder)
            ).loss
            for step in (4, 7):
                rows = table[table["step"] == step]
                off, error = _extrapolated(rows)
                off -= known.value[step]
                error = float(np.hypot(error, known.error[step]))
                case = f"{depth} {activation} {loss}, step {step}"
                found.append({"case": case, "off": off, "z": off / error})
    return found


def _extrapolated(rows: Any) -> tuple[float, float]:
    """Return the mean loss at 1/n = 0, and its standard error.

    By least squares in 1/n, each width weighted by the spread of its networks.
    """
    groups = rows.groupby("width")["value"]
    means, errors = groups.mean(), groups.sem()
    design = np.stack([np.ones(len(means)), 1 / means.index.to_numpy(float)], axis=1)
    weighted = design / errors.to_numpy()[:, None]
    covariance = np.linalg.inv(weighted.T @ weighted)
    return (
        float((covariance @ weighted.T @ (means / errors).to_numpy())[0]),
        float(covariance[0, 0] ** 0.5),
    )


PARTS = {"cost": cost, "coverage": coverage, "agreement": agreement}


def parts(chosen: str | None) -> Iterator[tuple[str, Callable[[bool], Any]]]:
    yield from ((n, p) for n, p in PARTS.items() if chosen in (None, n))


def main() -> None:
    parser = part_parser(__doc__, "small sizes; writes no results")
    parser.add_argument("--part", choices=PARTS)
    given = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with threadpool_limits(limits=1, user_api="blas"):
        for name, part in parts(given.part):
            kept[name] = found = part(given.quick)
            rows = found if isinstance(found, list) else [found]
            print(name, laid_out(rows, dict.fromkeys(rows[0], "")), sep="\n")
    if not given.quick:
        write_json(RESULTS, kept)
    write_json(given.json, kept)


if __name__ == "__main__":
    main()
