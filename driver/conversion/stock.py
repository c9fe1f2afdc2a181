"""The kinds of cards that a cluster has: what memory in percent is a percent of; and of partitions of cards.

Limits: cards and partitions that are not offered, and cards that are offered only whole, are not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from driver.cards import Card
from driver.places import card_of


@dataclass(frozen=True, kw_only=True, order=True)
class CardKind:
    """Cards that differ in nothing that conversion looks at.

    Attributes:
        vendor: As `Card.vendor`.
        memory_mib: Memory that may be given out, in MiB.
        model: As `Card.model`.
        profile: As `Partition.profile`; "" for a card.
        there: Of a partition whether it is there; otherwise it is one that can be made for a claim.
        of_mib: Of a partition the memory of its card, in MiB; 0 where that is not known, and for a card.
    """

    vendor: str
    memory_mib: int
    model: str
    profile: str = ""
    of_mib: int = 0
    there: bool = False

    @property
    def called_mib(self) -> int:
        """What a partition's profile calls its memory, such as 20480 MiB for `3g.20gb`, which has less."""
        said = _CALLED.search(self.profile)
        return int(said.group(1)) * 1024 if said else 0


_CALLED = re.compile(r"\.([0-9]{1,4})gb")

Stock: TypeAlias = tuple[CardKind, ...]
"""All kinds of a cluster, each once, in one order."""


def stock_of(cards: Iterable[Card]) -> Stock:
    """The kinds of these cards that shares can be had of, and of their partitions.

    Args:
        cards: All cards of the cluster, or of nodes of it, as AcceleratorNodes report them.
    """
    every = tuple(cards)
    sizes = {card.name: card.memory_mib for card in every if card.partition is None}
    kinds = set()
    for card in every:
        if card.unpublished or not (card.shareable or card.partition):
            continue
        profile = card.partition.profile if card.partition else ""
        of_mib = sizes.get(card_of(card.name), 0) if card.partition else 0
        kinds.add(
            CardKind(
                vendor=card.vendor,
                model=card.model,
                memory_mib=card.memory_mib,
                profile=profile,
                of_mib=of_mib,
                there=bool(card.partition) and not card.is_promise,
            )
        )
    return tuple(sorted(kinds))
