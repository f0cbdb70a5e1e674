"""What models of several sizes do, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import optax

from widthlab.scaling.activity import Activity, measure_activity
from widthlab.scaling.draws import Draw, keys_of
from widthlab.scaling.observed import ModelLoss
from widthlab.scaling.plans import ScalingPlan

if TYPE_CHECKING:
    import pandas as pd


class Setting(NamedTuple):
    """How models are trained and looked at.

    Attributes:
        batch: what the loss takes.
        loss: `loss(model, batch)`.
        tx: the optimizer.
        steps: of training.
        seeds: one a model.
        together: seeds that are trained at a time.
        read_outs: layers that start at zero for training.
    """

    batch: Any
    loss: ModelLoss
    tx: optax.GradientTransformation
    steps: int
    seeds: tuple[int, ...]
    together: int
    read_outs: frozenset[str]


def measured(
    setting: Setting,
    draw: Draw,
    arms: Sequence[str],
    plans: Sequence[ScalingPlan],
    layers: Sequence[str],
) -> pd.DataFrame:
    """Measure models of one size under several plans, which have names.

    Returns:
        A row an arm, seed, module and quantity.
    """
    active = measure_activity(
        draw, plans, setting.tx, setting.batch, setting.loss, setting.steps,
        keys_of(setting.seeds), setting.together, setting.read_outs, layers,
    )  # fmt: skip
    return _rows(active, arms, setting.seeds)


def _rows(active: Activity, arms: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    columns = ["parametrization", "seed"]
    index = pd.MultiIndex.from_product([arms, seeds], names=columns)
    parts = []
    for quantity in ("start", "change", "own"):
        values = getattr(active, quantity)
        flat = {module: np.asarray(v).ravel() for module, v in values.items()}
        wide = pd.DataFrame(flat, index=index).reset_index()
        long = wide.melt(columns, var_name="module")
        parts.append(long.assign(quantity=quantity))
    return pd.concat(parts, ignore_index=True)
