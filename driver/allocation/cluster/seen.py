"""What each node sees: its pools, by the rules of one release.

Purpose: find the many nodes that differ in nothing but names, and those that need a look of their own.

Flow: `Seen.look` gathers a node's pools as the allocator does and gives the node a signature; nodes with
equal signatures, and equal answers for each of their devices, get equal answers.

Limits: a node is `plain` if all its devices stand in complete, valid pools of its own without counters: there
the first devices that fit are the answer. Mutable, for one owner.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from driver.allocation.cluster.bitmaps import span
from driver.allocation.cluster.numbering import Numbering, Segment
from driver.allocation.models import Amounts, Device
from driver.allocation.nodes import Node, matches
from driver.allocation.pools import Pool, gather
from driver.allocation.profile import Profile
from driver.allocation.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one node sees.

    Attributes:
        name: The node.
        segment: Its own devices, None if it has none.
        signature: Equal for nodes that differ in names only.
        plain: Whether all that it sees are its own devices, in pools with nothing peculiar.
        counters: Whether devices draw on counters, so that what is held of them matters.
        devices: All devices that it sees, in the order of its pools; none if it is plain.
    """

    name: str
    segment: Segment | None
    signature: Hashable
    plain: bool
    counters: bool = False
    devices: tuple[Device, ...] = ()

    @property
    def top(self) -> int:
        """The number that stands for its devices, as a bitmap; 0 if it has none."""
        return 1 << (self.segment.stop - 1) if self.segment else 0

    @property
    def in_order(self) -> tuple[Device, ...]:
        """All devices that it sees."""
        return self.segment.devices if self.plain and self.segment else self.devices


@dataclass(slots=True)
class Seen:
    """What all nodes see.

    Attributes:
        profile: The rules.
        nodes: By name.
        known: The highest numbers of all nodes' devices.
        plain: Of those that are plain.
        peculiar: Of those whose pools are incomplete or invalid, or have devices with a problem.
        outside: Of those that see devices that name no node.
        bare: Nodes without devices of their own, by signature.
    """

    profile: Profile
    nodes: dict[str, Outlook] = field(default_factory=dict)
    known: int = 0
    plain: int = 0
    peculiar: int = 0
    outside: int = 0
    bare: dict[Hashable, set[str]] = field(default_factory=dict)

    def look(self, snapshot: Snapshot, numbering: Numbering, names: Iterable[str]) -> None:
        """Look at nodes, for the first time or again."""
        for name in names:
            outlook, peculiar = _outlook(snapshot, numbering, name, self.profile)
            self.nodes[name] = outlook
            if outlook.segment is None:
                self.bare.setdefault(outlook.signature, set()).add(name)
                continue
            self.known |= outlook.top
            if outlook.plain:
                self.plain |= outlook.top
                continue
            if peculiar:
                self.peculiar |= outlook.top
            if not set(outlook.devices) <= set(outlook.segment.devices):
                self.outside |= outlook.top

    def forget(self, names: Iterable[str]) -> None:
        """Forget nodes, whose devices still have their numbers."""
        for name in names:
            outlook = self.nodes.pop(name, None)
            if outlook is None:
                continue
            if outlook.segment is None:
                some = self.bare[outlook.signature]
                some.discard(name)
                if not some:
                    del self.bare[outlook.signature]
            self.known &= ~outlook.top
            self.plain &= ~outlook.top
            self.peculiar &= ~outlook.top
            self.outside &= ~outlook.top


def _outlook(snapshot: Snapshot, numbering: Numbering, name: str, profile: Profile) -> tuple[Outlook, bool]:
    segment = numbering.segments.get(name)
    pools = gather(snapshot, snapshot.node(name), profile)
    devices = tuple(device for pool in pools for device in pool.devices)
    own = segment.devices if segment else ()
    mine = {device: place for place, device in enumerate(own)}
    peculiar = any(pool.incomplete or pool.invalid for pool in pools) or any(one.problem for one in devices)
    odd = segment is not None and bool(numbering.odd & span(segment.start, segment.stop))
    if devices == own and not peculiar and not odd and not any(map(_counted, pools)):
        return Outlook(name, segment, len(own), plain=True), False
    node = snapshot.node(name)
    signature = (name,) if odd else tuple(_signature(pool, mine, node) for pool in pools)
    counters = any(map(_counted, pools))
    return Outlook(name, segment, signature, plain=False, counters=counters, devices=devices), peculiar


def _counted(pool: Pool) -> bool:
    return bool(pool.counter_sets) or any(device.counters for device in pool.devices)


def _signature(pool: Pool, mine: Mapping[Device, int], node: Node) -> Hashable:
    """Say what a pool is without the names of the node's own devices; others stand for themselves."""
    devices: list[Hashable] = []
    for device in pool.devices:
        who = mine.get(device, device)
        devices.append((who, matches(device.nodes, node), bool(device.problem)))
    counters: Hashable = None
    if _counted(pool):
        counters = (
            tuple((name, _nanos(amounts)) for name, amounts in pool.counter_sets.items()),
            tuple(tuple((name, _nanos(one)) for name, one in device.counters) for device in pool.devices),
            tuple(device for device in pool.everywhere if device not in mine),
        )
    return pool.incomplete, bool(pool.invalid), tuple(devices), counters


def _nanos(amounts: Amounts) -> Hashable:
    return tuple((name, amount.nano) for name, amount in amounts.items())
