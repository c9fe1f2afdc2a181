"""The cluster's cards, as far as validation asks about them.

Purpose: "which cards does a selector pick, and what is the most that they can give?", for all cards at once.

Flow: whoever watches AcceleratorNodes calls `put` for each node whose cards changed and `remove` for one that
is gone; whoever has ResourceSlices only calls `put_devices`. Questions are asked with bitmaps over the cards.

Limits: mutable, with one owner, in one thread. Cards that are not offered now count like the others, since
nobody is refused for a card that is away; so do cards of nodes that are not Ready. What others hold plays no
part. A device that cannot be read does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from driver.allocation.models import Capacity, Device, NodeSelection
from driver.allocation.sharing import Sharing
from driver.cards import DRIVER_NAME, Card
from driver.cel import DeviceView, Selector
from driver.errors import DragomanError
from driver.quantities import MIB
from driver.selection import Index, Selection, Slots
from driver.slices import publication_of
from driver.validation.limits import MAX_UNITS

_ANYWHERE = NodeSelection(all_nodes=True)
_UUID = "uuid"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What cards have in common that give the same amounts."""

    capacity: tuple[tuple[str, Capacity], ...]
    shareable: bool


@dataclass(frozen=True, slots=True)
class _Held:
    slots: Slots
    node: str
    kinds: Mapping[_Kind, int]
    uuids: tuple[str, ...]


class KnownCards:
    """All cards of the cluster, by node."""

    def __init__(self) -> None:
        self._index = Index(units=MAX_UNITS)
        self._sharing = Sharing()
        self._held: dict[str, _Held] = {}
        self._kinds: dict[_Kind, tuple[int, Device]] = {}
        self._uuids: Counter[str] = Counter()
        self._memory: dict[str, int] = {}

    def put(self, node: str, cards: Sequence[Card]) -> None:
        """Takes note of all cards of a node, also those that are not offered now."""
        offered = [replace(card, unpublished="") for card in cards]
        publication = publication_of(offered, node=node)
        devices = [device for one in publication.slices for device in one["spec"]["devices"]]
        self.put_devices(node, devices, node=node)
        held = self._held[node]
        physical = {card.uuid: card.physical_memory_mib * MIB for card in cards if card.uuid in held.uuids}
        self._memory.update(physical)

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
        self.remove(key)
        parsed = list(self._parsed(devices, driver=driver, pool=node or key))
        slots = self._index.add([one.view for one in parsed])
        kinds: dict[_Kind, int] = {}
        uuids: list[str] = []
        for number, device in zip(slots.numbers, parsed, strict=True):
            kind = _Kind(tuple(sorted(device.capacity.items(), key=lambda one: one[0])), device.shareable)
            kinds[kind] = kinds.get(kind, 0) | 1 << number
            _, uuid = device.attributes.get(_UUID, ("", ""))
            if uuid and isinstance(uuid, str):
                uuids.append(uuid)
            self._kinds.setdefault(kind, (0, device))
        for kind, bits in kinds.items():
            before, example = self._kinds[kind]
            self._kinds[kind] = (before | bits, example)
        self._uuids.update(uuids)
        # A policy may reserve some of what a slice does not tell of.
        self._memory.update(dict.fromkeys(uuids, 0))
        self._held[key] = _Held(slots, node, kinds, tuple(uuids))

    def remove(self, key: str) -> None:
        """Forgets a node or slice; one that is not known is no mistake."""
        held = self._held.pop(key, None)
        if held is None:
            return
        self._index.remove(held.slots)
        for kind, bits in held.kinds.items():
            before, example = self._kinds[kind]
            left = before & ~bits
            if left:
                self._kinds[kind] = (left, example)
            else:
                del self._kinds[kind]
        for uuid in held.uuids:
            self._uuids[uuid] -= 1
            if not self._uuids[uuid]:
                del self._uuids[uuid]
                self._memory.pop(uuid, None)

    @property
    def every(self) -> int:
        """All cards."""
        return self._index.live

    @property
    def uuids(self) -> Mapping[str, int]:
        """UUIDs of the cards, with all bytes of memory that each has; 0 where that is not known."""
        return self._memory

    def select(self, selector: Selector) -> Selection:
        """For which cards a selector is true, and on which it raises."""
        return self._index.select(selector)

    def view(self, cards: int) -> DeviceView:
        """One of some cards."""
        return self._index.view((cards & -cards).bit_length() - 1)

    def kinds(self, cards: int) -> list[Device]:
        """One card of each kind among some cards; cards of a kind give the same amounts."""
        return [example for bits, example in self._kinds.values() if bits & cards]

    def most_on_one_node(self, cards: int) -> int:
        """How many of some cards are on the node that has the most of them; all where that is not known."""
        nodes: Counter[str] = Counter()
        for held in self._held.values():
            here = (cards >> held.slots.first & (1 << held.slots.count) - 1).bit_count()
            if here and not held.node:
                return cards.bit_count()
            nodes[held.node] += here
        return max(nodes.values(), default=0)

    def has(self, source: str, domain: str, name: str) -> bool:
        """Whether any card has an attribute or capacity (`source`: `attributes` or `capacity`)."""
        return (source, domain, name) in self._paths()

    def names(self, source: str, domain: str) -> list[str]:
        """The names that cards have in a domain."""
        return [path[2] for path in self._paths() if len(path) == 3 and path[:2] == (source, domain)]

    def _paths(self) -> Iterable[tuple[str, ...]]:
        return self._index.paths

    def _parsed(self, devices: Sequence[Mapping[str, Any]], *, driver: str, pool: str) -> Iterator[Device]:
        for raw in devices:
            try:
                yield Device.parse(raw, driver=driver, pool=pool, nodes=_ANYWHERE, sharing=self._sharing)
            except (DragomanError, KeyError, TypeError, AttributeError, ValueError):
                continue
