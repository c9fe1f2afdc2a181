"""How full devices and nodes are.

Purpose: the figures by which policies compare: for each dimension (each capacity of a device) the part that
is held, and what would be left after one more request.

Flow: `load` and `leftover` for a device, `node_load` for a node.

Limits: parts of the whole as floats: they order answers and never decide what fits. A device without
capacities counts by its shares.
"""

from __future__ import annotations

from collections.abc import Sequence

from driver.allocation.capacity import Shortage, consumptions
from driver.allocation.errors import CapacityRequestError
from driver.allocation.models import Device
from driver.allocation.requests import Option
from driver.allocation.snapshot import InUse


def load(device: Device, in_use: InUse) -> float:
    """Say how full a device is: the mean over its dimensions, from 0 (untouched) to 1."""
    if device.id in in_use.whole:
        return 1.0
    shares = in_use.shares.get(device.id, 0)
    if not shares:
        return 0.0
    held = in_use.consumed.get(device.id, {})
    parts = [
        min(held.get(name, 0) / capacity.value.nano, 1.0)
        for name, capacity in device.capacity.items()
        if capacity.value.nano > 0
    ]
    return sum(parts) / len(parts) if parts else shares / (shares + 1)


class Charges:
    """What a request would take of devices, worked out once for each mapping of capacities."""

    def __init__(self, option: Option) -> None:
        """Prepare for one request."""
        self._option = option
        self._known: dict[int, tuple[object, tuple[tuple[str, int, int], ...] | None]] = {}

    def of(self, device: Device) -> tuple[tuple[str, int, int], ...] | None:
        """Give name, nanos taken and nanos in all of each capacity; None if the device is too small."""
        known = self._known.get(id(device.capacity))
        if known is None:
            # The mapping is kept, so that its id stays its own.
            known = self._known[id(device.capacity)] = (device.capacity, self._charged(device))
        return known[1]

    def _charged(self, device: Device) -> tuple[tuple[str, int, int], ...] | None:
        try:
            charged = consumptions(device, self._option.capacity, keep_form=False)
        except CapacityRequestError:
            # The allocator says so, if it comes that far.
            return None
        if isinstance(charged, Shortage):
            return None
        return tuple((name, taken.nano, device.capacity[name].value.nano) for name, taken in charged.items())


def leftover(device: Device, charges: Charges, in_use: InUse) -> tuple[float, ...] | None:
    """Say what would be left of each dimension if a device served a request; None if it has not enough.

    Selectors, taints and counters are not looked at.
    """
    if device.id in in_use.whole or (not device.shareable and in_use.shares.get(device.id)):
        return None
    charged = charges.of(device)
    if charged is None:
        return None
    if not device.shareable:
        # What it has beyond the request is lost to others all the same, but it was asked for.
        return tuple(0.0 for _ in charged)
    held = in_use.consumed.get(device.id, {})
    left = []
    for name, taken, size in charged:
        rest = size - held.get(name, 0) - taken
        if rest < 0:
            return None
        if size > 0:
            left.append(rest / size)
    return tuple(left)


def node_load(devices: Sequence[Device], in_use: InUse) -> float:
    """Say how full a node is: the mean over its devices."""
    return sum(load(one, in_use) for one in devices) / len(devices) if devices else 0.0


def misfit(left: tuple[float, ...]) -> float:
    """Say how badly a request fits, the lower the better, from what it would leave.

    What is out of balance, because capacity of one dimension is lost where none of the other is left to go
    with it, and the size of the rest, because a card that is nearly full is to be filled before the next one
    is begun. Both count alike: with less weight on the rest, cards were begun too early; with more, more was
    stranded (tried with `hack/bench policies`).
    """
    return max(left) - min(left) + sum(left) / len(left) if left else 0.0
