"""Cells: runs that share a compiled program, cut into numbers that run together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from widthlab.runs.experiment import Experiment

if TYPE_CHECKING:
    pass


TOGETHER = 16
"""Runs in a cell on CPU: what a killed sweep loses, at no cost in speed."""


_Ensemble = list[Experiment | None]  # None fills up to the size of the others


def by_program(experiments: Iterable[Experiment]) -> list[list[Experiment]]:
    """Group runs by the compiled program that they share, in order of appearance."""
    groups: dict[Any, list[Experiment]] = {}
    for spec in experiments:
        groups.setdefault(spec.program, []).append(spec)
    return list(groups.values())


def cells(
    experiments: Sequence[Experiment],
    together: int,
    *,
    in_order: bool = False,
    fill_up: bool = False,
) -> list[_Ensemble]:
    """Group runs by compiled program, then cut groups into cells.

    Args:
        experiments: what to run.
        together: runs in a cell, at most.
        in_order: put the cells of the first experiments first. Otherwise first cells of
            all groups come first: two at a time, none compiles what the other is just
            compiling.
        fill_up: make sizes powers of two, so that sweeps of different sizes share
            their programs. What fills up never runs, which on CPU costs nothing.
    """
    if together < 1:
        raise ValueError(f"together is {together}; a cell has at least one run")
    groups = by_program(experiments)
    cut = [list(_pieces(group, together, fill_up)) for group in groups]
    if in_order:
        place = {spec: index for index, spec in enumerate(experiments)}
        return sorted(itertools.chain(*cut), key=lambda cell: place[_filled(cell)[0]])
    return [cell for pieces in itertools.zip_longest(*cut) for cell in pieces if cell]


def _pieces(
    group: list[Experiment], most: int, fill_up: bool = False
) -> Iterator[_Ensemble]:
    """Cut a group into pieces of one size, the last filled up: compiled once."""
    size = math.ceil(len(group) / math.ceil(len(group) / most))
    if fill_up:
        size = min(most, 1 << (size - 1).bit_length())
    for start in range(0, len(group), size):
        piece = group[start : start + size]
        yield [*piece, *[None] * (size - len(piece))]


def _filled(ensemble: _Ensemble) -> list[Experiment]:
    stand_in = ensemble[0]
    assert stand_in is not None
    return [spec or stand_in for spec in ensemble]
