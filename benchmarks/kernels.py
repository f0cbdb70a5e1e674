"""Time the kernels of wide networks against matrix products.

python benchmarks/kernels.py                       all readings, two or three minutes
python benchmarks/kernels.py --line "erf float64"  one line only; --help lists the names

Every line is a process of its own, so that its peak of memory is its own. In it,
repetitions of both sides alternate, and medians are compared; compilation is apart. A
repetition waits until other processes leave the cores alone, as in `training.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    alternate,
    child,
    laid_out,
    medians,
    part_parser,
    peak_bytes,
    timed,
    write_json,
)
from widthlab import DataSpec, kernels, parametrization
from widthlab.model import MLP, Shape

INPUTS, DEPTH, REPETITIONS = 2000, 3, 7
FINITE = Shape(784, (1024,) * 3, 10, "relu")
FINITE_INPUTS, MEMORY = 500, 2 * 10**9
ACTIVATIONS = ("relu", "erf", "gelu", "tanh")
LINES = [*(f"{a} {d}" for a in ACTIVATIONS for d in ("float32", "float64")), "finite"]
COLUMNS = {
    "name": "",
    "compile_s": ".2f",
    "ms": ".1f",
    "product_ms": ".1f",
    "ratio": ".2f",
    "peak_mb": ".0f",
    "quiet": "d",
    "turns": "d",
}


def images(count: int, dtype: str) -> Any:
    x = DataSpec("mnist-5k", n_train=count).load().x_train
    return jnp.asarray(np.asarray(x), dtype)


def peak() -> int:
    """Return the most bytes on an accelerator, or of this process on CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use") or peak_bytes()


def compare(work: Callable[[], Any], product: Callable[[], Any]) -> dict[str, Any]:
    """Return medians of both, where possible of quiet repetitions."""

    def reading(f: Callable[[], Any]) -> Callable[[], float]:
        return lambda: timed(lambda: jax.block_until_ready(f()))

    before = peak()
    compilation = reading(work)()
    grown = peak() - before
    jax.block_until_ready(product())
    sides = {"work": reading(work), "product": reading(product)}
    found, quiet, turns = medians(alternate(sides, REPETITIONS), enough=3)
    return {
        "compile_s": compilation - found["work"],
        "ms": 1e3 * found["work"],
        "product_ms": 1e3 * found["product"],
        "ratio": found["work"] / found["product"],
        "peak_mb": grown / 1e6,
        "quiet": quiet,
        "turns": turns,
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


def command_line() -> argparse.Namespace:
    parser = part_parser(__doc__, quick="two lines only")
    parser.add_argument("--line", choices=LINES, help="measure one line, print as JSON")
    return parser.parse_args()


def main() -> None:
    options = command_line()
    if options.line:
        print(json.dumps(line(options.line)))
        return
    names = ["relu float32", "finite"] if options.quick else LINES
    report = child("common.py")
    report["readings"] = [
        {"name": name, **child("kernels.py", "--line", name)} for name in names
    ]
    write_json(options.json, report)
    print(laid_out(report["readings"], COLUMNS))


if __name__ == "__main__":
    main()
