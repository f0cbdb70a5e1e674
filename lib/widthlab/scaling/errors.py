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
