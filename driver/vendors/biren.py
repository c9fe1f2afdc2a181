"""Biren cards: found by the class folder of Biren's driver, given to containers by `/dev/biren/card_<N>`.

Flow: each `/sys/class/biren/card_<N>` links to its PCI function; *discover* and *edits* both go by that link,
so N is never counted.

Source: Biren's own device plugin (device nodes, `/dev/biren-m`, the driver's folder) and its files of sysfs
(`mem_info`, `physical_id`) as that plugin reads them.

Limits: no source tells Biren's PCI vendor ID, so a card whose driver is not loaded is not even reported. A
card that SVI cuts into parts is several entries of one function: it is listed with the reason, not offered.
The model is the PCI device ID.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from driver.cards import Card, IsolationLevel
from driver.errors import InvalidInputError
from driver.host import Host
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import PciFunction, normal_address, pci_function
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor, gone
from driver.vendors.reading import (
    ATTRIBUTE_LIMIT,
    UnreadableError,
    listing,
    memory_bytes,
    optional,
    report_lines,
    whole_number,
)

_CLASS = "/sys/class/biren"
_ENTRY = re.compile(r"card_[0-9]{1,4}")
_MOST_ENTRIES = 256
_ANNOTATIONS = (
    ("useUUID", "birentech.com/use-gpuuuid"),
    ("avoidUUID", "birentech.com/nouse-gpuuuid"),
)
_SVI = "The card is cut into {number} parts by SVI; those are not offered yet."

FACTS = VendorFacts(
    name="biren",
    title="Biren",
    pci_vendors=frozenset(),
    identity=Identity.PCI,
    isolation=(IsolationLevel.NONE,),
    sources=(
        "BirenTech's device plugin: `/sys/class/biren`, `mem_info`, `/dev/biren/card_<N>`, `/dev/biren-m`.",
        "HAMi 2.10's configuration: names.",
    ),
    guessed=("That `mem_info` counts kB of 1024 bytes, as /proc/meminfo, whose form it has.",),
    offered_as=("birentech.com/",),
    legacy=(
        LegacyNames(
            count="birentech.com/gpu",
            whole=True,
            annotations=_ANNOTATIONS,
            source="Biren's plugin, HAMi 2.10",
        ),
        LegacyNames(
            count="birentech.com/1-2-gpu",
            parts=2,
            annotations=_ANNOTATIONS,
            source="Biren's plugin, HAMi 2.10",
        ),
        LegacyNames(
            count="birentech.com/1-4-gpu",
            parts=4,
            annotations=_ANNOTATIONS,
            source="Biren's plugin, HAMi 2.10",
        ),
    ),
)


class Biren(PciVendor):
    """Biren; implements `driver.vendors.base.Vendor`."""

    facts = FACTS

    def functions(self, host: Host) -> tuple[list[PciFunction], list[str]]:
        """The functions that Biren's driver drives, in PCI order."""
        found: list[PciFunction] = []
        problems: list[str] = []
        for address in sorted(_by_address(host), key=lambda one: (len(one), one)):
            try:
                function = pci_function(address, vendors=None, host=host)
            except UnreadableError as unreadable:
                problems.append(f"The card at {address} is left out: {unreadable}")
                continue
            if function is not None:
                found.append(function)
        return found, problems

    def function(self, card: Card, *, host: Host) -> PciFunction | None:
        """What is at the card's address, whether or not Biren's driver is loaded at the moment."""
        return pci_function(card.pci_bus_id, vendors=None, host=host)

    def accepts(self, function: PciFunction, *, host: Host) -> bool:  # noqa: ARG002
        """All that Biren's driver drives."""
        return True

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:
        """Memory of each card, from its own file."""
        entries = _by_address(host)
        version = optional("/sys/module/biren/version", host=host)
        cards: dict[str, Described | UnreadableError] = {}
        for function in functions:
            names = entries.get(function.address, [])
            try:
                cards[function.address] = Described(
                    model="",
                    memory_bytes=_memory(names[0], host=host) if names else None,
                    driver_version=version,
                    unpublished=_SVI.format(number=len(names)) if len(names) > 1 else "",
                )
            except UnreadableError as unreadable:
                cards[function.address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """The card's node, the one for management, and the driver's libraries.

        Raises:
            UnreadableError: The driver has no entry for the card (yet).
            DeviceGoneError: It is cut into parts by now.
        """
        names = _by_address(host).get(function.address, [])
        if not names:
            raise UnreadableError(f"{_CLASS} has no entry for {function.address}.")
        if len(names) > 1:
            raise gone(card, _SVI.format(number=len(names)))
        return Needs(
            nodes=(f"/dev/biren/{names[0]}",),
            optional_nodes=("/dev/biren-m",),
            mounts=("/usr/local/birensupa/driver",),
        )


def _by_address(host: Host) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in listing(_CLASS, host=host)[:_MOST_ENTRIES]:
        if not _ENTRY.fullmatch(name):
            continue
        try:
            place = host.resolve(f"{_CLASS}/{name}/device")
            found.setdefault(normal_address(place.rpartition("/")[2]), []).append(name)
        except (OSError, InvalidInputError):
            continue
    return found


def _memory(name: str, *, host: Host) -> int | None:
    path = f"{_CLASS}/{name}/device/mem_info"
    try:
        text = host.read_text(path, limit=ATTRIBUTE_LIMIT)
    except FileNotFoundError:
        return None
    except OSError as failed:
        raise UnreadableError(f"{path} cannot be read: {failed.strerror or failed}.") from None
    for line in report_lines(text):
        key, _, value = line.partition(":")
        words = value.split()
        if key.strip() == "MemTotal" and words:
            return memory_bytes(whole_number(words[0], what=path) << 10, what=path)
    return None
