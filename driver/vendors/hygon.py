"""Hygon DCUs: from sysfs as AMD's, since Hygon's driver was made of amdgpu; hy-smi says what sysfs does not.

Flow: *discover* reads the functions that Hygon's driver drives and asks hy-smi once; *edits* gives the
compute driver's nodes and the card's DRM minors.

Source: device nodes and `/opt/hyhal` from Hygon's instructions for containers; the answers of hy-smi as
recorded on cards (`--json`: `vram Total Memory (MiB)`, `Unique ID`, `PCI Bus`, `Card Series`).

Limits: named by PCI address, as the unique ID comes from a program that may be missing at times. vDCUs
(`hy-virtual`, MIG of newer drivers) are neither made nor recognised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from driver.cards import Card, IsolationLevel
from driver.errors import InvalidInputError
from driver.host import Host
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.kfd import vram_bytes
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import DISPLAY, PROCESSING_ACCELERATOR, PciFunction, drm_nodes, normal_address
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor
from driver.vendors.reading import Program, UnreadableError, amount_of, optional, text_of

_CO_PROCESSOR = 0x0B40
_DRIVERS = ("hycu", "hydcu")
_HY_SMI = Program(
    names=("hy-smi", "/opt/hyhal/bin/hy-smi"), library_dirs=("/opt/hyhal/lib", "/opt/hyhal/lib64")
)
_QUESTION = ("--showbus", "--showuniqueid", "--showproductname", "--showmeminfo", "vram", "--json")
_IN_TEXT = re.compile(r"(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_ANNOTATIONS = (("useUUID", "hygon.com/use-gpuuuid"), ("avoidUUID", "hygon.com/nouse-gpuuuid"))

FACTS = VendorFacts(
    name="hygon",
    title="Hygon",
    pci_vendors=frozenset({0x1D94}),
    identity=Identity.PCI,
    isolation=(IsolationLevel.NONE,),
    sources=(
        "Answers of hy-smi recorded on cards by other projects.",
        "Hygon's instructions for containers: device nodes, /opt/hyhal.",
        "HAMi's configuration: names, units.",
    ),
    guessed=(
        "That sysfs has amdgpu's `mem_info_vram_total`; hy-smi is asked where it has not.",
        "That one call of hy-smi may ask for everything at once, as rocm-smi's may.",
    ),
    offered_as=("hygon.com/dcu", "hygon.com/hcu"),
    legacy=(
        LegacyNames(
            count="hygon.com/dcunum",
            memory="hygon.com/dcumem",
            cores="hygon.com/dcucores",
            type_prefix="DCU-",
            annotations=(
                *_ANNOTATIONS,
                ("useType", "hygon.com/use-dcutype"),
                ("avoidType", "hygon.com/nouse-dcutype"),
            ),
            source="HAMi 2.9",
        ),
        LegacyNames(
            count="hygon.com/hcunum",
            memory="hygon.com/hcumem",
            cores="hygon.com/hcucores",
            type_prefix="DCU-",
            annotations=(
                *_ANNOTATIONS,
                ("useType", "hygon.com/use-hcutype"),
                ("avoidType", "hygon.com/nouse-hcutype"),
            ),
            source="HAMi 2.10, HAMi-DRA",
        ),
    ),
)


class Hygon(PciVendor):
    """Hygon; implements `driver.vendors.base.Vendor`."""

    facts = FACTS

    def accepts(self, function: PciFunction, *, host: Host) -> bool:  # noqa: ARG002
        """DCUs show up as display controllers, co-processors or accelerators; Hygon's processors do not."""
        return (
            function.base_class in (DISPLAY, PROCESSING_ACCELERATOR)
            or function.class_code >> 8 == _CO_PROCESSOR
        )

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:
        """Memory from sysfs, else from hy-smi; model and unique ID from hy-smi where it answers."""
        version = next(
            filter(None, (optional(f"/sys/module/{name}/version", host=host) for name in _DRIVERS)), ""
        )
        problem = ""
        told: Mapping[str, Any] = {}
        try:
            told = _by_address(_HY_SMI.ask_json(*_QUESTION, host=host))
        except UnreadableError as unreadable:
            problem = str(unreadable)
        cards: dict[str, Described | UnreadableError] = {}
        for function in functions:
            entry = told.get(function.address, {})
            try:
                memory = vram_bytes(function, host=host)
                if memory is None and not entry:
                    # Without driver and program there is one reason for all of them.
                    continue
                cards[function.address] = Described(
                    model=_model(entry),
                    memory_bytes=_memory(entry) if memory is None else memory,
                    uuid=text_of(entry, "Unique ID").removeprefix("0x"),
                    driver_version=version,
                )
            except UnreadableError as unreadable:
                cards[function.address] = unreadable
        return Description(cards=cards, problem=problem)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:  # noqa: ARG002
        """The compute driver's nodes, the card's own, and Hygon's library folder."""
        nodes = drm_nodes(function, host=host)
        if not nodes:
            raise UnreadableError(f"the kernel lists no DRM node of {function.address}.")
        return Needs(nodes=("/dev/kfd", *nodes), optional_nodes=("/dev/mkfd",), mounts=("/opt/hyhal",))


def _by_address(document: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not isinstance(document, dict):
        raise UnreadableError("hy-smi wrote no object.")
    for entry in document.values():
        address = _IN_TEXT.search(text_of(entry, "PCI Bus"))
        if address is None:
            continue
        try:
            found[normal_address(address[0])] = entry
        except InvalidInputError:
            continue
    return found


def _model(entry: Any) -> str:
    words = (text_of(entry, "Card Vendor"), text_of(entry, "Card Series"))
    return " ".join(word for word in words if word)


def _memory(entry: Any) -> int | None:
    for key, unit in (("vram Total Memory (MiB)", "m"), ("vram Total Memory (B)", "")):
        text = text_of(entry, key)
        if text:
            return amount_of(text, what=f"hy-smi's {key}", unit=unit)
    return None
