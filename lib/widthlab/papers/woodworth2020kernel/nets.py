r"""Networks at several scales of the start: what the chapter's C8 and C10 measure.

The *arms* say what is subtracted from a network's outputs, or done to the labels:

- "plain": nothing, as in Figure 6;
- "unbiased": the network's own outputs at time 0, so that the predictor starts at 0;
- "another's": the outputs at time 0 of another draw of the weights;
- "scaled labels": nothing, and the labels grow with $\alpha^D$, so that a homogeneous
  network is as rich at any scale as it is at the smallest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from widthlab import perturbation
from widthlab.papers.woodworth2020kernel import digits, printed
from widthlab.papers.woodworth2020kernel.few import (
    biased_network,
    many,
    relu_network,
    turned,
)
from widthlab.runs import Computed
from widthlab.training.devices import precision

ARMS = ("plain", "unbiased", "another's", "scaled labels")
"""What is subtracted, or done to the labels."""

LINE_SHAPES = {"a": (0.0, 0.0), "b": (-0.5, 0.5), "c": (-0.25, 0.25)}
"""Powers of the width, on inner and outer weights, by panel of Figure 7."""


@dataclass(frozen=True)
class Circle(Computed):
    r"""Students of a small teacher, ten points on the circle (Figure 6a, b).

    ReLU networks without biases, weights uniform (He's) times $\alpha$, gradient flow
    to its end. Ours are: angles drawn one in each tenth of the circle, and targets
    scaled to the printed root mean square.

    Attributes:
        seeds: each draws teacher, points and student.
        scales: alpha.
        arms: of `ARMS`.
        depth: D, the number of weight matrices.
        share: by which a layer moves in a step, at most.
        most: steps.
    """

    seeds: tuple[int, ...]
    scales: tuple[float, ...]
    arms: tuple[str, ...] = ARMS[:2]
    depth: int = 2
    share: float = 0.02
    most: int = 400

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield for each network its error, turn of tangent features, and loss."""
        cases = [
            (seed, arm, scale)
            for seed in self.seeds
            for arm in self.arms
            for scale in self.scales
        ]
        drawn = [self._draw(*case) for case in cases]
        weights = [
            np.stack(layer) for layer in zip(*(d[0] for d in drawn), strict=True)
        ]
        other = [np.stack(layer) for layer in zip(*(d[1] for d in drawn), strict=True)]
        x, y, test_x, test_y = (np.stack([d[2][i] for d in drawn]) for i in range(4))
        if (number := perturbation.chosen()) is not None:
            weights = perturbation.moved(weights, number)
        with precision("float64"):
            found = self._solve(cases, weights, other, x, y, test_x, test_y)
        for (seed, arm, scale), *numbers in zip(cases, *found, strict=True):
            names = ("error", "turned", "loss")
            row = {name: float(v) for name, v in zip(names, numbers, strict=True)}
            yield {"net": seed, "arm": arm, "alpha": scale} | row

    def _draw(self, seed: int, arm: str, scale: float) -> Any:
        rng = np.random.default_rng([seed, 8])
        width, n = printed.FIGURE_6_WIDTH, printed.FIGURE_6_EXAMPLES
        sizes = [2, *[width] * (self.depth - 1), 1]
        teacher = _he(rng, [2, printed.FIGURE_6_TEACHER, 1])
        own, other = ([scale * w for w in _he(rng, sizes)] for _ in range(2))
        x = _on_circle((np.arange(n) + rng.uniform(size=n)) / n)
        test_x = _on_circle(np.arange(256) / 256)
        y, test_y = _teach(teacher, x), _teach(teacher, test_x)
        unit = printed.FIGURE_6_ZERO / np.sqrt(np.mean(test_y**2))
        if arm == "scaled labels":
            unit = unit * (scale / min(self.scales)) ** self.depth
        return own, other, (x, y * unit, test_x, test_y * unit)

    def _solve(self, cases: Any, weights: Any, other: Any, *data: Any) -> Any:
        x, y, test_x, test_y = map(jnp.asarray, data)
        weights = [jnp.asarray(w) for w in weights]
        other = [jnp.asarray(w) for w in other]
        arms = np.array([arm for _, arm, _ in cases])[:, None]
        own, foreign = (
            jnp.asarray(arms == a, float) for a in ("unbiased", "another's")
        )
        net = jax.jit(jax.vmap(relu_network))

        def subtracted(x: Any) -> Any:
            return own * net(weights, x) + foreign * net(other, x)

        end = many(relu_network, self.share, self.most)(weights, x, y + subtracted(x))
        guess = net(end.weights, test_x) - subtracted(test_x)
        error = jnp.sqrt(jnp.mean((guess - test_y) ** 2, axis=1))
        far = jax.jit(jax.vmap(lambda a, b, x: turned(relu_network, a, b, x)))
        angle = far(weights, end.weights, test_x[:, ::4])
        return np.asarray(error), np.asarray(angle), np.asarray(end.loss)


def _he(rng: np.random.Generator, sizes: list[int]) -> list[np.ndarray]:
    """Draw uniform weights of variance 2 over the number of inputs."""
    return [
        rng.uniform(-1, 1, (after, before)) * np.sqrt(6 / before)
        for before, after in itertools.pairwise(sizes)
    ]


def _on_circle(turns: np.ndarray) -> np.ndarray:
    angle = 2 * np.pi * turns
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _teach(teacher: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    return (np.maximum(x @ teacher[0].T, 0) @ teacher[1].T)[:, 0]


@dataclass(frozen=True)
class Line(Computed):
    r"""Nine points on a line, two layers with inner biases, $f - f(0)$ (Figure 7).

    Attributes:
        seed: draws the weights.
        cases: panel of the figure, and alpha.
        width: k.
        share: by which a layer moves in a step, at most.
        most: steps.
    """

    seed: int
    cases: tuple[tuple[str, float], ...]
    width: int = 1000
    share: float = 0.03
    most: int = 300

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield the curve of each case, with the kernel's and the spline."""
        rng = np.random.default_rng([self.seed, 9])
        inner, bias = rng.standard_normal((2, self.width))
        outer = rng.standard_normal(self.width) * (2 / self.width) ** 0.5
        first, last = np.array(
            [
                [alpha * self.width**power for power in LINE_SHAPES[panel]]
                for panel, alpha in self.cases
            ]
        ).T
        weights = [first[:, None] * inner, first[:, None] * bias, last[:, None] * outer]
        x, y = map(np.array, printed.FIGURE_7_POINTS)
        test = np.linspace(x[0], x[-1], 201)
        with precision("float64"):
            ends, losses = self._solve([jnp.asarray(w) for w in weights], x, y, test)
        for (panel, alpha), curve, loss in zip(self.cases, ends, losses, strict=True):
            kernel = line_limit(panel, self.width, x, y, test)
            rows = zip(test, curve, kernel, np.interp(test, x, y), strict=True)
            for at, value, lazy, spline in rows:
                yield {
                    "panel": panel,
                    "alpha": alpha,
                    "x": float(at),
                    "network": float(value),
                    "kernel": float(lazy),
                    "spline": float(spline),
                    "loss": float(loss),
                }

    def _solve(self, weights: Any, x: Any, y: Any, test: Any) -> Any:
        rows = [
            jnp.broadcast_to(jnp.asarray(v)[:, None], (len(self.cases), len(v), 1))
            for v in (x, test)
        ]
        net = jax.jit(jax.vmap(biased_network))
        start, start_test = (net(weights, at) for at in rows)
        solve = many(biased_network, self.share, self.most, 1e-9)
        end = solve(weights, rows[0], jnp.asarray(y) + start)
        return np.asarray(net(end.weights, rows[1]) - start_test), np.asarray(end.loss)


def line_limit(panel: str, width: int, x: Any, y: Any, at: Any) -> np.ndarray:
    r"""Return the kernel limit of a panel of Figure 7 for many neurons.

    With $u = (x, 1)$, $t$ the angle of two of them, $c_0 = (\pi - t) / 2\pi$ and $c_1 =
    |u| |u'| (\sin t + (\pi - t) \cos t) / 2\pi$, the tangent kernel is $s_1^2 k\, c_1 +
    2 s_2^2\, u \cdot u' c_0$, with $s_1$ and $s_2$ the factors on inner and outer
    weights.
    """
    first, last = (float(width) ** power for power in LINE_SHAPES[panel])

    def kernel(a: Any, b: Any) -> np.ndarray:
        u, v = (np.stack([w, np.ones_like(w)], axis=1) for w in (a, b))
        sizes = np.linalg.norm(u, axis=1)[:, None] * np.linalg.norm(v, axis=1)
        inner = u @ v.T
        t = np.arccos(np.clip(inner / sizes, -1, 1))
        c0 = (np.pi - t) / (2 * np.pi)
        c1 = sizes * (np.sin(t) + (np.pi - t) * np.cos(t)) / (2 * np.pi)
        return first**2 * width * c1 + 2 * last**2 * inner * c0

    return kernel(at, x) @ np.linalg.solve(kernel(x, x), y)


@dataclass(frozen=True)
class Digits(Computed):
    """Images at several scales, arms and rates (Figure 6c).

    The last layer alone is trained too, from the start of scale 1.

    Attributes:
        seed: draws images, weights and order.
        scales: alpha.
        arms: the first three of `ARMS`, any of them.
        rates: learning rates; which is best is for who reads the rows.
        last_layer: whether the last layer is trained alone as well.
        width: hidden units.
        name: of the images.
        train: how many are trained on.
        test: how many are for tests.
        batch: images in a step.
        epochs: passes after which errors are read, in order.
    """

    seed: int
    scales: tuple[float, ...] = (1.0, 10.0)
    arms: tuple[str, ...] = ARMS[:2]
    rates: tuple[float, ...] = (0.1, 0.03)
    last_layer: bool = True
    width: int = 128
    name: str = "mnist-5k"
    train: int = 1000
    test: int = 1000
    batch: int = 50
    epochs: tuple[int, ...] = (15,)

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield errors in tests and training, and the move of the hidden layer."""
        cases = [*itertools.product(self.scales, self.arms, self.rates)]
        if self.last_layer:
            cases += [(1.0, "last layer", rate) for rate in self.rates]
        arms, rates = (np.array([case[i] for case in cases]) for i in (1, 2))
        data = digits.images(self.seed, self.train, self.test, self.name)
        start, off = self._starts(cases, data.x.shape[1])
        found = digits.train(
            data,
            start,
            off,
            rates,
            (arms != "last layer").astype(float),
            batch=self.batch,
            read=self.epochs,
            seed=self.seed,
        )
        for epoch, measured in zip(self.epochs, found, strict=True):
            for (alpha, arm, rate), *numbers in zip(cases, *measured, strict=True):
                row = dict(zip(measured._fields, map(float, numbers), strict=True))
                yield {"alpha": alpha, "arm": arm, "rate": rate, "epoch": epoch} | row

    @property
    def flops(self) -> float:
        """Operations in the products with the first layer: forward, and its gradient.

        What is taken off is computed in each step, which is a forward pass more.
        """
        nets = len(self.scales) * len(self.arms) * len(self.rates)
        passes = 2 * (nets + self.last_layer * len(self.rates))
        if self._takes_off:
            passes += passes // 2
        return 2.0 * passes * self.epochs[-1] * self.train * 784 * self.width

    @property
    def _takes_off(self) -> bool:
        """Whether any network has outputs of a start subtracted."""
        return not {"unbiased", "another's"}.isdisjoint(self.arms)

    def _starts(self, cases: Any, pixels: int) -> tuple[list[Any], list[Any] | None]:
        """Return weights at the start, and those whose outputs are taken off."""
        alphas = np.array([alpha for alpha, _, _ in cases])
        arms = np.array([arm for _, arm, _ in cases])[:, None, None]
        start = digits.starts(self.seed, pixels, self.width, alphas)
        if (number := perturbation.chosen()) is not None:
            start = perturbation.moved(start, number)
        if not self._takes_off:
            return start, None
        off = [(arms == "unbiased").astype("float32") * w for w in start]
        if "another's" in self.arms:
            other = digits.starts(self.seed, pixels, self.width, alphas, draw=60)
            pairs = zip(off, other, strict=True)
            off = [o + (arms == "another's").astype("float32") * w for o, w in pairs]
        return start, off
