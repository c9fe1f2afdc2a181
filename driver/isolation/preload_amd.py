"""Limits of memory for shares of AMD cards by HAMi's library for HIP.

Purpose: `libamvgpu.so`, which glibc's loader is told of by `LD_AUDIT`, stands before HIP's runtime and
refuses memory above the limit. A list in `/etc/ld.so.preload` does not do: ROCm 7 calls itself through what
the library would stand before.

Source: the contract of HAMi's amd-hami-core: `HIP_DEVICE_MEMORY_LIMIT_<n>` (number and `m`),
`HIP_DEVICE_MEMORY_SHARED_CACHE` (the region), `LD_AUDIT`. An unset, unparsable or zero limit means *no
limit*.

Limits:
* No cap on compute. What HAMi uses is a mask of compute units, `HSA_CU_MASK`: it would need books of who has
  which units of a card, since shares with the same mask stand in each other's way while others idle; and
  what a card has of them is hidden from an agent without privileges.
* n is HIP's number of the card, which is not the PCI order for certain: one card in a container.
* Of its region the first limit is read, which is at the same place in both layouts that there are (`HMI1`, of
  16 cards, and `HMI2`, of 64), on 64-bit Linux with glibc.
* The library is not of this project, needs glibc 2.34, and was tried by its authors on MI300X. A program that
  is started without `LD_AUDIT` (a cleaned environment, setuid) is not held, nor one for musl, nor one of an
  image that has glibc's loader at its absolute path alone: a library that audits has a C library of its own,
  which looks for the loader beside itself. glibc then says so on stderr and goes on.
"""

from __future__ import annotations

import struct

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.host import Host
from driver.isolation.base import Availability, ShareContext
from driver.isolation.preload import CONTAINER_DIR, CONTAINER_REGION_DIR, PreloadSettings
from driver.isolation.preload_one_card import Held, OneCardPreload
from driver.isolation.region import RegionError, RegionNotReadyError
from driver.shares import Share

VENDOR = "amd"
REGION_FILE = "hip.cache"

_MAGIC = frozenset({0x484D4931, 0x484D4932})
_HEAD = struct.Struct("<I52xQ")
"""Magic number; a semaphore, its owner, the number of cards; the first limit, in bytes."""


class PreloadAmd(OneCardPreload):
    """amd-hami-core's contract as an isolation method."""

    container_library = f"{CONTAINER_DIR}/libamvgpu.so"
    region_file = REGION_FILE

    def __init__(self, settings: PreloadSettings) -> None:
        super().__init__(settings, title="HAMi's library for HIP", setting="preload.amd")

    def can_hold(self, card: Card) -> Availability:  # noqa: ARG002 - the seam's signature
        """Memory."""
        return Availability(
            memory=True,
            cores=False,
            reason="The preload library for AMD cards holds no cap on compute.",
            remedy="Ask for memory alone.",
        )

    def variables(self, share: Share, *, context: ShareContext) -> dict[str, str]:  # noqa: ARG002
        """The limit, always of the container's first card."""
        return {
            "HIP_DEVICE_MEMORY_SHARED_CACHE": f"{CONTAINER_REGION_DIR}/{REGION_FILE}",
            "HIP_DEVICE_MEMORY_LIMIT_0": f"{share.memory_mib}m",
        }

    def held_in(self, head: bytes) -> Held:
        """The limit of the container's first card."""
        if len(head) < _HEAD.size:
            raise RegionNotReadyError("it is still empty")
        magic, memory_bytes = _HEAD.unpack_from(head)
        if magic == 0:
            # The library fills in the limits before the magic number.
            raise RegionNotReadyError("it is still empty")
        if magic not in _MAGIC:
            raise RegionError(f"its magic number is {magic:#x}")
        return Held(memory_bytes=memory_bytes, certain=True)

    def loading(self, context: ShareContext, *, host: Host) -> ContainerEdits:  # noqa: ARG002
        """The loader's variable."""
        return ContainerEdits(env={"LD_AUDIT": self.container_library})
