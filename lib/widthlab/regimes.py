r"""What a table of exponents says about the infinite-width limit, before any training.

Every quantity of an MLP in training has a size $n^{p}$. Sizes multiply and add, so
their exponents obey a max-plus recursion: a sum is as large as its largest term, and an
inner product over $n$ coordinates gains $n^{1/2}$ if its factors are independent (a
Gaussian matrix at initialisation) and $n$ if they are correlated (an update
$dh\,x^\top$ acting on the next $x$). Running that recursion for a few steps
classifies a parametrization: Tensor Programs IV, Theorem 3.4 and Section 3, for tables
with a single $c$; here also for learning rates that differ between layers, a first step
of its own, weights whose mean is not zero, initial weights that shrink after the first
step, and biases (all of these in Hajjar, Chizat and Giraud 2024).

The recursion takes activations that are linear near zero and whose derivative does not
vanish there (tanh, GELU, ReLU ...), and an error signal of order one. Two of its terms
are upper bounds, which ReLU attains and other activations may not:

- It counts the inputs of a layer before and after a step as correlated. In the large
  first step of IP-LLR those of an activation that is smooth at zero are not: vanishing
  signals make it linear, hence centred. Layers from the third on then move less by
  $n^{-1/2}$ (Hajjar et al. 2024 assume a non-negative activation).
- It lets weights of non-zero mean gain $n$ on every vector, as if that had a mean too.
  Odd activations of the centred first layer have none: behind them it is $n^{1/2}$.

Exponents do not tell whether a signal depends on the input. Biases of order one hide it
from the deep layers of integrable parametrizations, whatever their verdict.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from widthlab.parametrization import Exponents, Parametrization, Role
from widthlab.parametrization.exponents import HALF, layers_with_biases

ZERO = Fraction(0)
"""The exponent of what does not change with width."""


class Regime(enum.StrEnum):
    """The kinds of infinite-width limit (Tensor Programs IV, Section 3)."""

    UNSTABLE = "unstable"
    """A pre-activation or the output grows with width."""

    TRIVIAL = "trivial"
    r"""Nothing grows, and the output does not move: $\Delta f \to 0$."""

    KERNEL = "kernel"
    r"""The output moves at order one, and no feature does: $\Delta h^l \to 0$."""

    FEATURE_LEARNING = "feature learning"
    r"""The output moves at order one, and so does some $h^l$."""


@dataclass(frozen=True, slots=True)
class Classification:
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
        gradient: exponents of the coordinates of $\partial\mathcal{L}/\partial h^l$ of
            one example at initialisation, $l = 1, \dots, L$.
        first_update: exponents of $\|\Delta W^l(1)\|_F$, the first update of the matrix
            that multiplies the activations, $l = 1, \dots, L + 1$.
    """

    regime: Regime
    stable_at_init: bool
    preactivation: tuple[Fraction, ...]
    output: Fraction
    feature_change: tuple[Fraction, ...]
    relative_change: tuple[Fraction, ...]
    output_change: Fraction
    r: Fraction
    gradient: tuple[Fraction, ...]
    first_update: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class _Weights:
    """Exponents of a matrix, or of a vector of biases, in effective form (a = 0).

    Attributes:
        layer: place, from 1 to L + 1; the matrix maps x^(layer - 1) to h^layer.
        row: exponents without multiplier.
        first: learning-rate exponent of the first step.
        wide_in: the input has n coordinates, over which products sum.
        wide_out: the output has.
        bias: the input is the constant 1.
    """

    layer: int
    row: Exponents
    first: Fraction
    wide_in: bool
    wide_out: bool
    bias: bool = False

    def input(self, signals: Sequence[Fraction]) -> Fraction:
        """Size of what the weights act on, among x^0, ..., x^L."""
        return ZERO if self.bias else signals[self.layer - 1]

    def start(self, wide: bool) -> Fraction:
        """Gain of the initial weights on a vector, which has n coordinates if wide."""
        if not wide:
            return -self.row.b
        return (Fraction(1) if self.row.mean else HALF) - self.row.b  # (2)

    def kept(self, step: int) -> list[Fraction]:
        """Share of the initial weights that is there at a step; empty if none is."""
        if step == 0:
            return [ZERO]
        return [] if self.row.retained is None else [-self.row.retained]

    def update(
        self, step: int, x: Sequence[Fraction], dh: Sequence[Fraction]
    ) -> Fraction:
        """Entries of the update of a step, a learning rate times dh x^T."""
        c = self.first if step == 0 else self.row.c
        return dh[self.layer - 1] + self.input(x) - c  # (1)


def _layers(
    parametrization: Parametrization, depth: int, biases: str
) -> list[list[_Weights]]:
    """The matrix of each layer, and its biases behind it where there are some."""
    roles = [Role.INPUT] + [Role.HIDDEN] * (depth - 1) + [Role.OUTPUT]
    with_biases = layers_with_biases(biases, len(roles))
    # In effective form the members of an equivalence class are one and the same.
    layers = []
    for layer, role in enumerate(roles, 1):
        wide = role is not Role.INPUT, role is not Role.OUTPUT
        row = parametrization[role].effective()
        layers.append([_Weights(layer, row, row.first(depth, layer), *wide)])
        if layer <= with_biases:
            row = parametrization.biases(role).effective()
            first = row.first(depth, layer)
            layers[-1].append(_Weights(layer, row, first, False, wide[1], bias=True))
    return layers


class _Recursion:
    r"""Exponents of forward signals x^0..x^L, f and backward signals dh^1..dh^L, df.

    $[v]$ is the exponent of the coordinates of $v$; a sum has the largest of its
    terms. In effective form (a = 0) entries of $W^l_0$ have the exponent $-b$, rates of
    step $s$ have $-c_s$, and at step $t$ there is $n^{-k}$ of $W^l_0$ left, beside the
    updates $U^l_s$ of the steps $s < t$.

    - (1) $[U^l_s] = [dh^l_s] + [x^{l-1}_s] - c_s$, a step of SGD.
    - (2) $[W^l_0 x] = [x] - b + \frac12$ over $n$ coordinates, independent of $W^l_0$;
      with $+ 1$ where its mean is not zero, and $+ 0$ over finitely many.
    - (3) $[U^l_s x^{l-1}_t] = [U^l_s] + [x^{l-1}_t] + 1$ over $n$ coordinates, which
      are correlated with $U^l_s$; with $+ 0$ over finitely many.
    - (4) $[x^l_t] = [h^l_t] = \max\{[W^l_0 x^{l-1}_t] - k, [U^l_s x^{l-1}_t]\}$.
    - (5) $[\Delta h^l_t] = \max\{[U^l_s x^{l-1}_t], [W^l_0 \Delta x^{l-1}_t]\}$. If
      $W^l_0$ shrinks, the last term is $[W^l_0 x^{l-1}_0]$, or what is left if larger.
    - (6) $[dh^{l-1}_t] = \max\{[W_0^{l\top} dh^l_t] - k, [U_s^{l\top} dh^l_t]\}$, each
      by (2) and (3), from $[df] = 0$.
    - (7) $[\Delta_l f] = [\Delta h^l] + [dh^l_0] + 1$, less the $k$ of layers behind:
      what layer $l$ learns points along $dh^l_0$. Terms like (3) for the output.

    With one $c$ this is the count of Tensor Programs IV (Yang and Hu 2021, Section 3,
    Theorem 3.4). A first step of its own, means, shrinking weights and biases, whose
    $x$ is 1, are from Hajjar, Chizat and Giraud (2024).
    """

    def __init__(self, layers: list[list[_Weights]]):
        self.layers = layers
        self.updates: list[tuple[list[Fraction], list[Fraction]]] = []
        self.forward, self.change = self._forward_pass()
        self.initial = self.forward

    def _updates(self, part: _Weights) -> list[Fraction]:
        """Entries of the update of each step."""
        return [part.update(step, *past) for step, past in enumerate(self.updates)]

    def _kept(self, part: _Weights, wide: bool) -> list[Fraction]:
        """Gain of what is left of the initial weights; empty if nothing is."""
        return [part.start(wide) + share for share in part.kept(len(self.updates))]

    def _carried(
        self, part: _Weights, kept: list[Fraction], moved: list[Fraction | None]
    ) -> list[Fraction]:
        """Change of what the initial weights, or what is left of them, make."""
        if self.updates and part.row.retained != 0:  # their first product goes away
            return [*kept, part.start(part.wide_in) + part.input(self.initial)]
        last = None if part.bias else moved[part.layer - 1]
        return [] if last is None else [part.start(part.wide_in) + last]

    def _forward_pass(self) -> tuple[list[Fraction], list[Fraction | None]]:
        sizes = [ZERO]
        moved: list[Fraction | None] = [None]  # None: exactly zero
        aligned: list[Fraction] = []
        for parts in self.layers:
            start, learnt, carried = [], [], []
            for part in parts:
                x = part.input(sizes)
                kept = [x + gain for gain in self._kept(part, part.wide_in)]  # (2)
                start += kept
                learnt += [x + e + part.wide_in for e in self._updates(part)]  # (3)
                carried += self._carried(part, kept, moved)
            matrix = parts[0]
            # It reaches the output through what is left of the weights in between.
            aligned = [e + k for e in aligned for k in matrix.kept(len(self.updates))]
            if not matrix.wide_out:
                learnt += aligned
            elif learnt:
                # What a layer learns points along its backward signal. To the output,
                # its n coordinates therefore add up (7): no random sum with W_0 there.
                aligned.append(max(learnt) + self.updates[0][1][matrix.layer - 1] + 1)
            sizes.append(max([*start, *learnt]))  # (4)
            moved.append(max([*learnt, *carried], default=None))  # (5)
        return sizes, moved

    def _backward_pass(self) -> list[Fraction]:
        sizes = [ZERO]  # error signal at the output, of order one
        for matrix, *_ in self.layers[:0:-1]:
            # The output has finitely many coordinates: its matrix, transposed, adds
            # nothing by summing. Hidden coordinates sum as in the forward pass.
            wide = matrix.wide_out
            gains = self._kept(matrix, wide) + [e + wide for e in self._updates(matrix)]
            sizes.insert(0, max(gains) + sizes[0])  # (6)
        return sizes

    def step(self) -> None:
        """Take one step of gradient descent on every matrix at once."""
        # What a step reads is kept: later products meet its updates with other signals.
        self.updates.append((self.forward, self._backward_pass()))
        self.forward, self.change = self._forward_pass()

    def blown_up(self) -> bool:
        """Tell whether a signal grows with width."""
        return any(e > 0 for e in self.forward[1:])

    def first_update(self) -> tuple[Fraction, ...]:
        """Frobenius norms of the first updates: entries by the root of their number."""
        return tuple(
            m.update(0, *self.updates[0]) + HALF * (m.wide_in + m.wide_out)
            for m, *_ in self.layers
        )


def _regime(unstable: bool, hidden: Sequence[Fraction], output: Fraction) -> Regime:
    """Name the limit by how far features and the output move."""
    if unstable:
        return Regime.UNSTABLE
    if output < 0:
        return Regime.TRIVIAL
    return Regime.KERNEL if max(hidden) < 0 else Regime.FEATURE_LEARNING


def classify(
    parametrization: Parametrization, depth: int, steps: int = 6, biases: str = "none"
) -> Classification:
    r"""Classify a parametrization from its exponents alone.

    Args:
        parametrization: table to classify.
        depth: number $L$ of hidden layers; deep integrable parametrizations change
            their verdict with it.
        steps: steps of training after which sizes are read; an unstable one is read
            at the step at which it first blows up.
        biases: which layers add biases: "none", "input" (the first) or "all". A bias of
            the output alone moves it at order one: no such network is trivial.

    Raises:
        ParametrizationError: `biases` is none of the three.

    Example:
        >>> from widthlab import parametrization
        >>> str(classify(parametrization.get("ntk"), depth=3).regime)
        'kernel'
        >>> [str(classify(parametrization.get("ip"), L).regime) for L in (2, 3)]
        ['feature learning', 'trivial']
    """
    recursion = _Recursion(_layers(parametrization, depth, biases))
    unstable = recursion.blown_up()
    for _ in range(steps):
        recursion.step()
        if recursion.blown_up():
            unstable = True
            break  # exponents double from here on and say nothing more
    *start, output = recursion.initial[1:]
    *hidden, moved = [c for c in recursion.change if c is not None]  # all but x^0
    return Classification(
        regime=_regime(unstable, hidden, moved),
        stable_at_init=all(e == 0 for e in start) and output <= 0,
        preactivation=tuple(start),
        output=output,
        feature_change=tuple(hidden),
        relative_change=tuple(c - p for c, p in zip(hidden, start, strict=True)),
        output_change=moved,
        r=-max(hidden),
        gradient=tuple(recursion.updates[0][1][:-1]),
        first_update=recursion.first_update(),
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
