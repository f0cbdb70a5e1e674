"""Gradient flows as runs: stored, resumed and sent to workers like all others."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import attrs
import jax
import numpy as np
from jaxtyping import Float

from widthlab.canonical import content_sha256, digest
from widthlab.fields import choice, function, instance, number, several
from widthlab.flow import Adaptive, Descent, Flow, Trajectory
from widthlab.flow import solve as solve_flows
from widthlab.flow.integrators import Observe, losses
from widthlab.flow.solve import rows_of_times
from widthlab.runs.programs import program_hash
from widthlab.runs.provenance import provenance
from widthlab.runs.record import Record
from widthlab.runs.spec import Spec
from widthlab.runs.sweep import sweep
from widthlab.source import source_sha256
from widthlab.training.devices import precision


@attrs.frozen(eq=False)
class FlowRun(Spec):
    """One gradient flow, with how it is solved and what is observed.

    Its key holds the flow's arrays and what flow and observation compute, constants and
    captured arrays included: a changed helper of a notebook is another run.

    Attributes:
        flow: the flow, a pytree (`widthlab.flow.Flow`).
        times: increasing times from 0 on at which to observe.
        method: how to solve; a `Descent` with one step.
        observe: what to observe, as a function of flow and state.
        stop_below: share of its initial loss at which the solution ends.
        dtype: "float64" or "float32".
    """

    kind: ClassVar[str] = "flows"

    flow: Any = attrs.field(converter=instance(Flow))
    times: tuple[float, ...] = attrs.field(converter=several(number(least=0), least=1))
    method: Adaptive | Descent = attrs.field(
        factory=Adaptive, converter=instance(Adaptive, Descent)
    )
    observe: Observe = attrs.field(default=losses, converter=function())
    stop_below: float = attrs.field(default=0.0, converter=number(least=0, below=1))
    dtype: str = attrs.field(
        default="float64", converter=choice(("float64", "float32"))
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be solved, or what a record cannot hold."""
        if any(a >= b for a, b in itertools.pairwise(self.times)):
            raise ValueError(f"times are {self.times}; they must increase")
        if isinstance(self.method, Descent) and isinstance(self.method.step, tuple):
            raise ValueError(
                f"step is {self.method.step}; one flow has one, and each of several "
                "is a FlowRun of its own"
            )
        if isinstance(self.method, Adaptive) and self.method.dense:
            raise ValueError(
                "method is Adaptive(dense=True); a whole solution is not kept in a "
                "record: observe at more times, or use widthlab.flow.solve"
            )

    @property
    def program(self) -> Any:
        """What flows have in common that are solved by one compiled program."""
        return (*self._structure, len(self.times), self._how, self.stop_below)

    @property
    def _structure(self) -> Any:
        # Shapes and types decide on the program; values are in the key one by one.
        leaves, structure = jax.tree.flatten(self.flow)
        shapes = tuple((np.shape(leaf), np.asarray(leaf).dtype.str) for leaf in leaves)
        return structure, shapes, self.observe, self.dtype

    @functools.cached_property
    def _hashes(self) -> tuple[str, ...]:
        # Sets and dictionaries of flows ask for them again and again.
        leaves = jax.tree.leaves(self.flow)
        return tuple(content_sha256(np.asarray(leaf)) for leaf in leaves)

    @property
    def _how(self) -> Any:
        # The size of a step is a traced number, the settings of Adaptive are not.
        return type(self.method) if isinstance(self.method, Descent) else self.method

    def to_json(self) -> dict[str, Any]:
        """Return the flow by the hashes of its arrays and of its programs."""
        return {
            # A flow is a pytree of any class: there are no named fields to write out.
            "arrays": list(self._hashes),
            "program": _program_hash_of(self),
            "times": list(self.times),
            "method": type(self.method).__name__,
            "settings": attrs.asdict(self.method),
            "stop_below": self.stop_below,
            "dtype": self.dtype,
        }

    def __hash__(self) -> int:
        return hash(digest(self.to_json()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FlowRun) and self.to_json() == other.to_json()

    @classmethod
    def run_cell(cls, cell: Sequence[Any]) -> list[Record]:
        """Solve flows of one program together."""
        start = time.perf_counter()
        first, method = cell[0], cell[0].method
        if isinstance(method, Descent):
            # Steps are traced, so flows with different ones share a program.
            method = attrs.evolve(method, step=[one.method.step for one in cell])
        solved = solve_flows(
            [one.flow for one in cell],
            [one.times for one in cell],
            method=method,
            observe=_as_traced(first.observe, _program_hash_of(first)),
            stop_below=first.stop_below,
            dtype=first.dtype,
        )
        each = (time.perf_counter() - start) / len(cell)
        facts = provenance() | {"precision": first.dtype, "wall_s": round(each, 4)}
        return [_record(*pair, facts) for pair in zip(cell, solved, strict=True)]

    def trajectory(self, record: Record) -> Trajectory:
        """Return what the flow left, to the last bit."""
        arrays, named = record.arrays, {"observed": {}, "last": {}}
        for name, array in arrays.items():
            part, _, quantity = name.partition("/")
            if part in named:
                named[part][quantity] = array
        with precision(self.dtype):
            # A record holds leaves alone; how they hang together is the flow's to say.
            state = jax.tree.structure(jax.eval_shape(self.flow.initial))
        final = [arrays[f"final/{i}"] for i in range(state.num_leaves)]
        status = record.provenance["status"]
        return Trajectory(
            times=arrays["times"],
            observed=named["observed"],
            final=jax.tree.unflatten(state, final),
            last=named["last"],
            reached=float(arrays["reached"]),
            status=status,
            steps=record.provenance["steps"],
        )


def _program_hash_of(spec: FlowRun) -> str:
    """Return a hash of what a flow computes and observes, as it stands now.

    The same functions compute something else once a number around them has changed, so
    that tracing is saved only as long as their sources are the same.
    """
    structure, shapes, observe, dtype = spec._structure
    source = source_sha256([observe, *_node_types(structure)])
    return _program_hash(structure, shapes, observe, dtype, source)


def _node_types(structure: Any) -> Iterator[Any]:
    """Yield the classes of a pytree, each with its static fields."""
    if (node := structure.node_data()) is not None:
        yield node
    for child in structure.children():
        yield from _node_types(child)


@functools.lru_cache(maxsize=256)
def _as_traced(observe: Observe, program: str) -> Observe:
    """Return `observe` anew for each program, so that no other that JAX keeps is run.

    JAX finds compiled programs by the functions that they were traced from.
    """
    del program
    return functools.partial(observe)


@functools.lru_cache(maxsize=256)
def _program_hash(
    structure: Any, shapes: Any, observe: Observe, dtype: str, source: str
) -> str:
    """Return a hash of what flows of one structure compute and observe."""
    del source

    def everything(flow: Any) -> Any:
        state = flow.initial()
        return state, flow.velocity(state), flow.loss(state), observe(flow, state)

    with precision(dtype):
        leaves = [
            np.zeros(shape, dtype if np.dtype(own).kind == "f" else own)
            for shape, own in shapes
        ]
        flow = jax.tree.unflatten(structure, leaves)
        found = program_hash(everything, flow)
        # As another function, or JAX would give what it has traced already.
        if program_hash(lambda flow: everything(flow), flow) != found:
            raise ValueError(
                "a flow or what observes it computes something else each time it is "
                "traced, of numbers drawn in it, say: its record could not be found "
                "again; draw them outside, and keep them in the flow"
            )
        return found


def _record(spec: FlowRun, run: Trajectory, facts: dict[str, Any]) -> Record:
    table = run.table
    ended = float(run.reached)
    return Record(
        spec=spec,
        columns={name: table[name].tolist() for name in table.columns},
        diverged_at=ended if run.status == "failed" else None,
        stopped_at=ended if run.status == "stopped" else None,
        provenance=facts | {"status": run.status, "steps": run.steps},
        arrays={
            "times": run.times,
            "reached": np.asarray(run.reached),
            **{f"observed/{name}": np.asarray(v) for name, v in run.observed.items()},
            **{f"last/{name}": np.asarray(v) for name, v in run.last.items()},
            **{
                f"final/{index}": np.asarray(leaf)
                for index, leaf in enumerate(jax.tree.leaves(run.final))
            },
        },
    )


def solve(
    flows: Sequence[Any],
    times: Float[np.ndarray, " times"] | Sequence[Any],
    *,
    method: Adaptive | Descent | None = None,
    observe: Observe = losses,
    stop_below: float = 0.0,
    dtype: str = "float64",
    **options: Any,
) -> list[Trajectory]:
    """Solve flows as `widthlab.flow.solve` does, and keep what was solved.

    Args:
        flows: the flows.
        times: one row of times for all flows, or one for each.
        method: how to solve; `Adaptive()` by default.
        observe: what to observe.
        stop_below: share of its initial loss at which a solution ends.
        dtype: "float64" or "float32".
        **options: as for `sweep`: `store`, `executor`, `together`, `progress`.

    Returns:
        One trajectory for each flow, the same bits whether it was solved or read.
    """
    method = Adaptive() if method is None else method
    rows = rows_of_times(times, len(flows), dtype)
    steps = np.broadcast_to(np.asarray(getattr(method, "step", 0.0)), len(flows))
    runs = [
        FlowRun(
            flow,
            tuple(map(float, row)),
            Descent(float(step)) if isinstance(method, Descent) else method,
            observe,
            stop_below,
            dtype,
        )
        for flow, row, step in zip(flows, rows, steps, strict=True)
    ]
    records = sweep(runs, **options)
    return [one.trajectory(record) for one, record in zip(runs, records, strict=True)]
