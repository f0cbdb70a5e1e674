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
import functools
import time
from typing import Any

import jax
from attrs import evolve
from common import alternate, child, laid_out, medians, part_parser, write_json
from widthlab import DataSpec, Experiment
from widthlab.probes import Performance
from widthlab.runs.ensembles import _members
from widthlab.training.ensemble import train
from widthlab.training.schedules import Schedule
from widthlab.training.state import Data

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
    "constant": evolve(PLAIN, width=128, growth=0.0, activation="tanh"),
    "wide": evolve(PLAIN, width=512, depth=3, growth=0.0, activation="tanh"),
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
COLUMNS = {
    "net": "",
    "variant": "",
    "ms": ".2f",
    "added": ".2f",
    "quiet": "d",
    "turns": "d",
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


def measure(name: str, repetitions: int) -> list[dict[str, Any]]:
    """Let all variants of a network take turns; return what each adds to a step."""
    net = NETS[name]
    loaded = net.data.load()
    data = Data(loaded.x_train, loaded.y_train, loaded.x_test, loaded.y_test)
    sides = {
        variant: functools.partial(seconds, evolve(net, **changes), data)
        for variant, changes in VARIANTS.items()
    }
    for side in sides.values():
        side()  # compiles
    found, quiet, turns = medians(alternate(sides, repetitions), enough=3)
    return [
        {
            "net": name,
            "variant": variant,
            "ms": 1e3 * step,
            "added": step / found["plain"] - 1,
            "quiet": quiet,
            "turns": turns,
        }
        for variant, step in found.items()
    ]


def command_line() -> argparse.Namespace:
    parser = part_parser(__doc__, quick="one network, less exact")
    parser.add_argument("--net", choices=NETS, help="one network only")
    return parser.parse_args()


def main() -> None:
    options = command_line()
    report = child("common.py")
    nets = [options.net] if options.net else ["growing"] if options.quick else NETS
    report["readings"] = [
        row for net in nets for row in measure(net, 2 if options.quick else REPETITIONS)
    ]
    write_json(options.json, report)
    print(laid_out(report["readings"], COLUMNS))


if __name__ == "__main__":
    main()
