"""What compiling gave before.

Purpose: a selector is compiled once, however many claims hold it; an error is kept like a success.

Flow: the least recently used outcomes go first, when there are too many or their texts are too long
together.

Limits: a compiled selector takes up to half a kilobyte for each character of its text, so that the texts
bound the memory: some hundred bytes for each of a typical selector's hundred characters.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T")
_ENTRIES = 2048
_CHARACTERS = 256 * 1024


class Outcomes(Generic[_T]):
    """Outcomes by text and whatever else decides them; for any number of threads."""

    def __init__(self, *, entries: int = _ENTRIES, characters: int = _CHARACTERS) -> None:
        self._entries = entries
        self._characters = characters
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, Hashable], _T] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, text: str, other: Hashable, make: Callable[[], _T]) -> _T:
        """Give the outcome for a text, made now if it is not known."""
        key = (text, other)
        with self._lock:
            known = self._held.get(key)
            if known is not None:
                self._held.move_to_end(key)
                return known
        made = make()
        with self._lock:
            if key not in self._held:
                self._held[key] = made
                self._length += len(text)
            while len(self._held) > self._entries or self._length > self._characters:
                (oldest, _), _ = self._held.popitem(last=False)
                self._length -= len(oldest)
        return made
