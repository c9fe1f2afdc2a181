"""What all vendors of PCI cards have in common: finding, describing, naming, and giving out device nodes.

Purpose: a vendor's file answers three questions (which functions are cards, what is known of each, which
device nodes belong to it) and gets the four verbs of `driver.vendors.base.Vendor` for it.

Flow: *discover*: functions of the vendor's IDs -> `accepts` -> `describe`, once for all of them -> one Card
each, or a sentence why not. *edits*: the card's function now -> `reach` -> nodes that exist.

Limits: a card whose memory or identity is not known is left out with the reason, never offered with a guess.
Virtual functions on the node that made them are not offered, nor is a card that is cut into some. Health is
Unknown unless a vendor's file says more. A program that fails for a few looks does not withdraw cards that
are still on the bus: what it said before holds so long, since prepare asks it again anyway.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from driver.cards import Card, device_name
from driver.cdi import ContainerEdits, DeviceNode, Mount
from driver.errors import DeviceGoneError, InvalidInputError, PrepareError
from driver.host import Host
from driver.vendors.base import CARD_MISSING, UNREADABLE, CardHealth, Discovery
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.pci import (
    DISPLAY,
    PROCESSING_ACCELERATOR,
    PciFunction,
    numa_node,
    pci_function,
    pci_functions,
    pcie_root,
)
from driver.vendors.reading import UnreadableError, clean

_NEW_POD = "Delete the pod; a new one is scheduled to a card that is there."
_SHOWN_ADDRESSES = 4
_LOOKS_WITHOUT_ANSWER = 5


class DeviceNodesMissingError(PrepareError):
    """The node has the card, but not the device nodes by which programs reach it."""

    reason = "DeviceNodesMissing"
    retriable = True


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a vendor's file knows of one card.

    Attributes:
        model: Product name.
        memory_bytes: Its memory, whole MiB; None where it cannot be found out.
        uuid: Vendor's UUID or serial number; "" if there is none.
        architecture: Vendor's name of the chip generation.
        driver_version: Version of the kernel driver.
        unpublished: Why the card is not offered.
        attributes: Further attributes for selectors.
    """

    model: str
    memory_bytes: int | None
    uuid: str = ""
    architecture: str = ""
    driver_version: str = ""
    unpublished: str = ""
    attributes: Mapping[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a vendor's file knows of all cards.

    Attributes:
        cards: By PCI address; an `UnreadableError` for a card that is there and cannot be described.
        problem: Why nothing can be said about any card that is missing in `cards`; "" if each missing one is
            a riddle of its own.
    """

    cards: Mapping[str, Described | UnreadableError]
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """How a program reaches a card.

    Attributes:
        nodes: Device nodes without which it cannot.
        optional_nodes: Device nodes that it gets where they exist.
        renamed: Device nodes that have another name on the host: path in the container -> path on the host.
        mounts: Files and folders of the driver that it gets where they exist, at the same path.
        env: Environment; the same for all cards of the vendor.
    """

    nodes: tuple[str, ...] = ()
    optional_nodes: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


class PciVendor(ABC):
    """The verbs of a vendor of PCI cards; implements `driver.vendors.base.Vendor`."""

    facts: VendorFacts
    classes: frozenset[int] = frozenset({DISPLAY, PROCESSING_ACCELERATOR})
    """PCI base classes of its cards."""

    def __init__(self) -> None:
        self._said: dict[PciFunction, Described | UnreadableError] = {}
        self._looks_without_answer = 0

    @property
    def name(self) -> str:
        """The vendor's short name."""
        return self.facts.name

    # What a vendor's file says

    def functions(self, host: Host) -> tuple[list[PciFunction], list[str]]:
        """The vendor's PCI functions in PCI order, and sentences about those that cannot be read."""
        return pci_functions(host, vendors=self.facts.pci_vendors)

    def function(self, card: Card, *, host: Host) -> PciFunction | None:
        """The function at the card's address, None if there is none of the vendor's (any more).

        Raises:
            UnreadableError: There is one, and sysfs cannot be read.
        """
        return pci_function(card.pci_bus_id, vendors=self.facts.pci_vendors, host=host)

    def accepts(self, function: PciFunction, *, host: Host) -> bool:  # noqa: ARG002 - for those that override
        """Whether a function of the vendor is a card; by its base class unless overridden."""
        return function.base_class in self.classes

    @abstractmethod
    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:
        """What is known of these cards, asked once for all of them.

        Raises:
            UnreadableError: Nothing is known of any of them.
        """

    @abstractmethod
    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """How a program reaches the card now.

        Raises:
            UnreadableError: It cannot be found out at the moment.
            DeviceGoneError: Another card is in its place.
        """

    def state(self, card: Card, function: PciFunction, *, host: Host) -> CardHealth:  # noqa: ARG002
        """Health of a card that is there; Unknown unless overridden."""
        return CardHealth(
            name=card.name,
            health="Unknown",
            message=f"The card is there; of {self.facts.title} no health is read.",
        )

    # The verbs

    def discover(self, host: Host) -> Discovery:
        """All cards, in PCI order; never raises."""
        functions, problems = self.functions(host)
        accepted = [one for one in functions if not one.virtual and self.accepts(one, host=host)]
        if not accepted:
            self._said = {}
            # What others of the vendor's devices on the bus are unreadable is nobody's business here.
            return Discovery(cards=())
        try:
            described = self.describe(accepted, host=host)
            self._keep(accepted, described)
        except UnreadableError as unreadable:
            described = self._said_before(accepted, because=unreadable)
            if described.cards:
                problems.append(f"{self.facts.title}: {unreadable} What was said before still holds.")
        cards: list[Card] = []
        silent: list[str] = []
        for function in accepted:
            told = described.cards.get(function.address)
            if told is None:
                silent.append(function.address)
                continue
            try:
                cards.append(self._card(function, told, host=host))
            except InvalidInputError as invalid:
                problems.append(f"{self.facts.title} card {function.address} is left out: {invalid}")
        if silent:
            problems.append(self._silent(silent, because=described.problem))
        return Discovery(cards=tuple(cards), problems=tuple(problems))

    def edits(self, card: Card, *, host: Host) -> ContainerEdits:
        """What a container needs to reach the card.

        Raises:
            DeviceGoneError: The card is not there (any more), or cannot be told from another one.
            DeviceNodesMissingError: Its device nodes are not there (yet).
        """
        try:
            function = self.function(card, host=host)
            if function is None:
                raise gone(card, f"It is not at {card.pci_bus_id} any more.")
            needs = self.reach(card, function, host=host)
        except UnreadableError as unreadable:
            raise DeviceNodesMissingError(
                f"How card {card.name} is reached cannot be found out: {unreadable}",
                remedy="The kubelet tries again until the vendor's driver answers.",
            ) from None
        return _edits(needs, card=card, host=host)

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        """Unhealthy for a card that is gone or without its device nodes; else what `state` says."""
        return tuple(self._health(card, host=host) for card in cards)

    def _keep(self, functions: Sequence[PciFunction], described: Description) -> None:
        self._looks_without_answer = 0
        self._said = {
            one: described.cards[one.address] for one in functions if one.address in described.cards
        }

    def _said_before(self, functions: Sequence[PciFunction], *, because: UnreadableError) -> Description:
        self._looks_without_answer += 1
        if self._looks_without_answer > _LOOKS_WITHOUT_ANSWER:
            self._said = {}
        # A function that was away for one look may be another card by now.
        self._said = {one: self._said[one] for one in functions if one in self._said}
        return Description(
            cards={one.address: said for one, said in self._said.items()}, problem=str(because)
        )

    def _health(self, card: Card, *, host: Host) -> CardHealth:
        try:
            function = self.function(card, host=host)
            if function is None:
                return missing(card, f"There is no card at {card.pci_bus_id}.")
            found = self.state(card, function, host=host)
            if found.health == "Unhealthy" or card.unpublished:
                return found
            return self._nodes_are_there(card, function, found, host)
        except UnreadableError as unreadable:
            return CardHealth(name=card.name, health="Unknown", message=str(unreadable), reason=UNREADABLE)
        except DeviceGoneError as taken:
            return missing(card, str(taken))

    def _nodes_are_there(
        self, card: Card, function: PciFunction, found: CardHealth, host: Host
    ) -> CardHealth:
        needs = self.reach(card, function, host=host)
        absent = [path for path in needs.nodes if not host.exists(needs.renamed.get(path, path))]
        if not absent:
            return found
        return CardHealth(
            name=card.name,
            health="Unhealthy",
            message=f"There is no {absent[0]}.",
            reason="DeviceNodesMissing",
        )

    def _card(self, function: PciFunction, told: Described | UnreadableError, *, host: Host) -> Card:
        if isinstance(told, UnreadableError):
            raise told
        if told.memory_bytes is None:
            raise UnreadableError(
                "how much memory it has cannot be found out.",
                remedy="Without that no share of it can be promised.",
            )
        uuid = clean(told.uuid)
        if not uuid and self.facts.identity is Identity.UUID:
            raise UnreadableError("it has no UUID, by which cards of this vendor are named.")
        named_by = "" if self.facts.identity is Identity.PCI else uuid
        return Card(
            name=device_name(vendor=self.name, uuid=named_by, pci_bus_id=function.address),
            vendor=self.name,
            model=clean(told.model) or f"{self.facts.title} {function.device:04x}",
            memory_bytes=told.memory_bytes,
            uuid=uuid,
            architecture=clean(told.architecture),
            driver_version=clean(told.driver_version),
            pci_bus_id=function.address,
            pcie_root=pcie_root(function, host=host),
            numa_node=numa_node(function, host=host),
            unpublished=told.unpublished or _cut(function),
            extra_attributes=dict(told.attributes),
        )

    def _silent(self, addresses: Sequence[str], *, because: str) -> str:
        some = ", ".join(addresses[:_SHOWN_ADDRESSES])
        more = f" and {len(addresses) - _SHOWN_ADDRESSES} more" if len(addresses) > _SHOWN_ADDRESSES else ""
        reason = because or "The vendor's driver does not list what is on the PCI bus."
        return f"{self.facts.title} cards at {some}{more} are left out. {reason}"


def missing(card: Card, because: str) -> CardHealth:
    """The health of a card that is not there any more."""
    return CardHealth(name=card.name, health="Unhealthy", message=because, reason=CARD_MISSING, certain=True)


def gone(card: Card, because: str = "") -> DeviceGoneError:
    """The card cannot be given out any more; without a reason, because another one is in its place."""
    message = because or f"Another card is at {card.pci_bus_id} now."
    return DeviceGoneError(f"Card {card.name}: {message}", remedy=_NEW_POD)


def _cut(function: PciFunction) -> str:
    number = function.virtual_functions
    return f"The card is cut into {number} virtual functions; those are not offered yet." if number else ""


def _edits(needs: Needs, *, card: Card, host: Host) -> ContainerEdits:
    nodes = []
    for inside in (*needs.nodes, *needs.optional_nodes):
        on_host = needs.renamed.get(inside, inside)
        if host.exists(on_host):
            nodes.append(
                DeviceNode(path=inside, host_path="" if on_host == inside else on_host, permissions="rw")
            )
        elif inside in needs.nodes:
            raise DeviceNodesMissingError(
                f"The node has no {on_host}, without which no program reaches card {card.name}.",
                remedy="The kubelet tries again; an administrator checks that the vendor's driver is loaded.",
            )
    mounts = tuple(
        Mount(host_path=host.resolve(path), container_path=path) for path in needs.mounts if host.exists(path)
    )
    return ContainerEdits(env=dict(needs.env), device_nodes=tuple(nodes), mounts=mounts)
