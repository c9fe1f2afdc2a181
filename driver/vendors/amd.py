"""AMD cards: all from sysfs, given to containers by the nodes of amdkfd and of the card's DRM minors.

Flow: *discover* lists the functions that amdgpu drives, with the memory that it reports; *edits* finds the
card again by its PCI address and its unique ID, so that another card in its place is not given out.

Source: the kernel's amdgpu documentation (`mem_info_vram_total`, `unique_id`, `product_name`,
`current_compute_partition`), amdkfd's topology (`driver.vendors.kfd`), and what AMD's own device plugin gives
a container: `/dev/kfd` and the card's `/dev/dri` nodes. No library and no program of ROCm is needed.

Limits:
* A card in another compute partition mode than SPX is listed with the reason and not offered.
* Which cards have a unique ID is the kernel's business: for Radeon cards a newer kernel may begin to tell it,
  and the card's name changes with that boot. All Instinct cards have one.
* Memory of an APU is what the firmware set aside for it.
* Programs bring ROCm in their image; nothing of the host's installation is mounted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from driver.cards import Card, IsolationLevel
from driver.host import Host
from driver.vendors.base import CardHealth
from driver.vendors.facts import ON_FIXTURE, Feature, Identity, Tried, VendorFacts
from driver.vendors.kfd import KfdTopology, kfd_topology, unique_id, vram_bytes
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import PciFunction, driver_of, drm_nodes
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor, gone, missing
from driver.vendors.reading import UnreadableError, optional

_DRIVER = "amdgpu"
_KFD = "/dev/kfd"
_WHOLE = ("", "SPX")
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
    isolation=(IsolationLevel.NONE,),
    brought=(IsolationLevel.PRELOAD,),
    tried={**ON_FIXTURE, Feature.HEALTH: Tried.FIXTURE, Feature.MEMORY_LIMIT: Tried.MOCK},
    sources=(
        "Linux: documentation of amdgpu's sysfs files, amdkfd's topology.",
        "ROCm/k8s-device-plugin and ROCm/k8s-gpu-dra-driver: device nodes, partition files.",
        "amd-hami-core: the contract of its library for HIP.",
        "Docker's own AMD support: `AMD_VISIBLE_DEVICES=void` keeps AMD's runtime from adding cards.",
    ),
    guessed=("Names by PCI device ID where `product_name` is empty are of public tables, not of AMD's.",),
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
)


class Amd(PciVendor):
    """AMD; implements `driver.vendors.base.Vendor`."""

    facts = FACTS

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
        """The compute driver's node, and the card's own.

        Raises:
            UnreadableError: The card has no DRM node (yet), or cannot say who it is.
            DeviceGoneError: It is another card, or cut into partitions by now.
        """
        _check_driver(function, host=host)
        if card.uuid and unique_id(function, host=host) != card.uuid:
            raise gone(card)
        mode = _compute_partition(function, host=host)
        if mode not in _WHOLE:
            raise gone(card, _partitioned(mode))
        nodes = drm_nodes(function, host=host)
        if not any(node.startswith("/dev/dri/renderD") for node in nodes):
            raise UnreadableError(f"the kernel lists no render node of {function.address}.")
        return Needs(nodes=(_KFD, *nodes), env={"AMD_VISIBLE_DEVICES": "void"})

    def state(self, card: Card, function: PciFunction, *, host: Host) -> CardHealth:
        """Healthy while the driver answers for the same card; how many memory errors there were is told."""
        _check_driver(function, host=host)
        if card.uuid and unique_id(function, host=host) != card.uuid:
            return missing(card, "Another card is in its place.")
        try:
            counted = host.read_text(f"{function.path}/ras/umc_err_count", limit=4096)
        except OSError:
            counted = ""
        errors = _UNCORRECTABLE.search(counted)
        said = f"{errors[1]} uncorrectable memory errors since the driver was loaded." if errors else ""
        return CardHealth(name=card.name, health="Healthy", message=said)


def _described(function: PciFunction, *, topology: KfdTopology, version: str, host: Host) -> Described:
    _check_driver(function, host=host)
    mode = _compute_partition(function, host=host)
    memory_mode = optional(f"{function.path}/current_memory_partition", host=host)
    reason = ""
    if mode not in _WHOLE:
        reason = _partitioned(mode)
    elif not topology.lists(function.address):
        reason = "The kernel's compute driver (amdkfd) does not list the card, so no ROCm program can use it."
    return Described(
        model=optional(f"{function.path}/product_name", host=host) or _MODELS.get(function.device, ""),
        memory_bytes=vram_bytes(function, host=host),
        uuid=unique_id(function, host=host),
        architecture=topology.gfx.get(function.address, ""),
        driver_version=version,
        unpublished=reason,
        attributes={
            name: value
            for name, value in {"computePartition": mode, "memoryPartition": memory_mode}.items()
            if value
        },
    )


def _check_driver(function: PciFunction, *, host: Host) -> None:
    driver = driver_of(function, host=host)
    if driver != _DRIVER:
        raise UnreadableError(f"it is bound to {driver or 'no driver'} and not to {_DRIVER}.")


def _compute_partition(function: PciFunction, *, host: Host) -> str:
    return optional(f"{function.path}/current_compute_partition", host=host).upper()


def _partitioned(mode: str) -> str:
    return f"The card is cut into partitions (mode {mode}); those are not offered yet."
