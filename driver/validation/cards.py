"""The cluster's cards, as far as validation asks about them.

Purpose: "which cards does a selector pick, and what is the most that they can give?", for all cards at once.

Flow: follows a `Fleet`; whoever has one of its own feeds it by `put`, `put_devices` and `remove`. Questions
are asked with bitmaps over the cards.

Limits: mutable, with one owner, in one thread. Cards that are not offered now count like the others, since
nobody is refused for a card that is away; so do cards of nodes that are not Ready. What others hold plays no
part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driver.allocation.models import Capacity, Device
from driver.cards import DRIVER_NAME, Card
from driver.cel import DeviceView, Selector
from driver.fleet import Fleet, Group
from driver.quantities import MIB
from driver.selection import Selection
from driver.validation.limits import MAX_UNITS
from driver.validation.reading import nearest

_UUID = "uuid"
_SAID = ("vendor", "model")
"""Attributes whose values are known one by one."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What cards have in common that give the same amounts."""

    capacity: tuple[tuple[str, Capacity], ...]
    shareable: bool


@dataclass(frozen=True, slots=True)
class _Held:
    kinds: Mapping[_Kind, int]
    uuids: tuple[str, ...]
    said: Mapping[tuple[str, str], int]


class KnownCards:
    """All cards of the cluster, by node."""

    def __init__(self, fleet: Fleet | None = None) -> None:
        """Follows a fleet that has no cards yet; without one, its own."""
        self._fleet = fleet if fleet is not None else Fleet()
        self._held: dict[str, _Held] = {}
        self._kinds: dict[_Kind, tuple[int, Device]] = {}
        self._uuids: Counter[str] = Counter()
        self._said: Counter[tuple[str, str]] = Counter()
        self._memory: dict[str, int] = {}
        self._fleet.follow(self)

    def put(self, node: str, cards: Sequence[Card]) -> None:
        """See `Fleet.put`."""
        self._fleet.put(node, cards)

    def put_devices(
        self, key: str, devices: Sequence[Mapping[str, Any]], *, driver: str = DRIVER_NAME, node: str = ""
    ) -> None:
        """See `Fleet.put_devices`."""
        self._fleet.put_devices(key, devices, driver=driver, node=node)

    def remove(self, key: str) -> None:
        """See `Fleet.remove`."""
        self._fleet.remove(key)

    def came(self, group: Group) -> None:
        """See `driver.fleet.Follower`."""
        kinds: dict[_Kind, int] = {}
        uuids: list[str] = []
        said: Counter[tuple[str, str]] = Counter()
        for number, device in zip(group.slots.numbers, group.devices, strict=True):
            kind = _Kind(tuple(sorted(device.capacity.items(), key=lambda one: one[0])), device.shareable)
            kinds[kind] = kinds.get(kind, 0) | 1 << number
            _, uuid = device.attributes.get(_UUID, ("", ""))
            if uuid and isinstance(uuid, str):
                uuids.append(uuid)
            for name in _SAID:
                _, value = device.attributes.get(name, ("", ""))
                if value and isinstance(value, str):
                    said[name, value] += 1
            self._kinds.setdefault(kind, (0, device))
        for kind, bits in kinds.items():
            before, example = self._kinds[kind]
            self._kinds[kind] = (before | bits, example)
        self._uuids.update(uuids)
        self._said.update(said)
        # A policy may reserve some of what a slice does not tell of.
        self._memory.update(dict.fromkeys(uuids, 0))
        known = {card.uuid: card.physical_memory_mib * MIB for card in group.cards.values()}
        self._memory.update({uuid: known[uuid] for uuid in uuids if uuid in known})
        self._held[group.key] = _Held(kinds, tuple(uuids), said)

    def went(self, key: str) -> None:
        """See `driver.fleet.Follower`."""
        held = self._held.pop(key)
        for kind, bits in held.kinds.items():
            before, example = self._kinds[kind]
            left = before & ~bits
            if left:
                self._kinds[kind] = (left, example)
            else:
                del self._kinds[kind]
        self._said.subtract(held.said)
        self._said += Counter()
        for uuid in held.uuids:
            self._uuids[uuid] -= 1
            if not self._uuids[uuid]:
                del self._uuids[uuid]
                self._memory.pop(uuid, None)

    @property
    def every(self) -> int:
        """All cards."""
        return self._fleet.every

    @property
    def uuids(self) -> Mapping[str, int]:
        """UUIDs of the cards, with all bytes of memory that each has; 0 where that is not known."""
        return self._memory

    def select(self, selector: Selector) -> Selection:
        """For which cards a selector is true, and on which it raises."""
        return self._fleet.select(selector, units=MAX_UNITS)

    def view(self, cards: int) -> DeviceView:
        """One of some cards."""
        return self._fleet.view(cards)

    def kinds(self, cards: int) -> list[Device]:
        """One card of each kind among some cards; cards of a kind give the same amounts."""
        return [example for bits, example in self._kinds.values() if bits & cards]

    def most_on_one_node(self, cards: int) -> int:
        """How many of some cards are on the node that has the most of them; all where that is not known."""
        return self._fleet.most_on_one_node(cards)

    def has(self, source: str, domain: str, name: str) -> bool:
        """Whether any card has an attribute or capacity (`source`: `attributes` or `capacity`)."""
        return (source, domain, name) in self._paths()

    def said(self, name: str) -> set[str]:
        """The different texts that cards say of their `vendor` or `model`."""
        return {value for attribute, value in self._said if attribute == name}

    def names(self, source: str, domain: str) -> list[str]:
        """The names that cards have in a domain."""
        return [path[2] for path in self._paths() if len(path) == 3 and path[:2] == (source, domain)]

    def domains(self, source: str, name: str) -> list[str]:
        """The domains in which cards have a name."""
        return sorted(path[1] for path in self._paths() if len(path) == 3 and path[::2] == (source, name))

    def meant(self, source: str, domain: str, name: str) -> str:
        """A sentence that suggests what was meant by a name that no card has; "" where nothing is near."""
        elsewhere = self.domains(source, name)
        if elsewhere:
            return f"Did you mean {elsewhere[0]}/{name}?"
        return nearest(name, self.names(source, domain))

    def _paths(self) -> Iterable[tuple[str, ...]]:
        return self._fleet.paths
