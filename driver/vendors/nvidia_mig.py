"""MIG instances of NVIDIA cards as partitions.

Flow: *cards* lists a card's instances and all that it could have, as devices; *find*, *make* and *remove* an
instance through `nvml_mig`; *edits* are the device nodes that open one instance: NVML's number of it leads to
the driver's capability files in `/proc`, and these tell the minor numbers below `/dev/nvidia-caps`.

Names: `<card>-mig-<profile>-<first memory slice>-<memory slices>`, so an instance that an administrator's
tool makes anew after a boot is the same device. The UUID of a MIG device is kept to tell ours from others',
and does not name it.

Limits: what instances a card can have is asked once for each card and driver. Instances divided into several
compute instances are told with the reason and not offered.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from driver.cards import CORES_PER_CARD, Card, Partition
from driver.cdi import ContainerEdits, DeviceNode
from driver.errors import DeviceGoneError, PrepareError
from driver.host import Host
from driver.partitions.base import (
    Instance,
    PartitionBusyError,
    PartitionNoRoomError,
    PartitionRefusedError,
    PartitionTarget,
)
from driver.places import Place
from driver.quantities import MIB
from driver.vendors import nvml_mig
from driver.vendors.nvidia_files import DriverFilesMissingError, DriverNotReadyError
from driver.vendors.nvml_answers import Nvml, NvmlError
from driver.vendors.nvml_mig import MigInstance, MigProfile

KIND = "mig"
MAX_COUNTERS = 32

_CAPABILITIES = "proc/driver/nvidia/capabilities"
_CAPABILITY_LIMIT = 4096
_MINOR = re.compile(r"\bDeviceFileMinor: ([0-9]{1,6})\b")
_NO_COMPUTE = "The GPU instance has no compute instance."
_DIVIDED = "The GPU instance is divided into compute instances, which share its memory."
_ANEW = "Delete the pod; a new one is scheduled to a card that is there."

T = TypeVar("T")


class NvidiaMig:
    """Instances of the node's NVIDIA cards; implements `driver.partitions.Partitioner`.

    Args:
        nvml: Gives NVML.
        driver_root: Root of the driver's installation, as a path of the node.
    """

    instances_outlive_boot = False
    numbers_used_again = True

    def __init__(self, nvml: Callable[[Host], Nvml], *, driver_root: str) -> None:
        self._nvml = nvml
        self._driver_root = driver_root
        self._known: dict[tuple[str, str], tuple[MigProfile, ...]] = {}

    def cards(self, card: Card, *, mig: bool, host: Host) -> tuple[Mapping[str, int], tuple[Card, ...]]:
        """What a card has to be shared among instances, and a device for each instance it has or could have.

        Args:
            card: The card.
            mig: Whether it is in MIG mode.
            host: The node.

        Raises:
            NvmlError: NVML does not tell.
        """
        profiles = self._profiles(card.uuid, version=card.driver_version, host=host)
        if not profiles:
            return {}, ()
        there: Sequence[MigInstance] = ()
        if mig:
            there = self._ask(
                card.uuid, lambda nvml, handle: nvml_mig.instances(nvml, handle, profiles), host
            )
        totals = _totals(profiles)
        found: dict[str, Card] = {}
        for profile in profiles:
            for start, size in profile.placements:
                part = _part(card, profile, start=start, size=size, totals=totals)
                found[part.name] = part
        by_id = {profile.id: profile for profile in profiles}
        for one in there:
            part = _part(card, by_id[one.profile], start=one.start, size=one.size, totals=totals, there=one)
            found[part.name] = part
        return (totals if len(totals) <= MAX_COUNTERS else {}), tuple(found.values())

    def find_instance(self, target: PartitionTarget, *, host: Host) -> Instance | None:
        """See `Partitioner`."""
        with _refusals(target.place.card):
            return self._find(target, host=host)

    def make_instance(self, target: PartitionTarget, *, host: Host) -> Instance:
        """See `Partitioner`."""
        place = target.place
        with _refusals(place.card):
            self._switch(target.card_uuid, enable=True, host=host)
            profile = self._profile(target, host=host)

            def make(nvml: Any, handle: Any) -> None:
                nvml_mig.make(nvml, handle, profile=profile, start=place.start, size=place.size)

            try:
                self._ask(target.card_uuid, make, host)
            except NvmlError as failed:
                if not failed.no_room:
                    raise
                raise PartitionNoRoomError(
                    f"Card {place.card} has no room for {place.name}: {failed}. Instances that were not made "
                    "for claims have taken it.",
                    remedy="An administrator removes them (nvidia-smi mig -lgi shows them), and the kubelet "
                    "tries again; or delete the pod, and its replacement is scheduled where there is room.",
                ) from None
            made = self._find(target, host=host)
        if made is None or not made.complete:
            raise PartitionRefusedError(
                f"The driver made {place.name} and does not list it as a MIG device.",
                remedy="Look at the node's kernel log for the driver's messages.",
            )
        return made

    def remove_instance(self, instance: Instance, *, host: Host) -> None:
        """See `Partitioner`."""
        with _refusals(instance.target.place.card):
            self._ask(
                instance.target.card_uuid,
                lambda nvml, handle: nvml_mig.remove(nvml, handle, number=instance.number),
                host,
            )

    def instance_edits(self, instance: Instance, *, host: Host) -> ContainerEdits:
        """The two device nodes that open the instance."""
        with _refusals(instance.target.place.card):
            minor = self._nvml(host).card(instance.target.card_uuid).minor
            there = [one for one in self._instances(instance.target, host=host) if one.id == instance.number]
        if not there or not there[0].spanned or there[0].uuid != instance.uuid:
            raise PartitionBusyError(
                f"The instance {instance.target.place.name} was removed or changed while it was prepared.",
                remedy="The kubelet tries again. Look for an administrator or a tool that changes MIG "
                "instances.",
            )
        (compute,) = there[0].compute
        folder = f"gpu{minor}/mig/gi{instance.number}"
        nodes = [
            self._capability(f"{folder}/access", host),
            self._capability(f"{folder}/ci{compute}/access", host),
        ]
        return ContainerEdits(device_nodes=tuple(nodes))

    def make_whole(self, card_uuid: str, *, host: Host) -> None:
        """See `Partitioner`."""
        with _refusals(card_uuid):
            mode = self._ask(card_uuid, nvml_mig.mig_mode, host)
            if mode is None:
                return
            if not mode:
                self._switch(card_uuid, enable=False, host=host)
                return
            profiles = self._profiles(card_uuid, version=self._nvml(host).driver_version(), host=host)
            there = self._ask(
                card_uuid, lambda nvml, handle: nvml_mig.instances(nvml, handle, profiles), host
            )
            if there:
                raise PartitionBusyError(
                    f"Card {card_uuid} has {len(there)} MIG instances, so it cannot be used as a whole.",
                    remedy="The kubelet tries again. An administrator removes instances that no claim holds "
                    "with nvidia-smi mig.",
                )
            self._switch(card_uuid, enable=False, host=host)

    def _find(self, target: PartitionTarget, *, host: Host) -> Instance | None:
        place = target.place
        for one in self._instances(target, host=host):
            if (one.profile, one.start, one.size) == (place.profile, place.start, place.size):
                return Instance(
                    target=target,
                    uuid=one.uuid,
                    number=one.id,
                    complete=one.spanned,
                    complaint=_DIVIDED if one.compute and not one.spanned else "",
                )
        return None

    def _instances(self, target: PartitionTarget, *, host: Host) -> tuple[MigInstance, ...]:
        uuid = target.card_uuid
        if self._ask(uuid, nvml_mig.mig_mode, host) is not True:
            return ()
        profiles = self._profiles(uuid, version=self._nvml(host).driver_version(), host=host)
        return self._ask(uuid, lambda nvml, handle: nvml_mig.instances(nvml, handle, profiles), host)

    def _profile(self, target: PartitionTarget, *, host: Host) -> MigProfile:
        version = self._nvml(host).driver_version()
        place = target.place
        for profile in self._profiles(target.card_uuid, version=version, host=host):
            if profile.id == place.profile and (place.start, place.size) in profile.placements:
                return profile
        raise DeviceGoneError(f"Card {place.card} has no place for {place.name} (any more).", remedy=_ANEW)

    def _switch(self, card_uuid: str, *, enable: bool, host: Host) -> None:
        there = self._ask(card_uuid, nvml_mig.mig_mode, host) is enable
        if there and self._ask(card_uuid, nvml_mig.pending_mode, host) is enable:
            return
        # Another that is pending was left by an agent that was killed before it could take it back.
        status = self._ask(
            card_uuid, lambda nvml, handle: nvml_mig.set_mig_mode(nvml, handle, enable=enable), host
        )
        if status:
            word = "into" if enable else "out of"
            raise PartitionBusyError(
                f"Card {card_uuid} cannot be taken {word} MIG mode now (NVML's error {status}): something "
                "still uses it, or it needs a reset.",
                remedy="The kubelet tries again. An administrator stops what has the card open, such as "
                "nvidia-persistenced or DCGM.",
            )

    def _profiles(self, uuid: str, *, version: str, host: Host) -> tuple[MigProfile, ...]:
        known = self._known.get((uuid, version))
        if known is None:
            known = self._ask(uuid, nvml_mig.profiles, host)
            self._known[uuid, version] = known
        return known

    def _ask(self, uuid: str, work: Callable[[Any, Any], T], host: Host) -> T:
        return self._nvml(host).on_card(uuid, work)

    def _capability(self, path: str, host: Host) -> DeviceNode:
        roots = tuple(dict.fromkeys(("/", self._driver_root)))
        for root in roots:
            try:
                text = host.read_text(posixpath.join(root, _CAPABILITIES, path), limit=_CAPABILITY_LIMIT)
            except OSError:
                continue
            found = _MINOR.search(text)
            if found:
                return self._node(f"dev/nvidia-caps/nvidia-cap{found.group(1)}", roots=roots, host=host)
        raise DriverFilesMissingError(
            f"The driver has no /{_CAPABILITIES}/{path}.", remedy="Look whether the driver is of one version."
        )

    def _node(self, path: str, *, roots: Sequence[str], host: Host) -> DeviceNode:
        for root in roots:
            where = posixpath.join(root, path)
            if host.exists(where):
                return DeviceNode(
                    path=f"/{path}", host_path="" if where == f"/{path}" else where, permissions="rw"
                )
        raise DriverFilesMissingError(
            f"The node has no /{path}.",
            remedy="An administrator runs nvidia-modprobe -f with the file of the instance in "
            f"/{_CAPABILITIES}, or lets udev make the node.",
        )


def _totals(profiles: Sequence[MigProfile]) -> dict[str, int]:
    slots = max((start + size for profile in profiles for start, size in profile.placements), default=0)
    names = sorted({name for profile in profiles for name in profile.counters})
    most = {name: max(profile.counters.get(name, 0) for profile in profiles) for name in names}
    return {**{f"slot-{number}": 1 for number in range(slots)}, **{n: v for n, v in most.items() if v}}


def _part(
    card: Card,
    profile: MigProfile,
    *,
    start: int,
    size: int,
    totals: Mapping[str, int],
    there: MigInstance | None = None,
) -> Card:
    place = Place(card=card.name, kind=KIND, profile=profile.id, start=start, size=size)
    taken = {f"slot-{number}": 1 for number in place.slots}
    taken |= {name: value for name, value in profile.counters.items() if value}
    whole = max(totals.get("compute-slices", 0), 1)
    return Card(
        name=place.name,
        vendor=card.vendor,
        model=card.model,
        memory_bytes=profile.memory_mib * MIB,
        architecture=card.architecture,
        driver_version=card.driver_version,
        pci_bus_id=card.pci_bus_id,
        pcie_root=card.pcie_root,
        numa_node=card.numa_node,
        # Rounded down: what is asked for has to be there.
        cores=max(1, min(CORES_PER_CARD, profile.slices * CORES_PER_CARD // whole)),
        shareable=False,
        partition=Partition(card_uuid=card.uuid, profile=profile.name, exists=there is not None),
        counters=taken,
        unpublished=_complaint(there),
    )


def _complaint(there: MigInstance | None) -> str:
    if there is None or there.spanned:
        return ""
    return _DIVIDED if there.compute else _NO_COMPUTE


@contextmanager
def _refusals(card: str) -> Iterator[None]:
    """Turns NVML's errors into refusals."""
    try:
        yield
    except NvmlError as failed:
        raise _refusal(card, failed) from None


def _refusal(card: str, failed: NvmlError) -> PrepareError:
    if failed.driver_missing or failed.stale:
        return DriverNotReadyError(
            f"NVIDIA's driver does not answer: {failed}.",
            remedy="The kubelet tries again until the driver is loaded.",
        )
    if failed.lost or failed.unknown_card or failed.reset_required:
        return DeviceGoneError(f"Card {card} cannot be reached: {failed}.", remedy=_ANEW)
    if failed.in_use or failed.no_room:
        return PartitionBusyError(
            f"Card {card} cannot be partitioned now: {failed}.", remedy="The kubelet tries again."
        )
    return PartitionRefusedError(
        f"NVIDIA's driver refuses to change the partitions of card {card}: {failed}.",
        remedy="The agent has to run as root with CAP_SYS_ADMIN; the node's kernel log has the driver's "
        "messages.",
    )
