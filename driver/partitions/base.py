"""What a vendor does whose cards can be cut into partitions.

Limits: all verbs block, and are called by one caller at a time for each card (`driver.isolation.hardware`
sees to it, over processes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from driver.cdi import ContainerEdits
from driver.errors import PrepareError
from driver.host import Host
from driver.places import Place

IN_PARTITION_MODE = (
    "The card is cut into partitions, or in the mode for them (MIG), so it is not given out as a whole."
)
"""Why such a card is not offered, where nothing is partitioned on demand."""


class PartitionBusyError(PrepareError):
    """The hardware does not do it now: something still uses the card or the instance. Waiting helps."""

    reason = "PartitionBusy"
    retriable = True


class PartitionRefusedError(PrepareError):
    """The hardware or its driver refuses to make or remove the instance."""

    reason = "PartitionRefused"


class PartitionNoRoomError(PartitionRefusedError):
    """The card has no room for the instance, though none that it excludes is prepared: others made some."""

    reason = "PartitionNoRoom"


@dataclass(frozen=True, kw_only=True)
class PartitionTarget:
    """Where an instance is, or is to be.

    Attributes:
        place: Card, profile and slots.
        card_uuid: UUID of the card.
    """

    place: Place
    card_uuid: str


@dataclass(frozen=True, kw_only=True)
class Instance:
    """An instance that is there.

    Attributes:
        target: Where it is.
        uuid: The vendor's own name of it, "" while it is not complete.
        number: The vendor's number of it on the card, valid as long as it is there.
        complete: Whether it can be used; false where it was made by half.
        complaint: Why it cannot be used though nothing of it is missing, as a sentence; "" if it can.
    """

    target: PartitionTarget
    uuid: str
    number: int
    complete: bool
    complaint: str = ""


@runtime_checkable
class Partitioner(Protocol):
    """A vendor whose cards can be cut into partitions."""

    @property
    def instances_outlive_boot(self) -> bool:
        """Whether the driver makes instances anew after a boot by itself."""

    @property
    def numbers_used_again(self) -> bool:
        """Whether an instance may get the number, and the device nodes, of one elsewhere that is gone."""

    def find_instance(self, target: PartitionTarget, *, host: Host) -> Instance | None:
        """The instance of exactly this profile in exactly these slots; None if there is none.

        Raises:
            DeviceGoneError: There is no such card any more, or it does nothing any more.
            PrepareError: The driver cannot be asked now.
        """

    def make_instance(self, target: PartitionTarget, *, host: Host) -> Instance:
        """Makes the instance, or completes one that was made by half; puts the card into the mode for it.

        Raises:
            DeviceGoneError: As above.
            PartitionBusyError: The card is in use otherwise.
            PartitionRefusedError: The hardware refuses.
            PrepareError: The driver cannot be asked now.
        """

    def remove_instance(self, instance: Instance, *, host: Host) -> None:
        """Removes the instance; no error if it is not there any more.

        Raises:
            PartitionBusyError: It is in use.
            PrepareError: The driver cannot be asked now.
        """

    def instance_edits(self, instance: Instance, *, host: Host) -> ContainerEdits:
        """What a container needs for the instance, beside what it needs for the card.

        Raises:
            PrepareError: The node lacks what the instance is reached by.
        """

    def make_whole(self, card_uuid: str, *, host: Host) -> None:
        """Puts a card without instances into the mode in which it can be used as a whole.

        Raises:
            DeviceGoneError: As above.
            PartitionBusyError: It has instances, or is in use.
            PartitionRefusedError: The hardware refuses.
            PrepareError: The driver cannot be asked now.
        """
