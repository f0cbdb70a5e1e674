"""What models start with: drawn one at a time, by one program a size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from widthlab.scaling.errors import ScalingError
from widthlab.scaling.programs import Program
from widthlab.scaling.survey import (
    Build,
    Path,
    Width,
    by_path,
    parameters,
    refuse_bare_arrays,
)

KEY = np.zeros(2, np.uint32)
"""Any key, as a number."""


class Draw:
    """Draws models of one width, however many and for whatever they are used.

    Initialisers take longer to compile than a step of training: random numbers are long
    programs. So there is one program, of a single model.
    """

    def __init__(self, build: Build, width: Width):
        """Hold what makes the models."""
        self._build, self._width = build, width

        self._draw = Program(self._one)

    def _one(self, key: Any) -> Any:
        model = self._build(self._width, nnx.Rngs(jax.random.wrap_key_data(key)))
        return nnx.as_pure(nnx.state(model))

    def __call__(self, keys: np.ndarray) -> Any:
        """Return the states of models, a model a key in front.

        Args:
            keys: as `keys_of` makes them.
        """
        return jax.tree.map(_stacked, *(self._draw(key) for key in keys))

    @functools.cached_property
    def model(self) -> nnx.Module:
        """One of them without numbers."""
        return nnx.eval_shape(lambda: self._build(self._width, nnx.Rngs(0)))

    @functools.cached_property
    def graph(self) -> nnx.GraphDef:
        """What makes models of the states that are drawn.

        Raises:
            ScalingError: a module holds an array that is no variable.
        """
        graph = nnx.graphdef(self.model)
        try:
            refuse_bare_arrays(self.model)
        except ScalingError:
            if not self._fit(graph):
                raise
        return graph

    def _fit(self, graph: nnx.GraphDef) -> bool:
        """Whether states are of this form: those with arrays of NumPy's are, too."""
        try:
            jax.eval_shape(lambda key: nnx.state(nnx.merge(graph, self._one(key))), KEY)
        except ValueError:
            return False
        return True

    def log_sizes(self, keys: np.ndarray) -> dict[Path, np.ndarray]:
        """Return the logarithm of each parameter's size by key."""
        paths = [path for path, _ in parameters(self.model)]
        sizes: dict[Path, list[float]] = {path: [] for path in paths}
        for key in keys:
            found = by_path(self._draw(key))
            for path, each in sizes.items():
                values = np.asarray(found[path], np.float32)
                each.append(np.sqrt(np.mean(np.square(values))))
        with np.errstate(divide="ignore"):
            return {path: np.log(np.asarray(x, float)) for path, x in sizes.items()}


Draws = Callable[[Any], Draw]
"""Returns what draws models of a width: the same one when asked again."""


def draws_of(build: Build) -> Draws:
    """Return what draws models of any width, each compiled once."""
    return functools.cache(functools.partial(Draw, build))


def keys_of(seeds: Sequence[int]) -> np.ndarray:
    """Return the keys of seeds, as numbers."""
    make = Program(lambda seeds: jax.random.key_data(jax.vmap(jax.random.key)(seeds)))
    return np.asarray(make(jnp.asarray(seeds)))


def pairs_of_keys(seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the two keys that each seed's is split into, as numbers."""

    def one(seed: Any) -> Any:
        return jax.random.key_data(jax.random.split(jax.random.key(seed)))

    pairs = np.asarray(Program(jax.vmap(one))(jnp.asarray(seeds)))
    return pairs[:, 0], pairs[:, 1]


def split_keys(count: int) -> np.ndarray:
    """Return keys that are split from that of seed 0, as numbers."""
    make = Program(
        lambda: jax.random.key_data(jax.random.split(jax.random.key(0), count))
    )
    return np.asarray(make())


def _stacked(*leaves: Any) -> Any:
    if jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
        return jnp.stack(leaves)  # NumPy has no keys
    return np.stack([np.asarray(leaf) for leaf in leaves])
