"""What each parameter of a model does: from its layer, or as the user declares it."""

from __future__ import annotations

from collections.abc import Mapping

from flax import nnx

from widthlab.parametrization import Role
from widthlab.scaling.errors import ScalingError
from widthlab.scaling.fans import Fan, covered, fan_of
from widthlab.scaling.survey import Parameter

FIXED = "fixed"
"""The role of what does not scale: no axis of it grows, or the user said so."""

ROLES = (*map(str, Role), FIXED)
"""What a user may declare a parameter to be."""

Roles = Mapping[str, str | Fan]
"""Declared roles by path: one of `ROLES`, or which axes are summed over."""


def declared(tensors: list[Parameter], roles: Roles) -> Roles:
    """Return the roles that a user declares, if they make sense.

    Raises:
        ScalingError: the model has no such parameter, or there is no such role.
    """
    names = {tensor.name for tensor in tensors}
    for name, role in roles.items():
        if name not in names:
            raise ScalingError(
                f"roles names {name!r}, which the model has not; its parameters are "
                f"{', '.join(sorted(names))}"
            )
        if not isinstance(role, Fan) and role not in ROLES:
            raise ScalingError(
                f"the role of {name!r} is {role!r}; it must be one of "
                f"{', '.join(ROLES)}, or a Fan(inputs=, outputs=)"
            )
    return roles


def case(tensor: Parameter, said: str | Fan | None) -> tuple[str, Fan]:
    """Return role and axes of a parameter, from its layer or as declared.

    Raises:
        ScalingError: no rule covers it, or it has no such axes.
    """
    axes = tuple(range(-len(tensor.shape), 0))
    grown = tuple(axis for axis in axes if tensor.grows[axis])
    if isinstance(said, str):
        return said, _declared_fan(tensor, said, grown)
    fan = said or fan_by_layer(tensor)
    if fan is None:
        if not grown:
            return FIXED, Fan((), ())
        raise ScalingError(_uncovered(tensor, grown))
    if any(-axis > len(tensor.shape) for axis in (*fan.inputs, *fan.outputs)):
        raise ScalingError(
            f"{tensor.name!r} has shape {tensor.shape}, which has no axes "
            f"{fan.inputs} and {fan.outputs}"
        )
    rest = [a for a in axes if a not in fan.inputs and a not in fan.outputs]
    if any(tensor.grows[axis] for axis in rest):
        raise ScalingError(
            f"{tensor.name!r} stacks layers along axis {rest[0]}, whose length grows "
            "with the width; how a number of layers or experts scales is another "
            "question than width: keep it constant"
        )
    if isinstance(tensor.owner, nnx.Embed) and tensor.growing((-2,)):
        raise ScalingError(
            f"the vocabulary of {tensor.name!r} grows with the width; it must be fixed"
        )
    return _role(tensor.growing(fan.inputs), tensor.growing(fan.outputs)), fan


def fan_by_layer(tensor: Parameter) -> Fan | None:
    """Return the axes of a parameter by its layer; None where no rule covers it."""
    return fan_of(tensor.owner, tensor.path[-1])


def _role(inputs: bool, outputs: bool) -> str:
    if inputs and outputs:
        return str(Role.HIDDEN)
    if inputs or outputs:
        return str(Role.OUTPUT if inputs else Role.INPUT)
    return FIXED


def _declared_fan(tensor: Parameter, role: str, grown: tuple[int, ...]) -> Fan:
    wanted = {FIXED: 0, Role.HIDDEN: 2}.get(role, 1)
    if role != FIXED and len(grown) < wanted:
        raise ScalingError(
            f"{tensor.name!r} is declared {role!r}, but of its axes "
            f"{len(grown)} grow; give a Fan(inputs=, outputs=) instead"
        )
    if role == FIXED:
        return fan_by_layer(tensor) or Fan((), ())
    if role == Role.HIDDEN:
        return Fan(grown[:-1], grown[-1:])
    return Fan(grown, ()) if role == Role.OUTPUT else Fan((), grown)


def _uncovered(tensor: Parameter, grown: tuple[int, ...]) -> str:
    guess = "hidden" if len(grown) > 1 else "input"
    return (
        f"{tensor.name!r} of shape {tensor.shape} belongs to a "
        f"{type(tensor.owner).__name__}, for which there is no rule (there are rules "
        f"for {', '.join(covered())}). Declare what it does:\n"
        f"    roles={{{tensor.name!r}: {guess!r}}}\n"
        "input: from a fixed size to one that grows (gains, biases, positions); "
        "hidden: between two that grow; output: from one that grows to a fixed one; "
        "fixed: leave it. Or name its axes: scaling.Fan(inputs=(-2,), outputs=(-1,))"
    )
