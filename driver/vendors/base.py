"""What every vendor's file offers.

Flow: *discover* lists the cards now; *edits* says what a container needs to reach a card at all (device
nodes, driver libraries), before any limit; isolation methods add the limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.host import Host


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What a vendor found.

    Attributes:
        cards: All cards, in PCI order, also those that are not offered (`Card.unpublished` says why).
        problems: Sentences about what could not be read (driver missing, card lost); shown in
            AcceleratorNode's conditions.
    """

    cards: tuple[Card, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CardHealth:
    """Health of one card: `Healthy`, `Unhealthy` or `Unknown`, with a sentence."""

    name: str
    health: str
    message: str = ""


class Vendor(Protocol):
    """A maker of accelerators, or the simulation of one."""

    @property
    def name(self) -> str:
        """Short lower-case name: `nvidia`, `ascend`, ...; the attribute `vendor` of its cards."""

    def discover(self, host: Host) -> Discovery:
        """Finds the node's cards of this vendor; never raises for a missing driver (see `problems`)."""

    def edits(self, card: Card, *, host: Host) -> ContainerEdits:
        """What a container needs to use the card without any limit.

        Raises:
            DeviceGoneError: The card cannot be reached (any more).
        """

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        """The cards' health now."""
