"""Turns: how many members an ensemble's devices take at a time, and which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array


def members_mesh(devices: Sequence[Any], members: int) -> Mesh:
    """Return a mesh of as many of the devices as there are members to spread."""
    return Mesh(np.array(devices[: max(1, min(len(devices), members))]), ("members",))


def members_per_batch(platform: str, members: int) -> int:
    """Choose how many members of a device's share are batched in one computation.

    An accelerator wants all at once. On CPU one at a time is as fast, within noise
    (`benchmarks/training.py --layouts`), and a run has the same bits whichever others
    it is trained with, and on however many cores: its program does not know of them.
    """
    return 1 if platform == "cpu" else members


def deal(
    real: np.ndarray, devices: int, batch: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Deal members to devices, forth and back, so that each has as many that run.

    Neighbours in a sweep often cost alike, and often every second one does: this gives
    no device all that are long.

    Args:
        real: whether each member runs or only fills up.
        devices: number of devices.
        batch: how many members a device takes at a time.

    Returns:
        Which members take each turn, `batch` for each device in order, where -1 (the
        last, to NumPy) fills up; and the place of each member in all turns together.
    """
    count = len(real)
    hand = np.argsort(~real, kind="stable")
    filled = np.pad(hand, (0, -count % (devices * batch)), constant_values=-1)
    rounds = filled.reshape(-1, devices)
    rounds[1::2] = rounds[1::2, ::-1]
    turns = (
        rounds.reshape(-1, batch, devices).swapaxes(1, 2).reshape(-1, devices * batch)
    )
    taken = turns.ravel()
    return turns, np.argsort(taken, kind="stable")[len(taken) - count :]


def over_members(mesh: Mesh, one: Callable, members: Any, *shared: Any) -> Any:
    """Apply a function of one member to all of a turn, spread over the mesh.

    The program of a device with one member has no loop over members. It compiles a
    third faster than one with, and does not depend on how many turns there are.

    Args:
        mesh: the devices.
        one: function of a member and of what is shared.
        members: tree of arrays with the turn's members in front.
        shared: what all members see.
    """
    share = jax.tree.leaves(members)[0].shape[0] // mesh.size

    def local(members: Any, *shared: Any) -> Any:
        if share > 1:
            return jax.vmap(lambda each: one(each, *shared))(members)
        result = one(jax.tree.map(lambda v: v[0], members), *shared)
        return jax.tree.map(lambda v: v[None], result)

    spread, whole = PartitionSpec("members"), PartitionSpec()
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(spread, *(whole for _ in shared)),
        out_specs=spread,
        check_vma=False,
    )(members, *shared)


def joined(turns: Sequence[Any], places: np.ndarray) -> Any:
    """Return arrays of all members, on the host, from those of each turn.

    Args:
        turns: what each turn left.
        places: of each member in all turns together, from `deal`.
    """

    def join(*parts: Array) -> np.ndarray:
        return np.concatenate([np.asarray(part) for part in parts])[places]

    return jax.tree.map(join, *turns)
