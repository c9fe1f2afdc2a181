"""Shares: what one allocated result of a claim holds of one card.

Purpose: the only form in which amounts travel inside the driver: MiB and percent, already decided.

Flow: status.allocation -> Share -> ledger (check and reserve) -> isolation -> CDI edits.

Limits: amounts come from the allocation alone, which users cannot write (invariant 8). A Share never holds 0
as a limit by accident: memory is at least 1 MiB, and `cores_percent == 0` means "no cap on compute", which
the claim's author asked for by not asking for cores.
"""

from __future__ import annotations

from dataclasses import dataclass

from driver.cards import CORES_PER_CARD
from driver.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Share:
    """Part of a card, or a whole one, given to one request of one claim.

    Attributes:
        claim_uid: UID of the ResourceClaim.
        request: Request name as in the allocation's result: `name` or `name/subrequest`.
        device: Name of the card (see `driver.cards.device_name`).
        share_id: UUID of the share where the card may be given out several times; "" otherwise.
        memory_mib: Memory in MiB, 1 or more; the card's whole memory for a whole card; 0 for admin access.
        cores_percent: Cap on compute in percent, 1-100; 0 = no cap.
        whole: The share has all memory that the card gives out: nobody else can be on the card.
        memory_reserved: Whole, but a policy keeps some of the card's memory back, so the share is limited.
        admin: adminAccess result: device nodes only, no limit, not part of the guard's sum.
    """

    claim_uid: str
    request: str
    device: str
    share_id: str = ""
    memory_mib: int = 0
    cores_percent: int = 0
    whole: bool = False
    memory_reserved: bool = False
    admin: bool = False

    def __post_init__(self) -> None:
        if self.admin:
            return
        if self.memory_mib < 1:
            raise InvalidInputError(
                f"Request {self.request} was given {self.memory_mib} MiB of {self.device}.",
                field="status.allocation.devices.results[].consumedCapacity.memory",
                remedy="A share has at least 1 MiB; make the claim anew.",
            )
        if not 0 <= self.cores_percent <= CORES_PER_CARD:
            raise InvalidInputError(
                f"Request {self.request} was given {self.cores_percent} percent of {self.device}.",
                field="status.allocation.devices.results[].consumedCapacity.cores",
                remedy="Compute is given in percent from 0 to 100.",
            )

    @property
    def base_request(self) -> str:
        """The request's name without a subrequest, as the kubelet wants it."""
        return self.request.partition("/")[0]

    @property
    def limits_memory(self) -> bool:
        """Whether a limit on memory has to be put in force."""
        return not self.admin and (self.memory_reserved or not self.whole)

    @property
    def limits_cores(self) -> bool:
        """Whether a cap on compute has to be put in force."""
        return not self.admin and 0 < self.cores_percent < CORES_PER_CARD
