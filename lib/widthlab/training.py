r"""Train an ensemble of MLPs of one shape in one compiled program.

Seeds, learning rates and parametrizations of the members are traced numbers, so a shape
is compiled once whatever the grid. Members are spread over the devices of a mesh; on
each device they either run one after another inside the program or are batched.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from widthlab.compilation import ONE_THREAD_A_PRODUCT, compiled
from widthlab.curvature import Product, gauss_newton_product, hessian_product
from widthlab.model import MLP, AnyArray, Multiplier, Scales, Shape, by_tensor
from widthlab.schedules import (
    PRODUCTS,
    CosineState,
    CurvatureState,
    Schedule,
    followed_curvatures,
    scale_by_curvature,
    track_cosine,
)


class Data(NamedTuple):
    """The arrays that a training run reads."""

    x_train: Float[AnyArray, "train input"]
    y_train: Int[AnyArray, " train"] | Float[AnyArray, "train output"]
    x_test: Float[AnyArray, "test input"]
    y_test: Int[AnyArray, " test"] | Float[AnyArray, "test output"]


@dataclass(frozen=True, slots=True)
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

    name: str = "sgd"
    momentum: float = 0.9
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Refuse an unknown rule; store numbers in one form, whatever was given."""
        for number in ("momentum", "b1", "b2", "eps", "weight_decay"):
            object.__setattr__(self, number, float(getattr(self, number)))
        if self.name not in ("sgd", "momentum", "adam", "adamw"):
            raise ValueError(
                f"no optimizer is called {self.name!r}; there are sgd, momentum, adam "
                "and adamw"
            )

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


def cross_entropy(
    outputs: Float[Array, "batch output"], targets: Int[Array, " batch"]
) -> Float[Array, ""]:
    r"""Return the mean of $-\log \mathrm{softmax}(f)_y$."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()


def mean_squared_error(
    outputs: Float[Array, "batch output"], targets: Float[Array, "batch output"]
) -> Float[Array, ""]:
    r"""Return the mean of $\tfrac12 \|f - y\|^2$, whose error signal is $f - y$."""
    return jnp.mean(jnp.sum((outputs - targets) ** 2, axis=-1)) / 2


LOSSES: dict[str, Callable[..., Any]] = {
    "cross-entropy": cross_entropy,
    "mse": mean_squared_error,
}
"""The losses by name, as functions of outputs and targets."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about an ensemble that is compiled in.

    Attributes:
        shape: sizes and activation of the networks.
        loss: "cross-entropy" or "mse".
        optimizer: update rule.
        batch_size: examples per step, or None for the full training set.
        steps: length of the loss history, the last step at most.
        train_size: number of training examples.
        dtype: "float32" or "float64".
        schedule: rule for the common factor of the learning rates, whose target is of
            no account here: it belongs to the members.
        track: what to measure at every step: "gauss-newton", "hessian", "cosine".
    """

    shape: Shape
    loss: str
    optimizer: Optimizer
    batch_size: int | None
    steps: int
    train_size: int
    dtype: str = "float32"
    schedule: Schedule = field(default_factory=Schedule)
    track: tuple[str, ...] = ()

    @property
    def curvatures(self) -> tuple[str, ...]:
        """Curvatures that are measured at every step."""
        return tuple(name for name in PRODUCTS if name in self.track)

    @property
    def sees_curvature(self) -> bool:
        """Whether a step takes products with a curvature."""
        return self.schedule.varies or bool(self.curvatures)

    @property
    def flops_per_step(self) -> int:
        """Floating-point operations of one member's step, matrices only."""
        return self.shape.flops * (self.batch_size or self.train_size)


class Members(NamedTuple):
    """What distinguishes the members of an ensemble; every leaf has them in front.

    The `target` is that of a schedule that varies; None if it does not.
    """

    key: Any
    scales: Scales
    stop_below: Float[AnyArray, " members"]
    real: Bool[AnyArray, " members"]
    target: Float[AnyArray, " members"] | None = None


class State(NamedTuple):
    """A member in training."""

    parameters: Any
    multipliers: Any
    optimizer: Any
    scales: Scales
    order: Int[Array, "steps batch"] | None
    losses: Float[Array, " steps"]
    step: Int[Array, ""]
    stop_below: Float[AnyArray, ""]
    running: Bool[AnyArray, ""]
    diverged_at: Int[Array, ""]
    target: Float[AnyArray, ""] | None
    tracked: dict[str, Float[Array, "steps ..."]]


@runtime_checkable
class Probe(Protocol):
    """Something measured at checkpoints: a small array of each member.

    A probe is hashable, since it is compiled in.
    """

    @property
    def name(self) -> str:
        """Key of its values in the outcome."""
        ...

    def measure(
        self, model: MLP, initial: MLP, data: Data, loss: Callable[..., Any]
    ) -> Any:
        """Return arrays that describe a model (`initial` is the untrained one)."""
        ...


class Outcome(NamedTuple):
    """What a trained ensemble leaves, with members in front, on the host.

    Attributes:
        losses: loss of each step's batch before its update; NaN where none was taken.
        diverged_at: step whose loss or gradient was not finite, or -1.
        stopped_at: step at which the loss was below the member's threshold, or -1.
        observations: for each checkpoint, the values of each probe by name.
        traces: number of times that a program was traced for this call.
        tracked: what was measured at each step before its update, by quantity; NaN
            where no update was taken. With learning rates as given: "lr" is the factor
            on them, and curvatures are those of the optimizer's metric.
    """

    losses: np.ndarray
    diverged_at: np.ndarray
    stopped_at: np.ndarray
    observations: list[dict[str, Any]]
    traces: int
    tracked: dict[str, np.ndarray]


_TRACES: dict[str, int] = {}


def trace_counts() -> dict[str, int]:
    """Return how often each compiled program was traced in this process."""
    return dict(_TRACES)


def use_all_cores() -> int:
    """Make one JAX device of each CPU core, and return the number of devices.

    Small networks leave a core idle when one matrix product is shared between the
    cores; one member to a core does not. And how a product is shared depends on the
    machine's load, and with it the last bits of the result: so it is not shared. This
    has to come before JAX is first used, and does nothing after that or where the
    number of CPU devices is set already; the library's own programs have the same bits
    all the same (`compilation`).
    """
    _compile_for_same_bits()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    is_set = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    with contextlib.suppress(RuntimeError):  # JAX is in use: leave its devices alone
        unset = getattr(jax.config, "jax_num_cpu_devices", -1) < 1
        if not is_set and unset:
            jax.config.update("jax_num_cpu_devices", cores)
    return len(jax.local_devices())


def _compile_for_same_bits() -> None:
    """Ask XLA for bits that do not depend on load, where nobody has chosen."""
    given = os.environ.get("XLA_FLAGS", "")
    for name, value in ONE_THREAD_A_PRODUCT.items():
        if name not in given:
            given = f"{given} --{name}={str(value).lower()}".strip()
    os.environ["XLA_FLAGS"] = given  # XLA reads it once, when JAX is first used


def members_per_batch(platform: str, members: int) -> int:
    """Choose how many members of a device's share are batched in one computation.

    An accelerator wants all at once. On CPU one at a time is as fast, within noise
    (`benchmarks/training.py --layouts`), and a run has the same bits whichever others
    it is trained with, and on however many cores (JAX 0.10; later ones may round
    otherwise where a core has a single member).
    """
    return 1 if platform == "cpu" else members


def train(
    plan: Plan,
    members: Members,
    data: Data,
    checkpoints: Sequence[int],
    probes: Sequence[Probe] = (),
    devices: Sequence[Any] | None = None,
    on_checkpoint: Callable[[int], None] | None = None,
) -> Outcome:
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
        The outcome on the host. A member whose loss or gradient is not finite keeps its
        last finite weights from that step on; the others go on.
    """
    with precision(plan.dtype):
        count = members.real.shape[0]
        mesh = members_mesh(devices or jax.local_devices(), count)
        members = _place(_pad(members, mesh.size), mesh)
        orders = _orders(plan.train_size, plan.batch_size, plan.steps, members.key)
        data = jax.device_put(
            _cast(data, plan.dtype), NamedSharding(mesh, PartitionSpec())
        )
        before = sum(_TRACES.values())
        program = _Program(plan, tuple(probes), mesh)
        state = program.start(members, orders)
        _check_memory(program, state, data)
        initial = jax.tree.map(jnp.copy, state.parameters)
        observations = []
        for stop in checkpoints:
            state = program.advance(state, data, jnp.int32(stop))
            seen = program.observe(state, initial, data)
            observations.append(jax.tree.map(lambda v: np.asarray(v)[:count], seen))
            if on_checkpoint is not None:
                on_checkpoint(stop)
        left = (state.losses, state.diverged_at, state.step, state.tracked)
        losses, diverged_at, step, tracked = jax.tree.map(
            lambda v: np.asarray(v)[:count], left
        )
        stopped = (step < checkpoints[-1]) & (diverged_at < 0)
        return Outcome(
            losses,
            diverged_at,
            np.where(stopped, step, -1),
            observations,
            sum(_TRACES.values()) - before,
            tracked,
        )


class DeviceMemoryError(MemoryError):
    """An ensemble needs more memory than there is.

    Attributes:
        members: how many of its members should fit.
    """

    def __init__(self, needed: int, available: int, members: int):
        """Say what is needed and what there is, in bytes over all devices."""
        self.members = members
        super().__init__(
            f"{needed / 1e9:.2f} GB are needed and {available / 1e9:.2f} GB available "
            f"(the environment variable {MEMORY_VARIABLE} sets another limit, in bytes)"
        )


MEMORY_VARIABLE = "WIDTHLAB_MEMORY"
"""Environment variable that sets another limit of memory, in bytes."""

_HOST_SHARE = 1 / 4  # two cells at a time, and the host has other things to hold
_DEVICE_SHARE = 0.9


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's memory did not suffice."""
    refused = isinstance(error, jax.errors.JaxRuntimeError)
    return refused and "RESOURCE_EXHAUSTED" in str(error)


def memory_limit(devices: Sequence[Any]) -> int:
    """Return the bytes that one ensemble may take on these devices together."""
    if given := os.environ.get(MEMORY_VARIABLE):
        return int(float(given))
    if devices[0].platform == "cpu":
        return int(_host_memory() * _HOST_SHARE)
    each = (device.memory_stats() or {} for device in devices)
    return int(sum(stats.get("bytes_limit", 0) for stats in each) * _DEVICE_SHARE)


def _host_memory() -> int:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        group = int(Path("/sys/fs/cgroup/memory.max").read_text())
        return min(installed, group)
    return installed


def _check_memory(program: _Program, state: State, data: Data) -> None:
    """Refuse an ensemble too large for its devices before it is trained."""
    devices = list(program.mesh.devices.flat)
    available = memory_limit(devices)
    needed = program.bytes_needed(state, data) * len(devices)
    if available and needed > available:
        shared = len(devices) * sum(array.nbytes for array in data)
        each = (needed - shared) / state.running.shape[0]
        raise DeviceMemoryError(needed, available, int((available - shared) / each))


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Compute in the precision that a spec names, matrix products included."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        yield


@dataclass(frozen=True, slots=True)
class _Program:
    """The three compiled functions of an ensemble, cached by everything static."""

    plan: Plan
    probes: tuple[Probe, ...]
    mesh: Mesh

    @property
    def platform(self) -> str:
        return self.mesh.devices.flat[0].platform

    def start(self, members: Members, orders: Array | None) -> State:
        return compiled(_start, self.platform, brief=True)(self, members, orders)

    def advance(self, state: State, data: Data, stop: Array) -> State:
        return self._advance(self, state, data, stop)

    def observe(self, state: State, initial: Any, data: Data) -> dict[str, Any]:
        trees = (state.parameters, initial, state.multipliers)
        return compiled(_observe, self.platform, brief=True)(self, *trees, data)

    def bytes_needed(self, state: State, data: Data) -> int:
        """Return a device's memory at its fullest, as the compiler counts it."""
        advance = self._advance.lower(self, state, data, jnp.int32(0)).compile()
        memory = advance.memory_analysis()
        own = sum(leaf.nbytes for leaf in jax.tree.leaves(state.parameters))
        return (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
            + own // self.mesh.size  # the untrained networks, which probes compare with
        )

    @property
    def _advance(self) -> Any:
        # The state is given up, so that the next one can take its memory.
        return compiled(_advance, self.platform, donated=(1,))


def _orders(size: int, batch_size: int | None, steps: int, keys: Any) -> Array | None:
    """Draw the batches of all steps: an epoch permutes, and drops its remainder."""
    if batch_size is None:
        return None
    per_epoch = size // batch_size
    epochs = -(-steps // per_epoch)
    permutations = compiled(
        _permutations, jax.default_backend(), static=(0, 1), brief=True
    )
    examples = permutations(size, epochs, keys)[:, :, : per_epoch * batch_size]
    return examples.reshape(-1, epochs * per_epoch, batch_size)[:, :steps]


def _permutations(size: int, epochs: int, keys: Any) -> Array:
    # A program of its own, since it does not see the width: compiled once a sweep.
    def epoch(index: Array, key: Any) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(key, 1), index)
        return jax.random.permutation(key, size).astype(jnp.int32)

    over_epochs = jax.vmap(epoch, (0, None))
    return jax.vmap(over_epochs, (None, 0))(jnp.arange(epochs), keys)


def _start(program: _Program, members: Members, orders: Array | None) -> State:
    _count("start")
    one = functools.partial(_start_one, program.plan)
    return _over_members(program, one, (members, orders))


def _advance(program: _Program, state: State, data: Data, stop: Array) -> State:
    _count("advance")
    one = functools.partial(_advance_one, program.plan)
    return _over_members(program, one, state, data, stop)


def _observe(
    program: _Program, parameters: Any, initial: Any, multipliers: Any, data: Data
) -> dict[str, Any]:
    _count("observe")
    plan = program.plan

    def one(trees: Any, data: Data) -> dict[str, Any]:
        parameters, initial, multipliers = trees
        model = nnx.merge(graph(plan.shape), parameters, multipliers)
        untrained = nnx.merge(graph(plan.shape), initial, multipliers)
        loss = LOSSES[plan.loss]
        return {p.name: p.measure(model, untrained, data, loss) for p in program.probes}

    return _over_members(program, one, (parameters, initial, multipliers), data)


def _over_members(program: _Program, one: Callable, members: Any, *shared: Any) -> Any:
    """Apply a function of one member to all, over the mesh and in the chosen layout."""
    count = jax.tree.leaves(members)[0].shape[0]
    share = count // program.mesh.size
    batch = members_per_batch(program.platform, share)

    def local(members: Any, *shared: Any) -> Any:
        function = functools.partial(_apply, one, shared)
        if batch >= share > 1:
            return jax.vmap(function)(members)
        return jax.lax.map(function, members, batch_size=batch if batch > 1 else None)

    spread, whole = PartitionSpec("members"), PartitionSpec()
    return jax.shard_map(
        local,
        mesh=program.mesh,
        in_specs=(spread, *(whole for _ in shared)),
        out_specs=spread,
        check_vma=False,
    )(members, *shared)


def _apply(one: Callable, shared: tuple, member: Any) -> Any:
    return one(member, *shared)


@functools.lru_cache(maxsize=128)
def graph(shape: Shape) -> nnx.GraphDef:
    """Return the static part of the model, without weights."""
    zeros = Scales(*(jnp.zeros(len(shape.tensors)) for _ in Scales._fields))
    model = nnx.eval_shape(lambda: MLP(shape, zeros, key=jax.random.key(0)))
    return nnx.split(model)[0]


def untrained(shape: Shape, scales: Scales, key: Any) -> MLP:
    """Return the network that a member with this key starts from."""
    return MLP(shape, scales, key=jax.random.fold_in(key, 0))


def _start_one(plan: Plan, both: tuple[Members, Array | None]) -> State:
    member, order = both
    model = untrained(plan.shape, member.scales, member.key)
    _, parameters, multipliers = nnx.split(model, nnx.Param, Multiplier)
    rule = _rule(plan, parameters, member.scales, member.target)
    optimizer = rule.init(parameters)
    dtype = member.scales.std.dtype
    return State(
        parameters=parameters,
        multipliers=multipliers,
        optimizer=optimizer,
        scales=member.scales,
        order=order,
        losses=jnp.full((plan.steps,), jnp.nan, dtype),
        step=jnp.int32(0),
        stop_below=member.stop_below,
        running=member.real,
        diverged_at=jnp.int32(-1),
        target=member.target,
        tracked={
            name: jnp.full((plan.steps, *value.shape), jnp.nan, dtype)
            for name, value in _seen(plan, optimizer).items()
        },
    )


def _rule(
    plan: Plan, parameters: Any, scales: Scales, target: Any
) -> optax.GradientTransformationExtraArgs:
    numbers = (scales.lr, scales.first_lr, scales.retained)
    lr, first_lr, retained = (by_tensor(parameters, s) for s in numbers)
    before, after = [], []
    if plan.sees_curvature:
        rule = scale_by_curvature(plan.schedule, target, lr, plan.curvatures)
        before.append(rule)
    if "cosine" in plan.track:
        after.append(track_cosine(lr))
    return plan.optimizer.transform(lr, first_lr, retained, before, after)


def _seen(plan: Plan, optimizer: Any) -> dict[str, Array]:
    """Return what the rules of a plan have measured, by quantity."""
    seen = {}
    for state in optimizer:
        if isinstance(state, CurvatureState):
            values = state.eigenvalues.items()
            seen["lr"] = state.factor
            seen |= {name.replace("-", "_"): value for name, value in values}
        elif isinstance(state, CosineState):
            seen["cosine"] = jnp.stack(
                [state.whole, *_matrices(plan.shape, state.each)]
            )
            seen["parameter_change"] = state.change
    return seen


def _matrices(shape: Shape, tree: Any) -> list[Any]:
    """Return what a tree of parameters' form holds for the matrices, in order."""
    found = jax.tree.leaves(tree, is_leaf=lambda v: isinstance(v, nnx.Variable))
    by_place = {v.get_metadata()["tensor"]: v[...] for v in found}
    return [by_place[place] for place in range(shape.depth + 1)]


def _curvature_products(
    plan: Plan, outputs_of: Callable[[Any], Any], targets: Any, parameters: Any
) -> dict[str, Product]:
    """Return the products with each curvature that a step needs."""
    needed = set(followed_curvatures(plan.schedule, plan.curvatures))
    if plan.schedule.varies:
        needed.add(plan.schedule.curvature)

    def loss_of_outputs(outputs: Any) -> Any:
        return LOSSES[plan.loss](outputs, targets)

    products = {}
    if "gauss-newton" in needed:
        products["gauss-newton"] = gauss_newton_product(
            outputs_of, loss_of_outputs, parameters
        )
    if "hessian" in needed:
        products["hessian"] = hessian_product(
            lambda w: loss_of_outputs(outputs_of(w)), parameters
        )
    return products


def _advance_one(plan: Plan, state: State, data: Data, stop: Array) -> State:
    static = graph(plan.shape)

    def loss_of(parameters: Any, multipliers: Any, x: Any, y: Any) -> Any:
        model = nnx.merge(static, parameters, multipliers)
        return LOSSES[plan.loss](model(x), y)

    def go_on(state: State) -> Any:
        return state.running & (state.step < stop)

    def step(state: State) -> State:
        x, y = data.x_train, data.y_train
        if state.order is not None:
            batch = state.order[state.step]
            x, y = x[batch], y[batch]
        loss, grads = jax.value_and_grad(loss_of)(
            state.parameters, state.multipliers, x, y
        )
        rule = _rule(plan, state.parameters, state.scales, state.target)
        extra = {}
        if plan.sees_curvature:

            def outputs_of(parameters: Any) -> Any:
                return nnx.merge(static, parameters, state.multipliers)(x)

            products = _curvature_products(plan, outputs_of, y, state.parameters)
            extra = {"products": products, "grad": grads}
        updates, optimizer = rule.update(
            grads, state.optimizer, state.parameters, **extra
        )
        after = optax.apply_updates(state.parameters, updates)
        finite = jnp.isfinite(loss) & _all_finite(after)
        below = loss < state.stop_below
        keep = finite & ~below
        tracked = {
            name: state.tracked[name].at[state.step].set(jnp.where(keep, new, jnp.nan))
            for name, new in _seen(plan, optimizer).items()
        }
        return state._replace(
            parameters=_where(keep, after, state.parameters),
            optimizer=_where(keep, optimizer, state.optimizer),
            losses=state.losses.at[state.step].set(loss),
            step=state.step + keep.astype(jnp.int32),
            running=keep,
            diverged_at=jnp.where(finite, state.diverged_at, state.step),
            tracked=tracked,
        )

    return jax.lax.while_loop(go_on, step, state)


def _all_finite(tree: Any) -> Array:
    # A sum is not finite as soon as a term is not, and costs one pass over the weights.
    return functools.reduce(
        jnp.logical_and, [jnp.isfinite(jnp.sum(leaf)) for leaf in jax.tree.leaves(tree)]
    )


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def members_mesh(devices: Sequence[Any], members: int) -> Mesh:
    """Return a mesh of as many of the devices as there are members to spread."""
    return Mesh(np.array(devices[: max(1, min(len(devices), members))]), ("members",))


def _pad(members: Members, multiple: int) -> Members:
    """Fill up with members that never run, so that every device has as many."""
    extra = -members.real.shape[0] % multiple
    if extra == 0:
        return members
    take = np.arange(members.real.shape[0] + extra)
    real = take < members.real.shape[0]
    padded = jax.tree.map(lambda v: jnp.asarray(v)[np.where(real, take, 0)], members)
    return padded._replace(real=padded.real & real)


def _place(members: Members, mesh: Mesh) -> Members:
    return jax.device_put(members, NamedSharding(mesh, PartitionSpec("members")))


def _cast(data: Data, dtype: str) -> Data:
    def convert(v: Any) -> Any:
        return jnp.asarray(
            v, dtype if jnp.issubdtype(v.dtype, jnp.floating) else jnp.int32
        )

    return Data(*(convert(np.asarray(v)) for v in data))


def _count(what: str) -> None:
    _TRACES[what] = _TRACES.get(what, 0) + 1
