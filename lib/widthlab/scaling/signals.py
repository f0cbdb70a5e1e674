"""Which outputs a model has, in the order in which they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx

from widthlab.scaling.activity import MODEL, ModelLoss, outputs
from widthlab.scaling.errors import ScalingError
from widthlab.scaling.judge import Signal
from widthlab.scaling.survey import Build, Path, parameters


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


def _drawn(model: nnx.Module) -> dict[Path, Any]:
    """Return how often each stream of random numbers was used."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.RngCount))
    return {path: variable.get_value() for path, variable in flat}


def _refuse_noise(before: dict[Path, Any], after: dict[Path, Any]) -> None:
    """Refuse a model that is random when it runs.

    What training changes is seen as a difference of two outputs, in which fresh noise
    would be level at any width: the unscaled model would look right.
    """
    used = [path for path, count in after.items() if count is not before.get(path)]
    if used:
        raise ScalingError(
            f"{'.'.join(map(str, used[0][:-1]))!r} draws random numbers when the model "
            "runs, as dropout does: their noise would be taken for what training "
            "changes. Turn it off, with model.eval() inside build or a rate of zero"
        )


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
    """Return what a model puts out, without numbers.

    Raises:
        ScalingError: it draws random numbers to do so.
    """
    names: list[str] = []
    layers: list[str] = []

    def run() -> list[Any]:
        model = build(width, nnx.Rngs(0))
        layers[:] = [".".join(map(str, path[:-1])) for path, _ in parameters(model)]
        drawn = _drawn(model)
        found = outputs(model, batch, loss)
        _refuse_noise(drawn, _drawn(model))
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
