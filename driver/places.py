"""Places: where on a card a partition is, or could be made, and the names that follow from that.

Purpose: a partition (a MIG instance, a vNPU) is named by its card, its profile and the slots that it takes,
so the same partition has the same name after a reboot, whether it was made anew by an administrator or by
us; and from names alone it can be told which devices cannot be held at the same time.

Source of the rule: a card is a row of slots of equal size (for MIG: memory slices). Instances of any profile
take slots next to each other, and no slot belongs to two of them.

Some cards are cut as a whole: one mode for all of it, and partitions of one size (AMD's). There the profile
is the mode, and partitions of two profiles of a card exclude each other wherever they are.

Limits: pure. What else instances may share (engines for video, compute slices) is not told by a name: it is
the counters of slices that keep the scheduler from it, and the hardware that refuses it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OF_ONE_MODE = ("xcp",)
"""Kinds of partitions that all partitions of a card are of one profile of: the mode that the card is in."""

KINDS = ("mig", "vnpu", *OF_ONE_MODE)
"""The kinds of partitions, as their names have them."""

_NAME = re.compile(
    rf"(?P<card>.+)-(?P<kind>{'|'.join(KINDS)})-(?P<profile>\d{{1,3}})-(?P<start>\d{{1,2}})-(?P<size>\d{{1,2}})"
)


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """Slots of a card that one partition takes.

    Attributes:
        card: Device name of the card.
        kind: One of `KINDS`.
        profile: The vendor's number of the profile.
        start: The first slot, from 0.
        size: How many slots, 1 or more.
    """

    card: str
    kind: str
    profile: int
    start: int
    size: int

    @property
    def name(self) -> str:
        """Device name of the partition."""
        return f"{self.card}-{self.kind}-{self.profile}-{self.start}-{self.size}"

    @property
    def slots(self) -> range:
        """The numbers of its slots."""
        return range(self.start, self.start + self.size)

    @property
    def of_mode(self) -> bool:
        """Whether it is there because the card as a whole is in a mode."""
        return self.kind in OF_ONE_MODE

    def overlaps(self, other: Place) -> bool:
        """Whether the two take a slot of the same card."""
        return (
            self.card == other.card
            and self.start < other.start + other.size
            and other.start < self.start + self.size
        )


def place_of(device: str) -> Place | None:
    """The place that a device name tells; None for a card as a whole."""
    found = _NAME.fullmatch(device)
    if found is None:
        return None
    card, kind, *numbers = found.groups()
    profile, start, size = map(int, numbers)
    return Place(card=card, kind=kind, profile=profile, start=start, size=size) if size else None


def card_of(device: str) -> str:
    """Device name of the card that a device is, or is part of."""
    place = place_of(device)
    return device if place is None else place.card


def exclude(one: str, other: str) -> bool:
    """Whether two different devices cannot be held at the same time: both need the same part of a card."""
    first, second = place_of(one), place_of(other)
    if first is None or second is None:
        return card_of(one) == card_of(other)
    if first.of_mode and first.card == second.card and first.profile != second.profile:
        return True
    return first.overlaps(second)
