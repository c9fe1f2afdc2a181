"""What AMD's kernel driver, and Hygon's, which was made of it, tell in sysfs: cards, memory, identity.

Flow: `kfd_topology` says which cards, and which parts of them, the compute driver (amdkfd) offers to
programs; `frame_buffer_bytes` how much memory such a part has; `unique_id` and `vram_bytes` read one card's
own files.

Source: `/sys/class/kfd/kfd/topology/nodes/*/properties` as the kernel's amdkfd writes it: one `name value` a
line; `location_id` is bus, device and function as PCI packs them, `gfx_target_version` is
major * 10000 + minor * 100 + stepping. A card in partitions has a node for each: kernels write the
partition's number to the four highest bits of `location_id`, older ones into the bits of the function.
`drm_render_minor` is the number of its render node, `num_xcc` how many compute dies it has; below `mem_banks`
heaps of type 1 and 2 are the card's own memory.

Limits: the kernel hides the properties of cards that the reader's device cgroup does not allow (EPERM), so an
agent without privileges sees none of them: what is hidden is not taken for missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from driver.host import Host
from driver.vendors.pci import PciFunction
from driver.vendors.reading import (
    REPORT_LIMIT,
    UnreadableError,
    attribute,
    listing,
    memory_bytes,
    report_lines,
    shown,
    whole_number,
)

_NODES = "/sys/class/kfd/kfd/topology/nodes"
_MOST_NODES = 256
_MOST_BANKS = 64
_FRAME_BUFFER = (1, 2)
_HIDDEN = (
    "the kernel's compute driver (amdkfd) shows them only to those who may open their device nodes, and the "
    "agent may not."
)
_SHOW = "Run the agent privileged (agent.privileged in the chart)."
_UNIQUE_ID = re.compile(r"(?:0x)?([0-9a-f]{1,16})", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class KfdNode:
    """A card, or a partition of one, as amdkfd offers it to programs.

    Attributes:
        number: Its number in the topology, valid until the next change of it.
        address: PCI address that its location says; older kernels write a partition's number for the
            function.
        partition: Number that the highest bits of its location say; 0 also where they say nothing.
        gfx: Name of the instruction set (`gfx942`); "" where it is not told.
        render_minor: N of its `/dev/dri/renderDN`; 0 if it has none.
        dies: Compute dies (XCCs); 0 where it is not told.
    """

    number: int
    address: str
    partition: int
    gfx: str
    render_minor: int
    dies: int


@dataclass(frozen=True, kw_only=True)
class KfdTopology:
    """What amdkfd lists.

    Attributes:
        nodes: Cards and partitions, in the order of their numbers.
        complete: False where some of it is hidden from the reader, or nothing is there at all.
    """

    nodes: tuple[KfdNode, ...]
    complete: bool

    @property
    def gfx(self) -> dict[str, str]:
        """Name of the instruction set by PCI address; "" where it is not told."""
        return {node.address: node.gfx for node in reversed(self.nodes)}

    def lists(self, address: str) -> bool:
        """False only where amdkfd certainly does not offer the card."""
        return address in self.gfx or not self.complete

    def parts(self, address: str, *, count: int | None) -> tuple[KfdNode, ...]:
        """The nodes of a card that is in partitions, in the order of the partitions' numbers.

        Args:
            address: PCI address of the card.
            count: How many there are; None if that is not known.

        Raises:
            UnreadableError: They are hidden, or it cannot be told which is which.
        """
        listed = [(node.partition, node) for node in self.nodes if node.address == address]
        if len(listed) != count and len(listed) < 2 and address.endswith(".0"):
            slot = address[:-1]
            listed = [(int(node.address[-1]), node) for node in self.nodes if node.address.startswith(slot)]
        if not self.complete and (count is None or len(listed) < count):
            raise UnreadableError(_HIDDEN, remedy=_SHOW)
        found = dict(listed)
        if len(listed) != (len(found) if count is None else count) or sorted(found) != list(
            range(len(listed))
        ):
            numbers = sorted(number for number, _ in listed)
            raise UnreadableError(f"amdkfd lists {len(listed)} parts of it, numbered {numbers}.")
        return tuple(found[number] for number in sorted(found))


def kfd_topology(host: Host) -> KfdTopology:
    """Reads the topology; never raises."""
    names = [name for name in listing(_NODES, host=host) if re.fullmatch(r"[0-9]{1,6}", name)]
    found: list[KfdNode] = []
    complete = bool(names)
    for number in sorted(map(int, names))[:_MOST_NODES]:
        try:
            text = host.read_text(f"{_NODES}/{number}/properties", limit=REPORT_LIMIT)
            node = _node(number, text)
        except (OSError, UnreadableError):
            complete = False
            continue
        if node is not None:
            found.append(node)
    return KfdTopology(nodes=tuple(found), complete=complete)


def frame_buffer_bytes(node: KfdNode, *, host: Host) -> int:
    """Memory of the card that amdkfd lets programs on this node take, in bytes.

    Raises:
        UnreadableError: It is hidden, or makes no sense.
    """
    folder = f"{_NODES}/{node.number}/mem_banks"
    total = 0
    for bank in listing(folder, host=host)[:_MOST_BANKS]:
        path = f"{folder}/{bank}/properties"
        try:
            properties = _properties(host.read_text(path, limit=REPORT_LIMIT))
        except OSError as failed:
            raise UnreadableError(f"{path} cannot be read: {failed.strerror or failed}.") from None
        if _number(properties, "heap_type") in _FRAME_BUFFER:
            total += _number(properties, "size_in_bytes")
    if not total:
        raise UnreadableError(f"{folder} lists no memory of the card.")
    return total


def unique_id(function: PciFunction, *, host: Host) -> str:
    """The card's unique ID, 16 hexadecimal digits; "" where the kernel tells none.

    Raises:
        UnreadableError: There is one, and it cannot be read: a card must not change its name for that.
    """
    text = attribute(f"{function.path}/unique_id", host=host)
    if not text:
        return ""
    match = _UNIQUE_ID.fullmatch(text)
    if match is None:
        raise UnreadableError(f"its unique ID is {shown(text)!r}, which is no hexadecimal number.")
    digits = match[1].lower().rjust(16, "0")
    return "" if digits == "0" * 16 else digits


def vram_bytes(function: PciFunction, *, host: Host) -> int | None:
    """Memory as amdgpu and drivers made of it report it; None where they do not.

    Raises:
        UnreadableError: What is reported makes no sense.
    """
    path = f"{function.path}/mem_info_vram_total"
    text = attribute(path, host=host)
    return memory_bytes(whole_number(text, what=path), what=path) if text else None


def _properties(text: str) -> dict[str, str]:
    properties = {}
    for line in report_lines(text):
        name, _, value = line.partition(" ")
        properties[name] = value.strip()
    return properties


def _number(properties: Mapping[str, str], name: str) -> int:
    return whole_number(properties.get(name, "0"), what=name)


def _node(number: int, text: str) -> KfdNode | None:
    properties = _properties(text)
    # A node without SIMDs is a processor.
    if _number(properties, "simd_count") == 0:
        return None
    location, domain = _number(properties, "location_id"), _number(properties, "domain")
    version = _number(properties, "gfx_target_version")
    gfx = f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}" if version else ""
    return KfdNode(
        number=number,
        address=f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}",
        partition=location >> 28 & 0xF,
        gfx=gfx if re.fullmatch(r"gfx[0-9a-f]{3,6}", gfx) else "",
        render_minor=_number(properties, "drm_render_minor"),
        dies=_number(properties, "num_xcc"),
    )
