"""Which outputs a model has, in the order in which they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx

from widthlab.scaling.judge import Signal
from widthlab.scaling.observed import MODEL, ModelLoss, outputs
from widthlab.scaling.survey import Build, parameters


def signals_of(
    build: Build, batch: Any, loss: ModelLoss, widths: Sequence[int]
) -> list[Signal]:
    """Return each output in the order in which they are computed, and if it grows."""
    first, second = (traced(build, batch, loss, w) for w in sorted({*widths})[:2])
    last = first.outputs.get(MODEL)
    return [
        Signal(
            name,
            out.shape != second.outputs[name].shape,
            last is not None and out.shape == last.shape,
            name in first.layers,
        )
        for name, out in first.outputs.items()
    ]


class Output(NamedTuple):
    """An output: its shape, and which value it is."""

    shape: tuple[int, ...]
    value: int


class Traced(NamedTuple):
    """What a model puts out.

    Attributes:
        outputs: by name, in the order in which they are computed.
        layers: names of modules that have parameters of their own.
    """

    outputs: dict[str, Output]
    layers: frozenset[str]


def traced(build: Build, batch: Any, loss: ModelLoss, width: int) -> Traced:
    """Return what a model puts out, without numbers."""
    names: list[str] = []
    layers: list[str] = []

    def run() -> list[Any]:
        model = build(width, nnx.Rngs(0))
        layers[:] = [".".join(map(str, path[:-1])) for path, _ in parameters(model)]
        found = outputs(model, batch, loss)
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
    found = {
        names[i]: Output(tuple(jaxpr.outvars[i].aval.shape), id(jaxpr.outvars[i]))
        for i in order
    }
    return Traced(found, frozenset(layers))
