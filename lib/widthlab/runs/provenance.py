"""Where and with what a record was made, and the source its numbers follow from."""

import datetime
import functools
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from widthlab import machine, perturbation, settings
from widthlab.canonical import digest

# What computes the numbers in a record: rooms and modules of the library. What draws,
# judges or keeps results is not here, so that a change of colour never retrains.
_NUMERIC = (
    *("activations.py", "canonical.py", "compilation.py", "model.py"),
    *("perturbation.py", "settings.py"),
    *("data", "flow", "kernels", "papers", "parametrization", "probes", "training"),
    *("runs/cells.py", "runs/ensembles.py"),
    *("runs/experiment.py", "runs/experiment_json.py"),
)
_ROOT = Path(__file__).parents[1]


def record_key(spec: object, data_sha256: str, code: str | None = None) -> str:
    """Name of the record of `spec` on the data with this hash, under this code.

    And with the perturbation that the environment asks for, if there is one.
    """
    code = code_version() if code is None else code
    return named(spec, code, data=data_sha256)


def named(spec: object, code: str, **more: Any) -> str:
    """Return the hash of a specification and of all that its numbers follow from.

    The perturbation that the environment asks for is part of it, if there is one.
    """
    # Absent where there are none: what was stored with JAX as it comes is found.
    changed = {"settings": found} if (found := settings.compilation()) else {}
    said = {"spec": spec, "code": code, **more, **changed}
    return digest(said | perturbation.in_key())


def numeric_modules() -> tuple[Path, ...]:
    """Return the library's files that influence the numbers in a record, sorted."""
    places = (_ROOT / place for place in _NUMERIC)
    files = (
        file for at in places for file in ([at] if at.is_file() else at.rglob("*.py"))
    )
    return tuple(sorted(files, key=lambda file: file.relative_to(_ROOT).parts))


def code_version(files: Iterable[Path] | None = None) -> str:
    """Return the SHA-256 of the source in `files`, by default `numeric_modules()`.

    Read once a process. Line endings do not matter; comments do.
    """
    return _source_digest(None if files is None else tuple(files))


@functools.lru_cache(maxsize=8)
def _source_digest(files: tuple[Path, ...] | None) -> str:
    sources = []
    for file in numeric_modules() if files is None else files:
        inside = file.is_relative_to(_ROOT)
        name = file.relative_to(_ROOT).as_posix() if inside else file.name
        # Text mode turns every line ending into "\n".
        sources.append([name, file.read_text(encoding="utf-8")])
    return digest(sorted(sources))


def provenance() -> dict[str, Any]:
    """Return where and with what a record was made, as a payload.

    Versions of Python and packages, machine, JAX backend and device kind, git commit
    of the checkout (None outside one), code version, the time (UTC, ISO 8601), and the
    perturbation, if the environment asks for one.
    """
    import jax

    packages = ("widthlab", "jax", "jaxlib", "flax", "optax", "numpy")
    device = jax.devices()[0]
    return {
        **machine.versions(packages),
        "machine": platform.machine(),
        "system": platform.system(),
        "backend": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "commit": machine.commit(),
        "code": code_version(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **perturbation.in_key(),
    }
