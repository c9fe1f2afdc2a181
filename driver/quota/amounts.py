"""Amounts of a quota: memory, compute, cards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a claim, or all of them, take of a quota.

    Attributes:
        memory_mib: Memory in MiB.
        cores: Compute in percent, 100 for each card.
        cards: Cards or shares of cards.
    """

    memory_mib: int = 0
    cores: int = 0
    cards: int = 0

    def __add__(self, other: Charge) -> Charge:
        return Charge(
            memory_mib=self.memory_mib + other.memory_mib,
            cores=self.cores + other.cores,
            cards=self.cards + other.cards,
        )

    def __sub__(self, other: Charge) -> Charge:
        return Charge(
            memory_mib=self.memory_mib - other.memory_mib,
            cores=self.cores - other.cores,
            cards=self.cards - other.cards,
        )

    def __bool__(self) -> bool:
        """Whether it is anything at all."""
        return bool(self.memory_mib or self.cores or self.cards)

    def times(self, count: int) -> Charge:
        """So many times as much."""
        return Charge(memory_mib=self.memory_mib * count, cores=self.cores * count, cards=self.cards * count)

    def worst(self, other: Charge) -> Charge:
        """The greater of each amount."""
        return Charge(
            memory_mib=max(self.memory_mib, other.memory_mib),
            cores=max(self.cores, other.cores),
            cards=max(self.cards, other.cards),
        )


NOTHING = Charge()
