"""Cards: what a node has, in one vocabulary for all vendors.

Purpose: a `Card` is the whole truth about one accelerator that the rest of the driver needs. Vendors make
them, AcceleratorNode's status carries them to the controller, ResourceSlices are made of them, and the agent
looks them up again when it prepares a share.

Flow: vendor -> Card -> AcceleratorNode.status -> ResourceSlice -> allocation -> Card (by name) -> share.

Limits: a card is named by its vendor's UUID or by its PCI address, never by a number that a reboot may change
(invariant 5). Where the card can be reached right now (device nodes, minor numbers) is deliberately not part
of the Card: a vendor finds that out at prepare time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from driver.errors import InvalidInputError
from driver.places import place_of
from driver.quantities import MIB

DRIVER_NAME = "dragoman.dev"
"""The DRA driver's name; also the API group and the domain of our attributes."""

CORES_PER_CARD = 100
"""Compute of a card in percent: the capacity `cores` of every card."""

LOW_PRIORITY_PERCENT = 5
"""So much of the time shares of low priority compute if no policy says otherwise: nobody waits for ever."""

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class IsolationLevel(StrEnum):
    """How strongly a dimension (memory, compute) of a share is held.

    The order from strongest to weakest is that of `ISOLATION_ORDER`.
    """

    HARDWARE = "hardware"
    KERNEL = "kernel"
    SERVICE = "service"
    PRELOAD = "preload"
    NONE = "none"


ISOLATION_ORDER: tuple[IsolationLevel, ...] = tuple(IsolationLevel)
"""Strongest first: a share that asks for a minimum accepts that level and everything before it."""


def at_least(level: IsolationLevel, minimum: IsolationLevel) -> bool:
    """Whether `level` isolates no more weakly than `minimum`."""
    return ISOLATION_ORDER.index(level) <= ISOLATION_ORDER.index(minimum)


class TaintEffect(StrEnum):
    """What becomes of a card with a fault: the words of Kubernetes' device taints.

    `NONE` tells of the fault and leaves the card on offer; `NO_SCHEDULE` keeps it from new claims;
    `NO_EXECUTE` also ends the pods that use it.
    """

    NONE = "None"
    NO_SCHEDULE = "NoSchedule"
    NO_EXECUTE = "NoExecute"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with a card.

    Attributes:
        reason: CamelCase word, stable; the value of the card's taint, so at most 63 letters and digits.
        message: A sentence for people.
        since: When it was noticed: RFC 3339 in UTC, whole seconds.
        effect: What becomes of the card.
    """

    reason: str
    message: str
    since: str
    effect: TaintEffect = TaintEffect.NO_SCHEDULE


@dataclass(frozen=True, kw_only=True)
class Partition:
    """What makes a device a part of a card that the hardware keeps apart: a MIG instance, a vNPU.

    Attributes:
        card_uuid: UUID of the card; "" where the vendor has none.
        profile: The vendor's name of its size, such as `1g.10gb`.
        exists: Whether it is there now; otherwise it is made when a claim that was given it is prepared.
        ours: Whether it is there because it was made for a claim.
    """

    card_uuid: str
    profile: str
    exists: bool = False
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class Card:
    """One accelerator of a node, or a partition of one.

    Attributes:
        name: Device name in ResourceSlices, made by `device_name` alone; stable over reboots.
        vendor: The vendor's short name, such as `nvidia`; the name of its file in `driver/vendors/`.
        physical_memory_bytes: All memory that it has, of which a policy may reserve some: whole MiB; 0 = the
            same as `memory_bytes`.
        uuid: The vendor's UUID, as the vendor's tools print it; "" where the vendor has none.
        model: Product name as the vendor's tools print it.
        memory_bytes: Memory that may be given out, after what is reserved: whole MiB.
        architecture: Vendor's name of the chip generation; "" if unknown.
        driver_version: Version of the kernel driver, as the vendor prints it; "" if unknown.
        pci_bus_id: `0000:3b:00.0`, lower case, four-digit domain; "" if the card is not on PCI.
        pcie_root: `pci0000:3a`; "" if unknown.
        numa_node: NUMA node, None if the platform has none.
        memory_isolation: Strongest method in force for memory on this node for this card.
        cores_isolation: The same for compute.
        shareable: False where a policy gives the card out whole only.
        one_process: Whether the driver refuses a second process on it (compute mode EXCLUSIVE_PROCESS).
        allow_uncapped: False where a policy refuses shares without a cap on compute.
        allow_high_priority: Whether a policy lets shares go before others.
        low_priority_percent: Percent of the time in which shares of low priority compute however busy one of
            high priority is.
        unpublished: Why the card is not offered (MIG mode, excluded by policy); "" if it is offered.
        fault: What is wrong with it; None if nothing is known to be.
        cores: Compute of it in percent of a card: 100 but for a partition.
        partition: What it is a partition of; None for a card. Its name tells the slots (`driver.places`).
        counters: Of a card that is partitioned on demand what it has, and of its partitions what they take,
            so that they exclude each other; empty where nothing is made on demand.
    """

    name: str
    vendor: str
    model: str
    memory_bytes: int
    physical_memory_bytes: int = 0
    uuid: str = ""
    architecture: str = ""
    driver_version: str = ""
    pci_bus_id: str = ""
    pcie_root: str = ""
    numa_node: int | None = None
    memory_isolation: IsolationLevel = IsolationLevel.NONE
    cores_isolation: IsolationLevel = IsolationLevel.NONE
    shareable: bool = True
    one_process: bool = False
    allow_uncapped: bool = True
    allow_high_priority: bool = False
    low_priority_percent: int = LOW_PRIORITY_PERCENT
    unpublished: str = ""
    extra_attributes: dict[str, str | int | bool] = field(default_factory=dict)
    fault: Fault | None = None
    cores: int = CORES_PER_CARD
    partition: Partition | None = None
    counters: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _DNS_LABEL.fullmatch(self.name):
            raise InvalidInputError(
                f"{self.name!r} is not a valid device name.",
                field="name",
                remedy="Device names are DNS labels of at most 63 characters.",
            )
        if self.memory_bytes <= 0 or self.memory_bytes % MIB:
            raise InvalidInputError(
                f"Card {self.name} has {self.memory_bytes} bytes of memory; whole MiB above 0 are needed.",
                field="memoryBytes",
            )
        if not 0 < self.cores <= CORES_PER_CARD:
            raise InvalidInputError(
                f"Card {self.name} has {self.cores} percent of a card's compute; 1 to {CORES_PER_CARD} are "
                "possible.",
                field="cores",
            )
        if self.partition is not None and place_of(self.name) is None:
            raise InvalidInputError(f"{self.name!r} does not tell where the partition is.", field="name")
        physical = self.physical_memory_bytes
        if physical and (physical < self.memory_bytes or physical % MIB):
            raise InvalidInputError(
                f"Card {self.name} gives out {self.memory_bytes} of {physical} bytes of memory; whole "
                "MiB, no less than are given out, are needed.",
                field="physicalMemoryBytes",
            )

    @property
    def is_promise(self) -> bool:
        """Whether it is a partition that may be made, and is counted in its card already."""
        return self.partition is not None and (not self.partition.exists or self.partition.ours)

    @property
    def memory_mib(self) -> int:
        """Memory that may be given out, in MiB."""
        return self.memory_bytes // MIB

    @property
    def physical_memory_mib(self) -> int:
        """All memory that the card has, in MiB."""
        return (self.physical_memory_bytes or self.memory_bytes) // MIB

    def with_isolation(self, *, memory: IsolationLevel, cores: IsolationLevel) -> Card:
        """The same card with the isolation that this node can put in force."""
        return replace(self, memory_isolation=memory, cores_isolation=cores)


def device_name(*, vendor: str, uuid: str, pci_bus_id: str = "") -> str:
    """The one function that names a card: by its UUID, else by its PCI address.

    Returns:
        `<vendor>-<uuid>` lower case, or `pci-0000-3b-00-0`; a DNS label of at most 63 characters.

    Raises:
        InvalidInputError: The card has neither, or a UUID that does not fit into a DNS label.
    """
    if uuid:
        # NVIDIA prints `GPU-<uuid>`: the prefix says nothing that the vendor's name does not.
        bare = re.sub(r"[^a-z0-9-]+", "-", uuid.lower().removeprefix("gpu-")).strip("-")
        name = f"{vendor}-{bare}"
    elif pci_bus_id:
        name = "pci-" + re.sub(r"[:.]", "-", pci_bus_id.lower())
    else:
        raise InvalidInputError(
            f"A card of vendor {vendor} has neither a UUID nor a PCI address.",
            field="uuid",
            remedy="Without a stable identity a card cannot be published.",
        )
    if not _DNS_LABEL.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is not a valid device name.",
            field="uuid",
            remedy="The vendor's name and the UUID together must be a DNS label of at most 63 characters.",
        )
    return name


_POOL_SUFFIX = "/dragoman"


def pool_name(node: str) -> str:
    """The pool of a node's cards.

    Not the bare node name: kube-scheduler 1.36 keeps counters by pool name without the driver, so two drivers
    that both used the node's name would use each other's books (KEP-4815 as of 1.36).
    """
    return f"{node}{_POOL_SUFFIX}"


def node_of_pool(pool: str) -> str:
    """The node that a pool made by `pool_name` belongs to; "" if it was not made by it."""
    return pool.removesuffix(_POOL_SUFFIX) if pool.endswith(_POOL_SUFFIX) else ""
