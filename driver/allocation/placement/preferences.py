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
from driver.allocation.placement.usage import leftover, load, misfit
from driver.allocation.preference import Preference
from driver.allocation.requests import Option
from driver.allocation.snapshot import InUse

Key = Callable[[Device, Option, InUse], float]
_LAST = 4.0


@dataclass(frozen=True, slots=True)
class ByKey:
    """Devices by a figure, the lowest first."""

    key: Key

    def order(self, devices: Sequence[Device], option: Option, in_use: InUse) -> Sequence[Device]:
        """Sort them."""
        return sorted(devices, key=lambda one: self.key(one, option, in_use))


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


def _full_first(device: Device, _option: Option, in_use: InUse) -> float:
    return -load(device, in_use)


def _empty_first(device: Device, _option: Option, in_use: InUse) -> float:
    return load(device, in_use)


def _least_left(device: Device, option: Option, in_use: InUse) -> float:
    left = leftover(device, option, in_use)
    return _LAST if left is None else misfit(left)


_PREFERENCES: Mapping[Strategy, Preference | None] = {
    Strategy.FIRST_FIT: None,
    Strategy.BINPACK: ByKey(_full_first),
    Strategy.SPREAD: ByKey(_empty_first),
    Strategy.BEST_FIT: ByKey(_least_left),
}
