"""A share as MPS knows it: a namespace with limits, in a server of its own card.

Purpose: what the method `service` wants of NVIDIA's control daemon, as values; names that follow from the
share alone, so that whoever knows a claim's record knows what the daemon has to say.

Source: NVIDIA's documents of MPS v3 (release 615): names are of `[a-z0-9_]`, at most 64; memory limits are a
number with a unit; a namespace inherits no limit of its server, and one that is not set is none.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from driver.cards import CORES_PER_CARD
from driver.errors import IsolationError
from driver.shares import Share

NAME = re.compile(r"[a-z0-9_]{1,64}")
GPU_UUID = re.compile(r"GPU-[0-9A-Za-z-]{1,60}")

_DIGITS = 12
_READABLE = 40


@dataclass(frozen=True, kw_only=True, order=True)
class MpsShare:
    """One share's namespace.

    Attributes:
        claim_uid: UID of the claim.
        name: Name of the namespace.
        server: Name of the server, one for each card.
        card: UUID of the card, as NVIDIA prints it: the only card that the server may use.
        memory_mib: Most memory of one process in MiB; 0 where the share has no limit on memory.
        cores_percent: Most of the card's threads for one process, in percent; 0 where nothing caps it.
    """

    claim_uid: str
    name: str
    server: str
    card: str
    memory_mib: int
    cores_percent: int

    def __post_init__(self) -> None:
        for name in (self.name, self.server):
            if not NAME.fullmatch(name):
                raise IsolationError(f"{name!r} cannot be a name in MPS.")
        if not GPU_UUID.fullmatch(self.card):
            # A card that the server cannot see makes MPS accept the server and drop what was to limit it.
            raise IsolationError(
                f"{self.card!r} is not the UUID of a whole NVIDIA card.", remedy="Ask for another card."
            )
        if self.memory_mib < 0 or not 0 <= self.cores_percent < CORES_PER_CARD:
            raise IsolationError(f"{self.memory_mib} MiB and {self.cores_percent} percent are no limits.")
        if not self.memory_mib and not self.cores_percent:
            # A namespace without a limit has the whole card.
            raise IsolationError("A namespace of MPS without any limit would be the whole card.")

    @property
    def memory_limit(self) -> str:
        """The memory limit as MPS is told it; "" for none."""
        return f"{self.memory_mib}M" if self.memory_mib else ""

    def held_by(self, *, memory: str, cores: str) -> bool:
        """Whether these texts, as the daemon prints them, are this share's limits."""
        return _same_memory(memory, mib=self.memory_mib) and _same_percent(cores, percent=self.cores_percent)

    def has_more(self, *, memory: str, cores: str) -> bool:
        """Whether these texts are limits of something that this share does not limit."""
        more_memory = not self.memory_mib and not _same_memory(memory, mib=0)
        return more_memory or (not self.cores_percent and not _same_percent(cores, percent=0))


def mps_share(share: Share, *, card_uuid: str, holds_cores: bool) -> MpsShare:
    """What the share needs of MPS.

    A limit on memory is set whoever holds it: one process must never have more than the whole share.

    Raises:
        IsolationError: It cannot be expressed.
    """
    return MpsShare(
        claim_uid=share.claim_uid,
        name=namespace_name(share),
        server=server_name(card_uuid),
        card=card_uuid,
        memory_mib=share.memory_mib if share.limits_memory else 0,
        cores_percent=share.cores_percent if holds_cores and share.limits_cores else 0,
    )


def namespace_name(share: Share) -> str:
    """The namespace of a share: the claim's UID for people, and a digest of all that tells shares apart."""
    parts = (share.claim_uid, share.base_request, share.device, share.share_id)
    return _readable(share.claim_uid, of="\0".join(parts))


def server_name(card_uuid: str) -> str:
    """The server of a card."""
    return _readable(card_uuid, of=card_uuid)


def _readable(text: str, *, of: str) -> str:
    digest = hashlib.sha256(of.encode()).hexdigest()[:_DIGITS]
    return f"{re.sub('[^a-z0-9]+', '_', text.lower())[:_READABLE]}_{digest}"


_SIZE = re.compile(r"([0-9]{1,15})([KMG])")
_TO_KIB = {"K": 1, "M": 1 << 10, "G": 1 << 20}


def _same_memory(printed: str, *, mib: int) -> bool:
    match = _SIZE.fullmatch(printed.strip())
    if not mib:
        return match is None
    if match is None:
        return False
    number, unit = int(match[1]), match[2]
    # The older protocol was seen to print 1500M as 1G (driver 595); nobody but us sets limits here.
    return number * _TO_KIB[unit] == mib << 10 or (unit == "G" and number == mib >> 10 and number > 0)


def _same_percent(printed: str, *, percent: int) -> bool:
    try:
        number = float(printed.strip().removesuffix("%"))
    except ValueError:
        number = CORES_PER_CARD
    return number == (percent or CORES_PER_CARD)
