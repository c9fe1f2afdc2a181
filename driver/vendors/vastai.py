"""Vastai cards: found by PCI, described by vasmi, given to containers by the nodes that sysfs links to them.

Source: the JSON of `vasmi getmem --display-format=json` as other projects parse it (`pci_bus`, `sn`, physical
memory); names of device nodes (`/dev/kchar:<N>`, `/dev/vacc<N>`, `/dev/vastai_video<N>`) and the library
libvaml from HAMi's and others' configurations.

Limits: nobody documents which number belongs to which card, so nodes are never counted: a card gets those
that sysfs links to its PCI function, and without any it is not given out. A card with several dies is one
card; die mode of HAMi is not imitated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from driver.cards import Card, IsolationLevel
from driver.errors import InvalidInputError
from driver.host import Host
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import (
    CO_PROCESSOR,
    DISPLAY,
    PROCESSING_ACCELERATOR,
    PciFunction,
    normal_address,
    own_nodes,
)
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor, gone
from driver.vendors.reading import Program, UnreadableError, amount_of, text_of

_VASMI = Program(names=("vasmi", "/usr/local/bin/vasmi", "/usr/bin/vasmi"))
_QUESTION = ("getmem", "--display-format=json")
_LIBRARIES = ("/usr/lib/libvaml.so", "/usr/lib64/libvaml.so")
_MEMORY_KEYS = ("Physical", "Physical memory")

FACTS = VendorFacts(
    name="vastai",
    title="Vastai",
    pci_vendors=frozenset({0x1EC6}),
    identity=Identity.PCI,
    isolation=(IsolationLevel.NONE,),
    sources=(
        "Other projects' parsers of `vasmi getmem --display-format=json`.",
        "HAMi's configuration: names; its device plugin: libvaml.",
        "The public list of PCI IDs.",
    ),
    guessed=(
        "The JSON: no answer of a real card was found, only code that reads it.",
        "That sysfs links the card's nodes to its PCI function, as drivers of character devices do.",
    ),
    offered_as=("vastaitech.com/",),
    legacy=(
        LegacyNames(
            count="vastaitech.com/va",
            type_prefix="Vastai-",
            whole=True,
            annotations=(
                ("useUUID", "vastaitech.com/use-gpuuuid"),
                ("avoidUUID", "vastaitech.com/nouse-gpuuuid"),
                ("useType", "vastaitech.com/use-va"),
            ),
            source="HAMi 2.9 and 2.10",
        ),
    ),
)


class Vastai(PciVendor):
    """Vastai; implements `driver.vendors.base.Vendor`."""

    facts = FACTS
    classes = frozenset({DISPLAY, CO_PROCESSOR, PROCESSING_ACCELERATOR})

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:  # noqa: ARG002
        """What vasmi says, by PCI address."""
        cards: dict[str, Described | UnreadableError] = {}
        for address, told in _asked(host).items():
            try:
                cards[address] = Described(
                    model=text_of(told, "product_name"), memory_bytes=_memory(told), uuid=text_of(told, "sn")
                )
            except UnreadableError as unreadable:
                cards[address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """The nodes that sysfs links to the card, and the vendor's library.

        Raises:
            UnreadableError: vasmi does not answer, or not for this card, or sysfs links no node to it.
            DeviceGoneError: Another card is in its place.
        """
        told = _asked(host).get(function.address)
        if told is None:
            raise UnreadableError(f"vasmi does not list {function.address}.")
        if card.uuid and text_of(told, "sn") != card.uuid:
            raise gone(card)
        nodes = own_nodes(function, host=host)
        if not nodes:
            raise UnreadableError(f"the kernel links no device node to {function.address}.")
        return Needs(nodes=nodes, mounts=_LIBRARIES)


def _asked(host: Host) -> dict[str, Mapping[str, Any]]:
    document = _VASMI.ask_json(*_QUESTION, host=host)
    listed = document.get("elem") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise UnreadableError("vasmi wrote no list of cards.")
    found: dict[str, Mapping[str, Any]] = {}
    for told in listed:
        try:
            found[normal_address(text_of(told, "pci_bus"))] = told
        except InvalidInputError:
            continue
    return found


def _memory(told: Mapping[str, Any]) -> int | None:
    for key in _MEMORY_KEYS:
        text = text_of(told, "vals", key, "value")
        if text:
            return amount_of(text, what=f"vasmi's {key}", unit="m")
    return None
