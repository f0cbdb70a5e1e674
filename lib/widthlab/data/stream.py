r"""Streams: training sets without end, with fresh examples at every step.

A stream is a law that examples are drawn from inside the compiled training step, with
keys folded from the run's own and the step: stochastic gradient descent on the
population loss, which is what many theorems speak of. Test inputs are drawn once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Shaped

from widthlab import ledger
from widthlab.canonical import digest
from widthlab.data.drawn import _DrawnByName
from widthlab.fields import count, known, number, seed_of_jax
from widthlab.registry import Registry
from widthlab.settings import pinned


class Law(NamedTuple):
    """Where the examples of a stream come from.

    Attributes:
        draw: from a key, a number of examples and their dimension to inputs (one a row)
            and targets, by functions that JAX can trace.
        outputs: number of network outputs that the targets ask for.
        targets: "values", one or `outputs` numbers an example, or "labels", the indices
            of `outputs` classes.
    """

    draw: Callable[[Any, int, int], tuple[Any, Any]]
    outputs: int = 1
    targets: str = "values"


@attrs.frozen(kw_only=True)
class Stream(_DrawnByName):
    """Fresh examples of a law at every step, in the place of a `DataSpec`.

    Attributes:
        task: name of the law, a key of `STREAMS`; the tasks of `Synthetic` among them.
        dim: the dimension of an input.
        n_sample: examples of a fixed sample, the "training inputs" of probes.
        n_test: test examples, on which the population loss is measured.
        seed: of the sample and the test set. Training draws by the run's own seed.
        target_scale: factor on targets that are values.

    Example:
        >>> stream = Stream(task="xor", dim=15)
        >>> x, y = stream.draw(jax.random.key(0), 3)
        >>> x.shape, y.shape
        ((3, 15), (3, 1))
    """

    task: str = attrs.field(converter=known(lambda name: STREAMS.known(name), "a name"))
    dim: int = attrs.field(converter=count())
    n_sample: int = attrs.field(default=256, converter=count())
    n_test: int = attrs.field(default=1024, converter=count(0))
    seed: int = attrs.field(default=0, converter=seed_of_jax())
    target_scale: float = attrs.field(default=1.0, converter=number())

    @property
    def law(self) -> Law:
        """The law of this name."""
        return STREAMS[self.task]

    @property
    def entry(self) -> tuple[Registry[Any], str]:
        """Where a plug-in would be registered: the streams, under this name."""
        return STREAMS, self.task

    @property
    def targets(self) -> str:
        """Whether targets are "labels" or "values"."""
        return self.law.targets

    @property
    def train_size(self) -> int:
        """Number of examples that probes find as training inputs."""
        return self.n_sample

    @property
    def output_dim(self) -> int:
        """Number of network outputs that the targets ask for."""
        return self.law.outputs

    def draw(
        self, key: Key[Array, ""], size: int
    ) -> tuple[Float[Array, "{size} dim"], Shaped[Array, "{size} ..."]]:
        """Draw fresh examples, also inside a compiled function."""
        x, y = self.law.draw(key, size, self.dim)
        if self.targets == "labels":
            return x, y.astype(jnp.int32)
        y = self.target_scale * y
        return x, y[:, None] if y.ndim == 1 else y

    def to_json(self) -> dict[str, Any]:
        """Return all fields as a plain dictionary, and that they are a stream's."""
        return {"stream": True, **attrs.asdict(self)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Stream:
        """Read what `to_json` wrote."""
        return cls(**{name: v for name, v in fields.items() if name != "stream"})

    def load(self) -> Drawn:
        """Return the sample and the test set, which are drawn when first looked at."""
        ledger.note_data(self.task, self.to_json(), _drawn(self).sha256, drawn=True)
        return _drawn(self)


class Drawn:
    """The fixed arrays of a stream.

    They are drawn when one of them is first looked at: a key can then be computed
    before JAX is asked for its devices. As for `Synthetic`, the hash is that of the
    specification.
    """

    def __init__(self, stream: Stream):
        """Draw nothing yet."""
        self._stream = stream
        self.sha256 = digest(stream.to_json())

    @functools.cached_property
    def _arrays(self) -> list[np.ndarray]:
        stream = self._stream
        precision = jax.default_matmul_precision("highest")
        with pinned(), jax.enable_x64(True), precision:
            keys = jax.random.split(jax.random.key(stream.seed))
            parts = map(stream.draw, keys, (stream.n_sample, stream.n_test))
            return [np.asarray(array) for part in parts for array in part]

    @property
    def x_train(self) -> np.ndarray:
        """Inputs of the sample, in float64."""
        return self._arrays[0]

    @property
    def y_train(self) -> np.ndarray:
        """Their targets: class indices, or one column an output."""
        return self._arrays[1]

    @property
    def x_test(self) -> np.ndarray:
        """Test inputs."""
        return self._arrays[2]

    @property
    def y_test(self) -> np.ndarray:
        """Their targets."""
        return self._arrays[3]


@functools.lru_cache(maxsize=8)
def _drawn(stream: Stream) -> Drawn:
    return Drawn(stream)


# The tasks of `data.synthetic`, as functions that JAX can trace.


def _noise(key: Any, n: int, d: int) -> tuple[Array, Array]:
    inputs, targets = jax.random.split(key)
    x = jax.random.normal(inputs, (n, d))
    norms = jnp.linalg.norm(x, axis=1, keepdims=True)
    return x / norms, jax.random.normal(targets, (n,))


def _xor(key: Any, n: int, d: int) -> tuple[Array, Array]:
    signs = jax.random.rademacher(key, (n, d), float)
    return signs / math.sqrt(d), signs[:, 0] * signs[:, 1]


def _relu_neuron(key: Any, n: int, d: int) -> tuple[Array, Array]:
    x = jax.random.normal(key, (n, d))
    return x / math.sqrt(d), jnp.maximum(x[:, 0], 0.0)


STREAMS: Registry[Law] = Registry(
    "stream",
    "widthlab.data.register_stream",
    {"noise": Law(_noise), "xor": Law(_xor), "relu-neuron": Law(_relu_neuron)},
)
"""The laws of streams by name."""


def register_stream(
    name: str,
    draw: Callable[[Any, int, int], tuple[Any, Any]] | None = None,
    *,
    outputs: int = 1,
    targets: str = "values",
) -> Any:
    """Add a law of one's own, as a function or as a decorator of one.

    Args:
        name: name under which a `Stream` asks for it.
        draw: as for `Law`.
        outputs: as for `Law`.
        targets: as for `Law`.
    """
    if draw is None:
        return lambda draw: register_stream(
            name, draw, outputs=outputs, targets=targets
        )
    if targets not in ("labels", "values") or outputs < 1:
        raise ValueError(
            f"outputs is {outputs} and targets {targets!r}; there is at least one "
            "output, and targets are 'labels' or 'values'"
        )
    STREAMS.register(name, Law(draw, outputs, targets))
    return draw
