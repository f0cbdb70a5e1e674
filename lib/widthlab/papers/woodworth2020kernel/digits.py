r"""Images at several scales of the start, with $f$ or $f - f(0)$ as the predictor.

The set-up is Figure 6(c)'s made small: one hidden layer of ReLU units without biases,
weights $N(0, 2/n_\mathrm{in})$ times $\alpha$, cross-entropy, stochastic gradient
descent in batches.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from widthlab.compilation import compiled
from widthlab.data import DataSpec
from widthlab.model import AnyArray
from widthlab.training.devices import precision


class Images(NamedTuple):
    """Images and labels, for training and for tests."""

    x: Float[np.ndarray, "n pixels"]
    labels: Int[np.ndarray, " n"]
    test_x: Float[np.ndarray, "m pixels"]
    test_labels: Int[np.ndarray, " m"]


class Trained(NamedTuple):
    """What training came to, an entry for each network.

    Attributes:
        error: share of test images that are classified wrongly.
        train_error: the same of the training images.
        moved: relative change of the hidden layer's weights.
    """

    error: Float[AnyArray, " nets"]
    train_error: Float[AnyArray, " nets"]
    moved: Float[AnyArray, " nets"]


def images(seed: int, train: int, test: int, name: str = "mnist-5k") -> Images:
    """Return the images of one replication: a subset that its seed chooses."""
    data = DataSpec(
        name,
        n_train=train,
        n_test=test,
        targets="labels",
        subset_seed=seed,
        preprocess="raw01",
    ).load()
    rows = (data.x_train, data.y_train, data.x_test, data.y_test)
    return Images(*map(np.asarray, rows))


def starts(
    seed: int,
    pixels: int,
    width: int,
    scales: Float[np.ndarray, " nets"],
    draw: int = 6,
) -> list[Float[np.ndarray, "nets _ _"]]:
    """Draw weights once, and scale them: networks of one draw differ by a factor."""
    rng = np.random.default_rng([seed, draw])
    inner = rng.standard_normal((pixels, width)) * (2 / pixels) ** 0.5
    outer = rng.standard_normal((width, 10)) * (2 / width) ** 0.5
    factor = scales[:, None, None].astype("float32")
    return [factor * part.astype("float32") for part in (inner, outer)]


def train(
    data: Images,
    weights: list[Any],
    subtracted: list[Any] | None,
    rates: Float[np.ndarray, " nets"],
    inner: Float[np.ndarray, " nets"],
    *,
    batch: int,
    read: Sequence[int],
    seed: int,
) -> list[Trained]:
    """Train several networks on the same batches.

    Args:
        data: images.
        weights: at the start, as `starts` returns them.
        subtracted: weights of the networks whose outputs are taken off, such as those
            of the start; nothing is, where they are 0 or there are none.
        rates: learning rates.
        inner: 1 for a network whose hidden layer is trained, 0 for one whose is not.
        batch: images in a step.
        read: passes over the images after which errors are read, in order.
        seed: of the order.
    """
    rng = np.random.default_rng([seed, 7])
    steps = len(data.x) // batch
    order = np.stack(
        [rng.permutation(len(data.x))[: steps * batch] for _ in range(read[-1])]
    ).reshape(read[-1] * steps, batch)
    found = []
    with precision("float32"):
        run = compiled(_train, jax.default_backend(), static=())
        first, off = jax.tree.map(jnp.asarray, (weights, subtracted))
        inputs = [jnp.asarray(part, "float32") for part in (data.x, data.test_x)]
        labels = [jnp.asarray(p, "int32") for p in (data.labels, data.test_labels)]
        factors = [jnp.asarray(part, "float32") for part in (rates, inner)]
        now = first
        for before, after in itertools.pairwise((0, *read)):
            rows = jnp.asarray(order[before * steps : after * steps], "int32")
            now, end = run(now, first, off, factors, inputs, labels, rows)
            found.append(Trained(*(np.asarray(part, float) for part in end)))
    return found


def _logits(weights: list[Array], x: Array) -> Array:
    hidden = jax.nn.relu(jnp.einsum("np,kpw->knw", x, weights[0]))
    return jnp.einsum("knw,kwc->knc", hidden, weights[1])


def _train(
    now: list[Array],
    first: list[Array],
    off: list[Array] | None,
    factors: list[Array],
    inputs: list[Array],
    labels: list[Array],
    order: Array,
) -> tuple[list[Array], Trained]:
    rates, inner = factors
    down_rates, out_rates = (rates * inner)[:, None, None], rates[:, None, None]

    def outputs(weights: list[Array], x: Array) -> Array:
        # The start is computed anew each time: kept, it would be as large as the data.
        return _logits(weights, x) - (0 if off is None else _logits(off, x))

    def loss(weights: list[Array], rows: Array) -> Array:
        logs = jax.nn.log_softmax(outputs(weights, inputs[0][rows]))
        picked = logs[:, jnp.arange(len(rows)), labels[0][rows]]
        return -jnp.sum(jnp.mean(picked, axis=1))

    def step(weights: list[Array], rows: Array) -> tuple[list[Array], None]:
        down, out = jax.grad(loss)(weights, rows)
        return [weights[0] - down_rates * down, weights[1] - out_rates * out], None

    last, _ = jax.lax.scan(step, now, order)

    def wrong(x: Array, labels: Array) -> Array:
        def guess(one: Array) -> Array:
            return jnp.argmax(outputs(last, one[None])[:, 0], axis=1)

        guesses = jax.lax.map(guess, x, batch_size=500)
        return jnp.mean((guesses != labels[:, None]).astype("float32"), axis=0)

    size = functools.partial(jnp.linalg.norm, axis=(1, 2))
    moved = size(last[0] - first[0]) / size(first[0])
    errors = [wrong(x, names) for x, names in zip(inputs, labels, strict=True)]
    return last, Trained(errors[1], errors[0], moved)
