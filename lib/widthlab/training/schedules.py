r"""Learning rates that see the curvature.

All is measured in the optimizer's metric: with $D$ the learning rates, one for each
tensor, curvature is that of $D^{1/2} A D^{1/2}$ for the Hessian or the Gauss-Newton
matrix $A$. A step of gradient descent with rates $sD$ is then stable on the quadratic
model where $s\lambda < 2$. The rules are optax transformations, for any loop that can
hand them products with $A$.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from widthlab.fields import choice, count, number
from widthlab.model import AnyArray
from widthlab.training.curvature import Product, follow_top, rescaled

NAMES = ("constant", "initial", "edge", "cdat")
"""What a `Schedule` may be called."""

PRODUCTS = {"gauss-newton": 4, "hessian": 2}
"""Curvatures by name, and products that cost less than six gradients."""

MOST_PRODUCTS = 4
"""Products of a round of Lanczos, where a step may take more than one round."""

FIRST_ROUNDS = 25
"""Rounds that the first step may take, which starts from noise."""

TOLERANCE = 1e-4
"""Relative error at which an eigenvalue counts as known."""


@attrs.frozen
class Schedule:
    r"""How the learning rates of all tensors are scaled together, step by step.

    With $\lambda_t$ the largest eigenvalue of the curvature in the optimizer's metric
    at rates as given, they are multiplied at step $t$ by

    - "constant": 1;
    - "initial": $c/\lambda_0$, the convention of the catapult's literature;
    - "edge": $c/\lambda_t$, so that the stability number is $c$ at every step;
    - "cdat": $\sigma \max(-g^\top u, 0) / |u^\top A u|$ for the update $u$ as given and
      the gradient $g$ (Roulet et al. 2024); $\sigma = 2$ keeps the quadratic model's
      loss as it is, $\sigma = 1$ minimises it.

    Where no eigenvalue is positive, $c/\lambda$ is infinite and a run has diverged.

    Attributes:
        name: "constant", "initial", "edge" or "cdat".
        target: $c$ or $\sigma$.
        curvature: $A$, "gauss-newton" or "hessian".
        rounds: rounds of Lanczos that a step may take, until $\lambda_t$ seems known to
            a ten-thousandth, here and where a curvature is only tracked. One costs less
            than six gradients; when $\lambda_t$ changes fast, it takes three or four.
    """

    name: str = attrs.field(default="constant", converter=choice(NAMES))
    target: float = attrs.field(default=1.0, converter=number(above=0))
    curvature: str = attrs.field(default="gauss-newton", converter=choice(PRODUCTS))
    rounds: int = attrs.field(default=1, converter=count())

    def __attrs_post_init__(self) -> None:
        """Refuse settings of a schedule that varies for one that does not."""
        is_set = self.target != 1 or self.curvature != "gauss-newton"
        if is_set and not self.varies:
            raise ValueError(
                "a constant schedule has no target and no curvature, given were "
                f"{self.target} and {self.curvature!r}: set the learning rate, or "
                "choose another schedule"
            )

    @property
    def varies(self) -> bool:
        """Whether learning rates are not those given."""
        return self.name != "constant"


class CurvatureState(NamedTuple):
    r"""What `scale_by_curvature` remembers.

    Attributes:
        steps: number of updates so far.
        factor: what the last update was multiplied by.
        eigenvalues: $\lambda_t$ by curvature, of the last step that needed it.
        vectors: unit Ritz vectors, in the optimizer's metric, by curvature.
    """

    steps: Int[Array, ""]
    factor: Float[Array, ""]
    eigenvalues: dict[str, Float[Array, ""]]
    vectors: dict[str, Any]


def scale_by_curvature(
    schedule: Schedule,
    target: Float[AnyArray, ""] | float | None,
    rates: Any,
    track: Sequence[str] = (),
) -> optax.GradientTransformationExtraArgs:
    r"""Scale directions as a schedule says; chained before the learning rates.

    `update` takes `products`, a mapping from the curvature's name to the product with
    it at the present parameters, in their own coordinates, and, where directions are
    not gradients, `grad`.

    Args:
        schedule: the rule.
        target: $c$ or $\sigma$, which may be traced; None for the schedule's own.
        rates: tree of the learning rates that follow, one number for each tensor.
        track: curvatures to measure at every step, whether needed or not.

    Example:
        Rates at the edge of a quadratic whose largest curvature is 4.

        >>> from widthlab.training.curvature import hessian_product
        >>> def loss(w):
        ...     return (w["a"] ** 2 + 4 * w["b"] ** 2) / 2
        >>> w = {"a": jnp.array(3.0), "b": jnp.array(1.0)}
        >>> edge = Schedule("edge", curvature="hessian")
        >>> rates = {"a": 0.1, "b": 0.1}
        >>> rule = optax.chain(scale_by_curvature(edge, None, rates), optax.scale(-0.1))
        >>> state = rule.init(w)
        >>> for _ in range(3):
        ...     products = {"hessian": hessian_product(loss, w)}
        ...     grads = jax.grad(loss)(w)
        ...     updates, state = rule.update(grads, state, w, products=products)
        ...     w = optax.apply_updates(w, updates)
        >>> f"{state[0].factor:.3f}", f"{w['a']:.3f}", f"{w['b']:.3f}"
        ('2.500', '1.266', '0.000')
    """
    followed = followed_curvatures(schedule, track)
    target = schedule.target if target is None else target

    def init(params: Any) -> CurvatureState:
        one = jnp.ones((), jnp.result_type(*jax.tree.leaves(params)))
        return CurvatureState(
            jnp.zeros((), jnp.int32),
            one,
            {name: jnp.zeros_like(one) for name in followed},
            {name: _noise(params) for name in followed},
        )

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        products: Mapping[str, Product] | None = None,
        grad: Any = None,
        **_: Any,
    ) -> tuple[Any, CurvatureState]:
        del params
        products = products or {}
        is_first = state.steps == 0

        def at(first: int, later: int) -> Array:
            return jnp.where(is_first, first, later).astype(jnp.int32)

        values, vectors = {}, {}
        for name, late in followed.items():
            few = PRODUCTS[name] if late == 1 else MOST_PRODUCTS
            before = state.vectors[name]
            values[name], after = follow_top(
                rescaled(_named(products, name), rates),
                before,
                MOST_PRODUCTS,
                (at(FIRST_ROUNDS, min(late, 1)), at(FIRST_ROUNDS, late)),
                TOLERANCE,
                # A number of products that is compiled in costs less.
                None if few == MOST_PRODUCTS else at(MOST_PRODUCTS, few),
            )
            if late == 0:  # what was not measured is not a number, nor an error
                last = state.eigenvalues[name]
                values[name] = jnp.where(is_first, values[name], last)
            good = jnp.isfinite(values[name])
            vectors[name] = optax.tree.where(good, after, before)
        factor: Any = state.factor
        if schedule.name == "cdat":
            product = _named(products, schedule.curvature)
            gradient = updates if grad is None else grad
            factor = target * _cdat(product, rates, updates, gradient)
        elif schedule.name == "edge":
            factor = _edge(target, values[schedule.curvature])
        elif schedule.name == "initial":
            first = _edge(target, values[schedule.curvature])
            factor = jnp.where(is_first, first, factor)
        if schedule.varies:
            updates = jax.tree.map(lambda u: factor * u, updates)
        return updates, CurvatureState(state.steps + 1, factor, values, vectors)

    return optax.GradientTransformationExtraArgs(init, update)


def followed_curvatures(schedule: Schedule, track: Sequence[str]) -> dict[str, int]:
    """Return the curvatures whose top is followed, each with the rounds of a step.

    An "initial" schedule measures at the first step alone: 0 rounds at later ones.
    """
    if unknown := [name for name in track if name not in PRODUCTS]:
        raise ValueError(
            f"no curvature is called {unknown[0]!r}; there are {', '.join(PRODUCTS)}"
        )
    needed = {"initial": 0, "edge": schedule.rounds}
    followed = dict.fromkeys(track, schedule.rounds)
    if schedule.name in needed:
        followed.setdefault(schedule.curvature, needed[schedule.name])
    return followed


def _named(products: Mapping[str, Product], name: str) -> Product:
    if name not in products:
        raise ValueError(
            f"products has {list(products)}; the schedule needs the product with "
            f"{name!r}: curvature.hessian_product or gauss_newton_product"
        )
    return products[name]


def _noise(params: Any) -> Any:
    # The gradient may have no share of the top: with balanced classes and centred
    # targets it is orthogonal to it at the start. Noise has one of everything.
    leaves, form = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    draws = [
        jax.random.normal(k, v.shape, v.dtype)
        for k, v in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(form, draws)


def _edge(target: Any, eigenvalue: Array) -> Array:
    return jnp.where(eigenvalue > 0, target / eigenvalue, jnp.inf)


def _cdat(product: Product, rates: Any, updates: Any, gradient: Any) -> Array:
    step = jax.tree.map(lambda rate, u: -rate * u, rates, updates)
    downhill = -jnp.asarray(optax.tree.vdot(gradient, step))
    curved = jnp.abs(optax.tree.vdot(step, product(step)))
    return jnp.maximum(downhill, 0) / (curved + jnp.finfo(curved.dtype).tiny)
