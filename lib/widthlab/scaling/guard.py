"""Is an optimizer of optax the one for which a model was scaled?"""

from __future__ import annotations

from typing import Any

import jax

from widthlab.scaling.errors import ScalingError
from widthlab.scaling.plans import ScalingPlan
from widthlab.scaling.survey import path_of

_STATES = {
    "ScaleByAdamState": ("adam", "adamw"),
    "ScaleByLionState": ("lion",),
    "FactoredState": ("adafactor",),
    "MuonState": ("muon",),
    "TraceState": ("momentum",),
}
_OTHERS = "ScaleBy"
"""With what optax's names of other rules' states begin: RMSprop, Adagrad, Adadelta."""

_NEUTRAL = ("ScaleByScheduleState",)

# What a rule need not keep, or keeps beside others.
_NEEDED = {
    "adam": "ScaleByAdamState",
    "adamw": "ScaleByAdamState",
    "lion": "ScaleByLionState",
    "adafactor": "FactoredState",
    "muon": "MuonState",
    "momentum": "TraceState",
}


def refuse_other(made: ScalingPlan, state: Any) -> None:
    """Refuse another optimizer than the plan's, as what it keeps says.

    Raises:
        ScalingError: it keeps what the plan's does not, or lacks what that needs.
    """
    kept: list[Any] = []

    def visit(node: Any) -> bool:
        name = type(node).__name__
        other = name.startswith(_OTHERS) and name not in _NEUTRAL
        if name in _STATES or other:
            kept.append(node)
        return False

    jax.tree.flatten(state, is_leaf=visit)
    names = [type(node).__name__ for node in kept]
    wanted = made.optimizer
    needed = _NEEDED.get(wanted)
    # Muon trains what is no matrix with Adam.
    allowed = {needed, "ScaleByAdamState"} if wanted == "muon" else {needed}
    wrong = [name for name in names if name not in allowed]
    if wrong or (needed is not None and needed not in names):
        said = f"it keeps {', '.join(wrong)}" if wrong else f"it keeps no {needed}"
        likely = _STATES.get(wrong[0], ("",))[0] if wrong else "sgd"
        if not likely:
            remedy = f"no rule here is that one's, so give {wanted!r}"
        else:
            remedy = f"say parametrize(..., optimizer={likely!r}), or give the former"
        raise ScalingError(
            f"the model was scaled for {wanted!r}, and this optimizer is another: "
            f"{said}; {remedy}"
        )
    if wanted == "muon":
        _check_muon(made, next(n for n in kept if type(n).__name__ == "MuonState"))


def _check_muon(made: ScalingPlan, state: Any) -> None:
    paths = {path_of(k) for k, _ in jax.tree_util.tree_flatten_with_path(state.mu)[0]}
    if paths != {row.tensor.path for row in made.rows if row.matrix}:
        raise ScalingError(
            "the spectral rule is for hidden matrices alone: write optax.contrib.muon("
            "..., muon_weight_dimension_numbers=scaled.matrices)"
        )
