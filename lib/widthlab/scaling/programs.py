"""How programs of a user's models are compiled: quickly, for they run a few times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from widthlab.compilation import ONE_THREAD_A_PRODUCT, options_on_cpu

_BRIEF = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    **ONE_THREAD_A_PRODUCT,
}
_LONGER = {
    "xla_backend_optimization_level": 1,
    "xla_cpu_use_fusion_emitters": False,
    **ONE_THREAD_A_PRODUCT,
}


class Program:
    """A function of arrays, compiled when first called and kept no longer than this.

    On a CPU, compiling a small Transformer's step takes a quarter of the time that
    JAX's own options take, and the bits do not depend on what else the machine does.

    Example:
        >>> double = Program(lambda x: 2 * x)
        >>> float(double(jax.numpy.ones(())))
        2.0
    """

    def __init__(self, function: Callable[..., Any], *, many: bool = False):
        """Hold a function that can be traced.

        Args:
            function: of arrays.
            many: whether it runs hundreds of times, so that it should run fast, too.
        """
        wanted = _LONGER if many else _BRIEF
        on_cpu = jax.default_backend() == "cpu"
        options = options_on_cpu(wanted) if on_cpu else None
        self._call = jax.jit(function, compiler_options=options)

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""
        return self._call(*arguments)
