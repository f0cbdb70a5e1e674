"""What every kind of run has in common: the interface of specifications.

Training (`Experiment`), gradient flows (`FlowRun`) and computations of one's own
(`Computed`) are its kinds. `sweep` runs them all, and store, archive and
executors know nothing else of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from widthlab.canonical import digest
from widthlab.runs.provenance import code_version, named

if TYPE_CHECKING:
    from widthlab.runs.record import Record


class Spec(ABC):
    """Something that is computed once and kept: frozen, hashable, and as plain JSON.

    Attributes:
        kind: what it is, as the book counts it: "runs", "flows" or "computations".
        together: how many run in one cell on CPU, at most; None is all that can.
        fills_up: whether a cell may be filled up with None, to a power of two, so that
            cells of different sizes share their program.
    """

    __slots__ = ()

    kind: ClassVar[str]
    together: ClassVar[int | None] = None
    fills_up: ClassVar[bool] = False

    @property
    @abstractmethod
    def program(self) -> Hashable:
        """What specifications have in common that may run together in one cell."""

    @property
    def key(self) -> str:
        """Name of the record: a hash of the specification and the library's source."""
        return named(self.to_json(), code_version())

    @property
    def columns(self) -> Mapping[str, Any]:
        """What tells its record apart in a table of many."""
        return {}

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, which decide everything that the record holds."""

    @classmethod
    @abstractmethod
    def run_cell(cls, cell: Sequence[Any]) -> list[Record]:
        """Run what has one program, and return a record of each in order."""


@dataclass(frozen=True, slots=True)
class Described:
    """A specification read back of which only the description is known.

    A record of a flow says what was computed by hashes, from which nothing can be
    computed again.
    """

    kind: str
    description: Mapping[str, Any]

    @property
    def columns(self) -> Mapping[str, Any]:
        """Nothing that a table could say."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return the description."""
        return dict(self.description)


def identity(spec: Spec | Described) -> str:
    """Name a specification by what it means, whatever the source: a hash of its JSON.

    The store's keys hold the version of the library too; an archive's do not.
    """
    return digest(spec.to_json())
