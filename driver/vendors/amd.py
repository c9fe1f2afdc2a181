"""AMD cards: all from sysfs, given to containers by the nodes of amdkfd and of the card's DRM minors.

Flow: *discover* lists the functions that amdgpu drives, with the memory that it reports, and the partitions
that they have or could have (`driver.vendors.amd_partitions`); *edits* finds the card again by its PCI
address and its unique ID, so that another card in its place is not given out.

Source: the kernel's amdgpu documentation (`mem_info_vram_total`, `unique_id`, `product_name`,
`current_compute_partition`), amdkfd's topology (`driver.vendors.kfd`), and what AMD's own device plugin gives
a container: `/dev/kfd` and the card's `/dev/dri` nodes. No library and no program of ROCm is needed.

Limits:
* A card in another compute mode than SPX is not given out as a whole: a ROCm program sees as many devices as
  it has partitions, none of which has the card's memory.
* A container gets no ROCR_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES: these count what it sees, and it sees what
  it may open. Partitions of a card have one UUID on many kernels, so these could not be named either.
* Which cards have a unique ID is the kernel's business: for Radeon cards a newer kernel may begin to tell it,
  and the card's name changes with that boot. All Instinct cards have one.
* Memory of an APU is what the firmware set aside for it.
* Programs bring ROCm in their image; nothing of the host's installation is mounted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from driver.host import Host
from driver.partitions.base import IN_PARTITION_MODE, Instance, PartitionTarget
from driver.places import place_of
from driver.vendors.amd_layout import Cut, compute_mode, memory_mode, read_cut
from driver.vendors.amd_modes import WHOLE
from driver.vendors.amd_partitions import AmdPartitions, render_node
from driver.vendors.base import UNREADABLE, CardHealth, Discovery
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.kfd import KfdTopology, kfd_topology, unique_id, vram_bytes
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import PciFunction, driver_of, drm_nodes, pci_function
from driver.vendors.pci_vendor import (
    Described,
    Description,
    DeviceNodesMissingError,
    Needs,
    PciVendor,
    gone,
    missing,
)
from driver.vendors.reading import UnreadableError, optional

_DRIVER = "amdgpu"
_KFD = "/dev/kfd"
_WHOLE = ("", WHOLE)
_UNCORRECTABLE = re.compile(r"^ue:\s*([0-9]{1,18})\s*$", re.MULTILINE)

_MODELS = {
    0x738C: "AMD Instinct MI100",
    0x7408: "AMD Instinct MI250X",
    0x740C: "AMD Instinct MI250X/MI250",
    0x740F: "AMD Instinct MI210",
    0x74A0: "AMD Instinct MI300A",
    0x74A1: "AMD Instinct MI300X",
    0x74A2: "AMD Instinct MI308X",
    0x74A5: "AMD Instinct MI325X",
    0x74A9: "AMD Instinct MI300X",
    0x75A0: "AMD Instinct MI350X",
    0x75A3: "AMD Instinct MI355X",
}
"""Names of cards whose memory of product data is empty, as on many boards."""

FACTS = VendorFacts(
    name="amd",
    title="AMD",
    pci_vendors=frozenset({0x1002}),
    identity=Identity.UUID_ELSE_PCI,
    # Its partitions by hardware.
    isolation=(IsolationLevel.HARDWARE, IsolationLevel.NONE),
    brought=(IsolationLevel.PRELOAD,),
    offered_by_node=(IsolationLevel.KERNEL,),
    sources=(
        "Linux: documentation of amdgpu's sysfs files, amdkfd's topology.",
        "ROCm/k8s-device-plugin and ROCm/k8s-gpu-dra-driver: device nodes, partition files.",
        "AMD's guides to partitioning MI300 cards; Linux: amdgpu's and amdkfd's sources of partitions.",
        "amd-hami-core: the contract of its library for HIP.",
        "Docker's own AMD support: `AMD_VISIBLE_DEVICES=void` keeps AMD's runtime from adding cards.",
    ),
    guessed=(
        "Names by PCI device ID where `product_name` is empty are of public tables, not of AMD's.",
        "That partitions of an MI300A have no more memory together than `mem_info_vram_total` says.",
    ),
    legacy=(
        LegacyNames(
            count="amd.com/gpu",
            memory="amd.com/gpumem",
            cores="amd.com/gpucores",
            type_prefix="AMD-",
            annotations=(
                ("useUUID", "amd.com/use-gpu-uuid"),
                ("avoidUUID", "amd.com/nouse-gpu-uuid"),
                ("useType", "amd.com/use-gputype"),
                ("avoidType", "amd.com/nouse-gputype"),
            ),
            source="HAMi 2.10 (2.9: whole cards only); without amounts also AMD's device plugin",
        ),
    ),
    attributes=(
        ("computePartition", "string", "SPX", "Compute mode that the card is in."),
        ("memoryPartition", "string", "NPS1", "Memory mode that the card is in."),
    ),
    offered_as=("amd.com/gpu",),
    # AMD's device plugin with its naming strategy `mixed`.
    plugin_prefixes=tuple(f"amd.com/{mode}_nps" for mode in ("spx", "dpx", "tpx", "qpx", "cpx")),
)


class Amd(PciVendor):
    """AMD; implements `driver.vendors.base.Vendor`."""

    facts = FACTS

    def __init__(self) -> None:
        super().__init__()
        self._partitions = AmdPartitions(self._function_of)
        self._addresses: dict[str, str] = {}

    @property
    def instances_outlive_boot(self) -> bool:
        """See `driver.partitions.Partitioner`."""
        return self._partitions.instances_outlive_boot

    @property
    def numbers_used_again(self) -> bool:
        """See `Partitioner`."""
        return self._partitions.numbers_used_again

    def discover(self, host: Host) -> Discovery:
        """All cards, and the partitions that they have or could have."""
        found = super().discover(host)
        topology = kfd_topology(host)
        self._addresses = {card.uuid: card.pci_bus_id for card in found.cards if card.uuid}
        cards: list[Card] = []
        for card in found.cards:
            if card.unpublished not in ("", IN_PARTITION_MODE):
                cards.append(card)
                continue
            try:
                function = self.function(card, host=host)
                if function is not None:
                    cards += self._partitions.cards(card, function, topology=topology, host=host)
            except UnreadableError as unreadable:
                mode = card.extra_attributes.get("computePartition", "")
                reason = f"The card is cut into partitions (mode {mode}) that cannot be offered: {unreadable}"
                cards.append(replace(card, unpublished=reason))
        return replace(found, cards=tuple(cards))

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        """How each card is; what is wrong with a card is wrong with its partitions."""
        found = super().health(cards, host=host)
        topology = kfd_topology(host) if any(_is_there(card) for card in cards) else None
        cuts: dict[str, Cut | UnreadableError | None] = {}
        told = []
        for card, health in zip(cards, found, strict=True):
            if topology is not None and _is_there(card) and health.health == "Healthy":
                if card.pci_bus_id not in cuts:
                    cuts[card.pci_bus_id] = self._cut(card, topology=topology, host=host)
                told.append(_of_part(card, health, cuts[card.pci_bus_id], host=host))
            else:
                told.append(health)
        return tuple(told)

    def find_instance(self, target: PartitionTarget, *, host: Host) -> Instance | None:
        """See `driver.partitions.Partitioner`."""
        return self._partitions.find_instance(target, host=host)

    def make_instance(self, target: PartitionTarget, *, host: Host) -> Instance:
        """See `driver.partitions.Partitioner`."""
        return self._partitions.make_instance(target, host=host)

    def remove_instance(self, instance: Instance, *, host: Host) -> None:
        """See `driver.partitions.Partitioner`."""
        self._partitions.remove_instance(instance, host=host)

    def instance_edits(self, instance: Instance, *, host: Host) -> ContainerEdits:
        """See `driver.partitions.Partitioner`."""
        return self._partitions.instance_edits(instance, host=host)

    def make_whole(self, card_uuid: str, *, host: Host) -> None:
        """See `driver.partitions.Partitioner`."""
        self._partitions.make_whole(card_uuid, host=host)

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:
        """Memory, identity and mode of each card, from its own files."""
        topology = kfd_topology(host)
        version = optional(f"/sys/module/{_DRIVER}/version", host=host)
        cards: dict[str, Described | UnreadableError] = {}
        for function in functions:
            try:
                cards[function.address] = _described(function, topology=topology, version=version, host=host)
            except UnreadableError as unreadable:
                cards[function.address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """The compute driver's node, and the card's own; of a partition, its instance says that.

        Raises:
            UnreadableError: The card has no DRM node (yet), or cannot say who it is.
            DeviceGoneError: It is another card, or cut into partitions by now.
        """
        _check_driver(function, host=host)
        if _uuid(card) and unique_id(function, host=host) != _uuid(card):
            raise gone(card)
        env = {"AMD_VISIBLE_DEVICES": "void"}
        if card.partition is not None:
            return Needs(nodes=(_KFD,), env=env)
        mode = compute_mode(function, host=host)
        if mode not in _WHOLE:
            raise gone(card, f"It is cut into partitions (mode {mode}) by now.")
        nodes = drm_nodes(function, host=host)
        if not any(node.startswith("/dev/dri/renderD") for node in nodes):
            raise UnreadableError(f"the kernel lists no render node of {function.address}.")
        return Needs(nodes=(_KFD, *nodes), env=env)

    def state(self, card: Card, function: PciFunction, *, host: Host) -> CardHealth:
        """Healthy while the driver answers for the same card; how many memory errors there were is told."""
        _check_driver(function, host=host)
        if _uuid(card) and unique_id(function, host=host) != _uuid(card):
            return missing(card, "Another card is in its place.")
        try:
            counted = host.read_text(f"{function.path}/ras/umc_err_count", limit=4096)
        except OSError:
            counted = ""
        errors = _UNCORRECTABLE.search(counted)
        said = f"{errors[1]} uncorrectable memory errors since the driver was loaded." if errors else ""
        return CardHealth(name=card.name, health="Healthy", message=said)

    def _nodes_are_there(
        self, card: Card, function: PciFunction, found: CardHealth, host: Host
    ) -> CardHealth:
        if card.partition is None and card.counters and compute_mode(function, host=host) not in _WHOLE:
            # It is whole again when it is given out.
            return found
        return super()._nodes_are_there(card, function, found, host)

    def _cut(self, card: Card, *, topology: KfdTopology, host: Host) -> Cut | UnreadableError | None:
        try:
            function = self.function(card, host=host)
            return None if function is None else read_cut(function, topology=topology, host=host)
        except UnreadableError as unreadable:
            return unreadable

    def _function_of(self, uuid: str, host: Host) -> PciFunction | None:
        at = self._addresses.get(uuid, "")
        found = pci_function(at, vendors=self.facts.pci_vendors, host=host)
        if found is not None and unique_id(found, host=host) == uuid:
            return found
        functions, _ = self.functions(host)
        for function in functions:
            accepted = not function.virtual and self.accepts(function, host=host)
            if accepted and unique_id(function, host=host) == uuid:
                return function
        return None


def _is_there(card: Card) -> bool:
    return card.partition is not None and card.partition.exists


def _of_part(card: Card, health: CardHealth, cut: Cut | UnreadableError | None, *, host: Host) -> CardHealth:
    place = place_of(card.name)
    if place is None or cut is None:
        return health
    if isinstance(cut, UnreadableError):
        return CardHealth(name=card.name, health="Unknown", message=str(cut), reason=UNREADABLE)
    if cut.node_at(place) is None:
        return missing(card, f"The card is in mode {cut.mode}.")
    try:
        render_node(place, cut, host=host)
    except DeviceNodesMissingError as absent:
        return CardHealth(name=card.name, health="Unhealthy", message=absent.message, reason=absent.reason)
    return health


def _uuid(card: Card) -> str:
    """Unique ID of the card that a device is, or is part of."""
    return card.uuid if card.partition is None else card.partition.card_uuid


def _described(function: PciFunction, *, topology: KfdTopology, version: str, host: Host) -> Described:
    _check_driver(function, host=host)
    mode = compute_mode(function, host=host)
    modes = {"computePartition": mode, "memoryPartition": memory_mode(function, host=host)}
    reason = ""
    if mode not in _WHOLE:
        reason = IN_PARTITION_MODE
    elif not topology.lists(function.address):
        reason = "The kernel's compute driver (amdkfd) does not list the card, so no ROCm program can use it."
    return Described(
        model=optional(f"{function.path}/product_name", host=host) or _MODELS.get(function.device, ""),
        memory_bytes=vram_bytes(function, host=host),
        uuid=unique_id(function, host=host),
        architecture=topology.gfx.get(function.address, ""),
        driver_version=version,
        unpublished=reason,
        attributes={name: value for name, value in modes.items() if value},
    )


def _check_driver(function: PciFunction, *, host: Host) -> None:
    driver = driver_of(function, host=host)
    if driver != _DRIVER:
        raise UnreadableError(f"it is bound to {driver or 'no driver'} and not to {_DRIVER}.")
