"""What is known of a vendor beside its code: the data of DeviceClasses, reference pages and conversion.

Flow: each vendor's file has one `FACTS`; `driver.vendors.catalogue` collects them; `hack/generate` writes
DeviceClasses and tables from them.

Limits: how far each feature was tried is not said here: the conformance test records what it has shown
(`tests/driver/vendors/tried.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from driver.cards import DRIVER_NAME, IsolationLevel
from driver.vendors.legacy import LegacyNames


class Identity(StrEnum):
    """What names a vendor's cards, for ever."""

    UUID = "UUID"
    PCI = "PCI address"
    UUID_ELSE_PCI = "UUID, or PCI address where the card has none"


@dataclass(frozen=True, kw_only=True)
class VendorFacts:
    """One vendor.

    Attributes:
        name: Short name; the attribute `vendor` of its cards.
        title: Name as people write it.
        pci_vendors: PCI vendor IDs of its cards, also of other devices that it makes.
        identity: What its cards are named by.
        isolation: Levels at which a share of its cards can be held, strongest first.
        brought: Further levels, for which an administrator has to bring something of another's to the node.
        offered_by_node: Further levels, which the node's kernel or driver offers or does not.
        sources: Where formats, paths and IDs were read, as sentences.
        guessed: What no source says, or only one that is not the vendor's, as sentences.
        attributes: Attributes that its cards have beyond those of all vendors, where the node tells them:
            name, type as CEL has it, an example, and the meaning.
        legacy: Names of extended resources that people used for its cards.
        plugin_prefixes: How further names begin by which device plugins offer its cards, or parts of them.
        offered_as: How all other names begin by which device plugins, also the vendor's own, may offer its
            cards. They are not converted; a node that has them keeps its cards from being offered twice.
    """

    name: str
    title: str
    pci_vendors: frozenset[int]
    identity: Identity
    isolation: tuple[IsolationLevel, ...]
    brought: tuple[IsolationLevel, ...] = ()
    offered_by_node: tuple[IsolationLevel, ...] = ()
    sources: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str, str | int, str], ...] = ()
    legacy: tuple[LegacyNames, ...] = ()
    plugin_prefixes: tuple[str, ...] = ()
    offered_as: tuple[str, ...] = ()

    @property
    def device_class(self) -> str:
        """Name of its DeviceClass."""
        return f"{self.name}.{DRIVER_NAME}"
