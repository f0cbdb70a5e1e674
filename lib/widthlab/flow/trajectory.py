"""What solving a flow leaves: a `Trajectory`, and many of them as one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """What solving a flow left.

    Attributes:
        times: times of the observations, rounded to whole steps by `Descent`.
        observed: for each quantity, its value at each time; NaN at times that were not
            reached.
        final: the last state, at time `reached`.
        last: the quantities in that state.
        reached: time at which the solution ended.
        status: "finished" at the last time; "stopped" before it, below the loss that
            was asked for; or "failed" (a state that is not finite, or an integration
            that ran out of steps).
        steps: number of steps taken.
    """

    times: np.ndarray
    observed: Mapping[str, np.ndarray] = field(repr=False)
    final: Any = field(repr=False)
    last: Mapping[str, Any] = field(repr=False)
    reached: float
    status: str
    steps: int
    _interpolation: Any = field(default=None, repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """The scalar observations in long form: time, quantity, value."""
        import pandas as pd

        scalars = {name: v for name, v in self.observed.items() if np.ndim(v) == 1}
        wide = pd.DataFrame({"time": self.times, **scalars})
        return wide.melt("time", var_name="quantity").dropna(ignore_index=True)

    @property
    def failed(self) -> bool:
        """Whether the solution ended for no good reason."""
        return self.status == "failed"

    def at(self, time: float) -> Any:
        """Return the state at any time up to `reached`.

        Raises:
            ValueError: the solution is not dense, or does not reach that far.
        """
        if self._interpolation is None:
            raise ValueError(
                "this trajectory has no interpolation; solve with Adaptive(dense=True)"
            )
        if not 0 <= time <= self.reached:
            raise ValueError(
                f"time is {time}; this trajectory reaches from 0 to {self.reached}"
            )
        # diffrax mixes integers with floats, and would compute in single precision.
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            return jax.tree.map(np.asarray, self._interpolation.evaluate(time))


def frame(
    runs: Mapping[Any, Iterable[Trajectory]], by: str | tuple[str, ...] = "width"
) -> pd.DataFrame:
    """Join trajectories into one table in long form.

    Args:
        runs: trajectories in order of seeds, for each width or other case.
        by: the column, or columns, that cases stand in.

    Returns:
        One row for each scalar observation, with these columns, `seed`, `time`,
        `quantity`, `value`, `status` and `reached`.
    """
    import pandas as pd

    parts = []
    for case, trajectories in runs.items():
        named = {by: case} if isinstance(by, str) else dict(zip(by, case, strict=True))
        for seed, run in enumerate(trajectories):
            columns = {"seed": seed, "status": run.status, "reached": run.reached}
            parts.append(run.table.assign(**named, **columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
