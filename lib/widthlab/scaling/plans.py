"""What happens to each parameter of a model: the rows of the printed table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import nnx

from widthlab.parametrization import Parametrization, Role, get
from widthlab.scaling import rules
from widthlab.scaling.errors import ScalingError
from widthlab.scaling.fans import Fan, covered, fan_of
from widthlab.scaling.laws import Sizes, StartingLaw, laws, measure
from widthlab.scaling.survey import Build, Parameter, Path, Width, abstract, survey
from widthlab.scaling.tied import multipliers, unsaid

FIXED = "fixed"
"""The role of what does not scale: no axis of it grows, or the user said so."""

ROLES = (*map(str, Role), FIXED)
"""What a user may declare a parameter to be."""

Roles = Mapping[str, str | Fan]
"""Declared roles by path: one of `ROLES`, or which axes are summed over."""


class ParameterRow(NamedTuple):
    """What is done to one parameter.

    Attributes:
        tensor: the parameter.
        role: its role, "input", "hidden" or "output", or "fixed".
        fan: its axes.
        law: how its own initialiser starts it.
        init: factor on its initial values.
        lr: factor on its learning rate.
        retained: share of the initial values that is left after the first step.
        why: where the factors come from.
    """

    tensor: Parameter
    role: str
    fan: Fan
    law: StartingLaw
    init: float
    lr: float
    retained: float
    why: str

    @property
    def matrix(self) -> bool:
        """Whether it lies between two axes that grow, and is no stack of vectors."""
        return self.role == Role.HIDDEN


class ScalingPlan(NamedTuple):
    """What is done to a model: a row a parameter, and factors of multipliers.

    Attributes:
        parametrization: the table.
        optimizer: the update rule's name.
        width: the width, or several by name.
        base_width: where the model is the user's own.
        rows: the parameters, in the order of the model's state.
        multipliers: factor of each multiplier by its name.
    """

    parametrization: Parametrization
    optimizer: str
    width: Any
    base_width: Any
    rows: tuple[ParameterRow, ...]
    multipliers: Mapping[str, float]

    @property
    def by_path(self) -> dict[Path, ParameterRow]:
        """The rows by the path of their parameter."""
        return {row.tensor.path: row for row in self.rows}


def plan(
    build: Build,
    parametrization: str | Parametrization,
    *,
    width: Width,
    base_width: Width,
    optimizer: str = "adam",
    roles: Roles | None = None,
    tied: bool | None = None,
    sizes: Sizes | None = None,
) -> ScalingPlan:
    """Return what scaling a model from its base width does to each parameter.

    Arguments and errors are those of `widthlab.scaling.parametrize`; `sizes` are what
    was measured at this base width, where they are known already.
    """
    table = parametrization
    if isinstance(table, str):
        table = get(table)
    rule = rules.rule_of(optimizer)
    _sizes(width, base_width)
    tensors = survey(build, width, base_width)
    model = abstract(build, base_width)
    declared = _declared(tensors, roles or {})
    cases = [_case(tensor, declared.get(tensor.name)) for tensor in tensors]
    rules.usable(table, rule, any(role == Role.HIDDEN for role, _ in cases))
    # By their layers: a read-out that is declared something else is one still.
    reads_out = any(_case(t, None)[0] == Role.OUTPUT for t in tensors if _fan(t))
    factors = multipliers(model, tensors, table, rule, tied, reads_out)
    said = tied is not None or any(role == Role.OUTPUT for role, _ in cases)
    if not (reads_out or factors or said):
        unsaid(tensors)
    sizes = measure(build, base_width) if sizes is None else sizes
    starts = laws(build, tensors, sizes, width, base_width)
    scores = _scores(model, tensors, table)
    rows = [
        _row(table, rule, tensor, role, fan, starts[tensor.path], scores)
        for tensor, (role, fan) in zip(tensors, cases, strict=True)
    ]
    return ScalingPlan(table, optimizer, width, base_width, tuple(rows), factors)


def _sizes(width: Width, base_width: Width) -> None:
    both = [width, base_width]
    named = [isinstance(w, Mapping) for w in both]
    if named == [True, True] and set(width) == set(base_width):  # type: ignore[arg-type]
        sizes = [size for w in both for size in w.values()]  # type: ignore[union-attr]
    elif named == [False, False]:
        sizes = both
    else:
        raise ScalingError(
            f"width is {width} and base_width {base_width}; both are one number, or "
            "both mappings with the same names"
        )
    if any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in sizes):
        raise ScalingError(f"widths are {sizes}; each must be an integer from 1 on")


def _declared(tensors: list[Parameter], roles: Roles) -> Roles:
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


def _case(tensor: Parameter, declared: str | Fan | None) -> tuple[str, Fan]:
    """Role and axes of a parameter, from its layer or as declared."""
    axes = tuple(range(-len(tensor.shape), 0))
    grown = tuple(axis for axis in axes if tensor.grows[axis])
    if isinstance(declared, str):
        return declared, _declared_fan(tensor, declared, grown)
    fan = declared or _fan(tensor)
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


def _fan(tensor: Parameter) -> Fan | None:
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
        return _fan(tensor) or Fan((), ())
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


def _row(
    table: Parametrization,
    rule: rules.UpdateRule,
    tensor: Parameter,
    role: str,
    fan: Fan,
    law: StartingLaw,
    scores: Mapping[Path, float],
) -> ParameterRow:
    if role == FIXED:
        grown = any(tensor.grows)
        why = "declared fixed" if grown else "no axis grows"
        return ParameterRow(tensor, role, fan, law, 1.0, 1.0, 1.0, why)
    r_in, r_out = tensor.ratio(fan.inputs), tensor.ratio(fan.outputs)
    # A gain or a bias is what acts on the constant 1: it has no inputs at all.
    bias = not fan.inputs and role == Role.INPUT
    found = rules.factors(table, rule, Role(role), r_in, r_out, bias=bias)
    lr, why = found.lr, f"{table.label}, {role}" + (" (bias or gain)" if bias else "")
    if rule.update == "spectral" and role == Role.HIDDEN:
        fans = [
            tuple(_product(shape, axes) for axes in (fan.inputs, fan.outputs))
            for shape in (tensor.base, tensor.shape)
        ]
        lr, why = rules.spectral(*fans), why + "; orthogonal update"  # type: ignore[arg-type]
    if rule.update == "relative" and law.zero and role != Role.INPUT:
        raise ScalingError(
            f"{tensor.name!r} starts at zero, and Adafactor's step is relative to a "
            "parameter's size, which then has no width law: start it at random, or "
            "use optax.adafactor(..., multiply_by_parameter_scale=False) with "
            "optimizer='adam'"
        )
    size = found.size if law.zero else found.size / law.ratio
    extra = scores.get(tensor.path, 1.0)
    if extra != 1.0:
        size, why = size * extra, why + "; scores over d"
        lr *= {"gradient": extra**2, "relative": 1.0}.get(rule.update, extra)
    return ParameterRow(tensor, role, fan, law, size, lr, found.retained, why)


def _product(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    result = 1
    for axis in axes:
        result *= shape[axis]
    return result


def _scores(
    model: nnx.Module, tensors: list[Parameter], table: Parametrization
) -> dict[Path, float]:
    """Factor on queries by path, where the size of a head grows.

    It is the multiplier on attention scores, absorbed by what makes the queries.
    """
    by_path = {tensor.path: tensor for tensor in tensors}
    found: dict[Path, float] = {}
    for path, layer in nnx.iter_modules(model):
        if not isinstance(layer, nnx.MultiHeadAttention):
            continue
        if layer.attention_fn is not nnx.dot_product_attention:
            continue  # its own scale is the user's
        head = by_path[(*path, "query", "kernel")].ratio((-1,))
        factor = head ** -float(rules.scores_exponent(table))
        holders = ("query_ln",) if layer.normalize_qk else ("query",)
        for tensor in tensors:
            if tensor.path[: len(path)] == path and tensor.path[-2] in holders:
                found[tensor.path] = factor
    return found
