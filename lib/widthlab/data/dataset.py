"""A data set as an experiment trains on it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

if TYPE_CHECKING:
    from widthlab.data.spec import DataSpec


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Arrays ready for training, all read-only.

    Attributes:
        spec: The specification this was loaded from.
        x_train: Inputs, float32.
        y_train: Targets: int32 class indices, or float32 with one column an output.
        x_test: Test inputs, prepared with the training set's statistics.
        y_test: Test targets.
        classes: Names of the classes, by index.
        sha256: Names the content: SHA-256 over the decoded integers actually used and
            the canonical JSON of the spec. Floats are left out on purpose: they follow
            from these two, and their last bits may depend on the platform.
    """

    spec: DataSpec
    x_train: Float[np.ndarray, "n d"]
    y_train: Shaped[np.ndarray, "n ..."]
    x_test: Float[np.ndarray, "m d"]
    y_test: Shaped[np.ndarray, "m ..."]
    classes: tuple[str, ...]
    sha256: str

    def __post_init__(self) -> None:
        """Make the arrays read-only: they are cached and shared."""
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            array.setflags(write=False)

    @property
    def input_dim(self) -> int:
        """Length of one input row."""
        return self.x_train.shape[1]

    @property
    def output_dim(self) -> int:
        """Number of network outputs the targets ask for."""
        return self.spec.output_dim
