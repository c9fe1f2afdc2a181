"""How much of a capacity each device has left, comparable for all devices at once.

Purpose: "which devices have at least this much" in time that depends neither on how many devices there are
nor on how many different amounts, and an update that touches one device only.

Flow: an `Amounts` holds one bitmap for each binary digit; `at_least` compares digit by digit, `changed` gives
a new one that shares all digits that stayed.

Limits: amounts are whole numbers of at least 0, in nanos; a device that has less, or no such capacity, is not
known. Digits count in MiB, in ones and in nanos, so that amounts of whole MiB and of whole percent, which are
nearly all there are, have few digits that are not 0 everywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from driver.allocation.cluster.bitmaps import bitmap

_NANO = 10**9
_MI = 1 << 20
_NANO_DIGITS = 30
_ONE_DIGITS = 20


def _counted(nanos: int) -> int:
    """Write an amount so that MiB, ones and nanos have digits of their own; larger stays larger."""
    ones, rest = divmod(nanos, _NANO)
    mebi, ones = divmod(ones, _MI)
    return ((mebi << _ONE_DIGITS | ones) << _NANO_DIGITS) | rest


@dataclass(frozen=True, slots=True)
class Change:
    """The amount of one device before and after; None where it had or has none."""

    number: int
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Amounts:
    """Amounts by device number.

    Attributes:
        known: Devices that have an amount.
        digits: For each binary digit, lowest first, the devices in whose amount it is 1.
    """

    known: int = 0
    digits: tuple[int, ...] = ()

    def at_least(self, amount: int) -> int:
        """Give the devices that have so much or more."""
        if amount <= 0:
            return self.known
        amount = _counted(amount)
        if amount.bit_length() > len(self.digits):
            return 0
        # Below the lowest 1 of the amount no digit can make anybody's amount too small.
        place = (amount & -amount).bit_length() - 1
        enough = self.digits[place]
        for digit in self.digits[place + 1 :]:
            place += 1
            enough = enough & digit if amount >> place & 1 else enough | digit
        return enough

    def changed(self, changes: Iterable[Change]) -> Amounts:
        """Give the amounts after some changes."""
        known: list[int] = []
        flips: defaultdict[int, list[int]] = defaultdict(list)
        for one in changes:
            if (one.before is None) != (one.after is None):
                known.append(one.number)
            if difference := _counted(one.before or 0) ^ _counted(one.after or 0):
                flips[difference].append(one.number)
        if not known and not flips:
            return self
        digits = list(self.digits)
        for difference, numbers in flips.items():
            changed = bitmap(numbers)
            digits.extend([0] * (difference.bit_length() - len(digits)))
            rest = difference
            while rest:
                place = (rest & -rest).bit_length() - 1
                digits[place] ^= changed
                rest &= rest - 1
        while digits and not digits[-1]:
            digits.pop()
        return Amounts(self.known ^ bitmap(known), tuple(digits))
