"""Cards without hardware: read from a file, of whatever vendors it says.

Purpose: demo, cluster tests and benchmarks run the whole path with nothing faked but the card. A simulated
card carries the name of the vendor that it imitates, so selectors, DeviceClasses and rules treat it as one.

Flow: YAML -> (parsed by the caller) -> `parse_simulated_node` -> `simulated_vendors`: one vendor object for
each vendor that occurs.

The file::

    apiVersion: dragoman.dev/v1alpha1
    kind: SimulatedNode
    cards:
      - vendor: nvidia                 # required: short lower-case name
        model: NVIDIA A100-SXM4-40GB   # required
        memory: 40Gi                   # required: a quantity, whole MiB
        uuid: GPU-5c1f...              # this or pciBusID is required: it names the card
        pciBusID: "0000:3b:00.0"
        pcieRoot: pci0000:3a
        numaNode: 0
        architecture: Ampere
        driverVersion: 550.54.15
        health: Healthy                # or Unhealthy, Unknown
        healthFile: /run/card-0        # a file that overrules it while it exists, see below
        unpublished: ""                # a sentence: the card is there but not offered
        attributes: {tier: gold}       # further attributes, text, whole number or boolean
        deviceNodes:                   # default: one marker, see below
          - {path: /dev/nvidia0, hostPath: /dev/null}

What a container gets: the card's device nodes, by default one marker `/dev/dragoman/<card>` that is
`/dev/null` under another name; and the variable `DRAGOMAN_SIMULATED_CARD_<CARD>` with the value
`<vendor> <PCI address, or ~name> <uuid, or name>`: sorted, these values are each vendor's own view of its
cards. Both depend on the card alone, so they are the same in every share that can meet in one container.

A card's `healthFile` is one line, read each time the health is asked for: `Healthy`, `Unhealthy` or
`Unknown`, then a reason in CamelCase, `!` behind it if no work can go on, then a sentence: `Unhealthy
CardLost! It fell off the bus.`

Limits: nothing computes, and only what the file says is checked. Two nodes may use the same file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from driver.api.base import Document, decode
from driver.cards import Card, device_name
from driver.cdi import ContainerEdits, DeviceNode
from driver.errors import ConfigError, DeviceGoneError, InvalidInputError
from driver.host import Host
from driver.quantities import MIB, parse_quantity
from driver.vendors.base import UNREADABLE, CardHealth, Discovery
from driver.vendors.reading import optional

MARKER_DIR = "/dev/dragoman"
"""Folder of marker device nodes in containers."""

VARIABLE_PREFIX = "DRAGOMAN_SIMULATED_CARD_"
"""Start of the variables by which a container can tell which simulated cards it has."""

_HEALTH = re.compile(r"(Healthy|Unhealthy|Unknown)(?: ([A-Za-z0-9]{1,63})(!)?)?(?: (.{1,256}))?")
_VENDOR = r"^[a-z][a-z0-9]{0,14}$"
_PCI = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


class SimulatedDeviceNode(Document):
    """A device node that a container gets with the card."""

    path: str = Field(pattern=r"^/dev/.+")
    host_path: str = Field(default="/dev/null", pattern=r"^/dev/.+")


class SimulatedCard(Document):
    """One card of the file."""

    vendor: str = Field(pattern=_VENDOR)
    model: str = Field(min_length=1)
    memory: str
    uuid: str = ""
    pci_bus_id: str = Field(default="", alias="pciBusID")
    pcie_root: str = ""
    numa_node: int | None = None
    architecture: str = ""
    driver_version: str = ""
    health: Literal["Healthy", "Unhealthy", "Unknown"] = "Healthy"
    health_file: str = Field(default="", pattern=r"^(/.+)?$")
    unpublished: str = ""
    attributes: dict[str, str | int | bool] = Field(default_factory=dict)
    device_nodes: tuple[SimulatedDeviceNode, ...] = ()


class SimulatedNodeFile(Document):
    """The file."""

    api_version: Literal["dragoman.dev/v1alpha1"]
    kind: Literal["SimulatedNode"]
    cards: tuple[SimulatedCard, ...]


@dataclass(frozen=True, kw_only=True)
class SimulatedNode:
    """A file's cards, checked.

    Attributes:
        cards: In the order of the file.
        nodes: Device nodes of each card by its name.
        health: Health of each card by its name.
        health_files: Path of the file that overrules it, by the card's name; "" for none.
    """

    cards: tuple[Card, ...]
    nodes: Mapping[str, tuple[DeviceNode, ...]]
    health: Mapping[str, str]
    health_files: Mapping[str, str] = field(default_factory=dict)


def parse_simulated_node(document: Mapping[str, Any], *, field: str = "") -> SimulatedNode:
    """Checks a file that the caller has parsed.

    Args:
        document: The YAML document.
        field: What to put in front of paths in errors, such as the file's name.

    Raises:
        ConfigError: Naming the field and what to write instead.
    """
    read = decode(SimulatedNodeFile, document, field=field)
    prefix = f"{field}." if field else ""
    cards: dict[str, Card] = {}
    nodes: dict[str, tuple[DeviceNode, ...]] = {}
    for index, entry in enumerate(read.cards):
        where = f"{prefix}cards[{index}]"
        card = _card(entry, where=where)
        if card.name in cards:
            raise ConfigError(
                f"Two cards have the name {card.name}.", field=where, remedy="Give each a uuid of its own."
            )
        cards[card.name] = card
        nodes[card.name] = _nodes(entry, name=card.name)
    return SimulatedNode(
        cards=tuple(cards.values()),
        nodes=nodes,
        health={card.name: entry.health for card, entry in zip(cards.values(), read.cards, strict=True)},
        health_files={
            card.name: entry.health_file for card, entry in zip(cards.values(), read.cards, strict=True)
        },
    )


def simulated_vendors(node: SimulatedNode) -> tuple[SimulatedVendor, ...]:
    """One vendor for each that occurs, by name."""
    names = sorted({card.vendor for card in node.cards})
    return tuple(SimulatedVendor(name, node=node) for name in names)


class SimulatedVendor:
    """The simulation of one vendor's cards; implements `driver.vendors.base.Vendor`."""

    def __init__(self, name: str, *, node: SimulatedNode) -> None:
        self._name = name
        self._node = node

    @property
    def name(self) -> str:
        """Name of the vendor that is imitated."""
        return self._name

    def discover(self, host: Host) -> Discovery:  # noqa: ARG002 - the verb's signature; nothing is looked up
        """The cards of the file, those with a PCI address first and in its order."""
        mine = [card for card in self._node.cards if card.vendor == self._name]
        return Discovery(cards=tuple(sorted(mine, key=_sort_key)), final=True)

    def edits(self, card: Card, *, host: Host) -> ContainerEdits:  # noqa: ARG002
        """Marker device nodes, and a variable that names the card.

        Raises:
            DeviceGoneError: The file has no such card (any more).
        """
        if card.name not in self._node.nodes:
            raise DeviceGoneError(
                f"The simulated card {card.name} is not in the node's file.",
                remedy="Delete the pod; a new one is scheduled to a card that is there.",
            )
        return ContainerEdits(
            env={variable_of(card): f"{card.vendor} {_sort_key(card)} {card.uuid or card.name}"},
            device_nodes=self._node.nodes[card.name],
        )

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        """What the files say; Unknown for cards that the node's file does not have."""
        return tuple(self._health(card, host=host) for card in cards)

    def _health(self, card: Card, *, host: Host) -> CardHealth:
        if card.name not in self._node.health:
            return CardHealth(name=card.name, health="Unknown", message="Not in the node's file.")
        path = self._node.health_files.get(card.name, "")
        said = optional(path, host=host) if path else ""
        found = _HEALTH.fullmatch(said or self._node.health[card.name])
        if found is None:
            return CardHealth(
                name=card.name, health="Unknown", message=f"{path} is no health.", reason=UNREADABLE
            )
        health, reason, certain, message = found.groups(default="")
        return CardHealth(
            name=card.name,
            health=health,
            message=message or "Simulated.",
            reason=reason or ("Simulated" if health == "Unhealthy" else ""),
            certain=bool(certain),
            cleared=health == "Healthy",
        )


def variable_of(card: Card) -> str:
    """Name of the variable by which a container can tell that it has this simulated card."""
    return VARIABLE_PREFIX + card.name.upper().replace("-", "_")


def _sort_key(card: Card) -> str:
    return card.pci_bus_id or f"~{card.name}"


def _card(entry: SimulatedCard, *, where: str) -> Card:
    pci = entry.pci_bus_id.lower()
    if pci and not _PCI.fullmatch(pci):
        raise ConfigError(
            f"{entry.pci_bus_id!r} is not a PCI address.",
            field=f"{where}.pciBusID",
            remedy="Write 0000:3b:00.0.",
        )
    try:
        return Card(
            name=device_name(vendor=entry.vendor, uuid=entry.uuid, pci_bus_id=pci),
            vendor=entry.vendor,
            model=entry.model,
            memory_bytes=_memory(entry.memory, where=f"{where}.memory"),
            uuid=entry.uuid,
            architecture=entry.architecture,
            driver_version=entry.driver_version,
            pci_bus_id=pci,
            pcie_root=entry.pcie_root,
            numa_node=entry.numa_node,
            unpublished=entry.unpublished,
            extra_attributes=entry.attributes,
        )
    except ConfigError:
        raise
    except InvalidInputError as invalid:
        raise ConfigError(
            invalid.message, field=f"{where}.{invalid.field}".removesuffix("."), remedy=invalid.remedy
        ) from None


def _memory(text: str, *, where: str) -> int:
    try:
        amount = parse_quantity(text)
    except InvalidInputError as invalid:
        raise ConfigError(invalid.message, field=where, remedy=invalid.remedy) from None
    if not amount.is_integer or amount.rounded_up <= 0 or amount.rounded_up % MIB:
        raise ConfigError(
            f"{text!r} is not a whole number of MiB above 0.",
            field=where,
            remedy="Write an amount such as 40Gi.",
        )
    return amount.rounded_up


def _nodes(entry: SimulatedCard, *, name: str) -> tuple[DeviceNode, ...]:
    if not entry.device_nodes:
        return (DeviceNode(path=f"{MARKER_DIR}/{name}", host_path="/dev/null", permissions="rw"),)
    return tuple(
        DeviceNode(path=node.path, host_path=node.host_path, permissions="rw") for node in entry.device_nodes
    )
