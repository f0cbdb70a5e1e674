"""What a program runs on and with: processor, system, versions."""

import contextlib
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    *("widthlab", "jax", "jaxlib", "flax", "optax", "diffrax", "matfree"),
    *("numpy", "scipy", "scikit-learn", "mlxtend"),
)
"""Packages whose versions can change a number or the data behind it."""


def cpu_model() -> str:
    """Name the processor as the system names it."""
    with contextlib.suppress(OSError):
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if found := re.search(r"model name\s*:\s*(.+)", info):
            return found[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Count the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def system() -> str:
    """Name the operating system and the architecture."""
    name = f"{platform.system()} {platform.release()}"
    with contextlib.suppress(OSError):  # systems without the file
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{name}, {platform.machine()}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages behind the numbers."""
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def device() -> dict[str, Any]:
    """Say what JAX computes on: its platform, what it is called, how many there are."""
    import jax
    from widthlab.training.devices import use_all_cores

    count = use_all_cores()
    first = jax.devices()[0]
    cpu = first.platform == "cpu"
    return {
        "platform": first.platform,
        "kind": cpu_model() if cpu else first.device_kind,
        "count": count,
        "cores": cores(),
    }
