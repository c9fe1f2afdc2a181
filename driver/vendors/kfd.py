"""What AMD's kernel driver, and Hygon's, which was made of it, tell in sysfs: cards, memory, identity.

Flow: `kfd_topology` says which cards the compute driver (amdkfd) offers to programs; `unique_id` and
`vram_bytes` read one card's own files.

Source: `/sys/class/kfd/kfd/topology/nodes/*/properties` as the kernel's amdkfd writes it: one `name value` a
line; `location_id` is bus, device and function as PCI packs them, `gfx_target_version` is
major * 10000 + minor * 100 + stepping.

Limits: the kernel hides the properties of cards that the reader's device cgroup does not allow (EPERM), so an
agent without privileges sees none of them: what is hidden is not taken for missing.
"""

from __future__ import annotations

import re
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
_UNIQUE_ID = re.compile(r"(?:0x)?([0-9a-f]{1,16})", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class KfdTopology:
    """What amdkfd lists.

    Attributes:
        gfx: Name of the instruction set (`gfx942`) by PCI address; "" where it is not told.
        complete: False where some of it is hidden from the reader, or nothing is there at all.
    """

    gfx: dict[str, str]
    complete: bool

    def lists(self, address: str) -> bool:
        """False only where amdkfd certainly does not offer the card."""
        return address in self.gfx or not self.complete


def kfd_topology(host: Host) -> KfdTopology:
    """Reads the topology; never raises."""
    nodes = [name for name in listing(_NODES, host=host) if name.isdigit()][:_MOST_NODES]
    gfx: dict[str, str] = {}
    complete = bool(nodes)
    for node in nodes:
        try:
            text = host.read_text(f"{_NODES}/{node}/properties", limit=REPORT_LIMIT)
            found = _card(text)
        except (OSError, UnreadableError):
            complete = False
            continue
        if found is not None:
            gfx.setdefault(*found)
    return KfdTopology(gfx=gfx, complete=complete)


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


def _card(text: str) -> tuple[str, str] | None:
    properties = {}
    for line in report_lines(text):
        name, _, value = line.partition(" ")
        properties[name] = value.strip()

    def number(name: str) -> int:
        return whole_number(properties.get(name, "0"), what=name)

    # A node without SIMDs is a processor.
    if number("simd_count") == 0:
        return None
    location = number("location_id")
    address = f"{number('domain'):04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}"
    version = number("gfx_target_version")
    gfx = f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}" if version else ""
    return address, gfx if re.fullmatch(r"gfx[0-9a-f]{3,6}", gfx) else ""
