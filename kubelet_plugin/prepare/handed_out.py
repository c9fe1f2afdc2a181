"""What the CDI files of prepared claims hand out of each card, so that it is noticed when that becomes wrong.

Purpose: a device node's number belongs to a card only as long as its driver stays loaded. After a reload
without a reboot, with one card fewer, the node in a claim's file can be another card's; after an upgrade of
the driver the files that it mounts are gone. Nobody prepares a claim again for a container that is restarted,
so files are compared with what the vendor says now, again and again; and before a claim is given a node, it
is asked who has it already.

Flow: `note` what a file was made of -> `is_outdated` in each round -> the file goes and is made anew. Before
a file is written, `rivals`: claims of other cards whose files lead to the same nodes. Of a file that a former
process wrote only the nodes are known (`note_nodes`).

Partitions of one card are told apart by the nodes that open them. The number of one that is lost goes to the
next that is made, so before one is made those of other claims are looked at (`partitions_beside`), also those
that an administrator made.

Limits: nodes of one card and those that all cards need (`/dev/nvidiactl`) look the same here, so two claims
count as rivals only if one has all nodes of the other; whether that is wrong, the vendor is asked. `rivals`
and `same_driver` touch memory alone, and cost as much as there are cards and not as there are claims.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.errors import DeviceGoneError, DragomanError
from kubelet_plugin.prepare.cards import CardSource
from kubelet_plugin.prepare.records import ClaimRecord

Asked = dict[str, ContainerEdits | None]
"""What vendors said of cards in one look, by name; None of those that cannot be reached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HandedOut:
    """What one CDI device gives.

    Attributes:
        uid: UID of its claim.
        device: Name of the card or partition.
        card: What stands for the card itself, which partitions of one card share.
        nodes: Paths of all device nodes.
        reach: What its vendor gave to reach the card; None where that is not known.
        limits: What the methods of isolation gave.
        driver_version: Version of the card's driver at that time.
        partition: Whether it is a partition.
    """

    uid: str
    device: str
    card: str
    nodes: frozenset[str]
    reach: ContainerEdits | None = None
    limits: ContainerEdits = field(default_factory=ContainerEdits)
    driver_version: str = ""
    partition: bool = False

    @property
    def of_partition(self) -> frozenset[str]:
        """Paths of the device nodes that open the partition and nothing else; none of a card."""
        if not self.partition:
            return frozenset()
        return frozenset(node.path for node in self.limits.device_nodes)

    @property
    def opens(self) -> _Opens:
        """What it opens: all that plays a part in whether it is a rival of another one."""
        return _Opens(card=self.card, nodes=self.nodes, of_partition=self.of_partition)


class _Opens(NamedTuple):
    card: str
    nodes: frozenset[str]
    of_partition: frozenset[str]


class HandedOutCards:
    """By CDI device: what is handed out, as far as this process knows."""

    def __init__(self, source: CardSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._known: dict[str, HandedOut] = {}
        # The same once more by what is opened: all shares of a card open the same.
        self._opening: dict[_Opens, dict[str, HandedOut]] = {}
        # By card: all its claims have one copy of it. With dozens of mounts it is far more than all the rest.
        self._reach: dict[str, ContainerEdits] = {}

    def note(
        self, cdi_device: str, *, uid: str, card: Card, reach: ContainerEdits, limits: ContainerEdits
    ) -> None:
        """Remembers what a CDI device is made of."""
        found = HandedOut(
            uid=uid,
            device=card.name,
            card=_card_of(card),
            nodes=frozenset(node.path for node in (*reach.device_nodes, *limits.device_nodes)),
            reach=self._one_for_all(card.name, reach),
            limits=limits,
            driver_version=card.driver_version,
            partition=card.partition is not None,
        )
        with self._lock:
            self._put(cdi_device, found)

    def _one_for_all(self, name: str, reach: ContainerEdits) -> ContainerEdits:
        known = self._reach.get(name)
        if known is not None and known == reach:
            return known
        self._reach[name] = reach
        return reach

    def note_nodes(self, record: ClaimRecord, nodes: Mapping[str, frozenset[str]]) -> None:
        """Remembers what a file that this process did not write leads to.

        Args:
            record: The claim.
            nodes: Paths of device nodes by CDI device.
        """
        cards = self._source.cards()
        for item in record.shares:
            card = cards.get(item.share.device)
            if item.cdi_device not in nodes:
                continue
            found = HandedOut(
                uid=record.uid,
                device=item.share.device,
                card=_card_of(card) if card is not None else item.share.device,
                nodes=nodes[item.cdi_device],
                partition=card is not None and card.partition is not None,
            )
            with self._lock:
                if item.cdi_device not in self._known:
                    self._put(item.cdi_device, found)

    def forget(self, record: ClaimRecord) -> None:
        """Forgets a claim."""
        with self._lock:
            for item in record.shares:
                self._drop(item.cdi_device)

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Forgets all claims but those with such UIDs."""
        unwanted = [(name, found) for name, found in list(self._known.items()) if not wanted(found.uid)]
        with self._lock:
            for cdi_device, found in unwanted:
                if self._known.get(cdi_device) is found:
                    self._drop(cdi_device)
            used = {found.device for found in self._known.values()}
            self._reach = {name: reach for name, reach in list(self._reach.items()) if name in used}

    def _put(self, cdi_device: str, found: HandedOut) -> None:
        self._drop(cdi_device)
        self._known[cdi_device] = found
        self._opening.setdefault(found.opens, {})[cdi_device] = found

    def _drop(self, cdi_device: str) -> None:
        former = self._known.pop(cdi_device, None)
        if former is not None:
            alike = self._opening[former.opens]
            del alike[cdi_device]
            if not alike:
                del self._opening[former.opens]

    def limits(self, cdi_device: str) -> ContainerEdits | None:
        """What the methods of isolation gave; None where this process did not write that."""
        found = self._known.get(cdi_device)
        return found.limits if found is not None and found.reach is not None else None

    def is_known(self, record: ClaimRecord) -> bool:
        """Whether this process made all that the claim's file hands out."""
        return all(self.limits(item.cdi_device) is not None for item in record.shares)

    def same_driver(self, record: ClaimRecord) -> bool:
        """Whether the claim's cards are as they were, as far as that can be known without asking anybody."""
        cards = self._source.cards()
        for item in record.shares:
            found, card = self._known.get(item.cdi_device), cards.get(item.share.device)
            if found is None or found.reach is None or card is None:
                return False
            if found.driver_version != card.driver_version:
                return False
        return not self.rivals(record)

    def rivals(self, record: ClaimRecord) -> tuple[HandedOut, ...]:
        """What other claims were given of other cards though it is what this claim was given."""
        with self._lock:
            ours = {
                self._known[item.cdi_device].opens for item in record.shares if item.cdi_device in self._known
            }
            return tuple(
                other
                for opens, alike in self._opening.items()
                if any(_same_nodes(opens, own) for own in ours)
                for other in alike.values()
                if other.uid != record.uid
            )

    def partitions_beside(self, record: ClaimRecord) -> tuple[HandedOut, ...]:
        """The partitions of other claims on the cards that this claim is given partitions of."""
        cards = self._source.cards()
        found = (cards.get(item.share.device) for item in record.shares)
        beside = {_card_of(card) for card in found if card is not None and card.partition is not None}
        if not beside:
            return ()
        return tuple(
            other
            for other in list(self._known.values())
            if other.partition and other.uid != record.uid and other.card in beside
        )

    def still_stands(self, given: HandedOut) -> bool:
        """Whether a partition that was handed out is where it was; asks its vendor.

        Raises:
            DragomanError: Nobody can say.
        """
        card = self._source.cards().get(given.device)
        if card is None:
            raise DeviceGoneError(f"Card {given.device} is not on this node (any more).")
        return given.reach is not None and self._source.stands(card, given.limits)

    def still_leads_there(self, given: HandedOut, *, asked: Asked) -> bool:
        """Whether what was handed out leads to its card or partition, and to no other; asks its vendor."""
        try:
            return self._reaches(given, asked=asked) and (not given.partition or self.still_stands(given))
        except DragomanError:
            return False

    def _reaches(self, given: HandedOut, *, asked: Asked) -> bool:
        now = self._ask(given.device, asked=asked)
        if now is None:
            return False
        if given.reach is not None:
            return now == given.reach
        return {node.path for node in now.device_nodes} <= given.nodes

    def is_outdated(self, record: ClaimRecord, *, devices: Collection[str], asked: Asked) -> bool:
        """Whether the vendor says otherwise of one of these cards by now, or that it cannot be reached."""
        return any(
            item.share.device in devices
            and item.cdi_device in self._known
            and not self._reaches(self._known[item.cdi_device], asked=asked)
            for item in record.shares
        )

    def _ask(self, device: str, *, asked: Asked) -> ContainerEdits | None:
        if device not in asked:
            card = self._source.cards().get(device)
            try:
                asked[device] = self._source.vendor_edits(card) if card is not None else None
            except DragomanError:
                # Whatever comes back may have other numbers.
                asked[device] = None
        return asked[device]


def _card_of(card: Card) -> str:
    uuid = card.uuid if card.partition is None else card.partition.card_uuid
    return uuid or card.name


def _same_nodes(one: _Opens, other: _Opens) -> bool:
    if one.card == other.card:
        return bool(one.of_partition & other.nodes or other.of_partition & one.nodes)
    if not one.nodes or not other.nodes:
        return False
    return one.nodes <= other.nodes or other.nodes <= one.nodes
