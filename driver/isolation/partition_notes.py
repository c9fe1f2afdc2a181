"""Notes of the instances that the method `hardware` makes for claims.

Flow: `driver.isolation.hardware` says what is noted when, `kubelet_plugin.partitions.notes` keeps it.

Limits: a note tells what is, or may be, there; what there really is, the hardware is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Note:
    """That an instance is, or may be, there for a claim.

    Attributes:
        claim_uid: UID of the claim.
        device: Name of the partition.
        vendor: The card's vendor.
        card_uuid: UUID of the card.
        boot: The boot in which it was written.
        instance: UUID of the instance; "" as long as it is only intended.
        removing: The vendor's number of it, from when its removal began; "" before.
    """

    claim_uid: str
    device: str
    vendor: str
    card_uuid: str
    boot: str
    instance: str = ""
    removing: str = ""


class Notes(Protocol):
    """Keeps notes, durably."""

    def find(self, claim_uid: str, device: str) -> Note | None:
        """The note.

        Raises:
            StateError: It cannot be read.
        """

    def put(self, note: Note) -> None:
        """Keeps a note, durable when this returns.

        Raises:
            DragomanError: The disk refuses.
        """

    def remove(self, note: Note) -> None:
        """Forgets a note; no error if there is none."""

    def of_claim(self, claim_uid: str) -> Iterable[Note]:
        """All notes of a claim.

        Raises:
            StateError: One cannot be read.
        """

    def claims(self) -> frozenset[str]:
        """UIDs of all claims that have notes, readable or not."""

    def devices(self) -> frozenset[str]:
        """Names of all partitions that have notes, readable or not; from the folder, at once."""

    def holders(self, card: str) -> Iterable[tuple[str, str]]:
        """Claim's UID and name of each partition of this card that has a note, readable or not."""

    def lock(self, card: str) -> AbstractContextManager[None]:
        """Keeps everybody else on the node from changing this card's instances.

        Raises:
            StateError: Somebody else does not let go.
        """

    def boot(self) -> str:
        """Which boot this is."""
