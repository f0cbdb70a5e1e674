"""Time the kernels of wide networks against matrix products.

python benchmarks/kernels.py                      all readings, two or three minutes
python benchmarks/kernels.py --line "erf float64" one line only; --help lists the names

Every line is a process of its own, so that its peak of memory is its own. In it,
repetitions of both sides alternate, and medians are compared; compilation is apart. A
repetition waits until other processes leave the cores alone, as in `training.py`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from training import Quiet, timed
from widthlab import DataSpec, kernels, parametrization
from widthlab.model import MLP, Shape

INPUTS, DEPTH, REPETITIONS = 2000, 3, 7
FINITE = Shape(784, (1024,) * 3, 10, "relu")
FINITE_INPUTS, MEMORY = 500, 2 * 10**9
ACTIVATIONS = ("relu", "erf", "gelu", "tanh")
LINES = [f"{a} {d}" for a in ACTIVATIONS for d in ("float32", "float64")]
HEADER = (
    f"{'':<15}{'compile s':>10}{'ms':>9}{'GEMM ms':>9}{'ratio':>7}"
    f"{'peak MB':>9}{'quiet':>7}"
)


def images(count: int, dtype: str) -> Any:
    x = DataSpec("mnist-5k", n_train=count).load().x_train
    return jnp.asarray(np.asarray(x), dtype)


def peak() -> float:
    """Return the largest size that this process has had, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def compare(work: Callable[[], Any], product: Callable[[], Any]) -> dict[str, Any]:
    """Return medians of both, where possible of quiet repetitions."""
    before = peak()
    compilation = timed(lambda: jax.block_until_ready(work()))
    grown = peak() - before
    jax.block_until_ready(product())
    pairs = []
    for _ in range(REPETITIONS):
        Quiet.wait()
        watch = Quiet()
        seconds = [
            timed(lambda f=f: jax.block_until_ready(f())) for f in (work, product)
        ]
        pairs.append((watch.disturbed(), *seconds))
    quiet = [pair for pair in pairs if not pair[0]]
    kept = quiet if len(quiet) > 2 else pairs
    ours, gemm = (statistics.median(pair[i] for pair in kept) for i in (1, 2))
    return {
        "compile_seconds": compilation - ours,
        "seconds": ours,
        "gemm_seconds": gemm,
        "ratio": ours / gemm,
        "peak_megabytes": grown,
        "quiet": len(quiet),
    }


def infinite(activation: str, dtype: str) -> dict[str, Any]:
    """The NTK of 2,000 images with each other, and their Gram matrix."""
    with jax.enable_x64(dtype == "float64"):
        x = images(INPUTS, dtype)
        gram = jax.jit(lambda x: jnp.matmul(x, x.T, precision="highest"))
        return compare(
            lambda: kernels.mlp(
                x, activation=activation, depth=DEPTH, weight_std=2**0.5
            ),
            lambda: gram(x),
        )


def finite() -> dict[str, Any]:
    """The tangent kernel of 500 images, and a product of 2048 by 2048 matrices."""
    scales = FINITE.scales(parametrization.get("ntk"), lr=1.0)
    model = MLP(FINITE, scales, key=jax.random.key(0))
    x = images(FINITE_INPUTS, "float32")
    square = jnp.ones((2048, 2048), "float32")
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    return compare(
        lambda: kernels.empirical(model, x, memory=MEMORY), lambda: product(square)
    )


def line(name: str) -> dict[str, Any]:
    return finite() if name == "finite" else infinite(*name.split())


def main() -> None:
    names = [*LINES, "finite"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--line", choices=names, help="measure one line, print as JSON")
    options = parser.parse_args()
    if options.line:
        print(json.dumps(line(options.line)))
        return
    print(HEADER)
    for name in names:
        done = subprocess.run(
            [sys.executable, __file__, "--line", name],
            capture_output=True,
            text=True,
            check=True,
        )
        r = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:<15}{r['compile_seconds']:>10.2f}{1e3 * r['seconds']:>9.1f}"
            f"{1e3 * r['gemm_seconds']:>9.1f}{r['ratio']:>7.2f}"
            f"{r['peak_megabytes']:>9.0f}{r['quiet']:>5}/{REPETITIONS}",
            flush=True,
        )


if __name__ == "__main__":
    main()
