"""What of a model grows with its width: found by evaluating it without numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import flax.linen
import jax
from flax import nnx

from widthlab.scaling.errors import ScalingError

Path = tuple[Any, ...]
"""Where a parameter stands in a model: attributes and places in lists."""

Width = int | Mapping[str, int]
"""One width, or several independent ones by name."""

Build = Callable[[Any, nnx.Rngs], nnx.Module]
"""Makes a model: `build(width, rngs)`."""

MULTIPLES = (1, 2, 4)
"""At which multiples of the base width a model is looked at."""


class Parameter(NamedTuple):
    """A parameter of a model.

    Attributes:
        path: where it stands.
        base: its shape at the base width.
        shape: its shape at the width that is asked for.
        grows: for each axis, the names of the widths that it is proportional to.
        owner: the layer that holds it.
    """

    path: Path
    base: tuple[int, ...]
    shape: tuple[int, ...]
    grows: tuple[tuple[str, ...], ...]
    owner: Any

    @property
    def name(self) -> str:
        """The path in one word, as tables and arguments have it."""
        return ".".join(map(str, self.path))

    def growing(self, axes: tuple[int, ...]) -> bool:
        """Whether any of these axes grows with a width."""
        return any(self.grows[axis] for axis in axes)

    def ratio(self, axes: tuple[int, ...]) -> float:
        """Return by how much these axes are longer than at the base width."""
        result = 1.0
        for axis in axes:
            result *= self.shape[axis] / self.base[axis]
        return result


class Looked(NamedTuple):
    """A model at its base width, without numbers, and what of it grows.

    Attributes:
        width: the base width.
        model: the model there.
        shapes: of its parameters.
        grows: for each axis of each, the names of the widths it is proportional to.
    """

    width: Width
    model: nnx.Module
    shapes: Mapping[Path, tuple[int, ...]]
    grows: Mapping[Path, Sequence[tuple[str, ...]]]


def look(build: Build, base_width: Width) -> Looked:
    """Return which axes of a model grow, found once for any width.

    The model is evaluated abstractly at the base width and at two multiples of it, of
    each of several widths alone: every axis is either the same at all or proportional.

    Raises:
        ScalingError: `build` returns no NNX module or cannot be evaluated, the model
            does not depend on the width, or depends on it otherwise.
    """
    base_model = abstract(build, base_width)
    base = shapes(base_model)
    if (again := shapes(abstract(build, base_width))) != base:
        name = next(".".join(map(str, p)) for p in base if base[p] != again.get(p))
        raise ScalingError(
            f"build(width={base_width}) made {name!r} with two different shapes in two "
            "calls; shapes must follow from the width alone: take what is random in "
            "them out of build"
        )
    grows = {path: [()] * len(shape) for path, shape in base.items()}
    for name, wider in _probes(base_width):
        _compare(build, name, wider, base, grows)
    if not any(itertools.chain.from_iterable(grows.values())):
        raise ScalingError(
            f"no parameter of build(width) grows with the width: at {base_width} and "
            f"at {MULTIPLES[-1]} times that all shapes are equal; use the argument "
            "`width` for the sizes of layers"
        )
    return Looked(base_width, base_model, base, grows)


def survey(build: Build, width: Width, at_base: Looked) -> list[Parameter]:
    """Return the parameters of a model, with the axes that grow.

    Raises:
        ScalingError: the model is another at this width than its multiples promise.
    """
    model, base = at_base.model, at_base.shapes
    target = base if width == at_base.width else shapes(abstract(build, width))
    _follows(target, base, at_base.grows, width, at_base.width)
    owners = dict(nnx.iter_modules(model))
    return [
        Parameter(
            path, shape, target[path], tuple(at_base.grows[path]), owners[path[:-1]]
        )
        for path, shape in base.items()
    ]


_OF_NNX = (nnx.Variable, nnx.Module)
_BARE = (jax.Array, jax.ShapeDtypeStruct)


def abstract(build: Build, width: Width) -> nnx.Module:
    """Return the model without numbers: shapes and types alone.

    Raises:
        ScalingError: `build` fails, or returns something else than an NNX module.
    """
    given = []

    def make() -> Any:
        made = build(width, nnx.Rngs(0))
        given.append(made)
        return made if isinstance(made, nnx.Module) else None

    try:
        model = nnx.eval_shape(make)
    except Exception as error:
        if given and isinstance(given[0], nnx.Module):
            refuse_bare_arrays(given[0])
        raise ScalingError(
            f"build(width={width}, rngs) fails: {type(error).__name__}: {error}. A "
            f"model is looked at {MULTIPLES} times the base width: choose a base_width "
            "at which all of these can be built"
        ) from error
    if isinstance(model, nnx.Module):
        return model
    if isinstance(given[0], flax.linen.Module):
        raise ScalingError(
            f"build returned {type(given[0]).__name__}, a Linen module, whose "
            "parameters are made elsewhere; write it with flax.nnx, or wrap it with "
            "nnx.bridge.ToNNX, lazy_init it, and declare its roles"
        )
    raise ScalingError(
        f"build returned {type(given[0]).__name__}; it must return a flax.nnx.Module"
    )


def refuse_bare_arrays(model: nnx.Module) -> None:
    """Refuse arrays of JAX that a module holds as they are.

    Flax takes them for constants while a model is traced, and for state elsewhere.

    Raises:
        ScalingError: there is one.
    """
    for path, module in nnx.iter_modules(model):
        for name, value in vars(module).items():
            leaves = jax.tree.leaves(value, is_leaf=lambda v: isinstance(v, _OF_NNX))
            if any(isinstance(leaf, _BARE) for leaf in leaves):
                place = ".".join(map(str, (*path, name)))
                raise ScalingError(
                    f"{place}, of a {type(module).__name__}, is an array and no "
                    "variable of flax.nnx; hold it as nnx.Variable(...), which is not "
                    "trained, or as an array of NumPy, or make it where it is used "
                    "(nnx.WeightNorm holds one, its scales, and cannot be checked)"
                )


def shapes(model: nnx.Module) -> dict[Path, tuple[int, ...]]:
    """Return the shape of each trained parameter by path."""
    return {path: tuple(leaf.shape) for path, leaf in parameters(model)}


def parameters(model: nnx.Module) -> list[tuple[Path, Any]]:
    """Return path and variable of each trained parameter, in the order of its state."""
    return list(nnx.to_flat_state(nnx.state(model, nnx.Param)))


def path_of(keys: Any) -> Path:
    """Return the path that JAX's keys of a leaf mean."""
    names = [getattr(k, "key", getattr(k, "idx", None)) for k in keys]
    # Variables themselves are nodes of some trees, with a key of another kind.
    return tuple(name for name in names if name is not None)


def by_path(tree: Any) -> dict[Path, Any]:
    """Return the leaves of a tree of parameters by path."""
    return {path_of(k): x for k, x in jax.tree_util.tree_flatten_with_path(tree)[0]}


def scaled_width(width: Width, by: int) -> Width:
    """Return a multiple of a width, of all where there are several."""
    if isinstance(width, Mapping):
        return {name: by * size for name, size in width.items()}
    return by * width


def _probes(base: Width) -> Iterator[tuple[str, list[Width]]]:
    """Yield each width's name with the widths at which to look."""
    if not isinstance(base, Mapping):
        yield "width", [by * base for by in MULTIPLES[1:]]
        return
    for name in base:
        yield name, [{**base, name: by * base[name]} for by in MULTIPLES[1:]]


def _compare(
    build: Build,
    name: str,
    wider: list[Width],
    base: dict[Path, tuple[int, ...]],
    grows: dict[Path, list[tuple[str, ...]]],
) -> None:
    """Note which axes are proportional to one width."""
    found = [shapes(abstract(build, width)) for width in wider]
    for other, width in zip(found, wider, strict=True):
        _same_parameters(other, base, f"another {name}, {width}")
    for path, shape in base.items():
        for axis, size in enumerate(shape):
            sizes = [size, *(other[path][axis] for other in found)]
            if sizes == [size * by for by in MULTIPLES]:
                grows[path][axis] = (*grows[path][axis], name)
            elif len({*sizes}) > 1:
                raise ScalingError(
                    f"axis {axis} of {'.'.join(map(str, path))!r} has sizes "
                    f"{sizes} at {', '.join(map(str, MULTIPLES))} times the base "
                    f"{name}; an axis is either constant or proportional to it"
                )


def _same_parameters(
    found: Mapping[Path, Any], base: Mapping[Path, Any], where: str
) -> None:
    """Refuse other names or numbers of axes than at the base width."""
    if [(p, len(s)) for p, s in found.items()] != [
        (p, len(s)) for p, s in base.items()
    ]:
        raise ScalingError(
            f"build makes other parameters at {where}: {len(found)} in place of "
            f"{len(base)}, or under other names, or with other numbers of axes; only "
            "sizes may depend on the width"
        )


def _follows(
    target: Mapping[Path, tuple[int, ...]],
    base: Mapping[Path, tuple[int, ...]],
    grows: Mapping[Path, Sequence[tuple[str, ...]]],
    width: Width,
    base_width: Width,
) -> None:
    """Refuse a width at which an axis has another size than the multiples promised.

    A size that is rounded or bounded (`width // 16 * 16`, `min(width, 64)`) may be
    proportional at the multiples that were looked at, and not at the width itself.
    """
    _same_parameters(target, base, f"width {width}")
    for path, shape in base.items():
        for axis, size in enumerate(shape):
            wanted = Fraction(size)
            for name in grows[path][axis]:
                both = [w[name] if isinstance(w, Mapping) else w
                        for w in (width, base_width)]  # fmt: skip
                wanted *= Fraction(*both)
            if target[path][axis] != wanted:
                raise ScalingError(
                    f"axis {axis} of {'.'.join(map(str, path))!r} has size {size} at "
                    f"the base width {base_width} and {target[path][axis]} at {width}, "
                    f"where its growth up to {MULTIPLES[-1]} times the base promises "
                    f"{float(wanted):g}; choose a width at which nothing is rounded or "
                    "bounded, or build the size without that"
                )
