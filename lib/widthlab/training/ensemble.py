r"""Train an ensemble of MLPs of one shape in one compiled program.

Seeds, learning rates and parametrizations of the members are traced numbers, so a shape
is compiled once whatever the grid. Members are spread over the devices of a mesh; on
each device they either run one after another inside the program or are batched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from widthlab import perturbation
from widthlab.compilation import compiled, compiling_once
from widthlab.model import Shape
from widthlab.training import member
from widthlab.training.devices import (
    DeviceMemoryError,
    deal,
    members_mesh,
    members_per_batch,
    memory_limit,
    precision,
)
from widthlab.training.losses import LOSSES
from widthlab.training.path import NO_RATIO
from widthlab.training.state import (
    Begun,
    Data,
    Members,
    Plan,
    Probe,
    State,
    Trained,
)

_TRACES: dict[str, int] = {}


def trace_counts() -> dict[str, int]:
    """Return how often each compiled program was traced in this process."""
    return dict(_TRACES)


def train(
    plan: Plan,
    members: Members,
    data: Data,
    checkpoints: Sequence[int],
    probes: Sequence[Probe] = (),
    devices: Sequence[Any] | None = None,
    on_checkpoint: Callable[[int], None] | None = None,
) -> Trained:
    """Train an ensemble and measure it at checkpoints.

    Args:
        plan: what is compiled in.
        members: seeds, scales and thresholds, stacked.
        data: arrays shared by all members.
        checkpoints: increasing steps at which probes are taken; 0 is initialisation.
        probes: what to measure.
        devices: devices to spread the members over; all local ones by default.
        on_checkpoint: called with the step when a checkpoint is done.

    Returns:
        What is left, on the host. A member whose loss or gradient is not finite keeps
        its last finite weights from that step on; the others go on.
    """
    with precision(plan.dtype):
        mesh = members_mesh(devices or jax.local_devices(), members.real.shape[0])
        real = np.asarray(members.real)
        dealt, back = deal(real, mesh.size)
        # A copy, since training takes the memory of what it is given.
        members = _place(_laid(members, dealt), mesh, may_alias=False)
        data = jax.device_put(
            _cast(data, plan.dtype), NamedSharding(mesh, PartitionSpec())
        )
        before = sum(_TRACES.values())
        program = _Program(plan, mesh)
        look = _Look(plan.shape, plan.loss, tuple(probes), mesh)
        _check_memory(program, members, data)
        state = program.start(members)
        # Out of the program, which is the same with and without.
        if number := perturbation.chosen():
            weights = perturbation.moved(state.parameters, number)
            state = state._replace(parameters=weights)
        initial = jax.tree.map(_copy, state.parameters)
        observations = []
        for stop in checkpoints:
            state = program.advance(state, data, jnp.int32(stop))
            observed = look.observe(state, initial, data)
            observations.append(jax.tree.map(lambda v: np.asarray(v)[back], observed))
            if on_checkpoint is not None:
                on_checkpoint(stop)
        left = (state.losses, state.diverged_at, state.step, state.tracked)
        (losses, diverged_at, step, tracked), running = jax.tree.map(
            lambda v: np.asarray(v)[back], (left, state.running)
        )
        ended = real & ~running
        stopped = (step < checkpoints[-1]) & (diverged_at < 0)
        return Trained(
            _where_taken(losses, step + ended),  # the last batch was looked at
            diverged_at,
            np.where(stopped, step, -1),
            observations,
            sum(_TRACES.values()) - before,
            {
                name: _where_taken(_where_defined(plan, name, values), step)
                for name, values in tracked.items()
            },
        )


def _where_defined(plan: Plan, name: str, values: np.ndarray) -> np.ndarray:
    """Return NaN for what stands for no number on the device."""
    if name in ("cosine", "parameter_change"):
        return np.where(values == NO_RATIO, np.nan, values)
    curvature = plan.schedule.curvature
    once = plan.schedule.name == "initial" and curvature not in plan.track
    if once and name == curvature.replace("-", "_"):
        return np.where(np.arange(values.shape[1]) > 0, np.nan, values)
    return values


def _where_taken(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return what was written in so many steps of each member, and NaN after them."""
    taken = np.arange(values.shape[1]) < steps[:, None]
    extra = (1,) * (values.ndim - 2)
    return np.where(taken.reshape(*taken.shape, *extra), values, np.nan)


def _copy(array: Array) -> Array:
    # Training takes the memory of what it is given. Nothing is compiled for this.
    return jax.device_put(array, array.sharding, may_alias=False)


def _check_memory(program: _Program, members: Members, data: Data) -> None:
    """Refuse an ensemble too large for its devices before anything of it is drawn."""
    devices = list(program.mesh.devices.flat)
    state = program.state_of(members)
    available = memory_limit(devices)
    needed = program.bytes_needed(state, data) * len(devices)
    if available and needed > available:
        once = sum(array.nbytes for array in data)
        shared = len(devices) * once
        each = (needed - shared) / state.running.shape[0]
        # Fewer members than devices are one to a device, each with the data.
        fitting = max((available - shared) / each, available / (each + once))
        raise DeviceMemoryError(needed, available, int(fitting))


@dataclass(frozen=True, slots=True)
class _Program:
    """The compiled functions that train, cached by everything static."""

    plan: Plan
    mesh: Mesh

    def start(self, members: Members) -> State:
        plan = self.plan
        orders = _orders(plan.train_size, self._drawn, plan.steps, members.key)
        own = self._own(members)
        with compiling_once(_begin, *own[:2], len(members.stop_below)):
            begun = self._begin(*own)
        state = member.start(plan, members, begun, orders)
        return _place(state, self.mesh)

    def state_of(self, members: Members) -> State:
        """Return the form of what `start` returns; nothing is drawn for it."""
        shape = (members.real.shape[0], self.plan.steps, self._drawn)
        orders = jax.ShapeDtypeStruct(shape, jnp.int32) if self._drawn else None
        begun = self._begin.eval_shape(*self._own(members))
        state = member.start(self.plan, members, begun, orders, jax.ShapeDtypeStruct)
        place = NamedSharding(self.mesh, PartitionSpec("members"))
        return jax.tree.map(
            lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=place), state
        )

    def advance(self, state: State, data: Data, stop: Array) -> State:
        return self._advance(self, state, data, stop)

    def bytes_needed(self, state: State, data: Data) -> int:
        """Return a device's memory at its fullest, as the compiler counts it."""
        advance = self._advance.lower(self, state, data, jnp.int32(0)).compile()
        memory = advance.memory_analysis()
        weights = jax.tree.leaves(state.parameters)
        own = sum(leaf.size * leaf.dtype.itemsize for leaf in weights)
        return (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
            + own // self.mesh.size  # the untrained networks, which probes compare with
        )

    def _own(self, members: Members) -> tuple[Any, ...]:
        """Return what the members' beginning depends on."""
        own = (members.key, members.scales, members.base_lr)
        return self.plan.beginning, self.mesh, *own

    @property
    def _drawn(self) -> int | None:
        """Size of the batches that are drawn before the first step, if any are."""
        return None if self.plan.stream else self.plan.batch_size

    @property
    def _begin(self) -> Any:
        return _jit(_begin, self.mesh, brief=True, static=(0, 1))

    @property
    def _advance(self) -> Any:
        # The state is given up, so that the next one can take its memory.
        return _jit(_advance, self.mesh, donated=(1,))


@dataclass(frozen=True, slots=True)
class _Look:
    """The compiled function that measures, whatever the way of training."""

    shape: Shape
    loss: str
    probes: tuple[Probe, ...]
    mesh: Mesh

    def observe(self, state: State, initial: Any, data: Data) -> dict[str, Any]:
        trees = (state.parameters, initial, state.multipliers)
        with compiling_once(_observe, self, len(state.losses), _form(data)):
            return _jit(_observe, self.mesh, brief=True)(self, *trees, data)


def _jit(function: Callable[..., Any], mesh: Mesh, **options: Any) -> Any:
    return compiled(function, _platform(mesh), **options)


def _form(arrays: Any) -> tuple[Any, ...]:
    return tuple((array.shape, str(array.dtype)) for array in arrays)


def _platform(mesh: Mesh) -> str:
    return mesh.devices.flat[0].platform


def _orders(size: int, batch_size: int | None, steps: int, keys: Any) -> Array | None:
    """Draw the batches of all steps: an epoch permutes, and drops its remainder."""
    if batch_size is None:
        return None
    per_epoch = size // batch_size
    epochs = -(-steps // per_epoch)
    permutations = compiled(
        _permutations, jax.default_backend(), static=(0, 1), brief=True
    )
    with compiling_once(_permutations, size, epochs, len(keys)):
        permuted = permutations(size, epochs, keys)
    examples = permuted[:, :, : per_epoch * batch_size]
    return examples.reshape(-1, epochs * per_epoch, batch_size)[:, :steps]


def _permutations(size: int, epochs: int, keys: Any) -> Array:
    # A program of its own, since it does not see the width: compiled once a sweep.
    def epoch(index: Array, key: Any) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(key, 1), index)
        return jax.random.permutation(key, size).astype(jnp.int32)

    over_epochs = jax.vmap(epoch, (0, None))
    return jax.vmap(over_epochs, (None, 0))(jnp.arange(epochs), keys)


def _begin(plan: Plan, mesh: Mesh, *own: Any) -> Begun:
    _count("begin")
    return _over_members(mesh, lambda each: member.begin(plan, *each), own)


def _advance(program: _Program, state: State, data: Data, stop: Array) -> State:
    _count("advance")
    one = functools.partial(member.advance, program.plan)
    return _over_members(program.mesh, one, state, data, stop)


def _observe(
    look: _Look, parameters: Any, initial: Any, multipliers: Any, data: Data
) -> dict[str, Any]:
    _count("observe")
    graph, loss = member.graph(look.shape), LOSSES[look.loss]

    def one(trees: Any, data: Data) -> dict[str, Any]:
        parameters, initial, multipliers = trees
        model = nnx.merge(graph, parameters, multipliers)
        untrained = nnx.merge(graph, initial, multipliers)
        return {p.name: p.measure(model, untrained, data, loss) for p in look.probes}

    return _over_members(look.mesh, one, (parameters, initial, multipliers), data)


def _over_members(mesh: Mesh, one: Callable, members: Any, *shared: Any) -> Any:
    """Apply a function of one member to all, over the mesh and in the chosen layout."""
    count = jax.tree.leaves(members)[0].shape[0]
    share = count // mesh.size
    batch = members_per_batch(_platform(mesh), share)

    def local(members: Any, *shared: Any) -> Any:
        function = functools.partial(_apply, one, shared)
        if batch >= share > 1:
            return jax.vmap(function)(members)
        return jax.lax.map(function, members, batch_size=batch if batch > 1 else None)

    spread, whole = PartitionSpec("members"), PartitionSpec()
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(spread, *(whole for _ in shared)),
        out_specs=spread,
        check_vma=False,
    )(members, *shared)


def _apply(one: Callable, shared: tuple, members: Any) -> Any:
    return one(members, *shared)


def _laid(members: Members, dealt: np.ndarray) -> Members:
    """Lay members out in an order; those that only fill up never run."""
    if np.array_equal(dealt, np.arange(len(members.real))):
        return members
    laid = jax.tree.map(lambda v: v[dealt], members)
    return laid._replace(real=laid.real & (dealt >= 0))


def _place(members: Any, mesh: Mesh, **options: Any) -> Any:
    place = NamedSharding(mesh, PartitionSpec("members"))
    return jax.device_put(members, place, **options)


def _cast(data: Data, dtype: str) -> Data:
    def convert(v: Any) -> Any:
        return jnp.asarray(
            v, dtype if jnp.issubdtype(v.dtype, jnp.floating) else jnp.int32
        )

    return Data(*(convert(np.asarray(v)) for v in data))


def _count(what: str) -> None:
    _TRACES[what] = _TRACES.get(what, 0) + 1
