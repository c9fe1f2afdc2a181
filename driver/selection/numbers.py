"""Numbers for devices.

Purpose: each device has a small number for as long as it exists; the bitmaps are as wide as the highest one.

Flow: the devices of one addition get adjacent numbers; numbers given back are joined with free neighbours
and handed out again, the lowest place that is wide enough first.

Limits: a place that is too narrow stays free until its neighbours are, so numbers can run up to a few times
the number of devices where the sizes of additions differ wildly; free numbers at the end are forgotten.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slots:
    """Adjacent numbers of the devices that were added together, in their order.

    Attributes:
        first: The number of the first device.
        count: How many there are.
    """

    first: int
    count: int

    @property
    def numbers(self) -> range:
        """The numbers."""
        return range(self.first, self.first + self.count)

    @property
    def bits(self) -> int:
        """The numbers as a bitmap."""
        return ((1 << self.count) - 1) << self.first


class Numbers:
    """Which numbers are taken."""

    def __init__(self) -> None:
        self.end = 0
        # Free places below `end`, sorted by their first numbers; no two of them touch.
        self._firsts: list[int] = []
        self._counts: list[int] = []

    def take(self, count: int) -> Slots:
        """Take adjacent numbers."""
        if count:
            for place, free in enumerate(self._counts):
                if free >= count:
                    return self._cut(place, count)
        first = self.end
        self.end += count
        return Slots(first, count)

    def give_back(self, slots: Slots) -> None:
        """Give numbers back."""
        if not slots.count:
            return
        first, count = slots.first, slots.count
        place = bisect.bisect_left(self._firsts, first)
        if place < len(self._firsts) and first + count == self._firsts[place]:
            count += self._counts[place]
            del self._firsts[place], self._counts[place]
        if place and self._firsts[place - 1] + self._counts[place - 1] == first:
            place -= 1
            first, count = self._firsts[place], count + self._counts[place]
            del self._firsts[place], self._counts[place]
        if first + count == self.end:
            self.end = first
        else:
            self._firsts.insert(place, first)
            self._counts.insert(place, count)

    def _cut(self, place: int, count: int) -> Slots:
        slots = Slots(self._firsts[place], count)
        if self._counts[place] == count:
            del self._firsts[place], self._counts[place]
        else:
            self._firsts[place] += count
            self._counts[place] -= count
        return slots
