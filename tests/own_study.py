"""A study whose every part is its own: a script, so that all of it is `__main__`'s.

`python own_study.py STORE [WORKERS]` sweeps it and prints keys and final losses.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from widthlab import DataSpec, Experiment, activations, data, probes, sweep
from widthlab.data import Stream, Synthetic
from widthlab.probes import Performance
from widthlab.runs.executors import Processes
from widthlab.runs.store import Store
from widthlab.training import losses
from widthlab.training.ensemble import trace_counts

SLOPE = 0.1
CENTRES = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5]])


def kinked(x):
    return jnp.maximum(x, SLOPE * x)


activations.register("kinked", kinked)


@losses.register("absolute", targets="values")
def absolute(outputs, targets):
    return jnp.mean(jnp.sum(jnp.sqrt(1e-3 + (outputs - targets) ** 2), axis=-1))


@data.register("two-clouds", n_train=40, n_test=10, dim=3, classes=("left", "right"))
def two_clouds():
    noise = np.random.default_rng(0).standard_normal((50, 3))
    classes = np.arange(50) % 2
    x = CENTRES[classes] + 0.1 * noise
    return x[:40], classes[:40], x[40:], classes[40:]


@data.register_task("sum")
def _sum(n, d, inputs, targets):
    x = inputs.standard_normal((n, d)) / np.sqrt(d)
    return x, x.sum(axis=1)


@data.register_stream("single-index")
def single_index(key, n, d):
    x = jax.random.normal(key, (n, d)) / jnp.sqrt(d)
    return x, jnp.tanh(3 * x[:, 0])


@probes.register
@dataclass(frozen=True, slots=True)
class LastLayer:
    """Largest entries of the last matrix."""

    largest: int = 2
    powers: tuple[int, ...] = (1, 2)
    name: ClassVar[str] = "last-layer"

    def measure(self, model: Any, initial: Any, data: Any, loss: Callable) -> Any:
        entries = jnp.abs(model.layers[-1].kernel[...]).ravel()
        return jax.lax.top_k(entries, self.largest)[0]

    def rows(self, history: Sequence[Any]) -> list:
        return [
            [
                (f"largest^{p}", 0, float(np.sum(np.float64(seen) ** p)))
                for p in self.powers
            ]
            for seen in history
        ]

    def check(self, experiment: Any) -> None:
        if experiment.width < self.largest:
            raise ValueError(f"width {experiment.width} has no {self.largest} entries")


def specs(seeds=2):
    common = {
        "parametrization": "mup",
        "width": 16,
        "depth": 2,
        "steps": 6,
        "activation": "kinked",
        "lr": 0.1,
        "probes": (LastLayer(), Performance()),
    }
    clouds = DataSpec("two-clouds", preprocess="standardize")
    kinds = [
        {"data": clouds, "loss": "absolute", "batch_size": 8},
        {"data": Synthetic(task="sum", n_train=12, n_test=4, dim=5), "loss": "mse"},
        {"data": Stream(task="single-index", dim=4), "loss": "mse", "batch_size": 8},
    ]
    return [
        Experiment(**common, **kind, seed=seed)
        for kind in kinds
        for seed in range(seeds)
    ]


def main():
    store, workers = Store(sys.argv[1]), int(sys.argv[2])
    if workers:
        with Processes(workers) as pool:
            records = sweep(specs(), store, executor=pool, together=1)
    else:
        records = sweep(specs(), store, together=1)
    told = {r.spec.key: list(map(repr, r.columns["value"])) for r in records}
    print(json.dumps({"records": told, "traced": sum(trace_counts().values())}))


if __name__ == "__main__":
    main()
