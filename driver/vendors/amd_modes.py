"""Compute modes of AMD cards: into how many partitions each cuts a card, where those are, what they take.

Purpose: a card is in one mode as a whole. All partitions of a mode may be held at once, and none of two
modes; the card as a whole, or a share of it, stands for the mode without partitions (SPX).

Flow: modes that the kernel offers and the number of compute dies -> `Modes` -> places, and counters for
slices. A partition takes dies next to each other, which are the slots of `driver.places`; its number on the
card says which.

Counters: `card`, of which everything takes a part and the card all; and for each partition of each mode but
the finest a counter of its own, of which it takes all, and a partition of any finer mode 1. So two
partitions of two modes never fit together, and those of one mode always do. Eight dies in all modes need 7
counters, where one for each pair would be more than the API has room for (32 in a set).

Source: AMD's guides to partitioning MI300 cards: DPX 2, TPX 3, QPX 4 partitions, CPX one for each die.

Limits: pure. Of a card that is not in `DIES` nobody can say whether all its partitions of mode CPX are
listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driver.cards import CORES_PER_CARD
from driver.places import Place

WHOLE = "SPX"
"""The mode of a card without partitions."""

EACH_DIE = "CPX"
"""The mode in which each compute die is a partition."""

KIND = "xcp"

DIES = {0x74A0: 6, 0x74A1: 8, 0x74A2: 4, 0x74A5: 8, 0x74A9: 8, 0x75A0: 8, 0x75A3: 8}
"""Compute dies by PCI device ID: MI300A, MI300X, MI308X, MI325X, MI300X, MI350X, MI355X."""

_NUMBERS = {"SPX": 0, "DPX": 1, "TPX": 2, "QPX": 3, "CPX": 4}
"""The kernel's numbers of modes: the profiles of places."""
_PARTS = {"SPX": 1, "DPX": 2, "TPX": 3, "QPX": 4}
_MOST_DIES = 8
"""Most partitions that the kernel makes of a card."""


@dataclass(frozen=True, kw_only=True)
class Modes:
    """The modes with partitions that a card can be in.

    Attributes:
        dies: Its compute dies.
        names: The modes, that with the fewest partitions first.
    """

    dies: int
    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str], *, dies: int) -> Modes:
        """Those of the modes that are known and divide so many dies."""
        if not 1 <= dies <= _MOST_DIES:
            return cls(dies=max(dies, 0), names=())
        known = {name for name in names if name in _NUMBERS and 1 < parts_in(name, dies=dies) <= dies}
        divide = [name for name in known if dies % parts_in(name, dies=dies) == 0]
        return cls(
            dies=dies,
            names=tuple(sorted(divide, key=lambda name: (parts_in(name, dies=dies), _NUMBERS[name]))),
        )

    @property
    def totals(self) -> Mapping[str, int]:
        """What the card has to be shared among partitions, of whatever mode."""
        if not self.names:
            return {}
        found = {"card": self.dies}
        for name in self.names[:-1]:
            found |= {_counter(name, part): self.dies for part in range(self.parts(name))}
        return found

    def parts(self, name: str) -> int:
        """How many partitions the card has in this mode."""
        return parts_in(name, dies=self.dies)

    def taken(self, name: str, part: int) -> Mapping[str, int]:
        """What a partition takes of the card's counters."""
        found = {"card": 1}
        for coarser in self.names[: self.names.index(name)]:
            found |= {_counter(coarser, other): 1 for other in range(self.parts(coarser))}
        return found if name == self.names[-1] else {**found, _counter(name, part): self.dies}

    def place(self, card: str, name: str, part: int) -> Place:
        """Where a partition is.

        Args:
            card: Device name of the card.
            name: The mode.
            part: Number of the partition on the card, from 0.
        """
        size = self.dies // self.parts(name)
        return Place(card=card, kind=KIND, profile=_NUMBERS[name], start=part * size, size=size)

    def has(self, place: Place) -> bool:
        """Whether there is such a place in one of these modes."""
        name, part = mode_of(place), part_of(place)
        if name not in self.names or part >= self.parts(name):
            return False
        return self.place(place.card, name, part) == place

    def cores(self, name: str) -> int:
        """Compute of a partition in percent of the card, rounded down: what is asked for has to be there."""
        return max(1, CORES_PER_CARD // self.parts(name))


def parts_in(name: str, *, dies: int) -> int:
    """How many partitions a card with so many dies has in a mode; 0 for a mode that is not known."""
    return dies if name == EACH_DIE else _PARTS.get(name, 0)


def mode_of(place: Place) -> str:
    """The mode that a partition at this place is one of; "" if there is no such mode."""
    return next((name for name, number in _NUMBERS.items() if number == place.profile), "")


def part_of(place: Place) -> int:
    """Number on the card of the partition at this place."""
    return place.start // place.size


def _counter(name: str, part: int) -> str:
    return f"{name.lower()}-{part}"
