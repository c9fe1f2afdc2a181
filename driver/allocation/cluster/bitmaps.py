"""Sets of devices as Python ints, and questions about all nodes at once.

Purpose: bit k of a bitmap stands for device number k; what holds for 40,000 devices is 5 KB, and `&` on it
takes less than a microsecond.

Flow: `bitmap` and `bits` convert; `Segments` knows which numbers belong to one node and answers "which nodes
have at least n of these" by a few additions over all nodes.

Limits: the numbers of one node are contiguous; numbers between nodes may be unused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_FEW = 8
_PLACES = tuple(tuple(place for place in range(8) if byte >> place & 1) for byte in range(256))


def bitmap(numbers: Iterable[int]) -> int:
    """Make the bitmap of some numbers."""
    wanted = list(numbers)
    if len(wanted) <= _FEW:
        result = 0
        for number in wanted:
            result |= 1 << number
        return result
    content = bytearray(max(wanted) // 8 + 1)
    for number in wanted:
        content[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(content, "little")


def content_of(some: int) -> bytes:
    """Give the bytes of a bitmap, lowest numbers first."""
    return some.to_bytes((some.bit_length() + 7) // 8, "little")


def bits(some: int) -> Iterator[int]:
    """Give the numbers of a bitmap in order."""
    for place, byte in enumerate(content_of(some)):
        if byte:
            for bit in _PLACES[byte]:
                yield place * 8 + bit


def span(start: int, stop: int) -> int:
    """Make the bitmap of the numbers from `start` up to, not including, `stop`."""
    return ((1 << (stop - start)) - 1) << start


def part(content: bytes, start: int, stop: int) -> int:
    """Cut the numbers from `start` up to, not including, `stop` out of the bytes of a bitmap."""
    found = int.from_bytes(content[start >> 3 : (stop + 7) >> 3], "little")
    return (found >> (start & 7)) & ((1 << (stop - start)) - 1)


class Segments:
    """Which numbers belong together: those of one node are a segment.

    The highest number of a segment stands for the segment in what `tops` gives. Adding "all but the highest"
    to a segment carries into its highest bit exactly if one of the lower bits is set, and never further: so
    one addition of long ints asks all segments at once.
    """

    def __init__(self) -> None:
        self.highest = 0
        self.lower = 0
        # The lowest numbers of the segments of each width.
        self._lowest: dict[int, int] = {}

    def add(self, start: int, stop: int) -> None:
        """Make a segment of at least one number."""
        self.highest |= 1 << (stop - 1)
        self.lower |= span(start, stop - 1)
        self._lowest[stop - start] = self._lowest.get(stop - start, 0) | 1 << start

    def remove(self, start: int, stop: int) -> None:
        """Forget a segment."""
        self.highest &= ~(1 << (stop - 1))
        self.lower &= ~span(start, stop - 1)
        self._lowest[stop - start] &= ~(1 << start)

    def alike(self, every: Iterable[int], start: int, stop: int) -> int:
        """Mark the segments that have the same places in each of some bitmaps as one segment has.

        A multiplication writes what the segment has into all segments of its width.
        """
        lowest = self._lowest[stop - start]
        mask = (1 << (stop - start)) - 1
        different = 0
        for some in every:
            different |= some ^ lowest * (some >> start & mask)
        return lowest << (stop - start - 1) & ~self.tops(different)

    def without_lowest(self, some: int) -> int:
        """Take the lowest number of each segment out of a bitmap."""
        return some & ((some & self.lower) + self.lower)

    def tops(self, some: int, count: int = 1) -> int:
        """Mark the segments that have at least so many numbers in a bitmap, one or more."""
        some &= self.lower | self.highest
        for _ in range(count - 1):
            if not some:
                return 0
            some = self.without_lowest(some)
        return (((some & self.lower) + self.lower) | some) & self.highest
