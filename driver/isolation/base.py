"""The four verbs that every isolation method has.

Flow: *available?* once at start and after changes; *edits* at prepare, pure but for the Host; *in_force?*
after a container started (measured by a later step); *undo* when the claim is unprepared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from driver.errors import IsolationError
from driver.host import Host
from driver.shares import Share


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether a method can be used on this node for a card, and if not, why.

    Attributes:
        memory: Memory limits can be put in force.
        cores: Caps on compute can be put in force.
        reason: Why not, as a sentence.
        refusal: The error by which a share is refused for that reason: its `reason` is the name that people
            see, such as `PreloadLibraryMissing`.
        remedy: What an administrator can do about it, as a sentence.
    """

    memory: bool
    cores: bool
    reason: str = ""
    refusal: type[IsolationError] = IsolationError
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class ShareContext:
    """Everything beside the share itself that edits may depend on.

    Attributes:
        card: The card that the share is part of.
        index: Position of the card among all cards that the container sees, in PCI order: the index of
            index-keyed limits (HAMi-core's NVML view).
        core_policy: `force` (always throttle) or `disable` (never), from ShareConfig.
        claim_uid: UID of the claim.
        holds_memory: This method has to hold the share's memory limit.
        holds_cores: This method has to hold the share's cap on compute.
    """

    card: Card
    index: int
    core_policy: str
    claim_uid: str
    holds_memory: bool
    holds_cores: bool


@dataclass(frozen=True, kw_only=True)
class InForce:
    """What was seen of a limit after the container started."""

    holds: bool
    message: str


class IsolationMethod(Protocol):
    """One way to put limits in force."""

    @property
    def level(self) -> IsolationLevel:
        """Which of the five levels this method is."""

    def available(self, *, card: Card, host: Host) -> Availability:
        """Whether limits can be put in force for this card on this node, dimension by dimension."""

    def edits(self, share: Share, *, context: ShareContext, host: Host) -> ContainerEdits:
        """What the container needs so that the share's limits hold; makes what the edits refer to.

        Raises:
            IsolationError: The limit cannot be put in force.
        """

    def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
        """Whether the limits hold for the process `pid` of a container with this share."""

    def undo(self, share: Share, *, context: ShareContext | None, host: Host) -> None:
        """Removes all that `edits` made; no error if nothing is left."""

    def claims(self, *, host: Host) -> frozenset[str]:
        """UIDs of the claims for which `edits` made something that is still there."""

    def undo_claim(self, claim_uid: str, *, host: Host) -> None:
        """Removes all that `edits` made for any share of a claim, for where nobody knows its shares."""
