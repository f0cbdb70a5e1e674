"""Is a model random when it runs?"""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx

from widthlab.scaling.errors import ScalingError
from widthlab.scaling.survey import by_path


def refuse_noise(model: nnx.Module, before: Any, after: Any) -> None:
    """Refuse a model that is random when it runs.

    What training changes is seen as a difference of two outputs, in which fresh noise
    would be level at any width: a model that is not scaled at all would look right.

    Args:
        model: without numbers, perhaps.
        before: what it has beside parameters, before it ran.
        after: the same after it ran.

    Raises:
        ScalingError: random numbers were drawn in between.
    """
    had, has = by_path(before), by_path(after)
    for path, _ in nnx.to_flat_state(nnx.state(model, nnx.RngCount)):
        if not np.array_equal(had[path], has[path]):
            raise ScalingError(
                f"{'.'.join(map(str, path[:-1]))!r} draws random numbers when the "
                "model runs, as dropout does: their noise would be taken for what "
                "training changes. Turn it off, with model.eval() inside build or a "
                "rate of zero"
            )
