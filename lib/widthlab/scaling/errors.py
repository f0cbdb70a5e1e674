"""What is refused when a model of one's own is scaled."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from widthlab.fields import Rule, Unfit, count, seed_of_jax, shown


class ScalingError(ValueError):
    """A model cannot be scaled as it is; the message says what to write."""


POSITIVE = count()
"""What sizes and numbers of things are."""


def integers(name: str, values: Any, each: Rule = POSITIVE) -> tuple[int, ...]:
    """Return numbers, NumPy's among them, as integers.

    Raises:
        ScalingError: they are no sequence, or `each` does not take one.
    """
    with contextlib.suppress(Unfit):
        if isinstance(values, Iterable):
            return tuple(each.read(value) for value in values)
    raise ScalingError(f"{name}: {shown(values)}; each must be {each.allowed}")


def seeds_of(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Return seeds given as such, or as how many.

    Raises:
        ScalingError: there are none, one is there twice, or one is no integer.
    """
    if isinstance(seeds, Integral):
        numbers = tuple(range(count(0).take("seeds", seeds, ScalingError)))
    else:
        numbers = integers("seeds", seeds, seed_of_jax())
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
    POSITIVE.take("together", together, ScalingError)
    POSITIVE.take("steps", steps, ScalingError)
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
