"""An experiment as JSON, whose hash names its record, and read back from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from widthlab import data
from widthlab.parametrization import Parametrization
from widthlab.probes import registry
from widthlab.training.calibration import Calibration
from widthlab.training.optimizer import Optimizer
from widthlab.training.schedules import Schedule

if TYPE_CHECKING:
    from widthlab.runs.experiment import Experiment


def written(spec: Experiment) -> dict[str, Any]:
    """Return a specification as plain JSON values."""
    out = {f.name: getattr(spec, f.name) for f in attrs.fields(type(spec))}
    out["data"] = spec.data.to_json()
    out["parametrization"] = spec.table.to_json()
    out["optimizer"] = spec.optimizer.to_json()
    out["probes"] = [registry.to_json(p) for p in spec.probes]
    out["schedule"] = attrs.asdict(spec.schedule)
    for name in ("checkpoints", "track", "gains", "bias_gains"):
        out[name] = list(out[name])
    if isinstance(spec.first_lr, Calibration):
        out["first_lr"] = attrs.asdict(spec.first_lr)
        out["first_lr"]["cap"] = str(spec.first_lr.cap)  # JSON has no infinity
    elif spec.first_lr is not None:
        out["first_lr"] = list(spec.first_lr)
    # Absent where there are none: what was stored before there were plug-ins is found.
    if plugins := spec.plugins:
        out["plugins"] = plugins
    return out


def read(kind: type[Experiment], spec: Mapping[str, Any]) -> Experiment:
    """Read what `written` wrote, in this or an earlier version of the library.

    Raises:
        ValueError: a plug-in is not registered here, or with other source.
    """
    given = dict(spec)
    plugins = given.pop("plugins", {})
    fields = {k: _READ[k](v) if k in _READ else v for k, v in given.items()}
    experiment = kind(**fields)
    for what, source in plugins.items():
        if experiment.plugins.get(what) != source:
            raise ValueError(
                f"this specification was made with other source of the {what} "
                f"than is registered here ({source[:12]} there, "
                f"{experiment.plugins.get(what, 'none')[:12]} here)"
            )
    return experiment


def _first_lr(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Calibration(**{name: float(number) for name, number in value.items()})
    return value and tuple(value)


_READ: dict[str, Callable[[Any], Any]] = {
    "data": data.from_json,
    "parametrization": Parametrization.from_json,
    "optimizer": Optimizer.from_json,
    "probes": lambda payloads: tuple(map(registry.from_json, payloads)),
    "schedule": lambda options: Schedule(**options),
    "track": tuple,
    "checkpoints": tuple,
    "gains": tuple,
    "bias_gains": tuple,
    "first_lr": _first_lr,
}
