"""The kinds of cards that a cluster has: what memory in percent is a percent of.

Limits: cards that are not offered, or only whole, are not part of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from driver.cards import Card


@dataclass(frozen=True, kw_only=True, order=True)
class CardKind:
    """Cards that differ in nothing that conversion looks at.

    Attributes:
        vendor: As `Card.vendor`.
        memory_mib: Memory that may be given out, in MiB.
        model: As `Card.model`.
    """

    vendor: str
    memory_mib: int
    model: str


Stock: TypeAlias = tuple[CardKind, ...]
"""All kinds of a cluster, each once, in one order."""


def stock_of(cards: Iterable[Card]) -> Stock:
    """The kinds of these cards that shares can be had of.

    Args:
        cards: All cards of the cluster, as AcceleratorNodes report them.
    """
    return tuple(
        sorted(
            {
                CardKind(vendor=card.vendor, model=card.model, memory_mib=card.memory_mib)
                for card in cards
                if card.shareable and not card.unpublished
            }
        )
    )
