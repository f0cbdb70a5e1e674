"""Rules for the fields of specifications, as converters of attrs' fields.

A rule brings what it is given into one form (NumPy's numbers into Python's, sequences
into tuples), so that equal values make equal specifications with equal hashes, or
refuses it with an error that names the field, the value and what is allowed.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from typing import Any

import attrs
import numpy as np


class Unfit(Exception):
    """A value that a rule does not take."""


class Rule(attrs.Converter):
    """What a field takes.

    It is `allowed` in words that follow "it must be"; `read` returns a value in its one
    form or raises `Unfit`, which ends in the class's `_refusal`, by default ValueError.
    """

    def __init__(self, allowed: str, read: Callable[[Any], Any]) -> None:
        super().__init__(self._convert, takes_self=True, takes_field=True)
        self.allowed = allowed
        self.read = read

    def _convert(self, value: Any, instance: Any, field: Any) -> Any:
        error = getattr(type(instance), "_refusal", ValueError)
        return self.take(field.name, value, error)

    def take(self, name: str, value: Any, error: type[Exception] = ValueError) -> Any:
        """Return a value in its one form, or refuse it: also arguments of functions."""
        with contextlib.suppress(Unfit):
            return self.read(value)
        raise error(f"{name} is {shown(value)}; it must be {self.allowed}")


def shown(value: Any) -> str:
    """Return what Python writes for a value, shortened where that is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = f"an integer of {value.bit_length()} bits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 400


def _which(allowed: str, fits: Callable[[Any], bool], form: Any = lambda v: v) -> Rule:
    """Take what fits, and bring it into a form."""

    def read(value: Any) -> Any:
        if not fits(value):
            raise Unfit
        return form(value)

    return Rule(allowed, read)


# Annotated Any, since type checkers take the declared type of a field for its argument.


MOST = 2**31 - 1
"""What indices are counted in, on devices: the largest number of anything."""


def count(least: int = 1, most: int = MOST) -> Any:
    """Take an integer; no bool, and no float that happens to be whole."""
    limit = "on" if most == MOST else f"to {most}"

    def fits(value: Any) -> bool:
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            return False
        return least <= int(value) <= most

    return _which(f"an integer from {least} {limit}", fits, int)


def seed_of_jax() -> Any:
    """Take a seed: JAX keeps 32 bits of it, so that larger ones would be others'."""
    return count(0, 2**32 - 1)


def number(
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    infinite: bool = False,
) -> Any:
    """Take a real number within bounds, as a float: finite unless said otherwise."""
    limits = {"above": above, "of at least": least, "below": below}
    words = [f"{word} {x:g}" for word, x in limits.items() if x is not None]

    def fits(value: Any) -> bool:
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            return False
        try:
            x = float(value)
        except OverflowError:  # an integer beyond all floats
            return False
        return (
            (math.isfinite(x) or (infinite and not math.isnan(x)))
            and (above is None or x > above)
            and (least is None or x >= least)
            and (below is None or x < below)
        )

    kind = "a number" if infinite else "a finite number"
    return _which(" ".join([kind, " and ".join(words)]).strip(), fits, float)


def truth() -> Any:
    """Take True or False."""
    return _which("True or False", lambda v: isinstance(v, bool | np.bool_), bool)


_TEXT = str.__str__  # of NumPy's texts, and of an enumeration's, what they say


def text() -> Any:
    """Take a text that says something."""
    said = "a text that is not empty"
    return _which(said, lambda v: isinstance(v, str) and bool(v.strip()), _TEXT)


def function() -> Any:
    """Take what can be called."""
    return _which("a function", callable)


def choice(among: Collection[str]) -> Any:
    """Take one of some words."""
    said = f"one of {', '.join(among)}"
    return _which(said, lambda v: isinstance(v, str) and v in among, _TEXT)


def known(lookup: Callable[[str], Any], called: str) -> Any:
    """Take a name, as what is found under it; the look-up refuses unknown ones."""
    return _which(called, lambda v: isinstance(v, str), lambda v: lookup(_TEXT(v)))


def instance(*kinds: Any, called: str | None = None) -> Any:
    """Take an object of some classes or protocols (and no class itself)."""
    said = called or " or ".join(f"a {kind.__name__}" for kind in kinds)
    return _which(said, lambda v: not isinstance(v, type) and isinstance(v, kinds))


_LONGEST = 2**20


def several(
    of: Rule, length: int | None = None, least: int = 0, once: bool = False
) -> Any:
    """Take a sequence, as a tuple: a list, an array, whatever has an order.

    With `once`, of equal items the first alone.
    """
    some = f"at least {least} values" if least else "a sequence"
    some = some if length is None else f"{length} values"

    def read(values: Any) -> tuple[Any, ...]:
        unordered = isinstance(values, str | bytes | Mapping | Set)
        scalar = getattr(values, "ndim", None) == 0  # an array of NumPy or JAX
        if unordered or scalar or not isinstance(values, Iterable):
            raise Unfit
        # One more than there may be: an iterator need not end.
        items = tuple(of.read(v) for v in itertools.islice(values, _LONGEST + 1))
        if len(items) > _LONGEST:
            raise Unfit
        items = tuple(dict.fromkeys(items)) if once else items
        if len(items) < least or length not in (None, len(items)):
            raise Unfit
        return items

    return Rule(f"{some}, each {of.allowed}", read)


def either(*rules: Rule) -> Any:
    """Take what one of the rules takes, the first that does."""

    def read(value: Any) -> Any:
        for rule in rules:
            with contextlib.suppress(Unfit):
                return rule.read(value)
        raise Unfit

    return Rule(", or ".join(rule.allowed for rule in rules), read)


def optional(rule: Rule, meaning: str = "") -> Any:
    """Take None as well, which may mean something of its own."""
    said = f"{rule.allowed}, or None {meaning}".strip()
    return Rule(said, lambda value: None if value is None else rule.read(value))
