r"""Solve gradient flows: many at a time, each by the method that one asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from widthlab import perturbation
from widthlab.compilation import compiled
from widthlab.flow.integrators import (
    Adaptive,
    Descent,
    End,
    Observe,
    descend,
    integrate,
    losses,
)
from widthlab.flow.trajectory import Trajectory
from widthlab.training.devices import deal, members_mesh, precision, use_all_cores


def solve(
    flows: Sequence[Any],
    times: Float[np.ndarray, " times"] | Sequence[Any],
    *,
    method: Adaptive | Descent | None = None,
    observe: Observe = losses,
    stop_below: float = 0.0,
    dtype: str = "float64",
) -> list[Trajectory]:
    """Solve flows of one structure in one compiled program, spread over the devices.

    Args:
        flows: the flows; arrays of all have the same shapes.
        times: increasing times from 0 on at which to observe; one row for all flows,
            or one for each.
        method: how to solve; `Adaptive()` by default.
        observe: what to observe, as a function of flow and state that returns arrays by
            name. It is compiled in: pass the same function to share the program.
        stop_below: share of its initial loss at which a solution ends.
        dtype: "float64" or "float32".

    Returns:
        One trajectory for each flow. A solution that fails says so and keeps what it
        reached; the others go on.

    Raises:
        ValueError: flows differ in structure, times do not increase, or the tolerance
            is finer than the precision.
    """
    method = Adaptive() if method is None else method
    _check(method, stop_below, dtype)
    use_all_cores()
    with precision(dtype):
        count = len(flows)
        members = _stack(flows, dtype)
        if number := perturbation.chosen():
            members = perturbation.moved(members, number)
        grid = rows_of_times(times, count, dtype)
        shares = np.full(count, stop_below, dtype)
        steps = np.broadcast_to(np.asarray(getattr(method, "step", 1.0), dtype), count)
        static = method if isinstance(method, Adaptive) else None
        mesh = members_mesh(jax.local_devices(), count)
        spread = NamedSharding(mesh, PartitionSpec("members"))
        taken, places = deal(np.ones(count, bool), mesh.size)
        packed = jax.tree.map(lambda v: v[taken], (members, grid, shares, steps))
        packed = jax.device_put(packed, spread)
        platform = mesh.devices.flat[0].platform
        # An adaptive integration compiles for longer than most of them run; the many
        # steps of a descent are slower by a quarter in quickly compiled code.
        brief = static is not None
        program = compiled(_solve_all, platform, static=(0, 1, 2), brief=brief)
        ends = jax.tree.map(np.asarray, program(static, observe, mesh, packed))
        ends = ends._replace(observed=_where_reached(ends.is_reached, ends.observed))
        return [_trajectory(ends, index) for index in places.tolist()]


def _where_reached(reached: np.ndarray, observed: Any) -> Any:
    """Put NaN where a flow did not come; on the host, or JAX_DEBUG_NANS would stop."""

    def mask(values: np.ndarray) -> np.ndarray:
        there = reached.reshape(*reached.shape, *(1,) * (values.ndim - reached.ndim))
        return np.where(there, values, np.nan)

    return jax.tree.map(mask, observed)


def _check(method: Adaptive | Descent, stop_below: float, dtype: str) -> None:
    if not 0 <= stop_below < 1:
        raise ValueError(
            f"stop_below is {stop_below}; it is a share of the initial loss, from 0 to "
            "below 1"
        )
    if dtype == "float32" and isinstance(method, Adaptive) and method.rtol < 1e-6:
        raise ValueError(
            f"rtol is {method.rtol}, which float32 cannot resolve; use Adaptive(rtol="
            "1e-5, atol=1e-7) or dtype='float64'"
        )


def _stack(flows: Sequence[Any], dtype: str) -> Any:
    if not flows:
        raise ValueError("there are no flows to solve")

    def join(*leaves: Any) -> np.ndarray:
        joint = np.stack([np.asarray(leaf) for leaf in leaves])
        floats = np.issubdtype(joint.dtype, np.floating)
        return joint.astype(dtype) if floats else joint

    try:
        return jax.tree.map(join, *flows)
    except ValueError as error:
        raise ValueError(
            f"flows that are solved together have one structure and shape: {error}; "
            "solve groups of equal shapes"
        ) from error


def rows_of_times(times: Any, count: int, dtype: str) -> np.ndarray:
    """Return a row of times for each flow, and refuse what is not increasing."""
    with np.errstate(over="ignore"):  # what float32 has no number for is refused below
        grid = np.asarray(times, dtype)
    grid = np.broadcast_to(grid, (count, grid.shape[-1])) if grid.ndim == 1 else grid
    if grid.shape[0] != count or grid.ndim != 2:
        raise ValueError(
            f"times have shape {np.shape(times)} for {count} flows; give one row of "
            "times for all, or one for each"
        )
    if np.isinf(grid).any():
        raise ValueError(
            f"times end at {grid.max():g} in {dtype}; a flow is solved up to a finite "
            "time: give one, and stop_below to end at a loss"
        )
    if (grid[:, 0] < 0).any() or not (np.diff(grid, axis=1) > 0).all():
        raise ValueError("times must increase, from 0 or later")
    return grid


def _solve_all(
    method: Adaptive | None, observe: Observe, mesh: Mesh, packed: Any
) -> End:
    def one(member: Any) -> End:
        flow, times, share, step = member
        if method is None:
            return descend(flow, times, share, step, observe)
        return integrate(flow, times, share, method, observe)

    # One after another on each device: steps of different flows do not wait for
    # one another, and a product of two matrices keeps a core busy.
    spread = PartitionSpec("members")
    return jax.shard_map(
        lambda members: jax.lax.map(one, members),
        mesh=mesh,
        in_specs=spread,
        out_specs=spread,
        check_vma=False,
    )(packed)


def _trajectory(ends: End, index: int) -> Trajectory:
    end = jax.tree.map(lambda leaf: leaf[index], ends)
    early = bool(end.reached < end.times[-1])
    status = "failed" if end.failed else "stopped" if early else "finished"
    return Trajectory(
        times=end.times,
        observed=dict(end.observed),
        final=end.final,
        last=dict(end.last),
        reached=float(end.reached),
        status=status,
        steps=int(end.steps),
        _interpolation=end.interpolation,
    )
