r"""The coordinate check over depth: do signals and their changes scale as predicted?"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import optax

from widthlab.scaling.blocks import BuildDeep, of_depth
from widthlab.scaling.cases import Roles
from widthlab.scaling.check import MARGIN, CoordinateCheck, joined, judged, seen, silent
from widthlab.scaling.depths import Depth, deepened
from widthlab.scaling.draws import draws_of
from widthlab.scaling.errors import ScalingError, options_of
from widthlab.scaling.judge import Rules
from widthlab.scaling.laws import measure
from widthlab.scaling.measured import Setting, measured
from widthlab.scaling.observed import ModelLoss
from widthlab.scaling.places import expected_of, places_of, renamed
from widthlab.scaling.plans import plan
from widthlab.scaling.signals import signals_of, traced
from widthlab.scaling.survey import Width


def depth_check(
    build: BuildDeep,
    *,
    ends: Sequence[str],
    exponent: float = 1.0,
    depths: Sequence[int],
    width: Width,
    batch: Any,
    loss: ModelLoss,
    base_depth: int = 1,
    optimizer: str = "adam",
    tx: optax.GradientTransformation | None = None,
    steps: int = 4,
    seeds: int | Sequence[int] = 4,
    roles: Roles | None = None,
    tied: bool | None = None,
    control: bool = True,
    undecided: Sequence[str] = ("scores",),
    margin: float = MARGIN,
    together: int = 8,
) -> CoordinateCheck:
    r"""Train a model at several depths for a few steps, and judge what blocks put out.

    With $\alpha$ the exponent of the multiplier, these are the exponents of depth:

    | of | start | change | what its own parameters change |
    |---|---|---|---|
    | the residual stream, all outside blocks | 0 | 0 | 0 |
    | modules inside a branch | 0 | 0 | $\alpha - 1$ |
    | what is added to the stream | $-\alpha$ | from $-1$ to $-\alpha$ | $-1$ |

    What is added changes through its own branch's parameters, by order $L^{-1}$, and
    through what reaches it, by order $L^{-\alpha}$: for $\alpha < 1$ the former may be
    the larger part at any depth that is affordable, and $-\alpha$ is judged as a bound.
    The third column tells the two rules apart: under $\alpha = 1/2$ a layer inside a
    branch moves by ever less of its own, while what reaches it moves; under
    $\alpha = 1$ it learns at any depth (Dey et al. 2025, who call the former lazy).

    A list of blocks is looked at in two places, since a signal depends on how far
    through the network it is: modules inside half way, between two blocks if it has to
    be, and what the last one returns. For $\alpha > 1/2$ the random sum of all branches
    at the start is of order $L^{1/2 - \alpha}$ and so vanishes; the stream's start is
    then judged as bounded.

    What a branch adds is told by the output of the layer that ends it.

    Args:
        build: makes the model, `build(width, depth, rngs)`, its blocks in lists.
        ends: as for `widthlab.scaling.Depth`.
        exponent: as for `widthlab.scaling.Depth`.
        depths: at least three.
        width: of all models.
        batch: what the loss takes, the same at each step.
        loss: `loss(model, batch)`.
        base_depth: where the model is the user's own. What was random at the start is
            a part of order $L_0 / L^{1/2}$ for a base depth $L_0$ and $\alpha = 1$,
            beside what enters the stream in front of the blocks: depths at which that
            is not small are not on the law yet, and a sound model may be accused.
        optimizer: name of the update rule.
        tx: the optimizer itself, with its rate; by default Adam with 0.003.
        steps: of training, at least two.
        seeds: how many models of each depth, or their seeds.
        roles: as for `widthlab.scaling.parametrize`.
        tied: likewise.
        control: whether to train models without any rule for depth, which must fail.
        undecided: outputs in whose name one of these words is are not judged.
        margin: tolerance of a slope.
        together: seeds that are trained at a time, as far as memory goes.

    Raises:
        ScalingError: the model cannot be scaled, has no blocks in lists, or draws
            random numbers when it runs.
    """
    if isinstance(width, Mapping):
        raise ScalingError(
            f"width is {width!r}; models that are checked over depth have one width, a "
            "number: set others inside build"
        )
    ascending, numbers = options_of(
        "depth", depths, steps=steps, seeds=seeds, together=together, margin=margin,
        undecided=undecided,
    )  # fmt: skip
    rule = Depth(ascending[0], base_depth, ends, exponent)  # type: ignore[arg-type]
    signals = signals_of(of_depth(build, ascending[0]), batch, loss, (width, 2 * width))
    setting = Setting(
        batch, loss, optax.adam(3e-3) if tx is None else tx, steps, numbers,
        together, silent(seen(signals)),
    )  # fmt: skip
    arms = (f"α = {exponent:g}", *(["no rule"] if control else []))
    draws = functools.cache(lambda now: draws_of(of_depth(build, now)))
    at_base = of_depth(build, base_depth)
    sizes, frames, expected = measure(at_base, width, draws=draws(base_depth)), [], ()
    for now in ascending:
        depth = attrs.evolve(rule, now=now)
        deep = deepened(build, width, depth, draws(now))
        made = plan(
            build, "mup", width=width, base_width=width, optimizer=optimizer,
            depth=depth, sizes=sizes, deep=deep, roles=roles, tied=tied,
        )  # fmt: skip
        found = traced(of_depth(build, now), batch, loss, width)
        places = places_of(found, depth.ends, deep.blocks)
        plans = [made, *([made.plain()] if control else [])]
        layers = [name for name, place in places.items() if place.layer]
        frame = measured(setting, draws(now)(width), arms, plans, layers)
        frames.append(renamed(frame, places).assign(depth=now))
        expected = expected_of(places, exponent, undecided)
    label = f"μP, α = {exponent:g}, {optimizer}, depths "
    label += f"{', '.join(map(str, ascending))} over {base_depth}"
    label += f", {len(numbers)} seeds, {steps} steps"
    return judged(joined(frames), Rules(arms, expected, margin, "depth"), label)
