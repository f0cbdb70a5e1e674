"""What ends a branch: layers by name, and whether they can absorb a multiplier."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from flax import nnx

from widthlab.scaling.errors import ScalingError
from widthlab.scaling.survey import Path


def pattern_of(path: Path, lists: Collection[Path]) -> Path:
    """Return a path with None for its place in lists that grow."""
    return tuple(None if path[:i] in lists else part for i, part in enumerate(path))


def name_of(pattern: Path) -> str:
    """Return a pattern in one word, with * for its place in a list."""
    return ".".join("*" if part is None else str(part) for part in pattern)


def parameters_of(
    end: str, inside: Collection[Path], lists: Collection[Path]
) -> set[Path]:
    """Return the parameters of the layers that an end names.

    Args:
        end: a path, with `*` for a block's number.
        inside: paths of all parameters inside blocks.
        lists: paths of the lists of blocks.

    Raises:
        ScalingError: it names no layer inside a block, or some blocks alone, or what
            cannot absorb a multiplier.
    """
    parts = end.split(".")
    here = {path for path in inside if matches(path[:-1], parts)}
    if not here:
        layers = sorted({name_of(pattern_of(path, lists)[:-1]) for path in inside})
        raise ScalingError(
            f"ends names {end!r}, which is no layer inside a block; these are "
            f"{', '.join(layers)}"
        )
    _covers(end, here, inside, lists)
    _one_array(end, here)
    below = {p for p in inside if matches(p[: len(parts)], parts)} - here
    if below:
        raise ScalingError(
            f"ends names {end!r}, which has {min(map(name_of, below))!r} beside "
            "parameters of its own: its output is not linear in all of them together, "
            "so that they cannot absorb a multiplier; end the branch with a plain layer"
        )
    return here


def _covers(
    end: str, here: Collection[Path], inside: Collection[Path], lists: Collection[Path]
) -> None:
    """Refuse an end of some blocks alone."""
    ended = {pattern_of(path, lists) for path in here}
    missed = {path for path in inside if pattern_of(path, lists) in ended} - {*here}
    if missed:
        other = ".".join(map(str, min(missed, key=str)[:-1]))
        raise ScalingError(
            f"ends names {end!r}, and not {other!r}, the same of another block: write "
            "* in place of its number"
        )


def _one_array(end: str, here: Collection[Path]) -> None:
    """Refuse a layer whose output is not linear in what it has, or not by itself."""
    arrays: dict[Path, set[Any]] = {}
    for path in here:
        arrays.setdefault(path[:-1], set()).add(path[-1])
    for layer, names in arrays.items():
        if len(names - {"bias"}) != 1:
            raise ScalingError(
                f"ends names {end!r}, and {'.'.join(map(str, layer))!r} has "
                f"{', '.join(sorted(map(str, names)))}: a branch is ended by a layer "
                "with one array, and a bias beside it, which absorb the multiplier"
            )


def refuse_normalised(ends: Collection[Path], model: nnx.Module) -> None:
    """Refuse ends inside what divides them by their own size, and the multiplier too.

    Raises:
        ScalingError: nnx.WeightNorm or nnx.SpectralNorm is around one.
    """
    for place, module in nnx.iter_modules(model):
        if isinstance(module, nnx.WeightNorm | nnx.SpectralNorm):
            undone = [path for path in ends if path[: len(place)] == place]
            if undone:
                raise ScalingError(
                    f"ends name {'.'.join(map(str, undone[0][:-1]))!r}, inside a "
                    f"{type(module).__name__}, which undoes every factor on the "
                    "initial values: end the branch with a plain layer"
                )


def matches(path: Path, parts: Sequence[str]) -> bool:
    """Whether a path is what an end names; `*` stands for any one part."""
    return len(path) == len(parts) and all(
        want in ("*", str(part)) for part, want in zip(path, parts, strict=True)
    )
