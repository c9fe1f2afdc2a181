"""Orders of the cards of a node.

Purpose: `driver.allocation.preference.Preference` for each strategy.

Flow: `card_preference` gives the one of a policy; the allocator asks it for each request.

Limits: orders are stable, so that equal cards stay in the order of publishing and an answer does not change
from one run to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from driver.allocation.models import Device, DeviceID
from driver.allocation.placement.policy import Strategy
from driver.allocation.placement.usage import Charges, leftover, load, misfit
from driver.allocation.preference import Preference
from driver.allocation.requests import Option
from driver.allocation.snapshot import InUse

_LAST = 4.0


@dataclass(frozen=True, slots=True)
class ByKey:
    """Devices by a figure, the lowest first."""

    key: Callable[[Device, InUse], float]

    def order(self, devices: Sequence[Device], option: Option, in_use: InUse) -> Sequence[Device]:
        """Sort them."""
        del option
        return sorted(devices, key=lambda one: self.key(one, in_use))


@dataclass(frozen=True, slots=True)
class ByFit:
    """Devices by what they would be left with, the least first."""

    def order(self, devices: Sequence[Device], option: Option, in_use: InUse) -> Sequence[Device]:
        """Sort them."""
        charges = Charges(option)

        def key(device: Device) -> float:
            left = leftover(device, charges, in_use)
            return _LAST if left is None else misfit(left)

        return sorted(devices, key=key)


@dataclass(frozen=True, slots=True)
class Hinted:
    """Certain devices first for certain requests, the others as another preference has them.

    Attributes:
        hints: Devices by label of the request.
        then: The order of the others; as published if None.
    """

    hints: Mapping[str, Sequence[DeviceID]]
    then: Preference | None

    def order(self, devices: Sequence[Device], option: Option, in_use: InUse) -> Sequence[Device]:
        """Put the hinted ones first."""
        rest = devices if self.then is None else self.then.order(devices, option, in_use)
        hinted = self.hints.get(option.label, ())
        if not hinted:
            return rest
        places = {one: place for place, one in enumerate(hinted)}
        return sorted(rest, key=lambda one: places.get(one.id, len(places)))


def card_preference(strategy: Strategy) -> Preference | None:
    """Give the order of cards of a strategy; None means as published."""
    return _PREFERENCES[strategy]


_PREFERENCES: Mapping[Strategy, Preference | None] = {
    Strategy.FIRST_FIT: None,
    Strategy.BINPACK: ByKey(lambda device, in_use: -load(device, in_use)),
    Strategy.SPREAD: ByKey(load),
    Strategy.BEST_FIT: ByFit(),
}
