"""What data sets have in common that are drawn from a law by name."""

from __future__ import annotations

from typing import ClassVar


class _DrawnByName:
    """What an experiment asks of its data, as of a `DataSpec`, for inputs of a law.

    A specification inherits it and has the fields below.
    """

    __slots__ = ()

    task: str
    dim: int
    n_test: int

    variant: ClassVar[str] = "plain"

    def __attrs_post_init__(self) -> None:
        """Refuse a task in too few dimensions."""
        if self.task == "xor" and self.dim < 2:
            raise ValueError(f"dim is {self.dim}; for xor it must be at least 2")

    @property
    def name(self) -> str:
        """What the data are called: the task."""
        return self.task

    @property
    def test_size(self) -> int:
        """Number of test inputs."""
        return self.n_test

    @property
    def input_dim(self) -> int:
        """Length of an input."""
        return self.dim
