"""NVIDIA cards: found by NVML, given to containers by device nodes and the driver's files.

Flow: *discover* lists the cards through NVML and adds what sysfs knows (PCIe root, NUMA node); *edits* finds
the card again by its UUID at prepare time, since minor numbers change over a boot, and takes the Container
Toolkit's edits where its CDI spec fits, else makes its own (`nvidia_files`).

Health: *health* asks NVML for each card's state (is it there, memory that waits for a reset or cannot be
repaired, what the driver wants done); *wait_for_faults* hears of XIDs and double-bit errors (`nvidia_xids`
says whose they are).

MIG: each instance that a card has or could have is a device beside it (`nvidia_mig`); which of them are
offered is a matter of policy. What is wrong with a card is wrong with its instances.

Limits: A node without NVIDIA hardware gives no
cards and no problems, whether or not a driver is installed.
"""

from __future__ import annotations

import ctypes
import posixpath
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from driver.cards import Card, device_name
from driver.cdi import ContainerEdits
from driver.errors import DeviceGoneError, InvalidInputError
from driver.host import Host
from driver.partitions.base import IN_PARTITION_MODE, Instance, PartitionTarget
from driver.quantities import MIB
from driver.vendors.base import CARD_MISSING, UNREADABLE, CardFault, CardHealth, Discovery
from driver.vendors.nvidia_files import (
    LIBRARY_DIRS,
    NO_RUNTIME_CARDS,
    DriverNotReadyError,
    device_nodes,
    driver_files,
    resolve_below,
)
from driver.vendors.nvidia_mig import NvidiaMig
from driver.vendors.nvidia_toolkit import ToolkitSpecs, UnusableSpecError
from driver.vendors.nvidia_xids import fault_of
from driver.vendors.nvml import PynvmlNvml
from driver.vendors.nvml_answers import (
    EXCLUSIVE_PROCESS,
    EXCLUSIVE_THREAD,
    PROHIBITED,
    Nvml,
    NvmlCard,
    NvmlError,
    NvmlEvent,
    NvmlState,
)
from driver.vendors.reading import listing, optional

_LIBRARY = "libnvidia-ml.so.1"
_PCI_DEVICES = "/sys/bus/pci/devices"
_PCIE_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
_VENDOR_ID = "0x10de"
_DISPLAY = "0x03"  # base class of VGA (0x0300) and 3D (0x0302) controllers
_PCI_ADDRESS = re.compile(r"([0-9a-f]+):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)
_AFTER_AN_ERROR_S = 1.0
_MOST_EVENTS = 1000
_DOUBLE_BIT = "The driver reported an uncorrectable (double-bit) memory error."
_CERTAIN = frozenset({"CardLost", CARD_MISSING, "ResetRequired", "RowRemapFailed"})
_RECOVERY = {
    1: "a reset of the card",
    2: "a reboot of the node",
    3: "the card's peers to be drained",
    4: "the card to be drained and reset",
    6: "a reset of the bus",
    7: "a reboot of the system",
}
_NEW_POD = "Delete the pod; a new one is scheduled to a card that is there."
_PROHIBITED = "The card's compute mode is PROHIBITED: no program may use it until nvidia-smi -c DEFAULT."
_ONE_PROCESS = (
    "NVIDIA card {uuid} is in a compute mode that refuses a second process (EXCLUSIVE_PROCESS), so it is "
    "given out whole, or by shares that MPS holds; nvidia-smi -i {uuid} -c DEFAULT lets it be shared."
)


class Nvidia:
    """NVIDIA; implements `driver.vendors.base.Vendor`.

    Args:
        driver_root: Root of the driver's installation, as a path of the node: `/`, or a driver container's.
        nvml: NVML; by default the driver's own library, looked for on the host when a verb is first called.
        toolkit: Where the Container Toolkit keeps its CDI specs; by default where runtimes read them.
    """

    name = "nvidia"

    def __init__(
        self, *, driver_root: str = "/", nvml: Nvml | None = None, toolkit: ToolkitSpecs | None = None
    ) -> None:
        self._driver_root = driver_root
        self._nvml = nvml
        self._toolkit = toolkit or ToolkitSpecs()
        self._parts: dict[str, tuple[Mapping[str, int], tuple[Card, ...]]] = {}
        self._mig = NvidiaMig(self._asked, driver_root=driver_root)

    def discover(self, host: Host) -> Discovery:
        """All cards that NVML lists, in PCI order."""
        try:
            listing = self._asked(host).listing()
        except NvmlError as failed:
            if not has_hardware(host):
                return Discovery(cards=())
            return Discovery(cards=(), problems=(f"NVIDIA's cards cannot be listed: {failed}.",))
        cards: list[Card] = []
        problems = list(listing.problems)
        for found in listing.cards:
            try:
                card = _card(found, driver_version=listing.driver_version, host=host)
                cards += self._with_partitions(card, found, problems, host=host)
                problems += [_ONE_PROCESS.format(uuid=found.uuid)] if card.one_process else []
            except InvalidInputError as invalid:
                problems.append(f"NVIDIA card {found.uuid or found.pci_bus_id} is left out: {invalid}")
        return Discovery(
            cards=tuple(sorted(cards, key=lambda card: card.pci_bus_id.rjust(16))), problems=tuple(problems)
        )

    def edits(self, card: Card, *, host: Host) -> ContainerEdits:
        """What a CUDA program needs: control, UVM and card nodes, the driver's libraries and programs.

        Raises:
            DeviceGoneError: NVML has no such card (any more), or it is in MIG mode by now.
            DriverNotReadyError: There is no driver at the moment.
            DriverFilesMissingError: The node's driver installation is not complete.
        """
        try:
            now = self._asked(host).card(_uuid(card))
            version = self._asked(host).driver_version()
        except NvmlError as failed:
            if failed.driver_missing:
                raise DriverNotReadyError(
                    f"NVIDIA's driver does not answer: {failed}.",
                    remedy="The kubelet tries again until the driver is loaded.",
                ) from None
            raise DeviceGoneError(f"Card {card.name} cannot be reached: {failed}.", remedy=_NEW_POD) from None
        if now.mig and card.partition is None and not card.counters:
            raise DeviceGoneError(f"Card {card.name}: {IN_PARTITION_MODE}", remedy=_NEW_POD)
        found = None
        if card.partition is None:
            # A stale spec of the toolkit must not keep pods from starting: ours say what is there now.
            with suppress(UnusableSpecError):
                found = self._toolkit.edits(uuid=card.uuid, minor=now.minor, host=host)
        if found is not None:
            return replace(found, env={**found.env, **NO_RUNTIME_CARDS})
        return device_nodes(minor=now.minor, driver_root=self._driver_root, host=host) + driver_files(
            version=version, driver_root=self._driver_root, host=host
        )

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        """How each card is, in NVML's words where something is wrong."""
        # A card in many parts is asked once.
        told: dict[str, CardHealth] = {}
        for card in cards:
            if _uuid(card) not in told:
                told[_uuid(card)] = self._health(card, host=host)
        return tuple(replace(told[_uuid(card)], name=card.name) for card in cards)

    def wait_for_faults(
        self, cards: Sequence[Card], *, host: Host, timeout_s: float
    ) -> tuple[CardFault, ...] | None:
        """XIDs and double-bit errors of the cards; see `driver.vendors.base.FaultSource`."""
        names: defaultdict[str, list[str]] = defaultdict(list)
        for card in cards:
            names[_uuid(card)].append(card.name)
        try:
            event = self._asked(host).wait(list(names), timeout_s=timeout_s)
        except NvmlError:
            # A card is lost or the driver is gone. Which one is a matter of asking; and no faster than that.
            time.sleep(min(timeout_s, _AFTER_AN_ERROR_S))
            return None
        if event is None:
            return ()
        events = (event, *self._more_events(list(names), host=host))
        found = [_fault(one, name=name) for one in events for name in names.get(one.uuid, ())]
        return tuple(fault for fault in found if fault is not None) or None

    def _more_events(self, uuids: Sequence[str], *, host: Host) -> Iterator[NvmlEvent]:
        """What waits already: programs that are at fault again and again must hold up no card's fault."""
        with suppress(NvmlError):
            for _ in range(_MOST_EVENTS):
                event = self._asked(host).wait(uuids, timeout_s=0)
                if event is None:
                    return
                yield event

    @property
    def instances_outlive_boot(self) -> bool:
        """See `driver.partitions.Partitioner`."""
        return self._mig.instances_outlive_boot

    @property
    def numbers_used_again(self) -> bool:
        """See `Partitioner`."""
        return self._mig.numbers_used_again

    def find_instance(self, target: PartitionTarget, *, host: Host) -> Instance | None:
        """See `driver.partitions.Partitioner`."""
        return self._mig.find_instance(target, host=host)

    def make_instance(self, target: PartitionTarget, *, host: Host) -> Instance:
        """See `driver.partitions.Partitioner`."""
        return self._mig.make_instance(target, host=host)

    def remove_instance(self, instance: Instance, *, host: Host) -> None:
        """See `driver.partitions.Partitioner`."""
        self._mig.remove_instance(instance, host=host)

    def instance_edits(self, instance: Instance, *, host: Host) -> ContainerEdits:
        """See `driver.partitions.Partitioner`."""
        return self._mig.instance_edits(instance, host=host)

    def make_whole(self, card_uuid: str, *, host: Host) -> None:
        """See `driver.partitions.Partitioner`."""
        self._mig.make_whole(card_uuid, host=host)

    def _with_partitions(
        self, card: Card, found: NvmlCard, problems: list[str], *, host: Host
    ) -> tuple[Card, ...]:
        try:
            counters, parts = self._mig.cards(card, mig=found.mig, host=host)
            self._parts[card.uuid] = counters, parts
        except NvmlError as failed:
            problems.append(f"The MIG instances of NVIDIA card {found.uuid} cannot be listed: {failed}.")
            # As far as anybody knows they are there: devices must not come and go by one bad answer.
            counters, parts = self._parts.get(card.uuid, ({}, ()))
        return replace(card, counters=counters), *parts

    def _health(self, card: Card, *, host: Host) -> CardHealth:
        try:
            state = self._asked(host).state(_uuid(card))
        except NvmlError as failed:
            return _not_answering(card, failed)
        reason, message = _complaint(state)
        if not reason and not self._has_node(state.minor, host=host):
            reason, message = "DeviceNodesMissing", f"There is no /dev/nvidia{state.minor}."
        return CardHealth(
            name=card.name,
            health="Unhealthy" if reason else "Healthy",
            message=message,
            reason=reason,
            certain=reason in _CERTAIN,
            cleared=state.recovery == 0,
        )

    def _has_node(self, minor: int, *, host: Host) -> bool:
        roots = dict.fromkeys(("/", self._driver_root))
        return any(host.exists(posixpath.join(root, f"dev/nvidia{minor}")) for root in roots)

    def _asked(self, host: Host) -> Nvml:
        if self._nvml is None:
            self._nvml = PynvmlNvml(lambda: load_nvml(driver_root=self._driver_root, host=host))
        return self._nvml


def _uuid(card: Card) -> str:
    """UUID of the card that a device is, or is part of."""
    return card.uuid if card.partition is None else card.partition.card_uuid


def _fault(event: NvmlEvent, *, name: str) -> CardFault | None:
    if not event.xid:
        return CardFault(name=name, reason="DoubleBitError", message=_DOUBLE_BIT, certain=True)
    return fault_of(event.xid, name=name)


def _not_answering(card: Card, failed: NvmlError) -> CardHealth:
    reason = (
        "CardLost" if failed.lost
        else CARD_MISSING if failed.unknown_card
        else "ResetRequired" if failed.reset_required
        else "DriverStale" if failed.stale
        else "DriverMissing" if failed.driver_missing
        else ""
    )  # fmt: skip
    return CardHealth(
        name=card.name,
        health="Unhealthy" if reason else "Unknown",
        message=f"NVML: {failed}.",
        reason=reason or UNREADABLE,
        certain=reason in _CERTAIN,
    )


def _complaint(state: NvmlState) -> tuple[str, str]:
    if state.remap_failed:
        return (
            "RowRemapFailed",
            "Memory could not be repaired by remapping a row: the card has to be replaced.",
        )
    if state.recovery:
        wanted = _RECOVERY.get(state.recovery, f"recovery action {state.recovery}")
        return "RecoveryNeeded", f"The driver asks for {wanted}."
    if state.remap_pending:
        return "RowRemapPending", "A row of memory is remapped when the card is reset."
    if state.retirement_pending:
        return "PageRetirementPending", "A page of memory is retired when the card is reset."
    return "", ""


def load_nvml(*, driver_root: str, host: Host) -> ctypes.CDLL:
    """The driver's NVML library, below the driver root where that is not the host's own.

    Raises:
        OSError: There is none (yet).
    """
    if driver_root != "/":
        for folder in LIBRARY_DIRS:
            path = resolve_below(f"{folder}/{_LIBRARY}", root=driver_root, host=host)
            if host.exists(path):
                return host.load_library(path)
    return host.load_library(_LIBRARY)


def has_hardware(host: Host) -> bool:
    """Whether sysfs lists a display or 3D controller of NVIDIA."""
    for address in listing(_PCI_DEVICES, host=host):
        device = f"{_PCI_DEVICES}/{address}"
        ours = optional(f"{device}/vendor", host=host) == _VENDOR_ID
        if ours and optional(f"{device}/class", host=host).startswith(_DISPLAY):
            return True
    return False


def normal_pci_address(text: str) -> str:
    """`00000000:3B:00.0` as sysfs and Kubernetes write it: `0000:3b:00.0`.

    Raises:
        InvalidInputError: This is no PCI address.
    """
    match = _PCI_ADDRESS.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"{text!r} is not a PCI address.", field="pciBusID")
    domain, bus, device, function = match.groups()
    return f"{int(domain, 16):04x}:{bus}:{device}.{function}".lower()


def _card(found: NvmlCard, *, driver_version: str, host: Host) -> Card:
    address = normal_pci_address(found.pci_bus_id)
    device = f"{_PCI_DEVICES}/{address}"
    return Card(
        name=device_name(vendor=Nvidia.name, uuid=found.uuid, pci_bus_id=address),
        vendor=Nvidia.name,
        model=found.name,
        memory_bytes=found.memory_bytes // MIB * MIB,
        uuid=found.uuid,
        architecture=found.architecture,
        driver_version=driver_version,
        pci_bus_id=address,
        pcie_root=_pcie_root(host.resolve(device)) if host.exists(device) else "",
        numa_node=_numa_node(optional(f"{device}/numa_node", host=host)),
        unpublished=_why_not(found),
        one_process=not found.mig and found.compute_mode in (EXCLUSIVE_THREAD, EXCLUSIVE_PROCESS),
    )


def _why_not(found: NvmlCard) -> str:
    if found.mig:
        return IN_PARTITION_MODE
    return _PROHIBITED if found.compute_mode == PROHIBITED else ""


def _pcie_root(device: str) -> str:
    return next((part for part in device.split("/") if _PCIE_ROOT.fullmatch(part)), "")


def _numa_node(text: str) -> int | None:
    # The kernel writes -1 where the platform has no NUMA nodes.
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else None
