"""What is refused when a model of one's own is scaled."""

from __future__ import annotations

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


def refuse_few(along: str, sizes: Sequence[int], steps: int) -> None:
    """Refuse a check along what grows, "width" or "depth", that could see nothing.

    Raises:
        ScalingError: there are too few sizes for a slope, or too few steps.
    """
    if len({*sizes}) < 3 or steps < 2:
        raise ScalingError(
            f"{along}s are {[*sizes]} and steps {steps}; a slope needs three {along}s, "
            "and a read-out that starts at zero two steps"
        )
