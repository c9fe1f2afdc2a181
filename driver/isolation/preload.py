"""Limits by a library that is loaded into every process of a container: HAMi-core's contract.

Purpose: `libvgpu.so`, named in the container's `/etc/ld.so.preload`, stands before the CUDA driver, refuses
allocations above the limit and slows kernels down to the cap. This module says which environment and mounts
a container needs for that.

Flow: `available` looks whether the agent has installed the library; `edits` empties and makes the region's
folder and gives the container environment and mounts; `undo` removes the folder.

Source: HAMi-core's environment contract (version 1.2 of its shared region): `CUDA_DEVICE_MEMORY_LIMIT_<n>`,
`CUDA_DEVICE_SM_LIMIT_<n>`, `CUDA_DEVICE_MEMORY_SHARED_CACHE`, `GPU_CORE_UTILIZATION_POLICY`,
`CUDA_TASK_PRIORITY`; n is the card's position in the container's own NVML view. An unset, empty, unparsable
or zero limit means *no limit* there, which is why none of those is ever written here.

Limits:
* Cooperative. A program that is linked statically, brings musl instead of glibc or talks to the kernel itself
  is not held; nor does the library know of every CUDA call that takes memory. It is not a security boundary.
* The limits of a region are fixed by the first process that opens it. The region is therefore keyed by claim
  and request and emptied when its limits are others than before, and `driver.isolation.rules` refuses what
  would let two different limits meet in one region.
* A process that was killed leaves its count in the region until another with its number starts or the claim
  is unprepared: its successor may see less memory than it has, never more.
* Containers write into the region's folder, which lies in the host's memory; the kernel charges it to the
  container that writes. What an agent without privileges cannot remove of it (folders of another user) is
  moved aside and stays until the node boots.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from driver.api.share_config import CorePolicy, Priority
from driver.cards import CORES_PER_CARD, Card, IsolationLevel
from driver.cdi import ContainerEdits, Mount
from driver.errors import IsolationError
from driver.host import Host
from driver.isolation import region as layout
from driver.isolation.base import Availability, InForce, ShareContext
from driver.isolation.preload_seen import Where, judge, look, region_in_use
from driver.shares import Share

CONTAINER_DIR = "/usr/local/dragoman"
"""Where the container finds what is mounted; the same in all shares, as several can meet in one container."""

CONTAINER_LIBRARY = f"{CONTAINER_DIR}/libvgpu.so"
CONTAINER_REGION_DIR = f"{CONTAINER_DIR}/region"
CONTAINER_REGION = f"{CONTAINER_REGION_DIR}/shared.cache"
PRELOAD_LIST = "/etc/ld.so.preload"

MAX_CARDS = layout.MAX_CARDS
"""HAMi-core's region has room for that many cards; a higher index has no limit."""

_RW = ("rw", "nosuid", "nodev", "bind")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
ASIDE = ".removed-"
"""So begin the names of folders that are no claim's any more and could not be removed."""

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class PreloadLibraryMissingError(IsolationError):
    """The preload library is not installed on this node."""

    reason = "PreloadLibraryMissing"


@dataclass(frozen=True, kw_only=True)
class PreloadSettings:
    """Where the method finds and keeps its files, as absolute paths of the host.

    Attributes:
        library: The library, under a name that holds its version: a new version is a new file, since a
            library that running processes have mapped must not be written over. "" if there is none.
        files_dir: Folder of ours for the list that names the library to the loader.
        region_dir: Folder on a tmpfs, below which each request of a claim has its region.
        vendors: Vendors whose driver the library stands before.
    """

    library: str
    files_dir: str
    region_dir: str
    vendors: frozenset[str] = frozenset({"nvidia"})


class Preload:
    """HAMi-core's contract as an isolation method."""

    level = IsolationLevel.PRELOAD

    def __init__(self, settings: PreloadSettings) -> None:
        self._settings = settings

    def available(self, *, card: Card, host: Host) -> Availability:
        """Whether the library is there, and is made for this card's vendor."""
        settings = self._settings
        if card.vendor not in settings.vendors:
            return Availability(
                memory=False,
                cores=False,
                reason=f"The preload library is not made for cards of vendor {card.vendor}.",
            )
        if not settings.library or not host.exists(settings.library):
            where = settings.library or "no path is configured"
            return Availability(
                memory=False,
                cores=False,
                reason=f"The preload library is missing on this node ({where}).",
                refusal=PreloadLibraryMissingError,
                remedy="An administrator sets the chart's value preload.library (an image or a host path).",
            )
        return Availability(memory=True, cores=True)

    def edits(self, share: Share, *, context: ShareContext, host: Host) -> ContainerEdits:
        """Environment keyed by the card's index, and mounts that are the same in all shares of a request.

        Raises:
            PreloadLibraryMissingError: The library is gone since `available` said that it was there.
            IsolationError: The index is beyond what the library can hold, or a limit would be none.
        """
        if not needed(share, context=context):
            return ContainerEdits()
        found = self.available(card=context.card, host=host)
        if not found.memory:
            raise found.refusal(found.reason, remedy=found.remedy)
        variables = _limits(share, context=context)
        region = self._make_region(share, limits=variables, host=host)
        variables["CUDA_DEVICE_MEMORY_SHARED_CACHE"] = CONTAINER_REGION
        if context.priority:
            # For HAMi-core's own tools. The agent goes by its record: a container could say anything here.
            variables["CUDA_TASK_PRIORITY"] = "0" if context.priority == Priority.HIGH else "1"
        return ContainerEdits(
            env=variables,
            mounts=(
                Mount(host_path=self._settings.library, container_path=CONTAINER_LIBRARY),
                Mount(host_path=self._make_preload_list(host), container_path=PRELOAD_LIST),
                Mount(host_path=region, container_path=CONTAINER_REGION_DIR, options=_RW),
            ),
        )

    def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
        """Whether the process has mapped library and region, and the region holds the share's limits."""
        if not needed(share, context=context):
            return InForce(holds=True, message="The share has no limit that this method holds.")
        where = self._where(share, context.beside)
        return judge(pid, share, context=context, where=where, host=host)

    def region_used(self, shares: Sequence[Share], *, host: Host, pid: int, context: ShareContext) -> str:
        """Path of the node of the region that a process of a container with these shares has mapped.

        Returns:
            "" if it has mapped none, or may not be looked at.
        """
        where = self._where(shares[0], shares[1:])
        try:
            seen = look(pid, context=context, where=where, host=host)
        except OSError:
            return ""
        return region_in_use(seen, where=where, host=host) if seen.region else ""

    def _where(self, share: Share, others: Sequence[Share]) -> Where:
        mine = self.region_of(share)
        return Where(
            library=CONTAINER_LIBRARY,
            library_source=self._settings.library,
            region=CONTAINER_REGION,
            region_source=mine,
            others=tuple(sorted({self.region_of(one) for one in others} - {mine})),
        )

    def region_of(self, share: Share) -> str:
        """Path of the node where the share's region is once a process has made it."""
        return _region_file(self._folders(share)[1])

    def regions(self, *, host: Host, claim: str = "") -> list[str]:
        """Paths of the node where regions are, or may be soon: of each request of a claim, or of all."""
        # Below folders that begin with a dot containers make folders, and links.
        uids = [claim] if claim else host.list_dir(self._settings.region_dir)
        claims = [self._claim_dir(uid) for uid in uids if _SAFE.fullmatch(uid)]
        return [_region_file(f"{one}/{request}") for one in claims for request in host.list_dir(one)]

    def let_go(self, *, host: Host, but: Collection[str] = ()) -> int:
        """Ends the wait of all shares that were made to wait for others, whoever did it.

        Args:
            host: The node.
            but: Files of regions that are to wait on.

        Returns:
            How many waited.
        """
        return sum(layout.let_go(path, host=host) for path in self.regions(host=host) if path not in but)

    def undo(self, share: Share, *, context: ShareContext | None, host: Host) -> None:  # noqa: ARG002
        """Removes the region of the share's request, and the claim's folder with the last of them."""
        claim_dir, request_dir = self._folders(share)
        # Nobody could end the wait of a process that has a file mapped which has no name any more.
        layout.let_go(self.region_of(share), host=host)
        self._remove(request_dir, host=host)
        if not host.list_dir(claim_dir):
            self._remove(claim_dir, host=host)

    def claims(self, *, host: Host) -> frozenset[str]:
        """UIDs of the claims that have a region."""
        names = host.list_dir(self._settings.region_dir)
        return frozenset(name for name in names if not name.startswith(ASIDE))

    def undo_claim(self, claim_uid: str, *, host: Host) -> None:
        """Removes all regions of a claim."""
        for path in self.regions(host=host, claim=claim_uid):
            layout.let_go(path, host=host)
        self._remove(self._claim_dir(claim_uid), host=host)

    def _remove(self, folder: str, *, host: Host) -> None:
        try:
            host.remove_tree(folder)
        except PermissionError:
            # A container made folders that only its own user may look into. They must keep no share held.
            host.rename(folder, to=f"{self._settings.region_dir}/{ASIDE}{uuid4()}")

    def _claim_dir(self, claim_uid: str) -> str:
        return posixpath.join(self._settings.region_dir, _safe(claim_uid))

    def _folders(self, share: Share) -> tuple[str, str]:
        claim_dir = self._claim_dir(share.claim_uid)
        # No DNS label holds an underscore, so `a/b` and `a_b` cannot be two requests.
        return claim_dir, posixpath.join(claim_dir, _safe(share.request.replace("/", "_")))

    def _make_region(self, share: Share, *, limits: Mapping[str, str], host: Host) -> str:
        _, request_dir = self._folders(share)
        # A file for each share, since all shares of a request have one region: what is in it for a share that
        # is new, or has other limits than before, was fixed by processes of a former allocation.
        region, marker = f"{request_dir}/region", f"{request_dir}/{_safe(f'{share.device}.{share.share_id}')}"
        # Written and read by all versions of the agent: a change of this text empties regions in use.
        boot = host.read_text(_BOOT_ID).strip()
        wanted = "\n".join([boot, *(f"{name}={value}" for name, value in sorted(limits.items()))])
        if host.exists(region) and host.exists(marker) and host.read_text(marker) == wanted:
            return region
        # First prepare, or a region of an earlier boot with the limits and the counts of processes long gone.
        self._remove(region, host=host)
        # The parents keep everybody else on the host out; containers get in through their mount.
        host.make_dir(request_dir, mode=0o700)
        # Processes of any user in the container have to make and open the file. Not sticky: with the kernel's
        # fs.protected_regular, O_CREAT on another's file in a sticky folder fails, and the library exits.
        host.make_dir(region, mode=0o777)
        # Last: its presence says that the folder is complete.
        host.write_text(marker, wanted)
        return region

    def _make_preload_list(self, host: Host) -> str:
        path = posixpath.join(self._settings.files_dir, "ld.so.preload")
        content = CONTAINER_LIBRARY + "\n"
        if not host.exists(path) or host.read_text(path) != content:
            host.make_dir(self._settings.files_dir, mode=0o755)
            # All containers read this one file: were it empty for a moment, a container that starts in that
            # moment would run without any limit.
            host.replace_text(path, content)
        return path


def _region_file(request_dir: str) -> str:
    return f"{request_dir}/region/{posixpath.basename(CONTAINER_REGION)}"


def _safe(part: str) -> str:
    if not _SAFE.fullmatch(part):
        raise IsolationError(f"{part!r} cannot be the name of a folder.", field="metadata.uid")
    return part


def needed(share: Share, *, context: ShareContext) -> bool:
    """Whether a container with this share needs the library at all."""
    return bool(_amounts(share, context=context))


def _amounts(share: Share, *, context: ShareContext) -> dict[str, int]:
    found = {}
    if context.holds_memory and share.limits_memory:
        found["memory"] = share.memory_mib
    if context.holds_cores and share.limits_cores:
        found["cores"] = share.cores_percent
    return found


def _limits(share: Share, *, context: ShareContext) -> dict[str, str]:
    amounts = _amounts(share, context=context)
    if not 0 <= context.index < MAX_CARDS:
        raise IsolationError(
            f"Card {context.card.name} would be number {context.index} in the container; the preload library "
            f"holds limits of the first {MAX_CARDS} only.",
            remedy=f"Ask for at most {MAX_CARDS} cards in one container.",
        )
    variables = {}
    if "memory" in amounts:
        if amounts["memory"] < 1:
            raise IsolationError("A memory limit of 0 would be no limit.", remedy="Ask for at least 1Mi.")
        variables[f"CUDA_DEVICE_MEMORY_LIMIT_{context.index}"] = f"{amounts['memory']}m"
    if "cores" in amounts:
        if not 0 < amounts["cores"] < CORES_PER_CARD:
            raise IsolationError("A cap of 0 or 100 percent would be no cap.")
        variables[f"CUDA_DEVICE_SM_LIMIT_{context.index}"] = str(amounts["cores"])
    if share.limits_cores and amounts:
        variables["GPU_CORE_UTILIZATION_POLICY"] = str(CorePolicy(context.core_policy))
    return variables
