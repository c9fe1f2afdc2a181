"""One object for what is equal.

Purpose: decoded JSON has a string of its own for each of 40,000 devices that say "nvidia"; what is kept of
them should not.

Flow: a `Sharing` is asked for the object that stands for another (`one`, `pair`, `mapping`), or for what was
made for a key before (`made`).

Limits: sharing changes nothing but memory, so what it knows may be forgotten at any time; it is, whenever
there are more than `MAX_KNOWN` entries. Only values that are the same in every respect stand for each other:
texts, numbers, truth values and versions. Shared objects must never be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from driver.cel.versions import Version

T = TypeVar("T")

MAX_KNOWN = 200_000

_SHARED_TYPES = frozenset({str, int, bool, Version})


class Sharing:
    """Objects known so far."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def one(self, value: T) -> T:
        """Give the object that stands for a value, the first of its kind that was seen."""
        kind = type(value)
        if kind is str:
            return self.made(value, lambda: value)
        return self.made((kind, value), lambda: value) if kind in _SHARED_TYPES else value

    def pair(self, name: str, value: Any) -> tuple[str, Any]:
        """Give the tuple that stands for a name and a value."""
        if type(value) not in _SHARED_TYPES:
            return self.one(name), value
        return self.made((type(value), name, value), lambda: (self.one(name), self.one(value)))

    def mapping(self, values: dict[str, Any]) -> dict[str, Any]:
        """Give the mapping that stands for another, made of shared names and values."""
        shared = {self.one(name): self.one(value) for name, value in values.items()}
        if any(type(value) not in _SHARED_TYPES for value in shared.values()):
            return shared
        # Many mappings stand for themselves alone; a number as key costs less than all of their content.
        key = (dict, hash(tuple(shared.items())))
        found = self.made(key, lambda: shared)
        return found if _same(found, shared) else shared

    def made(self, key: Hashable, make: Callable[[], T]) -> T:
        """Give what was made for a key before, or make it."""
        found: T | None = self._known.get(key)
        if found is None:
            found = make()
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = found
        return found


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one == other and all(type(value) is type(other[name]) for name, value in one.items())
