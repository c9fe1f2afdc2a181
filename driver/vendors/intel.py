"""Intel data-centre and Arc GPUs: all from sysfs, given to containers by the card's DRM minors.

Flow: *discover* lists the functions that xe or i915 drive, with the memory that the kernel tells in one of
three places; *edits* gives the DRM nodes.

Source: the kernel's documentation (cgroup v2 `dmem.capacity`, xe's and i915's sysfs files); device nodes as
Intel's own device plugin gives them; names from Intel's tables of its drivers.

Limits: processor graphics (00:02.0 without memory of its own) are not looked at. Where only
`physical_vram_size_bytes` is told, that is a little more than what programs can allocate. SR-IOV is seen and
not offered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from driver.cards import Card, IsolationLevel
from driver.host import Host
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import DISPLAY, PciFunction, driver_of, drm_nodes
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor
from driver.vendors.reading import (
    REPORT_LIMIT,
    UnreadableError,
    attribute,
    listing,
    memory_bytes,
    optional,
    report_lines,
    whole_number,
)

_DRIVERS = ("xe", "i915")
_INTEGRATED = re.compile(r"0000:00:02\.[0-7]")
_DMEM = "/sys/fs/cgroup/dmem.capacity"
_TILE = re.compile(r"tile[0-9]{1,2}")
_CARD = re.compile(r"card[0-9]{1,6}")
_PER_TILE = ("physical_vram_size_bytes", "memory/physical_vram_size_bytes")

_MODELS = {
    0x0B69: "Data Center GPU Max 1450",
    0x0BD5: "Data Center GPU Max 1550",
    0x0BD9: "Data Center GPU Max 1100",
    0x0BDA: "Data Center GPU Max 1100",
    0x0BDB: "Data Center GPU Max 1100",
    0x56A0: "Arc A770",
    0x56A1: "Arc A750",
    0x56A2: "Arc A580",
    0x56A5: "Arc A380",
    0x56A6: "Arc A310",
    0x56B3: "Arc Pro A60",
    0x56C0: "Data Center GPU Flex 170",
    0x56C1: "Data Center GPU Flex 140",
    0xE20B: "Arc B580",
    0xE20C: "Arc B570",
    0xE211: "Arc Pro B60",
    0xE212: "Arc Pro B50",
}

FACTS = VendorFacts(
    name="intel",
    title="Intel",
    pci_vendors=frozenset({0x8086}),
    identity=Identity.PCI,
    isolation=(IsolationLevel.NONE,),
    # xe counts memory by cgroup; i915 does not.
    offered_by_node=(IsolationLevel.KERNEL,),
    sources=(
        "Linux: cgroup v2 (`dmem.capacity`), sysfs files of xe and i915, PCI IDs of both.",
        "intel/intel-device-plugins-for-kubernetes: device nodes, resource names.",
    ),
    guessed=("Where in sysfs xe of out-of-tree releases tells a tile's memory: two places are read.",),
    offered_as=("gpu.intel.com/",),
    legacy=(
        LegacyNames(count="gpu.intel.com/i915", whole=True, source="Intel's device plugin"),
        LegacyNames(count="gpu.intel.com/xe", whole=True, source="Intel's device plugin"),
    ),
)


class Intel(PciVendor):
    """Intel; implements `driver.vendors.base.Vendor`."""

    facts = FACTS
    classes = frozenset({DISPLAY})

    def accepts(self, function: PciFunction, *, host: Host) -> bool:
        """Display controllers; of those at the place of processor graphics only models that are none."""
        if not super().accepts(function, host=host):
            return False
        return function.device in _MODELS or not _INTEGRATED.fullmatch(function.address)

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:
        """Driver and memory of each card."""
        capacity = _capacity(host)
        cards: dict[str, Described | UnreadableError] = {}
        for function in functions:
            try:
                driver = _check_driver(function, host=host)
                name = _MODELS.get(function.device, "")
                cards[function.address] = Described(
                    model=f"Intel {name}" if name else "",
                    memory_bytes=capacity.get(function.address) or _memory(function, host=host),
                    driver_version=optional(f"/sys/module/{driver}/version", host=host),
                )
            except UnreadableError as unreadable:
                cards[function.address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:  # noqa: ARG002
        """The card's DRM nodes.

        Raises:
            UnreadableError: The card has no render node (yet).
        """
        _check_driver(function, host=host)
        nodes = drm_nodes(function, host=host)
        if not any(node.startswith("/dev/dri/renderD") for node in nodes):
            raise UnreadableError(f"the kernel lists no render node of {function.address}.")
        return Needs(nodes=nodes)


def _check_driver(function: PciFunction, *, host: Host) -> str:
    driver = driver_of(function, host=host)
    if driver not in _DRIVERS:
        raise UnreadableError(f"it is bound to {driver or 'no driver'} and not to {' or '.join(_DRIVERS)}.")
    return driver


def _capacity(host: Host) -> dict[str, int]:
    """What the kernel's memory controller for devices knows, by PCI address."""
    try:
        text = host.read_text(_DMEM, limit=REPORT_LIMIT)
    except OSError:
        return {}
    found: dict[str, int] = {}
    for line in report_lines(text):
        match = re.fullmatch(r"drm/([0-9a-f:.]{12,16})/vram[0-9]{1,2} ([0-9]{1,15})", line.strip())
        if match:
            found[match[1]] = found.get(match[1], 0) + int(match[2])
    return {address: memory_bytes(amount, what=_DMEM) for address, amount in found.items() if amount >> 20}


def _memory(function: PciFunction, *, host: Host) -> int | None:
    tiles = [name for name in listing(function.path, host=host) if _TILE.fullmatch(name)]
    of_tiles = [_tile(f"{function.path}/{name}", host=host) for name in tiles]
    if of_tiles and all(of_tiles):
        return memory_bytes(sum(of_tiles), what="its tiles' memory")
    cards = [name for name in listing(f"{function.path}/drm", host=host) if _CARD.fullmatch(name)]
    folders = (*(f"{function.path}/drm/{name}" for name in cards[:1]), function.path)
    for path in (f"{folder}/lmem_total_bytes" for folder in folders):
        text = attribute(path, host=host)
        if text:
            return memory_bytes(whole_number(text, what=path), what=path)
    return None


def _tile(folder: str, *, host: Host) -> int:
    for path in (f"{folder}/{name}" for name in _PER_TILE):
        text = attribute(path, host=host)
        if text:
            return whole_number(text, what=path)
    return 0
