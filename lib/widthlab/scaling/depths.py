r"""Residual branches that grow in number: their multiplier, absorbed where they end.

Each of $L$ branches adds $m F_l(h)$ to the residual stream $h$, with a multiplier
$m = s^{-\alpha}$, where $s$ is the depth over that at which the model is the user's own
and $1/2 \le \alpha \le 1$. At the start the branches are independent, so that their sum
of $L$ terms is of order $L^{1/2} m$ and stays bounded from $\alpha = 1/2$ on. Training
moves all branches the same way: their changes add up to $L\,m$ times that of one, which
is of order one if each moves by order $1 / (L m) = L^{\alpha - 1}$. Hence, for every
parameter inside a branch,

| update | learning rate | where from |
|---|---|---|
| as large as its sign (Adam, Lion) | $s^{\alpha - 1}$ | Dey et al. 2025, Table 1 |
| as large as the gradient (SGD, momentum) | $s^{2 \alpha - 1}$ | derived: it has $m$ |
| orthogonal (Muon), or relative (Adafactor) | $s^{\alpha - 1}$ | derived, as Adam's |

With $\alpha = 1/2$ that is Depth-μP (Yang et al. 2023, Tensor Programs VI), with
$\alpha = 1$ CompleteP (Dey et al. 2025), whose authors' own code multiplies the rates
of matrices, biases and norms inside blocks alike, and nothing outside them; so does
this.

The parameters that end a branch absorb $m$: its output is linear in them, so that
with initial values times $m$, and rates times $m^2$ (SGD) or $m$ (Adam), the same
network trains by the same steps. Both then have the rate $s^{-1}$ at any $\alpha$. So
does Adafactor's for what starts at zero, whose updates have a floor and no size to
follow; others of its updates follow the size that was absorbed.

Weight decay by a share of each step (`Scaled.optimizer(..., decay=)`) is the same for
$m \theta$ as for $\theta$, and at any depth. Dey et al. keep AdamW's coefficient, so
that their share, rate times coefficient, has the factor $s^{\alpha - 1}$: one at
$\alpha = 1$. Coefficients inside the optimizer are multiplied with the rate, and of
what absorbed $m$ with one power of $m$ too many under Adam, and two under SGD.

Adam's ε has to follow gradients. Those of parameters inside a branch are proportional
to $m$, so that there $\varepsilon \propto s^{-\alpha}$ (Dey et al. 2025, Equation 40);
those of what absorbed $m$ are not, and need no factor (derived). Nothing here scales ε.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import attrs
import numpy as np

from widthlab.fields import count, number, several, text
from widthlab.scaling.blocks import Blocks, BuildDeep, blocks_of, of_depth
from widthlab.scaling.draws import Draws, split_keys
from widthlab.scaling.ends import pattern_of
from widthlab.scaling.errors import ScalingError
from widthlab.scaling.laws import SEEDS, law_of, log_sizes
from widthlab.scaling.rules import UpdateRule
from widthlab.scaling.survey import Build, Path, Width


@attrs.frozen
class Depth:
    """How many blocks a model has, and how their branches scale.

    Attributes:
        now: number of blocks.
        base: number of blocks at which the model is the user's own, and was tuned.
        ends: the layers whose output is what a branch adds to the residual stream: a
            path, with `*` for its number in a list, such as "blocks.*.down".
        exponent: of the multiplier, from 1/2 (Depth-μP) to 1 (CompleteP).

    Example:
        >>> Depth(now=16, base=4, ends=("blocks.*.down",)).multiplier
        0.25
    """

    _refusal: ClassVar = ScalingError

    now: int = attrs.field(converter=count())
    base: int = attrs.field(converter=count())
    ends: tuple[str, ...] = attrs.field(converter=several(text(), least=1, once=True))
    exponent: float = attrs.field(default=1.0, converter=number(least=0.5))

    def __attrs_post_init__(self) -> None:
        """Refuse an exponent under which depth would end learning."""
        if self.exponent > 1:
            raise ScalingError(
                f"exponent is {self.exponent:g}; it must be from 1/2 (Depth-μP) to 1 "
                "(CompleteP)"
            )

    @property
    def ratio(self) -> float:
        """By how much the model is deeper than at the base."""
        return self.now / self.base

    @property
    def multiplier(self) -> float:
        """What each branch is multiplied by."""
        return self.ratio**-self.exponent

    def rate(self, rule: UpdateRule, *, end: bool, zero: bool = False) -> float:
        """Return the factor on the learning rate of a parameter inside a branch.

        Args:
            rule: what an update is like.
            end: whether the parameter absorbs the multiplier.
            zero: whether it starts at zero, so that a relative update has a floor in
                place of its size to follow.
        """
        gradient = rule.update == "gradient"
        rate = self.ratio ** ((2 if gradient else 1) * self.exponent - 1)
        if not end or (rule.update == "relative" and not zero):
            return rate  # a relative update follows the size that was absorbed
        return self.ratio**-1.0


class DepthFactors(NamedTuple):
    """Factors on initial values and on learning rates by path; others have none."""

    init: Mapping[Path, float]
    lr: Mapping[Path, float]


_SURELY = 6.0  # standard errors from which on two sizes are not equal
# From which logarithm of a ratio of sizes on blocks are not alike, and from how many
# standard errors: more, since of many blocks one has to be odd by chance in none.
_ODD, _ODDLY = 0.05, 8.0

Logs = dict[Path, np.ndarray]
"""Logarithms of the sizes at which parameters start, by seed."""


def depth_factors(
    deep: Deepened, depth: Depth, rule: UpdateRule, base: Logs
) -> DepthFactors:
    """Return what depth does to each parameter.

    Initialisers that know the depth (as those of GPT-2 do, whose branches end with
    matrices that start smaller by the root of their number) were measured in the first
    block, and are undone. Blocks that start differently from one another have no one
    law of depth, and are refused.

    Args:
        deep: what was found at this depth.
        depth: the depths and the rule.
        rule: what an update is like.
        base: how large parameters start at the base depth.

    Raises:
        ScalingError: the blocks of a list start differently.
    """
    if depth.now == depth.base:
        return DepthFactors({}, {})
    for at, starts in ((depth.base, base), (depth.now, deep.starts)):
        _start_alike(starts, at, deep.blocks)
    blocks, init = deep.blocks, dict[Path, float]()
    for path, first in blocks.first.items():
        own = _ratio(base[first], deep.starts[first], depth.ratio)
        init[path] = (depth.multiplier if path in blocks.ends else 1.0) / own
    rates = {}
    for path in blocks.inside:
        zero = bool(np.isneginf(base[blocks.first[path]]).any())
        rates[path] = depth.rate(rule, end=path in blocks.ends, zero=zero)
    return DepthFactors(init, rates)


class Deepened(NamedTuple):
    """What was found of a model at a depth, whatever the optimizer.

    Attributes:
        blocks: which parameters are inside blocks.
        starts: how large parameters start, of blocks those of the first and the last.
    """

    blocks: Blocks
    starts: Logs


def deepened(
    build: Build | BuildDeep, width: Width, depth: Depth, draws: Draws | None = None
) -> Deepened:
    """Look at a model's depth, at its base width.

    Args:
        build: makes the model.
        width: the base width.
        depth: the depths and the rule.
        draws: what draws models of this depth, where they are used elsewhere.

    Raises:
        ScalingError: nothing grows with depth, or not proportionally, or `ends` name
            no layer inside a block.
    """
    blocks = blocks_of(build, width, depth.now, depth.base, depth.ends)
    if depth.now == depth.base:
        return Deepened(blocks, {})
    if draws is not None:
        return Deepened(blocks, draws(width).log_sizes(split_keys(SEEDS)))
    last = {first: path for path, first in blocks.first.items()}
    chosen = [*dict.fromkeys([*last, *last.values()])]
    return Deepened(blocks, log_sizes(of_depth(build, depth.now), width, paths=chosen))


def _start_alike(starts: Logs, at: int, blocks: Blocks) -> None:
    """Refuse blocks of one shape of which one starts larger than another."""
    begins: dict[Any, Path] = {}
    for path, logs in starts.items():
        alike = pattern_of(path, blocks.lists), blocks.shapes[path]
        first = begins.setdefault(alike, path)
        zero = [bool(np.isneginf(starts[p]).any()) for p in (first, path)]
        if zero[0] != zero[1] or (
            not zero[0] and _apart(starts[first], logs, _ODDLY) > _ODD
        ):
            one, two = (".".join(map(str, p)) for p in (first, path))
            raise ScalingError(
                f"at depth {at} {two!r} starts at another size than {one!r}: blocks of "
                "a list must all start alike, for one law of depth; let initialisers "
                "not depend on a block's number"
            )


def _apart(one: np.ndarray, other: np.ndarray, errors: float = _SURELY) -> float:
    """By what logarithm two sizes differ, if it is surely no chance; else 0."""
    gap = abs(float(np.mean(other) - np.mean(one)))
    error = math.sqrt(sum(np.var(x, ddof=1) / len(x) for x in (one, other)))
    return gap if gap > errors * error else 0.0


def _ratio(base: np.ndarray, deep: np.ndarray, by: float) -> float:
    """By how much an initialiser starts larger at the greater depth, by itself."""
    if np.isneginf(base).any() or np.isneginf(deep).any():
        return 1.0  # it starts at zero
    exponent = law_of(base, deep, by)
    if exponent is not None:
        return by ** -float(exponent)
    # Small arrays have other sizes by chance, and their initialisers know no depth.
    gap = float(np.mean(deep) - np.mean(base))
    return math.exp(gap) if _apart(base, deep) else 1.0
