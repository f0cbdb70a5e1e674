r"""What a table of exponents says about the infinite-width limit, before any training.

Every quantity of an MLP in training has a size $n^{p}$. Sizes multiply and add, so
their exponents obey a max-plus recursion: a sum is as large as its largest term, and an
inner product over $n$ coordinates gains $n^{1/2}$ if its factors are independent (a
Gaussian matrix at initialisation) and $n$ if they are correlated (an update
$dh\,x^\top$ acting on the next $x$). Running that recursion for a few steps
classifies a parametrization: Tensor Programs IV, Theorem 3.4 and Section 3, for tables
with a single $c$; here also for learning rates that differ between layers, and for a
first step of its own.

The recursion takes activations that are linear near zero and whose derivative does not
vanish there (tanh, GELU, ReLU ...), and an error signal of order one. It counts the
inputs of a layer before and after a step as correlated: an upper bound, which an odd
activation does not attain in the large first step of IP-LLR. Layers from the third on
then move less by $n^{-1/2}$ (Hajjar et al. 2024 assume a non-negative activation).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fractions import Fraction

from widthlab.parametrization import HALF, Parametrization, Role


class Regime(enum.StrEnum):
    """The kinds of infinite-width limit (Tensor Programs IV, Section 3)."""

    UNSTABLE = "unstable"
    TRIVIAL = "trivial"
    KERNEL = "kernel"
    FEATURE_LEARNING = "feature learning"


@dataclass(frozen=True, slots=True)
class Verdict:
    r"""The theory's verdict on a parametrization at some depth.

    Attributes:
        regime: kind of the infinite-width limit.
        stable_at_init: pre-activations are of order one and the output is bounded.
        preactivation: exponents of $h^1, \dots, h^L$ at initialisation.
        output: exponent of the output at initialisation.
        feature_change: exponents of $\Delta h^1, \dots, \Delta h^L$ after training.
        relative_change: the same relative to the size of $h^l$ at initialisation.
        output_change: exponent of the change of the output after training.
        r: features move by $n^{-r}$ (the largest over the layers).
    """

    regime: Regime
    stable_at_init: bool
    preactivation: tuple[Fraction, ...]
    output: Fraction
    feature_change: tuple[Fraction, ...]
    relative_change: tuple[Fraction, ...]
    output_change: Fraction
    r: Fraction


@dataclass(frozen=True, slots=True)
class _Layer:
    """Exponents of one weight matrix in effective form (no multiplier)."""

    role: Role
    b: Fraction
    c: Fraction
    c_first: Fraction

    @property
    def random(self) -> Fraction:
        """Gain of the Gaussian initial matrix, acting on a vector."""
        return -self.b if self.role is Role.INPUT else HALF - self.b

    @property
    def overlap(self) -> int:
        """Gain of an inner product of two correlated inputs of this matrix."""
        return 0 if self.role is Role.INPUT else 1


def _layers(parametrization: Parametrization, depth: int) -> list[_Layer]:
    roles = [Role.INPUT] + [Role.HIDDEN] * (depth - 1) + [Role.OUTPUT]
    out = []
    for role in roles:
        row = parametrization[role].effective()
        out.append(_Layer(role, row.b, row.c, row.first(depth)))
    return out


class _Recursion:
    """Exponents of forward signals x^0..x^L, f and backward signals dh^1..dh^L, df."""

    def __init__(self, layers: list[_Layer]):
        self.layers = layers
        self.updates: list[tuple[list[Fraction], list[Fraction]]] = []
        self.forward, self.change = self._forward_pass()
        self.initial = self.forward

    def _lr(self, layer: _Layer, step: int) -> Fraction:
        return -(layer.c_first if step == 0 else layer.c)

    def _forward_pass(self) -> tuple[list[Fraction], list[Fraction | None]]:
        sizes = [Fraction(0)]
        moved: list[Fraction | None] = [None]  # None: exactly zero
        aligned: list[Fraction] = []
        for index, layer in enumerate(self.layers):
            learnt = [
                self._lr(layer, step) + dh[index] + x[index] + sizes[-1] + layer.overlap
                for step, (x, dh) in enumerate(self.updates)
            ]
            if layer.role is Role.OUTPUT:
                learnt += aligned
            elif learnt:
                # What a layer learns points along its backward signal. To the output,
                # its n coordinates therefore add up: no random sum with W_0 there.
                aligned.append(max(learnt) + self.updates[0][1][index] + 1)
            last = moved[-1]
            carried = [] if last is None else [layer.random + last]
            sizes.append(max([layer.random + sizes[-1], *learnt]))
            moved.append(max([*learnt, *carried], default=None))
        return sizes, moved

    def _backward_pass(self) -> list[Fraction]:
        sizes = [Fraction(0)]  # error signal at the output, of order one
        for index in range(len(self.layers) - 1, 0, -1):
            layer = self.layers[index]
            # The output has finitely many coordinates: its matrix, transposed, adds
            # nothing by summing. Hidden coordinates sum as in the forward pass.
            is_output = layer.role is Role.OUTPUT
            random = -layer.b if is_output else layer.random
            learnt = [
                self._lr(layer, step)
                + x[index]
                + dh[index]
                + sizes[0]
                + (0 if is_output else 1)
                for step, (x, dh) in enumerate(self.updates)
            ]
            sizes.insert(0, max([random + sizes[0], *learnt]))
        return sizes

    def step(self) -> None:
        """Take one step of gradient descent on every matrix at once."""
        self.updates.append((self.forward, self._backward_pass()))
        self.forward, self.change = self._forward_pass()


def classify(parametrization: Parametrization, depth: int, steps: int = 6) -> Verdict:
    r"""Classify a parametrization from its exponents alone.

    Args:
        parametrization: table to classify.
        depth: number $L$ of hidden layers; deep integrable parametrizations change
            their verdict with it.
        steps: steps of training after which sizes are read; an unstable one is read
            at the step at which it first blows up.

    Example:
        >>> from widthlab import parametrization
        >>> str(classify(parametrization.get("ntk"), depth=3).regime)
        'kernel'
        >>> [str(classify(parametrization.get("ip"), L).regime) for L in (2, 3)]
        ['feature learning', 'trivial']
    """
    recursion = _Recursion(_layers(parametrization, depth))
    history = []
    for _ in range(steps):
        recursion.step()
        history.append(recursion.forward)
        if any(e > 0 for e in recursion.forward[1:]):
            break  # exponents double from here on and say nothing more
    start = recursion.initial
    change = [c for c in recursion.change[1:] if c is not None]  # all, after a step
    hidden = change[:-1]
    blows_up = any(e > 0 for e in start[1:]) or any(
        e > 0 for sizes in history for e in sizes[1:]
    )
    relative = tuple(c - p for c, p in zip(hidden, start[1:-1], strict=True))
    if blows_up:
        regime = Regime.UNSTABLE
    elif change[-1] < 0:
        regime = Regime.TRIVIAL
    elif max(hidden) < 0:
        regime = Regime.KERNEL
    else:
        regime = Regime.FEATURE_LEARNING
    return Verdict(
        regime=regime,
        stable_at_init=all(e == 0 for e in start[1:-1]) and start[-1] <= 0,
        preactivation=tuple(start[1:-1]),
        output=start[-1],
        feature_change=tuple(hidden),
        relative_change=relative,
        output_change=change[-1],
        r=-max(hidden),
    )


def tensor_programs_r(parametrization: Parametrization, depth: int = 2) -> Fraction:
    r"""Return the exponent $r$ of Tensor Programs IV for a table stable at init.

    $$r = \min(a_{L+1} + b_{L+1},\, 2a_{L+1} + c_{L+1}) +
        \min_{l \le L}\,[c_l + 2 a_l - 1 + \mathbb{1}(l = 1)]$$

    Definition 3.2 there has a single $c$; this is the same with one for each role. From
    two hidden layers on it does not depend on the depth.
    """
    out = parametrization[Role.OUTPUT]
    backward = min(out.a + out.b, 2 * out.a + out.c)
    first, hidden = parametrization[Role.INPUT], parametrization[Role.HIDDEN]
    terms = [first.c + 2 * first.a]
    if depth > 1:
        terms.append(hidden.c + 2 * hidden.a - 1)
    return backward + min(terms)
