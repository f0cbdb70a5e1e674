"""What of a model grows with its depth: blocks in lists, or layers in stacks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx

from widthlab.scaling.ends import (
    name_of,
    parameters_of,
    pattern_of,
    refuse_normalised,
)
from widthlab.scaling.errors import ScalingError
from widthlab.scaling.survey import (
    MULTIPLES,
    Build,
    Path,
    Width,
    abstract,
    scaled_width,
    shapes,
)

BuildDeep = Callable[[Any, int, nnx.Rngs], nnx.Module]
"""Makes a model with a number of blocks: `build(width, depth, rngs)`."""

Shapes = Mapping[Path, tuple[int, ...]]
"""Shapes of parameters by path, or by pattern."""


class Blocks(NamedTuple):
    """Which parameters are inside blocks, and which end a branch.

    Attributes:
        lists: how long each list of blocks is, by its path.
        first: path of each parameter in the first block of its list, by its own path.
        shapes: of all parameters, at the width at which was looked.
        inside: paths of the parameters inside.
        ends: those of what ends a branch, among them.
    """

    lists: Mapping[Path, int]
    first: Mapping[Path, Path]
    shapes: Shapes
    inside: frozenset[Path]
    ends: frozenset[Path]


def of_depth(build: Build | BuildDeep, depth: int | None) -> Build:
    """Return what makes models of one depth; what has no depth is that already."""
    made: Any = build
    return made if depth is None else lambda width, rngs: made(width, depth, rngs)


def blocks_of(
    build: Build | BuildDeep, width: Width, now: int, base: int, ends: Sequence[str]
) -> Blocks:
    """Return what grows with depth, found by evaluating the model without numbers.

    Args:
        build: makes the model.
        width: at which to look.
        now: the depth whose parameters are asked for.
        base: the depth at which the model is the user's own.
        ends: names of layers, as in `widthlab.scaling.Depth`.

    Raises:
        ScalingError: nothing grows, or not proportionally, or `ends` name no layer
            inside a block.
    """
    depths = [base * by for by in MULTIPLES]
    models = {at: _evaluated(build, width, at) for at in {*depths, now}}
    places = {at: _places(model) for at, model in models.items()}
    lists = _growing_lists([places[at] for at in depths], depths)
    _own(places[now], lists)
    looked = {at: shapes(model) for at, model in models.items()}
    found = [looked[at] for at in depths]
    first = _patterns(found[0], lists)
    grown = {pattern for pattern in first if None in pattern}
    for by, other in zip(MULTIPLES[1:], found[1:], strict=True):
        patterns = _patterns(other, lists)
        _alike(patterns, first, base * by, base)
        grown |= {p for p in first if _stacks(p, first[p], patterns[p], by)}
    wider = _evaluated(build, scaled_width(width, 2), base)
    _deep_alone(first, _patterns(found[1], lists), _patterns(shapes(wider), lists))
    if not grown:
        raise ScalingError(
            f"no parameter of build(width, depth, rngs) grows with the depth: at "
            f"{depths[0]} and at {depths[-1]} all are the same; use the argument "
            "`depth` for the number of blocks"
        )
    last = looked[now]
    here = {path: pattern_of(path, lists) for path in last}
    _alike(here.values(), first, now, base)
    _follows(last, lists, _lengths(found[0]), now, base)
    inside = frozenset(path for path, pattern in here.items() if pattern in grown)
    chosen = [parameters_of(end, inside, lists) for end in ends]
    refuse_normalised(frozenset().union(*chosen), models[now])
    begins: dict[Path, Path] = {}
    for path, pattern in here.items():
        begins.setdefault(pattern, path)
    first_of = {path: begins[pattern] for path, pattern in here.items()}
    lengths = {path: _lengths(last)[path] for path in lists}
    return Blocks(lengths, first_of, last, inside, frozenset().union(*chosen))


def _evaluated(build: Build | BuildDeep, width: Width, depth: int) -> nnx.Module:
    try:
        return abstract(of_depth(build, depth), width)
    except ScalingError as error:
        raise ScalingError(
            f"at depth {depth}: {error} With depth= a model is made by "
            "build(width, depth, rngs), and looked at "
            f"{MULTIPLES} times the base depth"
        ) from error


def _places(model: nnx.Module) -> dict[Path, int]:
    """Return every path to a parameter, with what tells parameters apart.

    The model's state has each but once, wherever it is used.
    """

    def part(key: Any) -> Any:
        names = (getattr(key, name, None) for name in ("name", "idx", "key"))
        return next(name for name in names if name is not None)

    leaves, _ = jax.tree_util.tree_flatten_with_path(
        model, is_leaf=lambda node: isinstance(node, nnx.Variable)
    )
    return {
        tuple(map(part, keys)): id(leaf)
        for keys, leaf in leaves
        if isinstance(leaf, nnx.Param)
    }


def _own(places: Mapping[Path, int], lists: Collection[Path]) -> None:
    """Refuse blocks that share a parameter, with one another or with what is outside.

    What moves it is a sum over all that use it, for which there is no rule here.
    """
    met: dict[int, Path] = {}
    for path, variable in places.items():
        other = met.setdefault(variable, path)
        both = (other, path)
        if other != path and any(None in pattern_of(p, lists) for p in both):
            one, two = (".".join(map(str, p)) for p in both)
            raise ScalingError(
                f"{one!r} and {two!r} are one parameter: how one that blocks share "
                "scales with their number is not known here; give every block its own"
            )


def _deep_alone(first: Shapes, deeper: Shapes, wider: Shapes) -> None:
    """Refuse an axis that grows with depth and width, as one over all layers does."""
    for pattern, shape in first.items():
        sizes = zip(shape, deeper[pattern], wider[pattern], strict=False)
        for axis, (size, deep, wide) in enumerate(sizes):
            if deep != size != wide:
                raise ScalingError(
                    f"axis {axis} of {name_of(pattern)!r} grows with the depth and "
                    "with the width: it is no stack of layers, and has no rule"
                )


def _alike(found: Collection[Path], first: Shapes, at: int, base: int) -> None:
    """Refuse other parameters than at the base depth."""
    if odd := {*found} ^ {*first}:
        raise ScalingError(
            f"build makes other parameters at depth {at} than at {base}, such as "
            f"{min(map(name_of, odd))!r}; put the blocks into a list of their own, all "
            "alike"
        )


def _follows(
    last: Shapes,
    lists: Collection[Path],
    first: Mapping[Path, int],
    now: int,
    base: int,
) -> None:
    """Refuse a depth at which a list has another length than multiples promised."""
    lengths = _lengths(last)
    for path in lists:
        if lengths[path] * base != first[path] * now:
            raise ScalingError(
                f"the list {name_of(path)!r} has {first[path]} layers at depth {base} "
                f"and {lengths[path]} at {now}; it must be proportional to the depth"
            )


def _growing_lists(
    found: Sequence[Collection[Path]], depths: list[int]
) -> frozenset[Path]:
    """Return where lists stand that are as long as the model is deep.

    Raises:
        ScalingError: the length of a list depends on depth otherwise.
    """
    lengths = [_lengths(one) for one in found]
    lists = set[Path]()
    # Of lists inside blocks the first block has one at any depth.
    for path in lengths[0]:
        here = [one.get(path, 0) for one in lengths]
        if len({*here}) == 1:
            continue
        if here != [here[0] * by for by in MULTIPLES]:
            raise ScalingError(
                f"the list {name_of(path) or 'of layers'!r} has {here} layers at "
                f"depths {depths}; a list is constant or proportional to the depth: "
                "put the blocks into a list of their own"
            )
        lists.add(path)
    return frozenset(lists)


def _lengths(found: Collection[Path]) -> dict[Path, int]:
    """Length of each list, by the path of what is followed by a number."""
    places = {
        path[: i + 1]
        for path in found
        for i, part in enumerate(path)
        if isinstance(part, int)
    }
    lengths: dict[Path, int] = {}
    for place in places:
        lengths[place[:-1]] = lengths.get(place[:-1], 0) + 1
    return lengths


def _patterns(found: Shapes, lists: Collection[Path]) -> Shapes:
    return {pattern_of(path, lists): shape for path, shape in found.items()}


def _stacks(
    pattern: Path, small: tuple[int, ...], large: tuple[int, ...], by: int
) -> bool:
    """Whether a parameter is a stack of layers, with an axis as long as the depth."""
    if small == large:
        return False
    changed = [(a, b) for a, b in zip(small, large, strict=False) if a != b]
    if len(small) != len(large) or changed != [(changed[0][0], by * changed[0][0])]:
        raise ScalingError(
            f"{name_of(pattern)!r} has shape {small} at the base depth and {large} at "
            f"{by} times that; one axis that stacks layers may be proportional to the "
            "depth, and nothing else may depend on it"
        )
    return True
