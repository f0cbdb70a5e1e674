"""What JAX is set to, as far as it changes numbers: pinned, or part of a run's key.

A specification says what is computed. The same specification must not leave other
numbers because an environment variable or a line of a notebook has set JAX otherwise.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax

_GENERATOR = "threefry2x32"
# Names of `jax.config` that change how programs are compiled, with what they are by
# default: JAX has no context for them, so that they cannot be pinned.
_COMPILATION = {
    "jax_optimization_level": "UNKNOWN",
    "jax_disable_most_optimizations": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_softmax_custom_jvp": False,
    "jax_high_dynamic_range_gumbel": False,
    "jax_disable_jit": False,
}
# Flags of XLA that change no number, or that the library sets for its own programs.
_NO_NUMBERS = (
    "--xla_force_host_platform_device_count",
    "--xla_cpu_multi_thread_eigen",
    "--xla_dump_",
    "--xla_gpu_cuda_data_dir",
)


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Draw random numbers as JAX does by default, whatever it is set to.

    Raises:
        ValueError: JAX adds an offset to all seeds.
    """
    if offset := jax.config.values.get("jax_random_seed_offset", 0):
        raise ValueError(
            f"JAX_RANDOM_SEED_OFFSET is {offset}: all seeds would be others than "
            "specifications say; unset it, and give other seeds"
        )
    with jax.threefry_partitionable(True), jax.default_prng_impl(_GENERATOR):
        yield


def compilation() -> dict[str, Any]:
    """Return what is set otherwise than by default and changes compiled programs.

    It is part of the keys of all runs; nothing, where nobody has set anything.
    """
    there = jax.config.values
    changed = {
        name: str(there[name])
        for name, usual in _COMPILATION.items()
        if there.get(name, usual) not in (usual, str(usual))
    }
    flags = sorted(f for f in xla_flags().values() if not f.startswith(_NO_NUMBERS))
    return changed | ({"xla_flags": flags} if flags else {})


def xla_flags() -> dict[str, str]:
    """Return the flags of the environment variable XLA_FLAGS, by their names.

    Of a flag that is there twice, XLA takes the last.

    Raises:
        ValueError: it names a file, whose content would be part of no key.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if files := [flag for flag in flags if not flag.startswith("--")]:
        raise ValueError(
            f"XLA_FLAGS holds {files[0]!r}; write its flags there, each beginning with "
            "--: what a file says cannot be part of a run's key"
        )
    return {flag.partition("=")[0].removeprefix("--"): flag for flag in flags}


def arithmetic() -> dict[str, Any]:
    """Return the types and products that are set otherwise than by default.

    Training and flows say their precision; computations of one's own have the one that
    JAX is set to, so that it is part of what they are.
    """
    now: Any = jax.config  # `values` would not show what a context has set
    set_to = {
        "x64": now.jax_enable_x64,
        "matmul": now.jax_default_matmul_precision,
    }
    return {name: value for name, value in set_to.items() if value}


@contextlib.contextmanager
def computing(set_to: Mapping[str, Any]) -> Iterator[None]:
    """Compute as another thread or process does, whose `arithmetic` is given."""
    x64 = jax.enable_x64(bool(set_to.get("x64")))
    matmul = jax.default_matmul_precision(set_to.get("matmul"))
    with pinned(), x64, matmul:
        yield
