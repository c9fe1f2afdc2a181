"""Limits on a card's memory by the kernel: the cgroup controller `dmem` (Linux 6.14 and later).

Purpose: the driver of a card counts its memory by cgroup and refuses what would go above the limit. It
holds for every process of the container, however it was linked and whatever it loads or unsets.

Flow: `available` looks for the controller, for the region under which the card's driver registered its
memory, and for the program that the agent installed; `edits` names this program as an OCI hook, with region
and amount as its arguments; the runtime runs it once the container's cgroup exists and before its
entrypoint, and a container whose limit is not read back does not start (`kubelet_plugin/hook/`); `in_force`
reads the limit from the cgroup of a process.

Decided here:
* Stage createRuntime: only there a hook runs in the node's own namespaces, with the process's number on the
  node, while the process is in its cgroup already and waits. At createContainer the hook is in the
  container's cgroup itself and is told number 1; at poststart the workload runs, and runc still says
  `created`. Seen on runc.
* Hard limits alone (`dmem.max`). A reservation (`dmem.min`, `dmem.low`, NVML's soft limit) counts only if
  the parents reserve as well, and what a cgroup had reserved at its end stays reserved in them. Nobody
  could clear it in time: when a container dies its cgroup is removed at once, and before any poststop hook
  (seen on runc). So there is nothing to undo: the limit lives in the container's own cgroup and goes with
  it. That nobody else takes the memory follows from the guard, which never gives out more than the card
  has.

On older kernels NVIDIA's driver from release 615 on counts and limits by itself, and is told through NVML
by a second program, at the same stage and with the same care (`driver.isolation.kernel_nvml`).

Source: the kernel's cgroup-v2 document ("DMEM"), and its drivers: regions are `drm/<PCI address>/vram` of
amdgpu, `.../vram0` and `.../vram1` of xe, and `nvidia/<PCI address>/vidmem` of NVIDIA's driver 615 and later.

Limits:
* Never run on a kernel with this controller; see docs/isolation.md.
* Memory only. A card with several regions (two tiles) has no limit that holds for all of them together.
* What a privileged container can undo holds only for others: those are refused.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits, Hook
from driver.errors import IsolationError
from driver.host import Host
from driver.isolation.base import Availability, InForce, ShareContext
from driver.isolation.kernel_nvml import NvmlLimits
from driver.isolation.preload_seen import NOT_VISIBLE
from driver.shares import Share

CONTROLLER = "dmem"

HOOK_STAGE = "createRuntime"

_MIB = 1 << 20
_LIMIT = 64 << 10
_PCI = r"(?P<domain>[0-9a-f]{4,8}):(?P<rest>[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])"
_ADDRESS = re.compile(_PCI, re.IGNORECASE)
_REGION = re.compile(rf"(?:drm|nvidia)/{_PCI}/(?:vram[0-9]*|vidmem)", re.IGNORECASE)
_LIBRARY_DIRS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
_FOLDERS_LOOKED_AT = 512
_DEPTH_LOOKED_AT = 3


class DmemControllerMissingError(IsolationError):
    """The node's kernel or its cgroups have no controller of device memory."""

    reason: ClassVar[str] = "DmemControllerMissing"


class MemoryRegionMissingError(IsolationError):
    """The card's driver has registered no region, or several, with the controller of device memory."""

    reason: ClassVar[str] = "MemoryRegionMissing"


class LimitHookMissingError(IsolationError):
    """The program that puts limits on cgroups is not installed on this node."""

    reason: ClassVar[str] = "LimitHookMissing"


@dataclass(frozen=True, kw_only=True)
class KernelSettings:
    """Where the method finds its things, as absolute paths of the node.

    Attributes:
        hook: The program, under a name that holds its version; "" if there is none.
        hook_problem: Why there is none, as a sentence, where that is known.
        nvml_hook: The program for NVIDIA's own accounting, in the same way.
        cgroup_root: Where the tree of cgroup v2 is mounted.
        driver_root: Root of NVIDIA's driver installation.
    """

    hook: str
    hook_problem: str = ""
    nvml_hook: str = ""
    cgroup_root: str = "/sys/fs/cgroup"
    driver_root: str = "/"


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How the limit of a card is put on: the program, what it is told of the card, and its environment."""

    program: str
    words: tuple[str, ...]
    env: tuple[str, ...] = ()
    region: str = ""


class Kernel:
    """The controller `dmem` as an isolation method."""

    level = IsolationLevel.KERNEL

    def __init__(self, settings: KernelSettings) -> None:
        self._settings = settings
        self._nvml = NvmlLimits()

    def available(self, *, card: Card, host: Host) -> Availability:
        """Whether the controller is there, counts this card's memory, and can be told by the hook."""
        try:
            self._way(card, host=host)
        except IsolationError as missing:
            return Availability(
                memory=False,
                cores=False,
                reason=missing.message,
                refusal=type(missing),
                remedy=missing.remedy,
                memory_only=True,
            )
        return Availability(memory=True, cores=False, memory_only=True)

    def edits(self, share: Share, *, context: ShareContext, host: Host) -> ContainerEdits:
        """One OCI hook, which is the share's own.

        Raises:
            IsolationError: Something is gone since `available` said that it was there.
        """
        if not _holds(share, context=context):
            return ContainerEdits()
        way = self._way(context.card, host=host)
        arguments = (*way.words, f"--root={self._settings.cgroup_root}", f"--bytes={_bytes(share)}")
        hook = Hook(
            hook_name=HOOK_STAGE,
            path=way.program,
            args=(way.program.rpartition("/")[2], *arguments),
            env=way.env,
        )
        return ContainerEdits(hooks=(hook,))

    def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
        """Whether the process is in a cgroup, or below one, that has at most the share's limit."""
        if not _holds(share, context=context):
            return InForce(holds=True, message="The share has no limit that this method holds.")
        try:
            region = self._way(context.card, host=host).region
            folder = self._folder_of(pid, host=host)
        except IsolationError as missing:
            return InForce(holds=False, message=missing.message, reason=missing.reason, remedy=missing.remedy)
        except PermissionError:
            return _unknown(NOT_VISIBLE, "The agent may not look at the container's processes.")
        except OSError:
            return _unknown(NOT_VISIBLE, "The process has ended.")
        if not folder:
            return _unknown(NOT_VISIBLE, "The agent does not find the cgroup of the container's processes.")
        if not region:
            return InForce(
                holds=False,
                known=False,
                reason="LimitNotReadable",
                message="NVIDIA's driver holds the limit, as the hook read before the container started; "
                "the agent cannot read it.",
            )
        wanted = _bytes(share)
        while folder != self._settings.cgroup_root:
            limit = _limit(f"{folder}/dmem.max", region=region, host=host)
            if limit is not None and limit <= wanted:
                return InForce(
                    holds=True, message=f"The kernel holds the container to {limit} bytes of {region}."
                )
            folder = folder.rpartition("/")[0]
        return InForce(
            holds=False,
            reason="CgroupLimitMissing",
            message=f"No cgroup of the container limits {region} to {wanted} bytes.",
            remedy="Delete the pod; its successor gets the limit anew. Something on the node has changed it.",
        )

    def undo(self, share: Share, *, context: ShareContext | None, host: Host) -> None:
        """Nothing was made: the limit went with the container's cgroup."""

    def claims(self, *, host: Host) -> frozenset[str]:  # noqa: ARG002 - the verb's signature
        """Nothing was made for anybody."""
        return frozenset()

    def undo_claim(self, claim_uid: str, *, host: Host) -> None:
        """Nothing was made."""

    def _way(self, card: Card, *, host: Host) -> _Way:
        """How the card's memory is limited.

        Raises:
            IsolationError: Not at all; its subclass says what is missing.
        """
        settings = self._settings
        try:
            region = self._region(card, host=host)
        except IsolationError as missing:
            if not isinstance(missing, DmemControllerMissingError) or card.vendor != "nvidia":
                raise
            why = self._why_not_nvml(card, host=host)
            if why:
                raise DmemControllerMissingError(f"{missing.message} {why}", remedy=missing.remedy) from None
            libraries = ":".join(settings.driver_root.rstrip("/") + folder for folder in _LIBRARY_DIRS)
            env = () if settings.driver_root == "/" else (f"LD_LIBRARY_PATH={libraries}",)
            return _Way(program=settings.nvml_hook, words=("nvml", f"--gpu={card.uuid}"), env=env)
        self._check_hook(host)
        return _Way(program=settings.hook, words=(CONTROLLER, f"--region={region}"), region=region)

    def _why_not_nvml(self, card: Card, *, host: Host) -> str:
        settings = self._settings
        if not host.exists(f"{settings.cgroup_root}/cgroup.controllers"):
            return "The limits of NVIDIA's driver need it as well."
        if not settings.nvml_hook or not host.exists(settings.nvml_hook):
            return "The program that sets the limits of NVIDIA's driver is not installed either."
        return self._nvml.why_not(card, host=host)

    def _region(self, card: Card, *, host: Host) -> str:
        """Name of the one region of the card's memory.

        Raises:
            IsolationError: There is none, or more than one; its subclass says what is missing.
        """
        root = self._settings.cgroup_root
        controllers = _read(f"{root}/cgroup.controllers", host=host)
        if controllers is None:
            raise DmemControllerMissingError(
                f"This node has no tree of cgroup v2 at {root}; limits of the kernel need one.",
                remedy="Run the node with cgroup v2, or name its tree in the chart's value host.cgroupRoot.",
            )
        if CONTROLLER not in controllers.split():
            raise DmemControllerMissingError(
                f"The kernel of this node offers no controller {CONTROLLER} in {root}.",
                remedy="It comes with Linux 6.14 and later, built with CONFIG_CGROUP_DMEM.",
            )
        regions = _read(f"{root}/dmem.capacity", host=host)
        if regions is None:
            raise DmemControllerMissingError(
                f"The agent does not see the root of the node's cgroups: {root} has no dmem.capacity.",
                remedy="Set the chart's value host.mountRoot to true, or host.cgroupRoot.",
            )
        found = [name for name in _names(regions) if _is_of(name, card.pci_bus_id)]
        if card.partition is not None or not found:
            raise MemoryRegionMissingError(
                f"The kernel counts no memory of card {card.name} by cgroup.",
                remedy="amdgpu and xe do with Linux 6.14 and later, NVIDIA's driver from release 615 on.",
            )
        if len(found) > 1:
            raise MemoryRegionMissingError(
                f"The kernel counts the memory of card {card.name} in {len(found)} regions "
                f"({', '.join(found)}): no limit holds for all of them together.",
                remedy="Give such cards out whole, or name another method in AcceleratorPolicy.",
            )
        return found[0]

    def _check_hook(self, host: Host) -> None:
        hook = self._settings.hook
        if not hook or not host.exists(hook):
            where = self._settings.hook_problem or hook or "the agent's image has none"
            raise LimitHookMissingError(
                f"The program that puts limits on cgroups is missing on this node ({where.rstrip('.')}).",
                remedy="An administrator sees to it that the chart's value kernel.hook names one and that "
                "host.hookDir is a folder from which the node may run programs.",
            )

    def _folder_of(self, pid: int, *, host: Host) -> str:
        """Folder of the cgroup that a process is in, below the node's tree; "" if it is not found."""
        lines = host.read_text(f"/proc/{pid}/cgroup", limit=_LIMIT).splitlines()
        path = next((line[3:] for line in lines if line.startswith("0::/")), "/")
        root = self._settings.cgroup_root
        # An agent with a cgroup namespace of its own is shown other cgroups from there: /../../pod/container.
        tail = re.sub(r"^(/\.\.)+(?=/)", "", path)
        if tail == "/" or "/../" in f"{tail}/":
            return ""
        if tail == path:
            return root + path if host.exists(root + path) else ""
        return _find(tail, root=root, host=host)


def _unknown(reason: str, message: str) -> InForce:
    remedy = "An administrator sets the chart's values inForce.enabled and host.mountRoot."
    return InForce(holds=False, known=False, reason=reason, message=message, remedy=remedy)


def _holds(share: Share, *, context: ShareContext) -> bool:
    return context.holds_memory and share.limits_memory


def _bytes(share: Share) -> int:
    if share.memory_mib < 1:
        raise IsolationError("A memory limit of 0 would be no share.", remedy="Ask for at least 1Mi.")
    return share.memory_mib * _MIB


def _read(path: str, *, host: Host) -> str | None:
    try:
        return host.read_text(path, limit=_LIMIT)
    except OSError:
        return None


def _names(capacity: str) -> list[str]:
    return [line.split()[0] for line in capacity.splitlines() if line.split()]


def _is_of(region: str, pci_bus_id: str) -> bool:
    """Whether a region is the main memory of the card at this address (`dddd:bb:dd.f`)."""
    match, card = _REGION.fullmatch(region), _ADDRESS.fullmatch(pci_bus_id)
    if match is None or card is None:
        return False
    # NVML writes eight digits of a domain, the kernel four or more.
    return (int(match["domain"], 16), match["rest"].lower()) == (
        int(card["domain"], 16),
        card["rest"].lower(),
    )


def _limit(path: str, *, region: str, host: Host) -> int | None:
    for line in (_read(path, host=host) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == region and value.isascii() and value.isdigit():
            return int(value)
    return None


def _find(tail: str, *, root: str, host: Host) -> str:
    """The one folder `<root>/.../<tail>`, not far from the root; "" if there is none."""
    waiting, looked = deque([(root, 0)]), 0
    while waiting and looked < _FOLDERS_LOOKED_AT:
        folder, depth = waiting.popleft()
        looked += 1
        if host.exists(f"{folder}{tail}/cgroup.controllers"):
            return folder + tail
        if depth < _DEPTH_LOOKED_AT:
            # Files of cgroups have a dot in their names, and so have systemd's units.
            names = (name for name in host.list_dir(folder) if "." not in name or ".s" in name)
            waiting += [(f"{folder}/{name}", depth + 1) for name in names]
    return ""
