"""What is known of a vendor beside its code: the data of DeviceClasses, reference pages and conversion.

Flow: each vendor's file has one `FACTS`; `driver.vendors.catalogue` collects them; `hack/generate` writes
DeviceClasses and tables from them.

Limits: `tried` is a claim about tests. The conformance test fails when it says that a feature was tried on a
fixture and the fixture's run did not show it, or showed it and it is not said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from driver.cards import DRIVER_NAME, IsolationLevel
from driver.vendors.legacy import LegacyNames


class Feature(StrEnum):
    """What a vendor's file can do."""

    DISCOVERY = "cards found"
    IDENTITY = "stable identity"
    MODEL = "model"
    MEMORY = "memory"
    PLACE = "NUMA node, PCIe root"
    EDITS = "container edits"
    HEALTH = "health"
    MEMORY_LIMIT = "memory limit held"
    CORES_LIMIT = "cap on compute held"
    PARTITIONS = "partitions"


class Tried(StrEnum):
    """How far a feature was tried; the order is from best to worst."""

    SILICON = "silicon"
    MOCK = "mock library"
    FIXTURE = "fixture"
    NOT = "not tried"
    ABSENT = "none"


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
        tried: How far each feature was tried; a feature that is left out was not tried.
        sources: Where formats, paths and IDs were read, as sentences.
        guessed: What no source says, or only one that is not the vendor's, as sentences.
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
    tried: Mapping[Feature, Tried] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()
    legacy: tuple[LegacyNames, ...] = ()
    plugin_prefixes: tuple[str, ...] = ()
    offered_as: tuple[str, ...] = ()

    @property
    def device_class(self) -> str:
        """Name of its DeviceClass."""
        return f"{self.name}.{DRIVER_NAME}"

    def how_tried(self, feature: Feature) -> Tried:
        """How far the feature was tried."""
        return self.tried.get(feature, Tried.NOT)


ON_FIXTURE: Mapping[Feature, Tried] = {
    Feature.DISCOVERY: Tried.FIXTURE,
    Feature.IDENTITY: Tried.FIXTURE,
    Feature.MODEL: Tried.FIXTURE,
    Feature.MEMORY: Tried.FIXTURE,
    Feature.PLACE: Tried.FIXTURE,
    Feature.EDITS: Tried.FIXTURE,
    Feature.HEALTH: Tried.ABSENT,
    Feature.MEMORY_LIMIT: Tried.ABSENT,
    Feature.CORES_LIMIT: Tried.ABSENT,
    Feature.PARTITIONS: Tried.ABSENT,
}
"""A vendor whose cards are found and given out whole, and of which nothing else is known yet."""
