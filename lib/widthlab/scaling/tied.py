"""A tensor with two roles: an embedding that is the read-out too."""

from __future__ import annotations

import inspect
from types import CodeType, FunctionType
from typing import Any

import jax.numpy as jnp
from flax import nnx

from widthlab.parametrization import Parametrization
from widthlab.scaling import rules
from widthlab.scaling.errors import ScalingError
from widthlab.scaling.survey import Parameter

LOGITS = "logits"
"""The multiplier on the logits of a tied embedding."""


class Factor(nnx.Variable):
    """The number of a multiplier: part of the model, not trained."""


class Multiplier(nnx.Module):
    """A number that a model multiplies by, which scaling sets; 1 at the base width.

    What has two roles cannot absorb its multiplier. In the model's `__init__` write
    `self.scale = scaling.Multiplier("logits")`, and in its call
    `self.scale(self.embed.attend(x))`.

    Example:
        >>> float(Multiplier("logits")(jnp.full((), 3.0)))
        3.0
    """

    def __init__(self, name: str = LOGITS):
        """Name what is multiplied: "logits"."""
        if name != LOGITS:
            raise ScalingError(f"a Multiplier is of {LOGITS!r}, not of {name!r}")
        self.name = name
        self.factor = Factor(jnp.ones(()))

    def __call__(self, x: Any) -> Any:
        """Multiply."""
        return x * self.factor[...].astype(x.dtype)


def multipliers(
    model: nnx.Module,
    tensors: list[Parameter],
    table: Parametrization,
    rule: rules.UpdateRule,
    is_tied: bool | None,
    reads_out: bool,
) -> dict[str, float]:
    """Return the factor of each multiplier of a model.

    Where nobody says whether an embedding is the read-out too (`is_tied`), it is if the
    model's code calls `attend`, and no other parameter reads out (`reads_out`).

    Raises:
        ScalingError: a tied embedding without one, or one without a tied embedding.
    """
    here = [m for _, m in nnx.iter_modules(model) if isinstance(m, Multiplier)]
    embeddings = [t for t in tensors if isinstance(t.owner, nnx.Embed)]
    found = bool(embeddings) and not reads_out and _attends(model)
    found = found if is_tied is None else is_tied
    if found and not here:
        name = embeddings[0].name if embeddings else "the embedding"
        raise ScalingError(
            f"{name!r} is read as an embedding and as the read-out: one tensor with "
            "two roles, whose multiplier cannot be absorbed. Write in the model\n"
            '    self.scale = scaling.Multiplier("logits")       # in __init__\n'
            "    logits = self.scale(self.embed.attend(x))       # in __call__\n"
            "or say tied=False if it is not the read-out"
        )
    if here and not found:
        raise ScalingError(
            'the model has a Multiplier("logits"), and no embedding that is the '
            "read-out too: take it out, or say tied=True; an own read-out absorbs its "
            "multiplier"
        )
    if not here:
        return {}
    if not embeddings:
        raise ScalingError("tied=True, and the model has no nnx.Embed")
    ratio = embeddings[0].ratio((-1,))
    return {LOGITS: rules.tied_multiplier(table, rule, ratio)}


def unsaid(tensors: list[Parameter]) -> None:
    """Refuse a model with embeddings in which nothing is known to read out.

    An embedding can be multiplied by without `attend`, which no code of ours sees.

    Raises:
        ScalingError: there is an embedding; the message says what to say of it.
    """
    for tensor in tensors:
        if isinstance(tensor.owner, nnx.Embed):
            raise ScalingError(
                "no parameter leads from an axis that grows to a fixed size, so that "
                f"nothing reads out, unless {tensor.name!r} does: say tied=True if it "
                'is the read-out too, with a scaling.Multiplier("logits") on what it '
                "gives, and tied=False if the model has no read-out"
            )


def _attends(model: nnx.Module) -> bool:
    """Whether a class of the model calls `attend`, as its compiled code says."""
    kinds = {type(module) for _, module in nnx.iter_modules(model)}
    return any(
        "attend" in code.co_names
        for kind in kinds
        if not kind.__module__.startswith("flax.")
        for _, function in inspect.getmembers(kind, inspect.isfunction)
        for code in _codes(function)
    )


def _codes(function: FunctionType) -> list[CodeType]:
    found, queue = [], [function.__code__]
    while queue:
        found.append(queue.pop())
        queue += [c for c in found[-1].co_consts if isinstance(c, CodeType)]
    return found
