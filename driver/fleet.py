"""The cards of a cluster as devices, in one index, for all who ask which cards a selector picks.

Purpose: what is known of eight thousand cards is kept once, however many parts of a process ask about them.

Flow: whoever watches AcceleratorNodes calls `put` for each node whose cards changed and `remove` for one that
is gone; whoever has ResourceSlices only calls `put_devices`. Followers are told of each group of devices that
came or went, and keep what they need of it by the devices' numbers. Answers are bitmaps of these numbers.

Limits: mutable, with one owner, in one thread. Cards that are not offered now are devices like the others;
`offered` tells them apart. A device that cannot be read does not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from driver.allocation.models import Device, NodeSelection
from driver.allocation.sharing import Sharing
from driver.cards import DRIVER_NAME, Card
from driver.cel import DeviceView, Selector
from driver.errors import DragomanError
from driver.selection import Index, Selection, Slots
from driver.slices import canonical, publication_of

_ANYWHERE = NodeSelection(all_nodes=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Devices that came together.

    Attributes:
        key: The node, or what stands for the slice.
        node: Their node, "" where that is not known.
        driver: Their driver.
        slots: Their numbers, in the order of `devices`.
        devices: The devices.
        documents: The same as published.
        cards: The cards that they were made of, by name; empty where only slices are known.
    """

    key: str
    node: str
    driver: str
    slots: Slots
    devices: Sequence[Device]
    documents: Sequence[Mapping[str, Any]]
    cards: Mapping[str, Card] = field(default_factory=dict)


class Follower(Protocol):
    """Who keeps something of each device."""

    def came(self, group: Group) -> None:
        """Takes note of new devices."""

    def went(self, key: str) -> None:
        """Forgets those of a key; their numbers are given to others from now on."""


@dataclass(frozen=True, slots=True)
class _Held:
    slots: Slots
    node: str
    hidden: int
    digest: bytes


class Fleet:
    """All cards of the cluster, by node."""

    def __init__(self) -> None:
        self._index = Index()
        self._sharing = Sharing()
        self._held: dict[str, _Held] = {}
        self._hidden = 0
        self._followers: list[Follower] = []

    def follow(self, follower: Follower) -> None:
        """Adds somebody who is told of all changes from now on."""
        self._followers.append(follower)

    def put(self, node: str, cards: Sequence[Card]) -> None:
        """Takes note of all cards of a node, also those that are not offered now."""
        # Shapes that have nothing to do with whether a card is offered stay, so that it can come back.
        shown = [replace(card, unpublished="") for card in cards]
        devices = [
            device
            for one in publication_of(shown, node=node).slices
            # A slice of counters has none.
            for device in one["spec"].get("devices") or ()
        ]
        self._put(node, devices, driver=DRIVER_NAME, node=node, cards={card.name: card for card in cards})

    def put_devices(
        self, key: str, devices: Sequence[Mapping[str, Any]], *, driver: str = DRIVER_NAME, node: str = ""
    ) -> None:
        """Takes note of the devices of a ResourceSlice.

        Args:
            key: Stands for the slice, such as its name.
            devices: Its `spec.devices`.
            driver: Its driver.
            node: Its node, "" if it names none.
        """
        self._put(key, devices, driver=driver, node=node, cards={})

    def remove(self, key: str) -> None:
        """Forgets a node or slice; one that is not known is no mistake."""
        held = self._held.pop(key, None)
        if held is None:
            return
        for follower in self._followers:
            follower.went(key)
        self._hidden &= ~held.hidden
        self._index.remove(held.slots)

    @property
    def every(self) -> int:
        """All cards."""
        return self._index.live

    @property
    def offered(self) -> int:
        """The cards that are offered now."""
        return self._index.live & ~self._hidden

    @property
    def paths(self) -> Iterable[tuple[str, ...]]:
        """What cards have: (`attributes` or `capacity`, domain) and (…, domain, name)."""
        return self._index.paths

    def select(self, selector: Selector, *, units: int) -> Selection:
        """For which cards a selector is true, and on which it raises.

        Args:
            selector: The selector.
            units: What all its evaluations may cost together; with more, it raises on all cards.
        """
        return self._index.select(selector, units=units)

    def view(self, cards: int) -> DeviceView:
        """One of some cards."""
        return self._index.view((cards & -cards).bit_length() - 1)

    def most_on_one_node(self, cards: int) -> int:
        """How many of some cards are on the node that has the most of them; all where that is not known."""
        nodes: dict[str, int] = {}
        for held in self._held.values():
            here = (cards >> held.slots.first & (1 << held.slots.count) - 1).bit_count()
            if here and not held.node:
                return cards.bit_count()
            nodes[held.node] = nodes.get(held.node, 0) + here
        return max(nodes.values(), default=0)

    def _put(
        self,
        key: str,
        raw: Sequence[Mapping[str, Any]],
        *,
        driver: str,
        node: str,
        cards: Mapping[str, Card],
    ) -> None:
        digest = _digest(raw, driver=driver, node=node, cards=cards)
        held = self._held.get(key)
        if held is not None and held.digest == digest:
            return
        self.remove(key)
        pairs = list(self._parsed(raw, driver=driver, pool=node or key))
        documents, devices = [one for one, _ in pairs], [one for _, one in pairs]
        slots = self._index.add([one.view for one in devices])
        hidden = sum(
            1 << number
            for number, device in zip(slots.numbers, devices, strict=True)
            if (card := cards.get(device.id.device)) is not None and card.unpublished
        )
        self._hidden |= hidden
        self._held[key] = _Held(slots, node, hidden, digest)
        group = Group(
            key=key, node=node, driver=driver, slots=slots, devices=devices, documents=documents, cards=cards
        )
        for follower in self._followers:
            follower.came(group)

    def _parsed(
        self, raw: Sequence[Mapping[str, Any]], *, driver: str, pool: str
    ) -> Iterator[tuple[Mapping[str, Any], Device]]:
        for one in raw:
            try:
                yield (
                    one,
                    Device.parse(one, driver=driver, pool=pool, nodes=_ANYWHERE, sharing=self._sharing),
                )
            except (DragomanError, KeyError, TypeError, AttributeError, ValueError):
                continue


def _digest(raw: Sequence[Mapping[str, Any]], *, driver: str, node: str, cards: Mapping[str, Card]) -> bytes:
    """What an answer could depend on, in few bytes."""
    of_cards = {name: [bool(card.unpublished), card.physical_memory_mib] for name, card in cards.items()}
    text = canonical({"devices": list(raw), "driver": driver, "node": node, "cards": of_cards})
    return hashlib.blake2b(text, digest_size=16).digest()
