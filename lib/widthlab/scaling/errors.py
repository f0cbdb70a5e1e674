"""What is refused when a model of one's own is scaled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any


class ScalingError(ValueError):
    """A model cannot be scaled as it is; the message says what to write."""


def integers(name: str, values: Sequence[Any], least: int = 1) -> tuple[int, ...]:
    """Return values, NumPy's among them, as integers.

    Raises:
        ScalingError: one is none, or below the least.
    """
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in values)
    if not whole or any(n < least for n in values):
        raise ScalingError(
            f"{name}: {[*values]}; each must be an integer from {least} on"
        )
    return tuple(map(int, values))


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
            f"{along}s are {[*sizes]} and steps {steps}; a slope needs three {along}s, "
            "and a read-out that starts at zero two steps"
        )
    numbers = seeds_of(seeds)
    if len(numbers) < 2:
        raise ScalingError(
            f"seeds are {seeds}; give two or more: an interval is made of what differs "
            "between seeds"
        )
    if not 0 < margin < math.inf:
        raise ScalingError(f"margin is {margin}; it must be a number above 0")
    if isinstance(undecided, str):
        raise ScalingError(
            f"undecided is {undecided!r}; give a sequence of words, such as "
            f"({undecided!r},)"
        )
    return tuple(ascending), numbers
