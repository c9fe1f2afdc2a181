"""Which device has which number, and what never changes about it while its slice stays.

Purpose: the part of a cluster's state that slices make: numbers, nodes, and sets of devices that are alike.

Flow: `Numbering.place` gives all devices that name one node adjacent numbers, in the order of driver, pool
and slice, and files them by capacities, taints and peculiarities; `clear` takes them out again. Devices of
slices that name no node are placed under the node "".

Limits: mutable, for one owner, as the index is.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from driver.allocation.cluster.bitmaps import Segments, bitmap, span
from driver.allocation.models import Capacity, Device, DeviceID, Slice, Taint
from driver.quantities import Quantity
from driver.selection import Index, Slots

K = TypeVar("K")

# A request takes less than this of a capacity; devices that have more are looked at one by one.
MAX_NANOS = 1 << 100


@dataclass(slots=True)
class Alike:
    """Devices that are the same in some respect.

    Attributes:
        one: One of them, to be asked for all.
        some: All of them.
    """

    one: Device
    some: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The devices of a node.

    Attributes:
        node: Its name, "" for devices of no node in particular.
        slots: Their numbers.
        devices: The devices in the order of their numbers.
    """

    node: str
    slots: Slots
    devices: tuple[Device, ...]

    @property
    def start(self) -> int:
        """The first number."""
        return self.slots.first

    @property
    def stop(self) -> int:
        """The number after the last."""
        return self.slots.first + self.slots.count


@dataclass(slots=True)
class Numbering:
    """Devices by number.

    Attributes:
        index: The index that gives out the numbers.
        segments: By node; nodes without devices have none.
        bounds: Segments of nodes as sets of numbers.
        classes: Devices by their capacities and whether they can be shared.
        tainted: Devices by their taints, those that have any.
        exclusive: Devices that cannot be shared.
        unreadable: Devices that have a problem of their own.
        odd: Devices with amounts that are not counted with here.
        by_id: The numbers of the devices of one id: more than one only if somebody made a mistake.
    """

    index: Index = field(default_factory=Index)
    segments: dict[str, Segment] = field(default_factory=dict)
    bounds: Segments = field(default_factory=Segments)
    classes: dict[tuple[int, bool], Alike] = field(default_factory=dict)
    tainted: dict[tuple[Taint, ...], Alike] = field(default_factory=dict)
    exclusive: int = 0
    unreadable: int = 0
    odd: int = 0
    by_id: dict[DeviceID, tuple[int, ...]] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)
    _at: list[Segment] = field(default_factory=list)

    def place(self, node: str, slices: Sequence[Slice]) -> Segment | None:
        """Give numbers to the devices of a node that has none; None if there are no devices."""
        ordered = sorted(slices, key=lambda one: (one.driver.encode(), one.pool.encode(), one.name))
        devices = tuple(device for one in ordered for device in one.devices)
        if not devices:
            return None
        slots = self.index.add([device.view for device in devices])
        segment = Segment(node, slots, devices)
        self.segments[node] = segment
        place = bisect.bisect(self._starts, segment.start)
        self._starts.insert(place, segment.start)
        self._at.insert(place, segment)
        if node:
            self.bounds.add(segment.start, segment.stop)
        self._file(segment)
        return segment

    def clear(self, node: str) -> Segment | None:
        """Take the devices of a node away; None if it has none."""
        segment = self.segments.pop(node, None)
        if segment is None:
            return None
        place = bisect.bisect_left(self._starts, segment.start)
        del self._starts[place], self._at[place]
        if node:
            self.bounds.remove(segment.start, segment.stop)
        self.index.remove(segment.slots)
        rest = ~span(segment.start, segment.stop)
        self.classes = _without(self.classes, rest)
        self.tainted = _without(self.tainted, rest)
        self.exclusive &= rest
        self.unreadable &= rest
        self.odd &= rest
        for number, device in enumerate(segment.devices, segment.start):
            left = tuple(one for one in self.by_id[device.id] if one != number)
            if left:
                self.by_id[device.id] = left
            else:
                del self.by_id[device.id]
        return segment

    def segment_at(self, number: int) -> Segment:
        """Give the segment that a number is in."""
        return self._at[bisect.bisect(self._starts, number) - 1]

    def neighbours(self, segment: Segment) -> tuple[Segment | None, Segment | None]:
        """Give the segments with the next lower and the next higher numbers."""
        place = bisect.bisect_left(self._starts, segment.start)
        before = self._at[place - 1] if place else None
        return before, self._at[place + 1] if place + 1 < len(self._at) else None

    def device(self, number: int) -> Device:
        """Give the device that has a number."""
        segment = self.segment_at(number)
        return segment.devices[number - segment.start]

    @property
    def local(self) -> int:
        """The devices that name a node."""
        return self.bounds.lower | self.bounds.highest

    def _file(self, segment: Segment) -> None:
        classes: dict[tuple[int, bool], tuple[Device, list[int]]] = {}
        for number, device in enumerate(segment.devices, segment.start):
            key = (id(device.capacity), device.shareable)
            classes.setdefault(key, (device, []))[1].append(number)
            if device.taints:
                self.tainted.setdefault(device.taints, Alike(device)).some |= 1 << number
            if device.problem:
                self.unreadable |= 1 << number
            self.by_id[device.id] = (*self.by_id.get(device.id, ()), number)
        for key, (device, numbers) in classes.items():
            some = bitmap(numbers)
            self.classes.setdefault(key, Alike(device)).some |= some
            if not device.shareable:
                self.exclusive |= some
            if _odd(device.capacity):
                self.odd |= some


def _without(table: dict[K, Alike], rest: int) -> dict[K, Alike]:
    """Leave the numbers that stay; the one to ask may be gone, but what it says is right."""
    left = {key: Alike(one.one, one.some & rest) for key, one in table.items()}
    return {key: one for key, one in left.items() if one.some}


def _odd(capacities: Mapping[str, Capacity]) -> bool:
    return any(not 0 <= amount.nano < MAX_NANOS for one in capacities.values() for amount in _amounts(one))


def _amounts(capacity: Capacity) -> Iterator[Quantity]:
    yield capacity.value
    if (policy := capacity.policy) is not None:
        yield from policy.values
        yield from (one for one in (policy.default, policy.minimum, policy.step) if one is not None)
