"""What a program runs on and with: processor, system, versions, commit."""

import contextlib
import functools
import os
import platform
import re
import subprocess
from collections.abc import Iterable
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
        if match := re.search(r"model name\s*:\s*(.+)", info):
            return match[1].strip()
    return platform.processor() or platform.machine()


def own_cores() -> set[int]:
    """Return the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(own_cores())


def system() -> str:
    """Name the operating system and the architecture."""
    name = f"{platform.system()} {platform.release()}"
    with contextlib.suppress(OSError):  # systems without the file
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{name}, {platform.machine()}"


def version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str | None]:
    """Return the versions of Python and of packages, those behind the numbers."""
    installed = {name: version(name) for name in packages}
    return {"python": platform.python_version(), **installed}


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


@functools.cache
def commit(package: Path = Path(__file__).parent) -> str | None:
    """Return the commit of the checkout that tracks this source, if there is one."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.strip()

    try:
        # An installed copy may lie in a virtual environment inside some other checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None
