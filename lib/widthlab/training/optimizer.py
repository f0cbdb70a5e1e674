r"""Update rules, and the learning rates that a parametrization gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import optax

from widthlab.fields import choice, number

NAMES = ("sgd", "momentum", "adam", "adamw")
"""What an `Optimizer` may be called."""

_DECAY = number(least=0, below=1)


@attrs.frozen
class Optimizer:
    r"""An update rule, without its learning rates: those belong to the layers.

    With the gradient $g_t$ a layer moves by $-\eta u_t$, where $u_t$ is

    - "sgd": $g_t$;
    - "momentum": $v_t = \mu v_{t-1} + g_t$;
    - "adam": $\hat m_t / (\sqrt{\hat s_t} + \varepsilon)$, from the moving averages $m$
      of $g$ and $s$ of $g^2$ with their initial bias taken out;
    - "adamw": the same and $\omega w_t$.

    Attributes:
        name: "sgd", "momentum", "adam" or "adamw".
        momentum: $\mu$, decay of the velocity ("momentum").
        b1: $\beta_1$, decay of Adam's first moment.
        b2: $\beta_2$, decay of Adam's second moment.
        eps: $\varepsilon$, added to Adam's denominator.
        weight_decay: $\omega$, decoupled and times the layer's learning rate ("adamw").
    """

    name: str = attrs.field(default="sgd", converter=choice(NAMES))
    momentum: float = attrs.field(default=0.9, converter=_DECAY)
    b1: float = attrs.field(default=0.9, converter=_DECAY)
    b2: float = attrs.field(default=0.999, converter=_DECAY)
    eps: float = attrs.field(default=1e-8, converter=number(least=0))
    weight_decay: float = attrs.field(default=0.0, converter=number(least=0))

    @property
    def normalises(self) -> bool:
        """Whether an update does not see the size of the gradient (Adam's family)."""
        return self.name in ("adam", "adamw")

    def transform(
        self,
        lr: Any,
        first_lr: Any,
        retained: Any,
        before: Sequence[optax.GradientTransformation] = (),
        after: Sequence[optax.GradientTransformation] = (),
    ) -> optax.GradientTransformationExtraArgs:
        """Return the optax rule, given trees of one number for each parameter.

        More rules may come before the learning rates and after them.
        """
        rules = {
            "sgd": [],
            "momentum": [optax.trace(self.momentum)],
            "adam": [optax.scale_by_adam(self.b1, self.b2, self.eps)],
            "adamw": [
                optax.scale_by_adam(self.b1, self.b2, self.eps),
                optax.add_decayed_weights(self.weight_decay),
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
