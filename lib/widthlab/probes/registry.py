"""The probes by name, as an experiment's JSON spells them, and those of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

import attrs

from widthlab.probes.backward import Backward
from widthlab.probes.covariance import CovariancePreservation
from widthlab.probes.features import Features, Outputs
from widthlab.probes.progress import Performance, Stationarity, Updates
from widthlab.probes.rank import Rank
from widthlab.probes.spread import Spread
from widthlab.registry import Registry

Kind = TypeVar("Kind", bound=type)

_BUILTIN = (
    *(Performance, Features, Outputs, Updates, Stationarity),
    *(Backward, Spread, Rank, CovariancePreservation),
)

PROBES: Registry[Any] = Registry(
    "probe", "widthlab.probes.register", {kind.name: kind for kind in _BUILTIN}
)
"""The classes of probes by name."""


def register(kind: Kind) -> Kind:
    """Add a probe of one's own: a decorator of its class.

    The class is frozen, by attrs or as a dataclass, with a `name`, `measure` and
    `rows`, as in `probes.features`, and may have a method `check(experiment)` that
    raises a ValueError where it cannot be taken.
    """
    lacks = [n for n in ("name", "measure", "rows") if not hasattr(kind, n)]
    if lacks or not (is_dataclass(kind) or attrs.has(kind)) or kind.__hash__ is None:
        raise ValueError(
            f"the probe {kind.__name__} lacks {', '.join(lacks) or 'a hash'}; a probe "
            "is a class under @attrs.frozen or @dataclass(frozen=True) with a ClassVar "
            "name and methods measure and rows"
        )
    return PROBES.register(kind.name, kind)  # pyright: ignore[reportAttributeAccessIssue]


def check(probe: Any) -> None:
    """Refuse a probe that could not be found again under its name."""
    if not PROBES.holds(probe.name, type(probe)):
        other = PROBES.get(probe.name)
        stands = (
            f"stands for another class, {other.__name__}" if other else "is unknown"
        )
        raise ValueError(
            f"the probe {type(probe).__name__} has the name {probe.name!r}, which "
            f"{stands}; put @{PROBES.how} above its class, under a name of its own"
        )


def _settings(probe: Any) -> dict[str, Any]:
    return attrs.asdict(probe) if attrs.has(type(probe)) else asdict(probe)


def to_json(probe: Any) -> dict[str, Any]:
    """Return a probe as plain JSON values."""
    return {"probe": probe.name, **_settings(probe)}


def from_json(data: Mapping[str, Any]) -> Any:
    """Read what `to_json` wrote."""
    # JSON has lists for tuples, and a list cannot be hashed.
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    del settings["probe"]
    return PROBES.find(data["probe"])(**settings)
