r"""Update rules, and the learning rates that a parametrization gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import optax

from widthlab.fields import choice, number

NAMES = ("sgd", "momentum", "adam", "adamw")
"""What an `Optimizer` may be called."""

DECAYS = ("base", "layer")
"""Learning rates by which decay may be multiplied."""

_DECAY = number(least=0, below=1)


@attrs.frozen
class Optimizer:
    r"""An update rule, without its learning rates: those belong to the layers.

    With the gradient $g_t$ a layer moves by $-\eta u_t$, where $u_t$ is

    - "sgd": $g_t$;
    - "momentum": $v_t = \mu v_{t-1} + g_t$;
    - "adam": $\hat m_t / (\sqrt{\hat s_t} + \varepsilon)$, from the moving averages $m$
      of $g$ and $s$ of $g^2$ with their initial bias taken out;
    - "adamw": the same, and weights lose the share $\eta_0 \omega$ of themselves.

    With decay "base" $\eta_0$ is the base learning rate of the run: the share depends
    on no width, nor on the table. With "layer" it is the layer's learning rate, as in
    optax: under μP hidden weights then lose a share that shrinks with the width. At the
    base width both are the same, but for a first step with learning rates of its own.

    $\varepsilon$ is not scaled with the width, while gradients are: it has to stay
    far below them, and an experiment warns where it does not (`EpsilonWarning`).

    Attributes:
        name: "sgd", "momentum", "adam" or "adamw".
        momentum: $\mu$, decay of the velocity ("momentum").
        b1: $\beta_1$, decay of Adam's first moment.
        b2: $\beta_2$, decay of Adam's second moment.
        eps: $\varepsilon$, added to Adam's denominator.
        weight_decay: $\omega$, decoupled and times a learning rate ("adamw").
        decay: which learning rate that is: "base" or "layer".
    """

    name: str = attrs.field(default="sgd", converter=choice(NAMES))
    momentum: float = attrs.field(default=0.9, converter=_DECAY)
    b1: float = attrs.field(default=0.9, converter=_DECAY)
    b2: float = attrs.field(default=0.999, converter=_DECAY)
    eps: float = attrs.field(default=1e-8, converter=number(least=0))
    weight_decay: float = attrs.field(default=0.0, converter=number(least=0))
    decay: str = attrs.field(default="base", converter=choice(DECAYS))

    def __attrs_post_init__(self) -> None:
        """Refuse a decay that would not be taken."""
        if self.weight_decay and self.name != "adamw":
            raise ValueError(
                f"{self.name!r} has no weight decay, but weight_decay is "
                f"{self.weight_decay:g}; leave it at 0, or take 'adamw'"
            )

    @property
    def normalises(self) -> bool:
        """Whether an update does not see the size of the gradient (Adam's family)."""
        return self.name in ("adam", "adamw")

    @property
    def decays_by_base(self) -> bool:
        """Whether a step needs the base learning rate."""
        return self.name == "adamw" and self.decay == "base" and self.weight_decay > 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields, as experiments without decay always wrote them."""
        out = attrs.asdict(self)
        if self.decay == self._unsaid(self.weight_decay):
            del out["decay"]
        return out

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Optimizer:
        """Read what `to_json` wrote, in this or an earlier version."""
        unsaid = cls._unsaid(fields.get("weight_decay", 0.0))
        said: dict[str, Any] = {"decay": unsaid, **fields}
        return cls(**said)

    @staticmethod
    def _unsaid(weight_decay: float) -> str:
        """Return the decay where none is written: "layer" before there was a choice."""
        return "layer" if weight_decay else "base"

    def transform(
        self,
        lr: Any,
        first_lr: Any,
        retained: Any,
        before: Sequence[optax.GradientTransformation] = (),
        after: Sequence[optax.GradientTransformation] = (),
        base_lr: Any = None,
    ) -> optax.GradientTransformationExtraArgs:
        """Return the optax rule, given trees of one number for each parameter.

        More rules may come before the learning rates and after them. The base learning
        rate is one number, which `decays_by_base` asks for.
        """
        if self.decays_by_base:
            if base_lr is None:
                raise ValueError(
                    f"{self} multiplies decay by the base learning rate, which is not "
                    'given; give base_lr, or decay="layer"'
                )
            after = [optax.add_decayed_weights(-base_lr * self.weight_decay), *after]
        of_layer = 0.0 if self.decays_by_base else self.weight_decay
        rules = {
            "sgd": [],
            "momentum": [optax.trace(self.momentum)],
            "adam": [optax.scale_by_adam(self.b1, self.b2, self.eps)],
            "adamw": [
                optax.scale_by_adam(self.b1, self.b2, self.eps),
                optax.add_decayed_weights(of_layer),
            ],
        }
        rates = scale_by_width(lr, first_lr, retained)
        return optax.chain(*rules[self.name], *before, rates, *after)


def scale_by_width(
    lr: Any, first_lr: Any, retained: Any
) -> optax.GradientTransformation:
    r"""Turn directions into the updates of a parametrization.

    $$\Delta w = -\eta_t u - [t = 0]\,(1 - k)\,w_0$$

    Chained last, after any rule that decides a direction $u$. Integrable
    parametrizations have a learning rate of their own at the first step, and HP and HPZ
    keep only a share $k$ of the initial weights after it (Hajjar, Chizat and Giraud
    2024, Section 4.3).

    Args:
        lr: tree of learning rates, one for each parameter.
        first_lr: those of the first step.
        retained: tree of shares $k$; 1 for all other parametrizations.
    """

    def init(params: Any) -> Any:
        del params
        return jnp.zeros((), jnp.int32)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        is_first = state == 0

        def scaled(u: Any, w: Any, late: Any, first: Any, kept: Any) -> Any:
            rate = jnp.where(is_first, first, late)
            lost = jnp.where(is_first, 1 - kept, jnp.zeros_like(kept))
            return -rate * u - lost * w

        trees = (updates, params, lr, first_lr, retained)
        return jax.tree.map(scaled, *trees), state + 1

    return optax.GradientTransformation(init, update)
