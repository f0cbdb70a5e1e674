"""What happens to each parameter of a model: the rows of the printed table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import nnx

from widthlab.parametrization import Parametrization, Role, get
from widthlab.scaling import rules
from widthlab.scaling.blocks import BuildDeep, of_depth
from widthlab.scaling.cases import FIXED, Roles, case, declared, fan_by_layer
from widthlab.scaling.depths import (
    Deepened,
    Depth,
    DepthFactors,
    deepened,
    depth_factors,
)
from widthlab.scaling.errors import ScalingError, integers
from widthlab.scaling.fans import Fan
from widthlab.scaling.laws import Sizes, StartingLaw, laws, measure
from widthlab.scaling.survey import (
    Build,
    Parameter,
    Path,
    Width,
    abstract,
    look,
    shapes,
    survey,
)
from widthlab.scaling.tied import multipliers, unsaid


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
        depth: how deep the model is, where `build` has a depth.
    """

    parametrization: Parametrization
    optimizer: str
    width: Any
    base_width: Any
    rows: tuple[ParameterRow, ...]
    multipliers: Mapping[str, float]
    depth: Depth | None = None

    @property
    def by_path(self) -> dict[Path, ParameterRow]:
        """The rows by the path of their parameter."""
        return {row.tensor.path: row for row in self.rows}

    def plain(self) -> ScalingPlan:
        """Return the plan of a model that is left as the user has it."""
        rows = tuple(row._replace(init=1.0, lr=1.0) for row in self.rows)
        return self._replace(rows=rows)


def plan(
    build: Build | BuildDeep,
    parametrization: str | Parametrization,
    *,
    width: Width,
    base_width: Width,
    optimizer: str = "adam",
    roles: Roles | None = None,
    tied: bool | None = None,
    depth: Depth | None = None,
    sizes: Sizes | None = None,
    deep: Deepened | None = None,
) -> ScalingPlan:
    """Return what scaling a model from its base width does to each parameter.

    Arguments and errors are those of `widthlab.scaling.parametrize`; `sizes` are what
    `measure` found at this base width (and base depth), and `deep` is what was found
    at this depth, where they are known already.
    """
    table = parametrization
    if isinstance(table, str):
        table = get(table)
    rule = rules.rule_of(optimizer)
    _sizes(width, base_width)
    if depth is not None and deep is None:
        deep = _looked(build, table, base_width, depth)
    at_base = of_depth(build, depth and depth.base)
    looked = look(at_base, base_width) if sizes is None else sizes.looked
    tensors = survey(at_base, width, looked)
    said = declared(tensors, roles or {})
    cases = [case(tensor, said.get(tensor.name)) for tensor in tensors]
    rules.usable(table, rule, any(role == Role.HIDDEN for role, _ in cases))
    # By their layers: a read-out that is declared something else is one still.
    reads_out = any(case(t, None)[0] == Role.OUTPUT for t in tensors if fan_by_layer(t))
    factors = multipliers(looked.model, tensors, table, rule, tied, reads_out)
    known = tied is not None or any(role == Role.OUTPUT for role, _ in cases)
    if not (reads_out or factors or known):
        unsaid(tensors)
    if sizes is None:
        sizes = measure(at_base, base_width, looked=looked)
    starts = laws(at_base, tensors, sizes, width, base_width)
    scores = _scores(looked.model, tensors, table)
    rows = [
        _row(table, rule, tensor, role, fan, starts[tensor.path], scores)
        for tensor, (role, fan) in zip(tensors, cases, strict=True)
    ]
    if depth is not None and deep is not None:
        extra = depth_factors(deep, depth, rule, sizes.logs)
        rows = _deep_rows(rows, deep, extra, depth)
        _as_deep(rows, of_depth(build, depth.now), width, depth)
    return ScalingPlan(table, optimizer, width, base_width, tuple(rows), factors, depth)


def _looked(
    build: Build | BuildDeep, table: Parametrization, base_width: Width, depth: Depth
) -> Deepened:
    if table.name != "mup":
        raise ScalingError(
            f"how depth scales is known for 'mup' alone, and not for {table.name!r}: "
            "leave depth out, and let build make models of one depth"
        )
    return deepened(build, base_width, depth)


def _deep_rows(
    rows: list[ParameterRow], deep: Deepened, extra: DepthFactors, depth: Depth
) -> list[ParameterRow]:
    """Return a row for each parameter of the deep model: that of the first block."""
    known, found = {row.tensor.path: row for row in rows}, []
    for path, begin in deep.blocks.first.items():
        row, here = known[begin], deep.blocks.shapes[path]
        old = row.tensor
        # A stack of layers has an axis as long as the model is deep.
        shape = tuple(
            wide * now // base if base else wide
            for wide, now, base in zip(old.shape, here, old.base, strict=True)
        )
        tensor = old._replace(path=path, base=here, shape=shape)
        init, lr = extra.init.get(path, 1.0), extra.lr.get(path, 1.0)
        why = row.why if init == lr == 1.0 else f"{row.why}; depth"
        found.append(
            row._replace(tensor=tensor, init=row.init * init, lr=row.lr * lr, why=why)
        )
    return found


def _as_deep(rows: list[ParameterRow], here: Build, width: Width, depth: Depth) -> None:
    """Refuse a model that is another where both width and depth are other ones."""
    wanted = {row.tensor.path: row.tensor.shape for row in rows}
    found = shapes(abstract(here, width))
    odd = [path for path in {**wanted, **found} if wanted.get(path) != found.get(path)]
    if odd:
        raise ScalingError(
            f"at width {width} and depth {depth.now} {'.'.join(map(str, odd[0]))!r} "
            f"has shape {found.get(odd[0])}, where what width and depth do each alone "
            f"promises {wanted.get(odd[0])}"
        )


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
    integers("widths", sizes)


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
