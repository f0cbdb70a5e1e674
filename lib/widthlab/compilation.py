"""How programs are compiled: what XLA is asked for, by how long a program will run.

On CPU, compiling takes longer than most small runs. XLA's newer code for loops over
elements runs faster, by a quarter or more in training, and takes about twice as long to
compile as the older. So the training loop has the newer, and what runs a few times the
older. One level of optimisation below the highest costs neither anything that could be
measured (`benchmarks/compilation.py`).

A matrix product whose parts several threads sum adds them in the order in which threads
happen to finish: its last bits depend on what else the machine does. So no product is
shared between threads in that way (`ONE_THREAD_A_PRODUCT`).
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import jax

from widthlab.settings import xla_flags

ONE_THREAD_A_PRODUCT = {"xla_cpu_multi_thread_eigen": False}
"""The option of XLA that makes a CPU's bits independent of its load."""

_ON_CPU = {"xla_backend_optimization_level": 1, **ONE_THREAD_A_PRODUCT}
_BRIEF_ON_CPU = {**_ON_CPU, "xla_cpu_use_fusion_emitters": False}


@functools.cache
def compiled(
    function: Callable[..., Any],
    platform: str,
    *,
    static: tuple[int, ...] = (0,),
    donated: tuple[int, ...] = (),
    brief: bool = False,
) -> Any:
    """Return a function that is compiled for a platform when it is first called.

    Args:
        function: what to compile.
        platform: "cpu", "gpu" or "tpu": that of the devices it will run on.
        static: positions of arguments that are compiled in.
        donated: positions of arguments whose memory the results may take.
        brief: whether it runs for a short time only, so that compiling should be quick.
    """
    wanted = _BRIEF_ON_CPU if brief else _ON_CPU
    return jax.jit(
        function,
        static_argnums=static,
        donate_argnums=donated,
        compiler_options=options_on_cpu(wanted) if platform == "cpu" else None,
    )


# By their hashes, so that nothing that a program was compiled from is kept.
_FIRST_CALLS: dict[int, threading.Lock] = {}
_COMPILED: set[int] = set()


@contextlib.contextmanager
def compiling_once(*program: Hashable) -> Iterator[None]:
    """Let threads that want one program at a time wait for the first to compile it.

    JAX would compile it in each of them.

    Args:
        program: what tells it from others: its function, what is static, its shapes.
    """
    known = hash(program)
    if known in _COMPILED:
        yield
        return
    with _FIRST_CALLS.setdefault(known, threading.Lock()):
        yield
    _COMPILED.add(known)
    _FIRST_CALLS.pop(known, None)


def options_on_cpu(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of XLA's options on CPU that are ours to set.

    This version of XLA has them, and the user's `XLA_FLAGS`, which are part of the keys
    of runs (`settings.compilation`), do not: these win. What makes bits independent of
    load is set in any case.
    """
    own = {*xla_flags()} - {*ONE_THREAD_A_PRODUCT}
    return {
        name: value
        for name, value in wanted.items()
        if name not in own and _is_known(name, value)
    }


@functools.cache
def _is_known(name: str, value: Any) -> bool:
    """Whether this version of XLA has an option: newer ones drop the older code."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True
