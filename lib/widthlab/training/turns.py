"""Turns: which members an ensemble's devices take, how many at a time."""

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


def deal(count: int, devices: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal members to devices that each go through theirs on their own.

    Forth and back: neighbours often cost alike, and often every second one does, and
    this gives no device all that are long.

    Args:
        count: number of members.
        devices: number of devices, which take equal runs of consecutive places.

    Returns:
        Which member takes each place, where -1 (the last, to NumPy) fills up, and the
        place of each member.
    """
    extra = -count % devices
    hand = np.pad(np.arange(count), (0, extra), constant_values=-1)
    rounds = hand.reshape(-1, devices)
    rounds[1::2] = rounds[1::2, ::-1]
    taken = rounds.T.ravel()
    return taken, np.argsort(taken, kind="stable")[extra:]


def take_turns(
    real: np.ndarray, alike: np.ndarray, together: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put members into turns, whose devices wait for one another at the end.

    Args:
        real: whether each member runs or only fills up; those that do come first.
        alike: a number for each member. Neighbours in its order take a turn together:
            where learning rates differ, those that diverge, and so end early, often do.
        together: how many members take a turn.

    Returns:
        Which members take each turn, where -1 (the last, to NumPy) fills up; and the
        place of each member in all turns together.
    """
    hand = np.lexsort((alike, ~real))
    extra = -len(hand) % together
    taken = np.pad(hand, (0, extra), constant_values=-1)
    return taken.reshape(-1, together), np.argsort(taken, kind="stable")[extra:]


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
