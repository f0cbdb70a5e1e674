"""What is refused when a model of one's own is scaled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any


class ScalingError(ValueError):
    """A model cannot be scaled as it is; the message says what to write."""


_END = 2**32  # JAX keeps no more of a seed


def integers(name: str, values: Any, least: int = 1) -> tuple[int, ...]:
    """Return numbers, NumPy's among them, as integers.

    Raises:
        ScalingError: they are no sequence, or one is no integer or out of bounds.
    """
    given = tuple(values) if isinstance(values, Iterable) else None
    if given is None or not all(_is_whole(number, least) for number in given):
        raise ScalingError(
            f"{name}: {values if given is None else [*given]}; each must be an integer "
            f"from {least} on, below 2**32"
        )
    return tuple(map(int, given))


def _is_whole(number: Any, least: int) -> bool:
    whole = isinstance(number, Integral) and not isinstance(number, bool)
    return whole and least <= int(number) < _END


def seeds_of(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Return seeds given as such, or as how many.

    Raises:
        ScalingError: there are none, one is there twice, or one is no integer.
    """
    if isinstance(seeds, Integral):
        numbers = tuple(range(*integers("seeds", [seeds], least=0)))
    else:
        numbers = integers("seeds", seeds, least=0)
    if not numbers or len({*numbers}) < len(numbers):
        raise ScalingError(
            f"seeds are {seeds}; give one or more, each once: an interval is made of "
            "what differs between seeds"
        )
    return numbers


def options_of(
    along: str,
    sizes: Sequence[int],
    *,
    steps: int,
    seeds: int | Sequence[int],
    together: int,
    margin: float,
    undecided: Sequence[str],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return sizes, ascending, and seeds of a check; refuse what could show nothing.

    Args:
        along: what grows, "width" or "depth".
        sizes: of these models.
        steps: as for `widthlab.scaling.coordinate_check`, and so are the others.
        seeds: likewise.
        together: likewise.
        margin: likewise.
        undecided: likewise.

    Raises:
        ScalingError: there are too few sizes for a slope, too few steps or seeds, or
            another option makes no sense.
    """
    ascending = sorted({*integers(f"{along}s", sizes)})
    integers("together", [together])
    integers("steps", [steps])
    if len(ascending) < 3 or steps < 2:
        raise ScalingError(
            f"{along}s are {ascending} and steps {steps}; a slope needs three "
            f"{along}s, and a read-out that starts at zero two steps"
        )
    numbers = seeds_of(seeds)
    if len(numbers) < 2:
        raise ScalingError(
            f"seeds are {seeds}; give two or more: an interval is made of what differs "
            "between seeds"
        )
    if not isinstance(margin, Real) or not 0 < margin < math.inf:
        raise ScalingError(f"margin is {margin}; it must be a number above 0")
    if isinstance(undecided, str) or not isinstance(undecided, Sequence):
        raise ScalingError(
            f'undecided is {undecided!r}; give a sequence of words, such as ("scores",)'
        )
    return tuple(ascending), numbers
