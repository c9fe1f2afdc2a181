"""A mapping that is never changed, and cheap to make another of.

Purpose: state of 40,000 entries of which each claim changes one, where the state before has to stay what it
was.

Flow: entries lie in chunks by the hash of their key; `changed` copies the chunks that it touches and the list
of chunks, about the square root of the size each.

Limits: None is no value; it stands for "not there" in changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_LEAST_CHUNKS = 16


class Persistent(Mapping[K, V]):
    """An immutable mapping."""

    __slots__ = ("_chunks", "_length", "_mask")

    def __init__(self, entries: Iterable[tuple[K, V]] = ()) -> None:
        known = dict(entries)
        count = _LEAST_CHUNKS
        while count * count < len(known):
            count *= 2
        chunks: list[dict[K, V]] = [{} for _ in range(count)]
        self._mask = count - 1
        for key, value in known.items():
            chunks[hash(key) & self._mask][key] = value
        self._chunks = chunks
        self._length = len(known)

    def changed(self, changes: Mapping[K, V | None]) -> Persistent[K, V]:
        """Give the mapping with some entries set, or removed where the value is None."""
        chunks = self._chunks.copy()
        length = self._length
        copied: set[int] = set()
        for key, value in changes.items():
            place = hash(key) & self._mask
            if place not in copied:
                copied.add(place)
                chunks[place] = chunks[place].copy()
            chunk = chunks[place]
            length -= len(chunk)
            if value is None:
                chunk.pop(key, None)
            else:
                chunk[key] = value
            length += len(chunk)
        if length > 16 * len(chunks) ** 2:
            return Persistent(entry for chunk in chunks for entry in chunk.items())
        result: Persistent[K, V] = Persistent.__new__(Persistent)
        result._chunks, result._mask, result._length = chunks, self._mask, length
        return result

    def __getitem__(self, key: K) -> V:
        return self._chunks[hash(key) & self._mask][key]

    def get(self, key: K, default: D | None = None) -> V | D | None:  # type: ignore[override]
        """Look a key up."""
        return self._chunks[hash(key) & self._mask].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._chunks[hash(key) & self._mask]

    def __iter__(self) -> Iterator[K]:
        for chunk in self._chunks:
            yield from chunk

    def __len__(self) -> int:
        return self._length
