"""Time the curvature that is tracked at every step against plain gradient descent.

python benchmarks/curvature.py                    all readings, two or three minutes
python benchmarks/curvature.py --net growing      one network only

Full-batch gradient descent on 200 digits, in float32, one member on one device. In one
process, repetitions of all variants alternate, and medians are compared; compilation
and the first steps, where the eigenvector is found from nothing, are apart. One plain
step is one gradient evaluation and the update.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

import jax
from training import Quiet
from widthlab import DataSpec, Experiment
from widthlab.probes import Performance
from widthlab.schedules import Schedule
from widthlab.sweeps import _members
from widthlab.training import Data, train

FIRST, STEPS, REPETITIONS = 5, 40, 5
DIGITS = DataSpec(
    "digits", n_train=200, targets="centred-one-hot", preprocess="unit-norm"
)
PLAIN = Experiment(
    data=DIGITS,
    parametrization="mup",
    width=32,
    depth=4,
    growth=1.0,
    activation="abrelu(-1,1)",
    loss="mse",
    lr=0.5,
    steps=FIRST + STEPS,
    probes=(Performance(),),  # what a checkpoint waits for
)
NETS = {
    "growing": PLAIN,
    "constant": replace(PLAIN, width=128, growth=0.0, activation="tanh"),
    "wide": replace(PLAIN, width=512, depth=3, growth=0.0, activation="tanh"),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gauss-newton": {"track": ("gauss-newton",)},
    "hessian": {"track": ("hessian",)},
    "cosine": {"track": ("cosine",)},
    "cdat": {"schedule": Schedule("cdat")},
    "3 rounds at most": {
        "schedule": Schedule(rounds=3),
        "track": ("gauss-newton",),
    },
}


def seconds(spec: Experiment, data: Data) -> float:
    """Return the seconds of a step, after the first ones."""
    times = []
    train(
        spec.plan,
        _members([spec]),
        data,
        (FIRST, FIRST + STEPS),
        spec.probes,
        devices=jax.devices()[:1],
        on_checkpoint=lambda _: times.append(time.perf_counter()),
    )
    return (times[1] - times[0]) / STEPS


def measure(net: Experiment) -> dict[str, tuple[float, int]]:
    """Return the median seconds of a step and the number of quiet repetitions."""
    loaded = net.data.load()
    data = Data(loaded.x_train, loaded.y_train, loaded.x_test, loaded.y_test)
    specs = {name: replace(net, **changes) for name, changes in VARIANTS.items()}
    for spec in specs.values():
        seconds(spec, data)  # compiles
    turns: dict[str, list[tuple[bool, float]]] = {name: [] for name in specs}
    for _ in range(REPETITIONS):
        Quiet.wait()
        for name, spec in specs.items():
            watch = Quiet()
            step = seconds(spec, data)
            turns[name].append((watch.disturbed(), step))
    medians = {}
    for name, readings in turns.items():
        quiet = [step for disturbed, step in readings if not disturbed]
        kept = quiet if len(quiet) > 2 else [step for _, step in readings]
        medians[name] = (statistics.median(kept), len(quiet))
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=NETS, help="one network only")
    options = parser.parse_args()
    print(f"{'':<10}{'':<18}{'ms/step':>9}{'added, in steps':>17}{'quiet':>8}")
    for name in [options.net] if options.net else NETS:
        medians = measure(NETS[name])
        plain = medians["plain"][0]
        for variant, (step, quiet) in medians.items():
            print(
                f"{name:<10}{variant:<18}{1e3 * step:>9.2f}{step / plain - 1:>17.2f}"
                f"{quiet:>6}/{REPETITIONS}",
                flush=True,
            )


if __name__ == "__main__":
    main()
