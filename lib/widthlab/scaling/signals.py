"""Which outputs a model has, in the order in which they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from widthlab.scaling.activity import MODEL, ModelLoss, outputs
from widthlab.scaling.judge import Signal
from widthlab.scaling.survey import Build


def signals_of(
    build: Build, batch: Any, loss: ModelLoss, widths: Sequence[int]
) -> list[Signal]:
    """Return each output in the order in which they are computed, and if it grows."""
    shapes = [_traced(build, batch, loss, width) for width in sorted({*widths})[:2]]
    names = [*shapes[0]]
    last = shapes[0].get(MODEL)
    return [
        Signal(name, shapes[0][name] != shapes[1][name], shapes[0][name] == last)
        for name in names
    ]


def _traced(
    build: Build, batch: Any, loss: ModelLoss, width: int
) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's outputs by name, sorted by when they are computed."""
    names: list[str] = []

    def run() -> list[Any]:
        found = outputs(build(width, nnx.Rngs(0)), batch, loss)
        names[:] = [*found]
        return [*found.values()]

    jaxpr = jax.make_jaxpr(run)().jaxpr
    place = {
        id(var): number
        for number, equation in enumerate(jaxpr.eqns)
        for var in equation.outvars
    }
    order = sorted(
        range(len(names)), key=lambda i: (place.get(id(jaxpr.outvars[i]), -1), i)
    )
    return {names[i]: tuple(jaxpr.outvars[i].aval.shape) for i in order}
