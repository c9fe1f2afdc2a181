"""MetaX cards: found by PCI, described by mx-smi, given to containers by `/dev/mxcd` and their DRM nodes.

Flow: *discover* asks mx-smi twice: its list has the UUIDs, its table the memory; *edits* asks for the list
again, so that another card in the same place is not given out.

Source: answers of mx-smi as recorded on C500, C600 and N260 cards; device nodes of MetaX' instructions for
containers (`--device=/dev/dri --device=/dev/mxcd`).

Limits: the table has no documented format: its numbers are taken only where a card's two lines have the shape
that was recorded. sGPU instances are neither made nor recognised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from driver.cards import Card, IsolationLevel
from driver.errors import InvalidInputError
from driver.host import Host
from driver.quantities import MIB
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import PciFunction, drm_nodes, normal_address
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor, gone
from driver.vendors.reading import Program, UnreadableError, amount_of, clean, report_lines

_MX_SMI = Program(
    names=("mx-smi", "/opt/mxdriver/bin/mx-smi", "/opt/maca/bin/mx-smi"),
    library_dirs=("/opt/mxdriver/lib", "/opt/maca/lib"),
)
_ADDRESS = r"(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]"
_LISTED = re.compile(
    rf"GPU#\d{{1,4}}\s+(?P<model>\S.{{0,63}}?)\s+(?P<address>{_ADDRESS})\s.*\(UUID:\s*(?P<uuid>[\w.-]{{1,64}})\)"
)
_IN_TABLE = re.compile(rf"\|\s*\d{{1,4}}\s+.{{0,80}}?\|\s*(?P<address>{_ADDRESS})\s*\|")
_MEMORY = re.compile(r"\|\s*\d{1,9}\s*/\s*(?P<total>\d{1,9}\s*[KMG]i?B)\s*\|")
_VERSION = re.compile(r"Kernel Mode Driver Version\s*:\s*([\w.+-]{1,40})")
_ANNOTATIONS = (
    ("useUUID", "metax-tech.com/use-gpuuuid"),
    ("avoidUUID", "metax-tech.com/nouse-gpuuuid"),
)

FACTS = VendorFacts(
    name="metax",
    title="MetaX",
    pci_vendors=frozenset({0x9999}),
    identity=Identity.UUID,
    isolation=(IsolationLevel.NONE,),
    sources=(
        "Answers of `mx-smi` and `mx-smi -L` recorded on cards by other projects.",
        "MetaX' instructions for containers: device nodes. HAMi's configuration: names, units of 1 GiB.",
        "The public list of PCI IDs.",
    ),
    guessed=(
        "That all cards share `/dev/mxcd`, and that a program may use only those whose DRM nodes it has.",
        "That `/dev/mxnd` and `/dev/mxgd` are needed where they exist.",
    ),
    offered_as=("metax-tech.com/",),
    legacy=(
        LegacyNames(
            count="metax-tech.com/sgpu",
            memory="metax-tech.com/vmemory",
            memory_unit=1024 * MIB,
            memory_in_bytes=True,
            cores="metax-tech.com/vcore",
            annotations=(*_ANNOTATIONS, ("qos", "metax-tech.com/sgpu-qos-policy")),
            source="HAMi 2.9 and 2.10",
        ),
        LegacyNames(
            count="metax-tech.com/gpu",
            whole=True,
            annotations=_ANNOTATIONS,
            source="HAMi, MetaX' device plugin",
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class _Listed:
    model: str
    uuid: str


class Metax(PciVendor):
    """MetaX; implements `driver.vendors.base.Vendor`."""

    facts = FACTS

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:  # noqa: ARG002
        """What mx-smi says, by PCI address."""
        listed = _listed(host)
        table = _MX_SMI.ask(host=host)
        memory = _memory(table)
        version = _VERSION.search(table)
        cards: dict[str, Described | UnreadableError] = {}
        for address, told in listed.items():
            try:
                total = memory.get(address)
                cards[address] = Described(
                    model=f"MetaX {told.model.removeprefix('MetaX').strip()}",
                    memory_bytes=amount_of(total, what="its memory") if total else None,
                    uuid=told.uuid,
                    driver_version=version[1] if version else "",
                )
            except UnreadableError as unreadable:
                cards[address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """The node that all cards share, and the card's own DRM nodes.

        Raises:
            UnreadableError: mx-smi does not answer, or the card has no DRM node (yet).
            DeviceGoneError: Another card is in its place.
        """
        told = _listed(host).get(function.address)
        if told is None:
            raise UnreadableError(f"mx-smi does not list {function.address}.")
        if told.uuid != card.uuid:
            raise gone(card)
        nodes = drm_nodes(function, host=host)
        if not nodes:
            raise UnreadableError(f"the kernel lists no DRM node of {function.address}.")
        return Needs(nodes=("/dev/mxcd", *nodes), optional_nodes=("/dev/mxnd", "/dev/mxgd"))


def _listed(host: Host) -> dict[str, _Listed]:
    found: dict[str, _Listed] = {}
    for line in report_lines(_MX_SMI.ask("-L", host=host)):
        match = _LISTED.search(line)
        if match:
            address = normal_address(match["address"])
            found[address] = _Listed(model=clean(match["model"]), uuid=match["uuid"])
    return found


def _memory(table: str) -> dict[str, str]:
    found: dict[str, str] = {}
    address = ""
    for line in report_lines(table):
        start = _IN_TABLE.search(line)
        if start:
            try:
                address = normal_address(start["address"])
            except InvalidInputError:
                address = ""
            continue
        total = _MEMORY.search(line)
        if total and address:
            found.setdefault(address, total["total"])
            address = ""
    return found
