"""What there is of one kind, by name: the library's own, and what a chapter registers.

Probes, activations, losses, data sets, tasks and streams are found by name. What is not
the library's own is a plug-in: its source goes into the key of every record made with
it, and it travels to the workers of a sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from widthlab.source import source_sha256

Item = TypeVar("Item")

REGISTRIES: dict[str, Registry[Any]] = {}
"""All registries of this process, by kind."""


class Registry(Mapping[str, Item]):
    """The items of one kind by name, in order of registration.

    A name means one thing as long as the process lives, since programs are compiled,
    and moments cached, under it.
    """

    def __init__(self, kind: str, how: str, builtin: Mapping[str, Item]):
        """Begin with the library's own; `how` names the function that adds others."""
        self.kind, self.how = kind, how
        self.builtin = MappingProxyType(dict(builtin))
        self._own: dict[str, Item] = {}
        self._sources: dict[str, str] = {}
        self._adopted: set[str] = set()
        REGISTRIES[kind] = self

    def __getitem__(self, name: str) -> Item:
        return self._own[name] if name in self._own else self.builtin[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self.builtin, *self._own))

    def __len__(self) -> int:
        return len(self.builtin) + len(self._own)

    def find(self, name: str) -> Item:
        """Return an item by name.

        Raises:
            ValueError: there is none of that name.
        """
        if name not in tuple(self):
            raise ValueError(
                f"no {self.kind} is called {name!r}; there are {', '.join(self)}, and "
                f"{self.how} registers one's own in every process that asks for it"
            )
        return self[name]

    def known(self, name: str) -> str:
        """Return a name that there is, as a rule of `fields.known` does."""
        self.find(name)
        return name

    def register(self, name: str, item: Item) -> Item:
        """Add an item, or the very same one again: a cell may be executed twice.

        Raises:
            ValueError: the name is taken.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"a {self.kind} is registered as {name!r}; give a name")
        if name in self.builtin:
            raise ValueError(
                f"the library has a {self.kind} called {name!r}; give yours another "
                "name"
            )
        # By source: a cell that runs again defines the same thing as a new object.
        if name in self._own and source_sha256(item) != self.source(name):
            raise ValueError(
                f"another {self.kind} is registered as {name!r}, and programs are "
                "compiled under its name; give this one another, or restart the process"
            )
        self._own[name] = item
        return item

    def own(self) -> dict[str, Item]:
        """Return what is registered here and is not the library's own."""
        return dict(self._own)

    def adopt(self, name: str, item: Item, source: str) -> None:
        """Register what another process has registered, with the hash found there.

        There may be no text of the source here: a notebook's is in its kernel alone.
        """
        # A worker outlives sweeps, and has compiled programs under the name by then.
        if self._sources.get(name, source) != source:
            raise ValueError(
                f"this worker has used another {self.kind} called {name!r} than the "
                "process that sent it work has; give it another name, or start the "
                "workers anew"
            )
        if name not in self._sources:
            self._own[name], self._sources[name] = item, source
            self._adopted.add(name)

    def source(self, name: str) -> str | None:
        """Return the SHA-256 of a plug-in's source; None for the library's own.

        Raises:
            ValueError: what it refers to has changed since it was first asked for.
        """
        if name not in self._own:
            return None
        if name in self._adopted:
            return self._sources[name]
        now = source_sha256(self._own[name])
        if self._sources.setdefault(name, now) != now:
            raise ValueError(
                f"the {self.kind} {name!r} is not what it was: its source, or a "
                "function or number that it refers to, has changed since programs were "
                "compiled under its name; register it under another, or restart the "
                "process"
            )
        return now

    def holds(self, name: str, item: Item) -> bool:
        """Tell whether a name stands for this item, or for one with the same source."""
        if name not in self:
            return False
        return self[name] is item or source_sha256(item) == self.source(name)


def sources(used: Iterable[tuple[Registry[Any], str]]) -> dict[str, str]:
    """Return the hashes of those items that are plug-ins, by kind and name."""
    hashes = ((f"{r.kind} {name}", r.source(name)) for r, name in used)
    return {what: source for what, source in hashes if source is not None}
