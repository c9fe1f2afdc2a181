"""What readers need of an informer, and a view of a part of what one keeps.

Purpose: one informer of a kind for each process, however many readers want other things of it: each watch
costs the API server, and each store memory.

Flow: `Store` is the seam, `Objects` for those who only read, `Watched` for those who also have to know of
changes; `Part` gives a reader its part of the objects of another reader's store.

Limits: a part is worked out anew each time it is asked for, so it has to be cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from driver.kube.client import JSON
from driver.kube.informer import Handler

S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Objects(Protocol[T_co]):
    """The objects of a kind, to be read."""

    def get(self, key: str) -> T_co | None:
        """What is stored for `namespace/name` (or `name` of a cluster-scoped object)."""

    def keys(self) -> list[str]:
        """All keys, as a copy."""

    def values(self) -> Iterator[T_co]:
        """All that is stored; it must not change meanwhile."""


class Watched(Objects[T_co], Protocol[T_co]):
    """The objects of a kind, and word of their changes."""

    def subscribe(self, handler: Handler[T_co]) -> None:
        """Adds a handler of changes."""


class Store(Watched[T_co], Protocol[T_co]):
    """The objects of a kind, kept up to date."""

    def observe(self, document: JSON) -> None:
        """Takes over the answer to a write."""


class Part(Generic[S, T]):
    """A part of the objects of a store, as a store of its own."""

    def __init__(self, store: Store[S], part: Callable[[S], T | None]) -> None:
        """Prepares a view.

        Args:
            store: Where the objects are.
            part: What is seen of each; None where there is nothing to be seen.
        """
        self._store = store
        self._part = part

    def get(self, key: str) -> T | None:
        """See `Objects`."""
        return self._of(self._store.get(key))

    def keys(self) -> list[str]:
        """See `Objects`."""
        return [key for key in self._store.keys() if self.get(key) is not None]  # noqa: SIM118 - a store, no dict

    def values(self) -> Iterator[T]:
        """See `Objects`."""
        parts = map(self._part, self._store.values())
        return (part for part in parts if part is not None)

    def subscribe(self, handler: Handler[T]) -> None:
        """See `Store`; the handler is told also where its part has not changed."""

        def handle(key: str, before: S | None, after: S | None) -> None:
            was, now = self._of(before), self._of(after)
            if was is not None or now is not None:
                handler(key, was, now)

        self._store.subscribe(handle)

    def observe(self, document: JSON) -> None:
        """See `Store`."""
        self._store.observe(document)

    def _of(self, found: S | None) -> T | None:
        return None if found is None else self._part(found)
