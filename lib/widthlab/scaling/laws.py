r"""How large a model's own initialisers start each parameter, as a law of width.

An initialiser is asked, not read: flax's Embed starts at $1/\sqrt{\text{features}}$
and its layers at $1/\sqrt{\text{fan-in}}$, and what a model passes in may do anything.
A size is the root mean square of all entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from widthlab.scaling.draws import Draws, split_keys
from widthlab.scaling.programs import Program
from widthlab.scaling.survey import (
    Build,
    Looked,
    Parameter,
    Path,
    Width,
    look,
    parameters,
    scaled_width,
)

SEEDS = 8
"""Models drawn at each width."""

MANY = 128
"""Models of which parameters with few entries, or an odd law, are drawn."""

_WIDER = 4

_SURE = 0.05
"""Standard error up to which an exponent is told from the half next to it."""


class StartingLaw(NamedTuple):
    r"""How a parameter starts, compared with the base width.

    Attributes:
        zero: whether it starts at zero, at any width.
        exponent: $k$ where the size is $s^{-k}$ times that at the base, a multiple of
            one half; None where it is no such power.
        ratio: the size at the width that is asked for, over that at the base.
    """

    zero: bool
    exponent: Fraction | None
    ratio: float

    def __str__(self) -> str:
        if self.zero:
            return "0"
        if self.exponent is None:
            return f"×{self.ratio:.3g}"
        return f"s^{-self.exponent}" if self.exponent else "1"


class Sizes(NamedTuple):
    """What a model is at its base width, found and measured once for any width.

    Attributes:
        looked: the model without numbers, and what of it grows.
        logs: logarithm of each parameter's size at the base width, by seed.
        exponents: exponent of each that is a power of the width, all widths together;
            None for others.
    """

    looked: Looked
    logs: dict[Path, np.ndarray]
    exponents: dict[Path, Fraction | None]


def measure(
    build: Build,
    base_width: Width,
    *,
    looked: Looked | None = None,
    draws: Draws | None = None,
) -> Sizes:
    r"""Measure how the initialisers of a model depend on its width.

    All widths are multiplied by 4. The exponent of each seed is the logarithm of the
    ratio of sizes over $\log 4$; the multiple of ½ beside their mean is taken if that
    is within three standard errors (or 0.01).

    Args:
        build: makes the model.
        base_width: at which to measure, and at 4 times that.
        looked: what was found there without numbers, where it is known.
        draws: what draws models of the same `build`, where they are used elsewhere.

    Raises:
        ScalingError: the model cannot be scaled.
    """
    if looked is None:
        looked = look(build, base_width)
    wider = scaled_width(base_width, _WIDER)
    if draws is None:
        base, wide = log_sizes(build, base_width), log_sizes(build, wider)
    else:
        keys = split_keys(SEEDS)
        base, wide = (draws(width).log_sizes(keys) for width in (base_width, wider))
    small = [path for path in base if _error(base[path], wide[path]) > _SURE]
    if small:
        base |= log_sizes(build, base_width, MANY, small)
        wide |= log_sizes(build, wider, MANY, small)
    exponents = {path: law_of(base[path], wide[path]) for path in base}
    return Sizes(looked, base, exponents)


def laws(
    build: Build,
    tensors: list[Parameter],
    sizes: Sizes,
    width: Width,
    base_width: Width,
) -> dict[Path, StartingLaw]:
    """Return the law of each parameter between the base width and another.

    The ratio is exact where all widths grow alike and the law is a power. Otherwise it
    is measured at the width itself.
    """
    together = _together(width, base_width)
    found, open_ones = dict[Path, StartingLaw](), list[Path]()
    for tensor in tensors:
        path = tensor.path
        exponent = sizes.exponents[path]
        if np.isneginf(sizes.logs[path]).any():
            found[path] = StartingLaw(True, None, 1.0)
        elif together == 1:  # the user's own network, whatever was measured
            found[path] = StartingLaw(False, exponent, 1.0)
        elif exponent is not None and together is not None:
            found[path] = StartingLaw(False, exponent, together ** -float(exponent))
        else:
            open_ones.append(path)
    there = log_sizes(build, width, MANY, open_ones) if open_ones else {}
    for path in open_ones:
        ratio = float(np.exp(_mean(there[path]) - _mean(sizes.logs[path])))
        found[path] = StartingLaw(False, None, ratio)
    return found


def _together(width: Width, base_width: Width) -> float | None:
    """By what all widths are multiplied; None where it is not one number."""
    if not isinstance(width, Mapping) or not isinstance(base_width, Mapping):
        return width / base_width  # type: ignore[operator]
    ratios = {width[name] / base_width[name] for name in base_width}
    return ratios.pop() if len(ratios) == 1 else None


def _slopes(base: np.ndarray, wide: np.ndarray, by: float) -> np.ndarray | None:
    finite = np.isfinite([base, wide]).all()
    return (wide - base) / np.log(by) if finite else None


def _error(base: np.ndarray, wide: np.ndarray, by: float = _WIDER) -> float:
    slopes = _slopes(base, wide, by)
    return 0.0 if slopes is None else float(slopes.std(ddof=1) / slopes.size**0.5)


def law_of(base: np.ndarray, wide: np.ndarray, by: float = _WIDER) -> Fraction | None:
    """Return the exponent between logarithms of sizes; None where there is no law.

    Args:
        base: at the base, by seed.
        wide: at a multiple of it.
        by: which multiple.
    """
    slopes, error = _slopes(base, wide, by), _error(base, wide, by)
    if slopes is None:
        return None
    near = Fraction(round(-2 * float(slopes.mean())), 2)
    away = abs(slopes.mean() + float(near))
    return near if error <= _SURE and away <= max(0.01, 3 * error) else None


def _mean(logs: np.ndarray) -> float:
    """Logarithm of the root of the mean square over seeds."""
    return float(np.log(np.exp(2 * logs).mean()) / 2)


def log_sizes(
    build: Build, width: Width, seeds: int = SEEDS, paths: Sequence[Path] | None = None
) -> dict[Path, np.ndarray]:
    """Return the logarithm of each parameter's size by seed, or of some parameters."""

    def one(key: Any) -> list[Any]:
        variables = dict(parameters(build(width, nnx.Rngs(key))))
        # What is not asked for is not drawn: the compiler leaves it out.
        chosen = variables if paths is None else paths
        return [_size(variables[path][...]) for path in chosen]

    keys = jax.random.split(jax.random.key(0), seeds)
    # One after another: XLA's batched decompositions, by which orthogonal matrices are
    # drawn, wait for each other for ever on a busy machine (1 time in 4).
    drawn = Program(lambda keys: jax.lax.map(one, keys))(keys)
    sizes = [np.asarray(size, np.float64) for size in drawn]
    model = nnx.eval_shape(lambda: build(width, nnx.Rngs(0)))
    names = dict(parameters(model)) if paths is None else paths
    with np.errstate(divide="ignore"):
        logs = [np.log(size) for size in sizes]
    return dict(zip(names, logs, strict=True))


def _size(values: Any) -> Any:
    return jnp.sqrt(jnp.mean(jnp.square(values.astype(jnp.float32))))
