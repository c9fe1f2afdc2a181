"""Sets of device numbers as Python ints.

Purpose: set algebra over all devices of a cluster in a microsecond: bit n stands for the device with number
n.

Flow: `bits_of` and `numbers_of` convert; `Bitmap` is a set that changes: changes are collected and put into
the int all at once when it is read next.

Limits: an int handed out never changes. A difference is written `a ^ (a & b)`, because Python computes `~b`
ten times slower than the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

# Below this, shifting single bits is faster than filling an array of bytes.
_FEW = 12
_PLACES = tuple(tuple(place for place in range(8) if byte >> place & 1) for byte in range(256))


def bits_of(numbers: Collection[int]) -> int:
    """Make the int of a set of numbers."""
    if len(numbers) <= _FEW:
        bits = 0
        for number in numbers:
            bits |= 1 << number
        return bits
    octets = bytearray((max(numbers) >> 3) + 1)
    for number in numbers:
        octets[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(octets, "little")


def numbers_of(bits: int) -> Iterator[int]:
    """Give the numbers of a set in order."""
    octets = bits.to_bytes((bits.bit_length() + 7) >> 3, "little")
    for place, octet in enumerate(octets):
        if octet:
            base = place << 3
            for offset in _PLACES[octet]:
                yield base + offset


def first_of(bits: int) -> int:
    """Give the lowest number of a set that is not empty."""
    return (bits & -bits).bit_length() - 1


def without(bits: int, removed: int) -> int:
    """Give what is in the first set and not in the second."""
    return bits ^ (bits & removed)


def merged(sets: Iterable[int]) -> int:
    """Give what is in any of some sets."""
    bits = 0
    for one in sets:
        bits |= one
    return bits


class Bitmap:
    """A set of numbers that changes little by little and is read as an int."""

    __slots__ = ("_bits", "_changes", "_sample", "count")

    def __init__(self, numbers: Collection[int] = ()) -> None:
        self._bits = bits_of(numbers)
        self._changes: dict[int, bool] = {}
        self._sample = -1
        self.count = len(numbers)

    def add(self, number: int) -> None:
        """Add a number that is not in the set."""
        self._changes[number] = True
        self.count += 1

    def remove(self, number: int) -> None:
        """Remove a number that is in the set."""
        self._changes[number] = False
        self.count -= 1
        if number == self._sample:
            self._sample = -1

    @property
    def bits(self) -> int:
        """The set as an int."""
        if self._changes:
            self._apply()
        return self._bits

    @property
    def sample(self) -> int:
        """Any number of the set, which must not be empty."""
        if self._sample < 0:
            self._sample = first_of(self.bits)
        return self._sample

    def _apply(self) -> None:
        added = bits_of([number for number, there in self._changes.items() if there])
        removed = bits_of([number for number, there in self._changes.items() if not there])
        self._bits = without(self._bits | added, removed)
        self._changes.clear()
