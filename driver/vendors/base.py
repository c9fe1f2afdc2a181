"""What every vendor's file offers.

Flow: *discover* lists the cards now; *edits* says what a container needs to reach a card at all (device
nodes, driver libraries), before any limit; isolation methods add the limits. *health* says how the cards are
at this moment, and is asked every few seconds; a vendor whose driver reports faults as they happen also has
*wait_for_faults*. Neither decides anything: what a fault means for the card's place in the cluster, and when
it is over, is the agent's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.host import Host

UNREADABLE = "HealthUnreadable"
"""Reason of `Unknown` where the card could not be asked."""

CARD_MISSING = "CardMissing"
"""Reason where a card that was there is not any more."""


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What a vendor found.

    Attributes:
        cards: All cards, in PCI order, also those that are not offered (`Card.unpublished` says why).
        problems: Sentences about what could not be read (driver missing, card lost); shown in
            AcceleratorNode's conditions.
        final: Whether a card that is not listed was taken away on purpose; otherwise it counts as missing for
            a while, since hardware does not go by itself.
    """

    cards: tuple[Card, ...]
    problems: tuple[str, ...] = ()
    final: bool = False


@dataclass(frozen=True, kw_only=True)
class CardHealth:
    """Health of one card at this moment.

    Attributes:
        name: The card.
        health: `Healthy`, `Unhealthy` or `Unknown`.
        message: A sentence.
        reason: CamelCase word of letters and digits, stable, for what is wrong; also where the card could not
            be asked. "" if nothing is known against the card.
        certain: Whether no work on the card can go on.
        cleared: The driver itself says that nothing has to be done to recover the card, so that faults it
            reported before are over.
    """

    name: str
    health: str
    message: str = ""
    reason: str = ""
    certain: bool = False
    cleared: bool = False


@dataclass(frozen=True, kw_only=True)
class CardFault:
    """A fault that a driver reported when it happened.

    Attributes:
        name: The card.
        reason: CamelCase word of letters and digits, stable.
        message: A sentence.
        certain: Whether no work on the card can go on.
        xid: NVIDIA's number of the fault; 0 if it has none.
        of_application: Whether it is the fault of a program that used the card, not of the card.
    """

    name: str
    reason: str
    message: str
    certain: bool = False
    xid: int = 0
    of_application: bool = False


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


@runtime_checkable
class FaultSource(Protocol):
    """A vendor whose driver reports faults as they happen."""

    def wait_for_faults(
        self, cards: Sequence[Card], *, host: Host, timeout_s: float
    ) -> tuple[CardFault, ...] | None:
        """Blocks until a fault of one of the cards is reported, or the time is over.

        Returns:
            The faults; None if it is worth asking for the cards' health at once.
        """
