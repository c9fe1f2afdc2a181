"""Objects in memory, read as those of an informer are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Objects by key, in memory, as `controller.admission.cluster.Cluster` reads them."""

    def __init__(self) -> None:
        self._held: dict[str, T] = {}
        self._handlers: list[Callable[[str, T | None, T | None], None]] = []

    def put(self, key: str, value: T) -> None:
        """Stores an object."""
        before, self._held[key] = self._held.get(key), value
        for handler in self._handlers:
            handler(key, before, value)

    def get(self, key: str) -> T | None:
        """The object of a key."""
        return self._held.get(key)

    def keys(self) -> list[str]:
        """All keys."""
        return list(self._held)

    def values(self) -> Iterator[T]:
        """All objects."""
        return iter(list(self._held.values()))

    def subscribe(self, handler: Callable[[str, T | None, T | None], None]) -> None:
        """Adds a handler of changes."""
        self._handlers.append(handler)
