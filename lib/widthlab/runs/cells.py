"""Cells: what shares a compiled program, cut into numbers that run together."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax

from widthlab.fields import count, optional
from widthlab.runs.record import Record
from widthlab.runs.spec import Spec
from widthlab.training.devices import DeviceMemoryError, is_out_of_memory

AnySpec = TypeVar("AnySpec", bound=Spec)

Cell = list[Spec | None]
"""Runs of one program; None fills up to the size of others."""


TOGETHER = optional(count(), "for as many as their kind says")
"""How many runs a cell may have."""


class MemoryWarning(UserWarning):
    """Runs did not fit in memory together and are run in smaller numbers."""


def by_program(specs: Iterable[AnySpec]) -> list[list[AnySpec]]:
    """Group specifications by the program that they share, in order of appearance."""
    groups: dict[Any, list[AnySpec]] = {}
    for spec in specs:
        groups.setdefault((type(spec), spec.program), []).append(spec)
    return list(groups.values())


def cells(
    specs: Sequence[Spec],
    together: int | None = None,
    *,
    in_order: bool = False,
    fill_up: bool = False,
    as_many_as_can: bool = False,
) -> list[Cell]:
    """Group runs by compiled program, then cut groups into cells.

    Args:
        specs: what to run.
        together: runs in a cell, at most; by default what their kind says.
        in_order: put the cells of the first runs first. Otherwise first cells of all
            groups come first: two at a time, none compiles what the other is just
            compiling.
        fill_up: make sizes powers of two, so that sweeps of different sizes share
            their programs, where the kind allows it. What fills up never runs, which
            on CPU costs nothing.
        as_many_as_can: by default all of a group in one cell, as an accelerator wants.
    """
    together = TOGETHER.take("together", together)
    cut = []
    for group in by_program(specs):
        kind = type(group[0])
        most = together or (None if as_many_as_can else kind.together) or len(group)
        cut.append(list(_pieces(group, most, fill_up and kind.fills_up)))
    if in_order:
        place = {spec: index for index, spec in enumerate(specs)}
        return sorted(itertools.chain(*cut), key=lambda cell: place[_first(cell)])
    return [cell for pieces in itertools.zip_longest(*cut) for cell in pieces if cell]


def _pieces(group: Sequence[Spec], most: int, fill_up: bool = False) -> Iterator[Cell]:
    """Cut a group into pieces of one size, the last filled up: compiled once."""
    size = math.ceil(len(group) / math.ceil(len(group) / most))
    if fill_up:
        size = min(most, 1 << (size - 1).bit_length())
    fills_up = type(group[0]).fills_up
    for start in range(0, len(group), size):
        piece = group[start : start + size]
        yield [*piece, *[None] * (size - len(piece) if fills_up else 0)]


def _first(cell: Sequence[Spec | None]) -> Spec:
    assert cell[0] is not None
    return cell[0]


def run_cell(cell: Sequence[Spec | None]) -> list[Record]:
    """Run a cell, or pieces of it where memory is too small for all."""
    waiting: list[Cell] = [list(cell)]
    records = []
    while waiting:
        piece = waiting.pop(0)
        try:
            records += type(_first(piece)).run_cell(piece)
        except (DeviceMemoryError, jax.errors.JaxRuntimeError) as error:
            waiting[:0] = _smaller(piece, error)
    return records


def _smaller(piece: Cell, error: Exception) -> list[Cell]:
    """Cut a cell that did not fit; whatever else went wrong is not for us."""
    specs = [spec for spec in piece if spec is not None]
    if isinstance(error, DeviceMemoryError):
        most = error.members
    elif is_out_of_memory(error):
        most = len(piece) // 2
        warnings.warn(
            f"{len(piece)} {specs[0].kind}{_size(specs[0])} did not fit in the "
            f"device's memory together; they are run {max(most, 1)} at a time",
            MemoryWarning,
            stacklevel=2,
        )
    else:
        raise error
    if len(piece) == 1 or most < 1:
        raise MemoryError(
            f"a single one of these {specs[0].kind}{_size(specs[0])} does not fit in "
            f"the device's memory: {error}"
        ) from error
    return list(_pieces(specs, min(most, len(piece) - 1)))


def _size(spec: Spec) -> str:
    sizes = (f"{n} {spec.columns[n]}" for n in ("width", "depth") if n in spec.columns)
    named = " and ".join(sizes)
    return f" of {named}" if named else ""
