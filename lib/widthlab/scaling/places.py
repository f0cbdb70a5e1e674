"""Where in a deep model an output is, and what it is called at any depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from widthlab.scaling.blocks import Blocks
from widthlab.scaling.ends import matches
from widthlab.scaling.errors import ScalingError
from widthlab.scaling.judge import Expected
from widthlab.scaling.signals import Traced
from widthlab.scaling.survey import Path

if TYPE_CHECKING:
    import pandas as pd

HALF, LAST = "half", "last"
"""The middle of a list of blocks, and its last one, in names of modules."""


class Place(NamedTuple):
    """Where an output is.

    Attributes:
        name: what it is called at any depth.
        kind: "outside", "inside" a branch, "added" to the stream, or "stream".
        behind: whether a block runs before it.
        layer: whether it has parameters of its own.
        weight: with which it counts.
    """

    name: str
    kind: str
    behind: bool
    layer: bool
    weight: float


class _Inside(NamedTuple):
    """Where inside a list an output is: the list, the block, and what is behind."""

    list: Path
    block: int
    rest: Path


def places_of(found: Traced, ends: Sequence[str], blocks: Blocks) -> dict[str, Place]:
    """Return the outputs that are looked at, by their names at one depth.

    Half way through a network may be between two blocks: the second of two branches in
    a block is later than the first. Outputs of the two are interpolated then.

    Raises:
        ScalingError: the model has no list of blocks.
    """
    parts = [end.split(".") for end in ends]
    last = [n for n in found.outputs if any(matches(_parts(n), end) for end in parts)]
    added = _shares(found, last, blocks)
    places, behind, begun = dict[str, Place](), False, dict[Path, float]()
    for name, output in found.outputs.items():
        inside = _inside(name, blocks)
        kind = "outside"
        share = 0.0
        if inside is not None:
            behind = True
            block = (*inside.list, inside.block)
            before, after = added.get(output.value, (begun.get(block, 0.0), None))
            kind, share = "inside" if after is None else "added", before
            if after is None and any(end.startswith(f"{name}.") for end in last):
                kind = "stream"
            begun[block] = max(begun.get(block, 0.0), after or 0.0)
        called = _called(name, inside, kind, share, blocks)
        if called is not None:
            places[name] = Place(
                called[0], kind, behind, name in found.layers, called[1]
            )
    if all(place.kind == "outside" for place in places.values()):
        raise ScalingError(
            "the model has no list of blocks, a module each, so that there is none to "
            "look at. Layers that are stacked in one array are scaled as those in a "
            "list are: check these"
        )
    return places


def expected_of(
    places: Mapping[str, Place], exponent: float, undecided: Sequence[str]
) -> tuple[Expected, ...]:
    """Return what is predicted of each output as the depth grows."""
    found = dict[str, Expected]()
    for place in places.values():
        start = change = own = 0.0
        if place.kind == "inside":
            own = exponent - 1
        elif place.kind == "added":
            start, change, own = -exponent, -exponent, -1.0
        # What is random in the stream vanishes if the multiplier is less than L^-1/2.
        stream = place.kind in ("outside", "stream") and place.behind
        at_most = ("start",) if stream and exponent > 0.5 else ()
        if place.kind == "added" and exponent < 1:
            at_most = ("change",)
        decided = not any(word in place.name for word in undecided)
        found[place.name] = Expected(place.name, start, change, own, at_most, decided)
    return tuple(found.values())


def renamed(frame: pd.DataFrame, places: Mapping[str, Place]) -> pd.DataFrame:
    """Return a table of one depth with the outputs that are looked at, by place."""
    kept = frame.loc[frame["module"].isin([*places])]
    here = [places[name] for name in kept["module"]]
    kept = kept.assign(
        module=[place.name for place in here],
        value=kept["value"] * [place.weight for place in here],
    )
    keys = ["parametrization", "seed", "module", "quantity"]
    return kept.groupby(keys, sort=False, as_index=False)["value"].sum(min_count=1)


def _shares(
    found: Traced, last: Sequence[str], blocks: Blocks
) -> dict[int, tuple[float, float]]:
    """How far through its block each branch begins and ends, by the value it adds."""
    of_block: dict[Path, list[int]] = {}
    for name in last:
        if (inside := _inside(name, blocks)) is not None:
            block = (*inside.list, inside.block)
            of_block.setdefault(block, []).append(found.outputs[name].value)
    return {
        value: (place / len(values), (place + 1) / len(values))
        for values in of_block.values()
        for place, value in enumerate(values)
    }


def _parts(name: str) -> Path:
    return tuple(int(p) if p.isdigit() else p for p in name.split("."))


def _inside(name: str, blocks: Blocks) -> _Inside | None:
    parts = _parts(name)
    for i in range(1, len(parts)):
        if parts[:i] in blocks.lists:
            return _Inside(parts[:i], parts[i], parts[i + 1 :])
    return None


def _called(
    name: str, inside: _Inside | None, kind: str, share: float, blocks: Blocks
) -> tuple[str, float] | None:
    """Return name and weight of an output; None where it is not looked at.

    Args:
        name: its name at this depth.
        inside: where in a list of blocks it is.
        kind: as of a `Place`.
        share: of its block's branches that come before it.
        blocks: of the model.
    """
    if inside is None:
        return name, 1.0
    length = blocks.lists[inside.list]
    if kind == "stream" and not inside.rest:
        weight, word = float(inside.block == length - 1), LAST
    else:
        # Block i begins at i / length: it is half way at i + share = length / 2.
        half = min(max(length / 2 - share, 0.0), length - 1.0)
        weight, word = max(0.0, 1.0 - math.fabs(inside.block - half)), HALF
    called = ".".join(map(str, (*inside.list, word, *inside.rest)))
    return (called, weight) if weight else None
