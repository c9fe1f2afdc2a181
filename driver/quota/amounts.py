"""Amounts of a quota: memory, compute, cards.

Limits: whole numbers of any size, so nothing overflows and nothing is rounded away.
"""

from __future__ import annotations

from dataclasses import dataclass

from driver.api.quota import QuotaAmounts
from driver.quantities import MIB, format_bytes


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


@dataclass(frozen=True, slots=True)
class Excess:
    """One amount that is more than a limit.

    Attributes:
        name: `memory`, `cores` or `cards`.
        asked: What is asked for, as a person reads it.
        used: What is used already.
        hard: The limit.
        left: What is left of it.
    """

    name: str
    asked: str
    used: str
    hard: str
    left: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a quota; None where there is none."""

    memory_mib: int | None = None
    cores: int | None = None
    cards: int | None = None

    @classmethod
    def of(cls, amounts: QuotaAmounts) -> Limits:
        """The limits that a document names."""
        return cls(memory_mib=amounts.memory_mib, cores=amounts.cores_percent, cards=amounts.card_count)

    def excess(self, asked: Charge, *, used: Charge = NOTHING) -> tuple[Excess, ...]:
        """What would be too much if this were added to what is used.

        An amount that is not asked for is never too much: where more is used than is allowed, because the
        limit was lowered, what asks for none of it is not refused for it.
        """
        rows = (
            ("memory", self.memory_mib, asked.memory_mib, used.memory_mib, shown_mib),
            ("cores", self.cores, asked.cores, used.cores, shown_percent),
            ("cards", self.cards, asked.cards, used.cards, str),
        )
        return tuple(
            Excess(name, show(more), show(now), show(hard), show(max(0, hard - now)))
            for name, hard, more, now, show in rows
            if hard is not None and more and now + more > hard
        )


def document_of(charge: Charge) -> dict[str, str]:
    """The amounts as a status shows them."""
    return {
        "memory": format_bytes(charge.memory_mib * MIB),
        "cores": str(charge.cores),
        "cards": str(charge.cards),
    }


def charge_of_document(amounts: QuotaAmounts | None) -> Charge:
    """The amounts that a status shows; what it does not name is nothing."""
    if amounts is None:
        return NOTHING
    return Charge(
        memory_mib=amounts.memory_mib or 0,
        cores=amounts.cores_percent or 0,
        cards=amounts.card_count or 0,
    )


def shown_mib(amount: int) -> str:
    """Memory as a person reads it."""
    return format_bytes(amount * MIB)


def shown_percent(amount: int) -> str:
    """Compute as a person reads it."""
    return f"{amount} percent"
