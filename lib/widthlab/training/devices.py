"""Devices: how many there are, what fits on them, and that their bits do not change."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from widthlab.compilation import ONE_THREAD_A_PRODUCT
from widthlab.settings import pinned, xla_flags


def use_all_cores() -> int:
    """Make one JAX device of each CPU core, and return the number of devices.

    Small networks leave a core idle when one matrix product is shared between the
    cores; one member to a core does not. And how a product is shared depends on the
    machine's load, and with it the last bits of the result: so it is not shared. This
    has to come before JAX is first used, and does nothing after that or where the
    number of CPU devices is set already; the library's own programs have the same bits
    all the same (`compilation`).
    """
    _compile_for_same_bits()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    is_set = "xla_force_host_platform_device_count" in xla_flags()
    with contextlib.suppress(RuntimeError):  # JAX is in use: leave its devices alone
        unset = getattr(jax.config, "jax_num_cpu_devices", -1) < 1
        if not is_set and unset:
            jax.config.update("jax_num_cpu_devices", cores)
    memory_given()  # before anything is compiled
    try:
        return len(jax.local_devices())
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(_without_device(error)) from error


class DeviceError(RuntimeError):
    """JAX finds none of the devices that it was told to use."""


def _without_device(error: Exception) -> str:
    platforms = getattr(jax.config, "jax_platforms", None) or "any device"
    said = " ".join(f"{type(error).__name__} {error}".split())
    return (
        f"JAX finds no device for JAX_PLATFORMS={platforms} ({said}): set "
        "JAX_PLATFORMS=cpu, or install JAX with the plugin for this device "
        "(pip install 'widthlab[cuda]') and look whether nvidia-smi lists it"
    )


def _compile_for_same_bits() -> None:
    """Ask XLA for bits that do not depend on load, where nobody has chosen."""
    given = xla_flags()
    for name, value in ONE_THREAD_A_PRODUCT.items():
        given.setdefault(name, f"--{name}={str(value).lower()}")
    # XLA reads it once, when JAX is first used.
    os.environ["XLA_FLAGS"] = " ".join(given.values())


def members_per_batch(platform: str, members: int) -> int:
    """Choose how many members of a device's share are batched in one computation.

    An accelerator wants all at once. On CPU one at a time is as fast, within noise
    (`benchmarks/training.py --layouts`), and training has the same bits whichever other
    members there are, and on however many cores. What probes measure may differ in
    the last bit where a core has a single member, whose program has no loop.
    """
    return 1 if platform == "cpu" else members


class DeviceMemoryError(MemoryError):
    """An ensemble needs more memory than there is.

    Attributes:
        members: how many of its members should fit.
    """

    def __init__(self, needed: int, available: int, members: int):
        """Say what is needed and what there is, in bytes over all devices."""
        self.members = members
        super().__init__(
            f"{needed / 1e9:.2f} GB are needed and {available / 1e9:.2f} GB available "
            f"(the environment variable {MEMORY_VARIABLE} sets another limit)"
        )


MEMORY_VARIABLE = "WIDTHLAB_MEMORY"
"""Environment variable that sets another limit of memory, such as 8GB or 8e9."""

_UNITS = {
    unit: factor
    for power, name in enumerate(("", "k", "m", "g", "t"))
    for unit, factor in (
        (name, 1000**power),
        (f"{name}b", 1000**power),
        *([(f"{name}ib", 1024**power)] if name else []),
    )
}
"""Bytes in each unit: GB are decimal, GiB binary, as everywhere else."""


def memory_given() -> int | None:
    """Return the bytes that `MEMORY_VARIABLE` names, if it is set.

    Raises:
        ValueError: it holds no amount of memory.
    """
    given = os.environ.get(MEMORY_VARIABLE, "").strip()
    if not given:
        return None
    found = re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)", given.lower())
    if found is not None and found[2] in _UNITS:
        with contextlib.suppress(ValueError, OverflowError):
            return int(float(found[1]) * _UNITS[found[2]])
    raise ValueError(
        f"{MEMORY_VARIABLE} is {given!r}; it must be a number of bytes, or one with a "
        "unit: 8e9, 8GB or 7.5GiB"
    )


_HOST_SHARE = 1 / 4  # two cells at a time, and the host has other things to hold


_DEVICE_SHARE = 0.9


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that a device's memory did not suffice."""
    refused = isinstance(error, jax.errors.JaxRuntimeError)
    return refused and "RESOURCE_EXHAUSTED" in str(error)


def memory_limit(devices: Sequence[Any]) -> int:
    """Return the bytes that one ensemble may take on these devices together."""
    if (given := memory_given()) is not None:
        return given
    if devices[0].platform == "cpu":
        return int(_host_memory() * _HOST_SHARE)
    each = (device.memory_stats() or {} for device in devices)
    return int(sum(stats.get("bytes_limit", 0) for stats in each) * _DEVICE_SHARE)


def _host_memory() -> int:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        group = int(Path("/sys/fs/cgroup/memory.max").read_text())
        return min(installed, group)
    return installed


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Compute in the precision that a spec names, matrix products included.

    Random numbers are those of `settings.pinned`.
    """
    x64 = jax.enable_x64(dtype == "float64")
    with pinned(), x64, jax.default_matmul_precision("highest"):
        yield


def members_mesh(devices: Sequence[Any], members: int) -> Mesh:
    """Return a mesh of as many of the devices as there are members to spread."""
    return Mesh(np.array(devices[: max(1, min(len(devices), members))]), ("members",))


def deal(real: np.ndarray, devices: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal members to devices, forth and back, so that each has as many that run.

    Devices take equal runs of consecutive places. Neighbours in a sweep often cost
    alike, and often every second one does: this gives no device all that are long.

    Args:
        real: whether each member runs or only fills up.
        devices: number of devices.

    Returns:
        Which member takes each place, where -1 (the last, to NumPy) fills up, and the
        place of each member.
    """
    count = len(real)
    hand = np.append(np.argsort(~real, kind="stable"), [-1] * (-count % devices))
    rounds = hand.astype(int).reshape(-1, devices)
    rounds[1::2] = rounds[1::2, ::-1]
    taken = rounds.T.ravel()
    return taken, np.argsort(taken, kind="stable")[len(taken) - count :]
