"""The four verbs that every isolation method has.

Flow: *available?* once at start and after changes; *edits* at prepare, pure but for the Host; *in_force?*
again and again while containers run (`kubelet_plugin.in_force` finds their processes); *undo* when the claim
is unprepared.
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
        memory_only: The method never holds compute, so that its reason is no news about that.
    """

    memory: bool
    cores: bool
    reason: str = ""
    refusal: type[IsolationError] = IsolationError
    remedy: str = ""
    memory_only: bool = False


@dataclass(frozen=True, kw_only=True)
class ShareContext:
    """Everything beside the share itself that edits may depend on.

    Attributes:
        card: The card that the share is part of.
        index: Position of the card among all cards that the container sees, in PCI order: the index of
            index-keyed limits (HAMi-core's NVML view).
        core_policy: `force` (always throttle), `default` (while others compute on the card) or `disable`
            (never), from ShareConfig.
        claim_uid: UID of the claim.
        priority: `high` or `low` where ShareConfig says one, otherwise "".
        holds_memory: This method has to hold the share's memory limit.
        holds_cores: This method has to hold the share's cap on compute.
        devices: Paths of the share's device nodes as its containers have them, for *in_force?*: a process
            that has none of them open has not come to the card yet. () where that is not known.
        beside: The other shares that the process' container can use, for *in_force?*.
    """

    card: Card
    index: int
    core_policy: str
    claim_uid: str
    holds_memory: bool
    holds_cores: bool
    priority: str = ""
    devices: tuple[str, ...] = ()
    beside: tuple[Share, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InForce:
    """What was seen of a limit in one process of a container.

    Attributes:
        holds: The limit holds for the process.
        message: What was seen, as a sentence.
        known: False where nothing can be said yet, as for a process that has not come to its card: neither a
            proof nor a failure. `holds` is then False and means nothing.
        reason: Why it does not hold, or is not known, in CamelCase: the reason of the claim's condition, of
            the Event and of the metric, so it is stable and one of few.
        remedy: What the pod's author or an administrator can do about it, as a sentence.
    """

    holds: bool
    message: str
    known: bool = True
    reason: str = ""
    remedy: str = ""


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
        """Whether the limits hold for the process `pid` (the node's number) of a container with this share.

        Called every few seconds in a thread, never at prepare: reads little, changes nothing, and raises
        nothing. What a container can write is hostile: reads of it are bounded (`Host.read_part`).
        """

    def undo(self, share: Share, *, context: ShareContext | None, host: Host) -> None:
        """Removes all that `edits` made; no error if nothing is left."""

    def claims(self, *, host: Host) -> frozenset[str]:
        """UIDs of the claims for which `edits` made something that is still there."""

    def undo_claim(self, claim_uid: str, *, host: Host) -> None:
        """Removes all that `edits` made for any share of a claim, for where nobody knows its shares."""
