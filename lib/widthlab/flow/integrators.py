r"""Two ways to solve one flow: error-controlled integration, and gradient descent.

A flow is a velocity field $\dot y = v(y)$ with a loss. `Adaptive` integrates it as an
ordinary differential equation (diffrax, Dormand and Prince's 8(7) pair); `Descent`
takes Euler steps, which for a gradient flow are gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import attrs
import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from widthlab.fields import count, either, number, several, truth


@runtime_checkable
class Flow(Protocol):
    r"""A gradient flow $\dot y = v(y)$ along which a loss never increases.

    It is a pytree: flows of one structure are solved together. So is its state:
    particles, pre-activations, or the variables of a reduction.
    """

    def initial(self) -> Any:
        """Return the state at time 0."""
        ...

    def velocity(self, state: Any) -> Any:
        """Return the time derivative $v(y)$ of the state."""
        ...

    def loss(self, state: Any) -> Float[Array, ""]:
        """Return the loss, which no flow increases."""
        ...


_STEP = number(above=0)

Observe = Callable[[Any, Any], Mapping[str, Array]]
"""From a flow and a state to what is recorded of it, by name."""


def losses(flow: Any, state: Any) -> dict[str, Array]:
    """Observe the loss and nothing else."""
    return {"loss": flow.loss(state)}


@attrs.frozen
class Adaptive:
    r"""Integrate with error control.

    Between steps, observations are interpolated: their relative errors are some ten to
    a thousand times `rtol`.

    A step below $\epsilon^{3/4}$ of the end time is a failure, which the trajectory
    records, with what it reached; at the first step that is nothing, not even time 0.
    In float32 that is $6 \cdot 10^{-6}$ of it, so that a flow can be followed for about
    $10^5$ of its fastest times, and no longer: take float64, or `Descent`.

    On CPU it is compiled quickly: about a second less, and steps take 1.2 to 1.9 times
    as long. For integrations of many seconds the environment variable
    `XLA_FLAGS=--xla_cpu_use_fusion_emitters=true` asks for the faster code; it is part
    of the keys of runs.

    Attributes:
        rtol: relative error that a step may make.
        atol: absolute error that a step may make.
        max_steps: steps after which the integration has failed.
        dense: keep the whole solution, which `Trajectory.at` then interpolates. It
            takes `max_steps` times the memory of seven states: for small systems.
    """

    rtol: float = attrs.field(default=1e-10, converter=number(above=0))
    atol: float = attrs.field(default=1e-12, converter=number(least=0))
    max_steps: int = attrs.field(default=100_000, converter=count())
    dense: bool = attrs.field(default=False, converter=truth())


@attrs.frozen
class Descent:
    r"""Take steps $y \leftarrow y + \eta\,v(y)$: gradient descent in the flow's time.

    Attributes:
        step: size $\eta$; one for all flows, or one for each. Times are rounded to
            whole steps.
    """

    step: float | Sequence[float] = attrs.field(
        converter=either(_STEP, several(_STEP, least=1))
    )


class End(NamedTuple):
    """What the compiled program returns for each flow, on top of observations."""

    times: Any
    observed: Any
    last: Any
    final: Any
    reached: Any
    failed: Any
    steps: Any
    interpolation: Any
    is_reached: Any


def integrate(
    flow: Any, times: Array, share: Array, method: Adaptive, observe: Observe
) -> End:
    """Integrate one flow with diffrax; a failure is in the result, not raised."""

    def below(t: Any, y: Any, args: Any, **_: Any) -> Array:
        del t, args
        return ~(flow.loss(y) >= stop)  # also where it is not a number

    start = flow.initial()
    stop = share * flow.loss(start)
    observations = diffrax.SubSaveAt(ts=times, fn=lambda t, y, args: observe(flow, y))
    last = diffrax.SubSaveAt(t1=True)
    # A step that underflows is a failure, not a reason to go on without control.
    control = diffrax.PIDController(
        rtol=method.rtol, atol=method.atol, dtmin=_smallest(times), force_dtmin=False
    )
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: flow.velocity(y)),
        diffrax.Dopri8(),
        jnp.zeros_like(times[0]),
        times[-1],
        None,
        start,
        stepsize_controller=control,
        saveat=diffrax.SaveAt(subs=(observations, last), dense=method.dense),
        event=diffrax.Event(below),
        max_steps=method.max_steps,
        throw=False,
        adjoint=diffrax.ForwardMode(),
    )
    assert solution.ts is not None and solution.ys is not None
    (_, reached), (observed, final) = solution.ts, solution.ys
    good = diffrax.is_okay(solution.result) | diffrax.is_event(solution.result)
    final = jax.tree.map(lambda leaf: leaf[0], final)
    is_reached = jnp.isfinite(solution.ts[0])  # what was not reached is infinite there
    return End(
        times,
        observed,
        observe(flow, final),
        final,
        reached[0],
        ~good | ~_finite(flow.loss(final), final),
        solution.stats["num_steps"],
        solution.interpolation if method.dense else None,
        is_reached,
    )


def _smallest(times: Array) -> Array:
    # Far above rounding: a solution that runs into a singularity ends soon.
    return times[-1] * jnp.finfo(times.dtype).eps ** 0.75


def _finite(loss: Array, state: Any) -> Bool[Array, ""]:
    # A sum is not finite as soon as a term is not.
    sums = [jnp.sum(leaf) for leaf in jax.tree.leaves(state)]
    return jnp.isfinite(loss) & jnp.all(jnp.isfinite(jnp.stack(sums)))


def descend(
    flow: Any, times: Array, share: Array, step: Array, observe: Observe
) -> End:
    """Take Euler steps until the loss is low enough, not finite, or time is over."""
    whole = jnp.round(times / step).astype(jnp.int32)
    start = flow.initial()
    stop = share * flow.loss(start)

    def go_on(carry: Any) -> Array:
        _, count, running, _, end = carry
        return running & (count < end)

    def advance(carry: Any) -> Any:
        state, count, _, _, end = carry
        # Loss and velocity of one state share their forward pass.
        loss, velocity = flow.loss(state), flow.velocity(state)
        moved = jax.tree.map(lambda y, v: y + step * v, state, velocity)
        finite = _finite(loss, moved)
        keep = finite & (loss >= stop)
        state = jax.tree.map(lambda y, old: jnp.where(keep, y, old), moved, state)
        return state, count + keep.astype(jnp.int32), keep, ~finite, end

    def segment(carry: Any, end: Array) -> Any:
        *carry, _ = jax.lax.while_loop(go_on, advance, (*carry, end))
        return tuple(carry), (carry[1] == end, observe(flow, carry[0]))

    begin = (start, jnp.int32(0), jnp.bool_(True), jnp.bool_(False))
    (final, count, _, failed), (is_reached, observed) = jax.lax.scan(
        segment, begin, whole
    )
    return End(
        whole.astype(times.dtype) * step,
        observed,
        observe(flow, final),
        final,
        count.astype(times.dtype) * step,
        failed | ~_finite(flow.loss(final), final),
        count,
        None,
        is_reached,
    )
