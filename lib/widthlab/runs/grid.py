"""Runs that differ along axes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def grid(
    axes: Mapping[str | tuple[str, ...], Iterable[Any]],
    *,
    of: Callable[..., Any] | None = None,
    **fixed: Any,
) -> list[Any]:
    """Return every combination of the axes' values, the last axis fastest.

    Args:
        axes: values of each field that varies. A tuple of fields takes tuples of
            values: fields that vary together.
        of: what is made of each combination: an `Experiment`, or another kind of run,
            such as a `Computed` of a chapter's own.
        **fixed: fields that all have in common.

    Raises:
        ValueError: a field is given twice, or values do not fit their fields; and what
            `of` refuses.

    Example:
        >>> from widthlab.data import DataSpec
        >>> runs = grid(
        ...     {("parametrization", "lr"): {"mup": 0.5, "sp": 0.1}.items(),
        ...      "width": (32, 64)},
        ...     data=DataSpec("digits", n_train=64, targets="labels"), steps=5,
        ... )
        >>> [(run.table.name, run.lr, run.width) for run in runs]
        [('mup', 0.5, 32), ('mup', 0.5, 64), ('sp', 0.1, 32), ('sp', 0.1, 64)]
    """
    fields = [names if isinstance(names, tuple) else (names,) for names in axes]
    given = [*itertools.chain(*fields), *fixed]
    twice = {name for name in given if given.count(name) > 1}
    if twice:
        raise ValueError(f"{sorted(twice)} given twice; a field varies or is fixed")
    if of is None:
        from widthlab.runs.experiment import Experiment as of

    steps = [
        [_settings(names, value) for value in values] for names, values in axes.items()
    ]
    return [
        of(**fixed, **{k: v for step in point for k, v in step.items()})
        for point in itertools.product(*steps)
    ]


def _settings(names: str | tuple[str, ...], value: Any) -> dict[str, Any]:
    """Fields and values of one step along an axis."""
    if isinstance(names, str):
        return {names: value}
    if not isinstance(value, tuple | list) or len(value) != len(names):
        raise ValueError(
            f"the axis {names} takes one value for each of its fields, got {value!r}"
        )
    return dict(zip(names, value, strict=True))
