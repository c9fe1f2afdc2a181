"""What was used last.

Purpose: what took work is kept, within bounds that a hostile user cannot move.

Flow: `find` what was kept; `keep` it otherwise, which may make what nobody has used for the longest time go.

Limits: two bounds: how many there are, and what they weigh together. The weight of what comes from a
selector is the length of its text, since what is made of it grows with that.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(Generic[_K, _V]):
    """A table of what was used last.

    Args:
        count: How many are kept.
        weight: What they may weigh together.
    """

    def __init__(self, *, count: int, weight: int) -> None:
        self._count = count
        self._weight = weight
        self._weighs = 0
        self._table: OrderedDict[_K, tuple[_V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def find(self, key: _K) -> _V | None:
        """Give what is kept under a key."""
        found = self._table.get(key)
        if found is None:
            return None
        self._table.move_to_end(key)
        return found[0]

    def keep(self, key: _K, value: _V, *, weight: int) -> None:
        """Keep something under a key that nothing is kept under; the newest is always kept."""
        self._table[key] = (value, weight)
        self._weighs += weight
        while len(self._table) > 1 and (len(self._table) > self._count or self._weighs > self._weight):
            _, (_, gone) = self._table.popitem(last=False)
            self._weighs -= gone
