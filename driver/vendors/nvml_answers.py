"""What is asked of NVIDIA's management library, and what it answers, in types of our own.

Purpose: everything above asks a few questions (what cards, this card, how is it, which driver, what happened)
and never meets NVML's error codes, handles or versions. `driver.vendors.nvml` asks the library; tests answer
by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class NvmlError(Exception):
    """NVML has no answer.

    Attributes:
        driver_missing: There is no library, or no driver behind it (yet).
        stale: The library is of another version than the driver that runs.
        lost: The card has fallen off the bus.
        unknown_card: There is no such card.
        reset_required: The card does nothing before it is reset.
        in_use: Something uses what was to be changed, or has taken it.
        no_room: More was wanted than is there; where an instance was to be made, more than the card has left.
    """

    def __init__(
        self,
        message: str,
        *,
        driver_missing: bool = False,
        stale: bool = False,
        lost: bool = False,
        unknown_card: bool = False,
        reset_required: bool = False,
        in_use: bool = False,
        no_room: bool = False,
    ) -> None:
        super().__init__(message)
        self.driver_missing = driver_missing
        self.stale = stale
        self.lost = lost
        self.unknown_card = unknown_card
        self.reset_required = reset_required
        self.in_use = in_use
        self.no_room = no_room


DEFAULT, EXCLUSIVE_THREAD, PROHIBITED, EXCLUSIVE_PROCESS = range(4)
"""NVML's compute modes; the second is of old drivers."""


@dataclass(frozen=True, kw_only=True)
class NvmlCard:
    """One card, as NVML tells it now.

    Attributes:
        uuid: `GPU-...`.
        name: Product name.
        memory_bytes: All of its memory.
        pci_bus_id: As NVML prints it: `00000000:3B:00.0`.
        minor: N of `/dev/nvidiaN`; may be another one after a reboot.
        architecture: `Ampere`, `Hopper`, ...; "" where the driver does not tell.
        mig: Whether the card is in MIG mode.
        compute_mode: Who may use it: one of `DEFAULT`, `EXCLUSIVE_THREAD`, `PROHIBITED`, `EXCLUSIVE_PROCESS`.
    """

    uuid: str
    name: str
    memory_bytes: int
    pci_bus_id: str
    minor: int
    architecture: str
    mig: bool
    compute_mode: int = DEFAULT


@dataclass(frozen=True, kw_only=True)
class NvmlListing:
    """All cards that answered, and a sentence for each that did not."""

    driver_version: str
    cards: tuple[NvmlCard, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NvmlState:
    """How a card is now.

    Attributes:
        minor: N of `/dev/nvidiaN`.
        remap_pending: A row of memory is remapped when the card is reset.
        remap_failed: A row could not be remapped: the card has to be replaced.
        retirement_pending: A page of memory is retired when the card is reset (cards from before row
            remapping).
        recovery: What the driver wants done: 0 nothing, 1 a reset, 2 a reboot, 3 and 4 drained, ...; None
            where it does not say.
    """

    minor: int
    remap_pending: bool = False
    remap_failed: bool = False
    retirement_pending: bool = False
    recovery: int | None = None


@dataclass(frozen=True, kw_only=True)
class NvmlEvent:
    """Something that the driver reported.

    Attributes:
        uuid: The card.
        xid: The number of a critical error; 0 for a double-bit memory error without one.
    """

    uuid: str
    xid: int


class Nvml(Protocol):
    """What is asked of NVML."""

    def listing(self) -> NvmlListing:
        """All cards.

        Raises:
            NvmlError: NVML cannot be asked at all.
        """

    def card(self, uuid: str) -> NvmlCard:
        """One card, as it is now.

        Raises:
            NvmlError: There is no such card, it is lost, or NVML cannot be asked at all.
        """

    def state(self, uuid: str) -> NvmlState:
        """How a card is now.

        Raises:
            NvmlError: There is no such card, it is lost, or NVML cannot be asked at all.
        """

    def on_card(self, uuid: str, work: Callable[[Any, Any], T]) -> T:
        """What `work` answers, called with pynvml and the card's handle; see `driver.vendors.nvml_mig`.

        Raises:
            NvmlError: There is no such card, it is lost, or NVML refuses.
        """

    def wait(self, uuids: Sequence[str], *, timeout_s: float) -> NvmlEvent | None:
        """Blocks until the driver reports something of these cards; None if the time is over.

        Raises:
            NvmlError: A card is lost (which one has to be asked), or NVML cannot be asked at all.
        """

    def driver_version(self) -> str:
        """Version of the kernel driver.

        Raises:
            NvmlError: NVML cannot be asked at all.
        """
