"""The probes by name, as an experiment's JSON spells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from widthlab.probes.backward import Backward
from widthlab.probes.covariance import CovariancePreservation
from widthlab.probes.features import Features, Outputs
from widthlab.probes.progress import Performance, Stationarity, Updates
from widthlab.probes.rank import Rank
from widthlab.probes.spread import Spread


def to_json(probe: Any) -> dict[str, Any]:
    """Return a probe as plain JSON values."""
    return {"probe": probe.name, **attrs.asdict(probe)}


def from_json(data: Mapping[str, Any]) -> Any:
    """Read what `to_json` wrote."""
    known = (
        *(Performance, Features, Outputs, Updates, Stationarity),
        *(Backward, Spread, Rank, CovariancePreservation),
    )
    kinds = {kind.name: kind for kind in known}
    settings = dict(data)
    name = settings.pop("probe")
    if name not in kinds:
        raise ValueError(f"no probe is called {name!r}; there are {list(kinds)}")
    return kinds[name](**settings)
