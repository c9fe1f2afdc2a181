"""What is held, as sets of devices and amounts that can be compared for all devices at once.

Purpose: the part of a cluster's state that claims make. Immutable; what a claim does not touch is shared with
the state before.

Flow: `State.after` takes what changed for single devices; `State.with_segments` follows slices.

Limits: amounts that are left are kept for devices that can be shared; the others are held or they are not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from driver.allocation.cluster.amounts import Amounts, Change
from driver.allocation.cluster.bitmaps import bitmap
from driver.allocation.cluster.numbering import MAX_NANOS, Segment
from driver.allocation.cluster.usage import Usage, Use
from driver.allocation.models import Device

NONE_LEFT = Amounts()


@dataclass(frozen=True, slots=True)
class Touched:
    """A device of which another amount is held than before; None where it is not there."""

    number: int
    device: Device
    before: Use | None
    after: Use | None


@dataclass(frozen=True, slots=True)
class State:
    """What is held.

    Attributes:
        usage: By claim and by device.
        blocked: Devices that cannot be had: held as a whole, or in shares while they cannot be shared.
        free: What is left of each capacity, by its name as written.
    """

    usage: Usage
    blocked: int = 0
    free: Mapping[str, Amounts] = field(default_factory=dict)

    def enough(self, name: str, amount: int) -> int:
        """Give the devices that have so many nanos of a capacity left."""
        return self.free.get(name, NONE_LEFT).at_least(amount)

    def after(self, usage: Usage, touched: Iterable[Touched]) -> State:
        """Give the state after some devices changed hands, came, or went."""
        flipped: list[int] = []
        amounts: defaultdict[str, list[Change]] = defaultdict(list)
        for one in touched:
            if _blocks(one.device, one.before) != _blocks(one.device, one.after):
                flipped.append(one.number)
            if not one.device.shareable:
                continue
            before, after = _left(one.device, one.before), _left(one.device, one.after)
            for name in one.device.capacity:
                if before.get(name) != after.get(name):
                    amounts[name].append(Change(one.number, before.get(name), after.get(name)))
        free = dict(self.free)
        for name, changes in amounts.items():
            free[name] = free.get(name, NONE_LEFT).changed(changes)
        return replace(self, usage=usage, blocked=self.blocked ^ bitmap(flipped), free=free)

    def with_segments(self, *, gone: Iterable[Segment], come: Iterable[Segment]) -> State:
        """Give the state after devices went and others came; what is held of them is known already."""
        return self.after(
            self.usage,
            [
                Touched(number, device, use, None)
                for segment in gone
                for number, device, use in self._uses(segment)
            ],
        ).after(
            self.usage,
            [
                Touched(number, device, None, use)
                for segment in come
                for number, device, use in self._uses(segment)
            ],
        )

    def _uses(self, segment: Segment) -> Iterable[tuple[int, Device, Use]]:
        for number, device in enumerate(segment.devices, segment.start):
            yield number, device, self.usage.use(device.id)


def _blocks(device: Device, use: Use | None) -> bool:
    return use is not None and bool(use.whole or (use.shares and not device.shareable))


def _left(device: Device, use: Use | None) -> dict[str, int]:
    """Say what is left of each capacity; what is overdrawn, or more than is counted with, is left out."""
    if use is None:
        return {}
    held = dict(use.consumed)
    left = {name: one.value.nano - held.get(name, 0) for name, one in device.capacity.items()}
    return {name: amount for name, amount in left.items() if 0 <= amount < MAX_NANOS}
