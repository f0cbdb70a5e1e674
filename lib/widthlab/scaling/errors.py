"""What is refused when a model of one's own is scaled."""

from __future__ import annotations

import math
from collections.abc import Sequence


class ScalingError(ValueError):
    """A model cannot be scaled as it is; the message says what to write."""


def seeds_of(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Return seeds given as such, or as how many.

    Raises:
        ScalingError: there are none, or one is there twice.
    """
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
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
    for name, counts in ((f"{along}s", sizes), ("together", [together])):
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in counts):
            raise ScalingError(f"{name}: {counts}; each must be an integer from 1 on")
    if len({*sizes}) < 3 or steps < 2:
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
    return tuple(sorted({*sizes})), numbers
