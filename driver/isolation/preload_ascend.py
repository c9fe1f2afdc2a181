"""Limits of shares of Ascend cards by HAMi-vnpu-core's library.

Purpose: `libvnpu.so`, named in the container's `/etc/ld.so.preload`, stands before CANN's runtime, refuses
memory above the quota and lets kernels be launched only while it is the container's turn.

Source: HAMi-vnpu-core's environment contract: `NPU_MEM_QUOTA` (MiB, one amount for all cards of the
container), `NPU_PRIORITY` with `NPU_FIXED_SHARE_RATIO=1` (percent of the time; without it the priority is a
weight, and no cap), `NPU_LOCAL_SHM_PATH` (the container's region), `NPU_GLOBAL_SHM_PATH` (by which the
containers on a card take turns: one file for each card). An unset, unparsable or zero quota means *no limit*.

Limits:
* The library is not of this project, is made for one version of the driver, and is for arm64 only. Drivers
  before 25.5 cannot share a card between containers; whether the card's share mode is on, nobody tells here.
* The manager that puts the quota into the region is a thread of one of the container's processes, and is
  elected some seconds after their start. A process that finds none for 10 seconds runs without a limit; so
  do processes of more than 64 containers on one card. Older releases want a program, `limiter`, beside the
  application, which nobody starts here: with them nothing is launched, or nothing is limited.
* The region has no magic number and no version. In all releases that were read it begins with the quota in
  bytes; so a quota that stands there is believed, and anything else is not. The part of the time, and whether
  it is fixed, stands in no place that releases agree in, so a share with a cap is never said to be in force.
* All containers on a card write the file by which they take turns: one that is hostile can keep the others
  from their turn, or fill the folder. All of it goes with the card's last share.
"""

from __future__ import annotations

import re
import struct

from driver.cards import Card
from driver.cdi import ContainerEdits, Mount
from driver.host import Host
from driver.isolation.base import Availability, ShareContext
from driver.isolation.preload import CONTAINER_DIR, CONTAINER_REGION_DIR, PreloadSettings
from driver.isolation.preload_one_card import (
    CONTAINER_SHARED_DIR,
    Held,
    OneCardPreload,
    make_shared_folder,
    shared_folder,
)
from driver.isolation.region import RegionNotReadyError
from driver.shares import Share

VENDOR = "ascend"
REGION_FILE = "vnpu_local_shmem"
REGISTRY_FILE = "global_registry"
OLDEST_DRIVER = (25, 5)

_RW = ("rw", "nosuid", "nodev", "bind")
_QUOTA = struct.Struct("<Q")
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\D|$)")


class PreloadAscend(OneCardPreload):
    """HAMi-vnpu-core's contract as an isolation method."""

    container_library = f"{CONTAINER_DIR}/libvnpu.so"
    region_file = REGION_FILE

    def __init__(self, settings: PreloadSettings) -> None:
        super().__init__(settings, title="HAMi-vnpu-core's library", setting="preload.ascend")

    def can_hold(self, card: Card) -> Availability:
        """Both dimensions, with a driver that can share cards."""
        match = _VERSION.match(card.driver_version)
        if match is None or (int(match[1]), int(match[2])) < OLDEST_DRIVER:
            version = card.driver_version or "unknown"
            return Availability(
                memory=False,
                cores=False,
                reason=f"The preload library for Ascend needs a driver of 25.5 or later; this is {version}.",
                remedy="An administrator updates the driver.",
            )
        return Availability(memory=True, cores=True)

    def variables(self, share: Share, *, context: ShareContext) -> dict[str, str]:
        """The quota, and the share of the time."""
        found = {"NPU_LOCAL_SHM_PATH": f"{CONTAINER_REGION_DIR}/{REGION_FILE}"}
        if context.holds_memory and share.limits_memory:
            found["NPU_MEM_QUOTA"] = str(share.memory_mib)
        if context.holds_cores and share.limits_cores:
            found["NPU_PRIORITY"] = str(share.cores_percent)
            found["NPU_FIXED_SHARE_RATIO"] = "1"
        return found

    def held_in(self, head: bytes) -> Held:
        """The quota."""
        if len(head) < _QUOTA.size:
            raise RegionNotReadyError("it is still empty")
        return Held(memory_bytes=_QUOTA.unpack_from(head)[0], certain=False)

    def loading(self, context: ShareContext, *, host: Host) -> ContainerEdits:
        """The loader's list, and the file of all containers on the card."""
        folder = shared_folder(self._settings, context.card)
        make_shared_folder(folder, host=host)
        return ContainerEdits(
            env={"NPU_GLOBAL_SHM_PATH": f"{CONTAINER_SHARED_DIR}/{REGISTRY_FILE}"},
            mounts=(
                self._list_mount("ld.so.preload.ascend", host=host),
                Mount(host_path=folder, container_path=CONTAINER_SHARED_DIR, options=_RW),
            ),
        )
