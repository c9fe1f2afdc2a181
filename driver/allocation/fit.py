"""Does one device serve one request?

Purpose: the checks of the scheduler's table, in its order, apart from what depends on the other devices
of the same pod.

Flow: `Fit.verdict(device, option)` gives what the device would be charged, or the first reason against
it. It raises where the scheduler would end the attempt. Verdicts are kept: selectors run once for each
pair. Whoever has answered the selectors for many devices at once gives them as `Verdicts`.

Limits: looks at what others hold, not at what this pod is being given; `driver.allocation.search` adds
that. What an index says is believed for devices that are passed over; for those that are given away,
`Fit.confirms` asks the evaluator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from driver.allocation.capacity import Shortage, consumptions, shortage
from driver.allocation.counters import Ledger
from driver.allocation.decision import DeviceRefusal
from driver.allocation.errors import (
    CapacityRequestError,
    SelectorFailedError,
    SelectorInvalidError,
    SelectorUnknownError,
)
from driver.allocation.models import Amounts, Device
from driver.allocation.nodes import Node, matches
from driver.allocation.profile import Profile
from driver.allocation.requests import Option
from driver.allocation.snapshot import InUse
from driver.cel import (
    DeviceView,
    InvalidSelectorError,
    SelectorNotSupportedError,
    SelectorRaisedError,
    compile_selector,
)
from driver.errors import AllocationError, SelectorError


class Verdicts(Protocol):
    """What is known of selectors before anybody evaluates them, for instance from an index."""

    def selected(self, device: Device, option: Option) -> bool | None:
        """Say what the selectors of class and request, in order, make of a device.

        Returns:
            True if all are true; False if one is false and none before it raises; None if one raises
            first, or if nothing is known. None is always right: the evaluator is asked then.
        """


@dataclass(frozen=True, slots=True)
class Fits:
    """The device serves the request, and this is what it is charged."""

    consumed: Amounts


class Fit:
    """The judge for one node and one state."""

    def __init__(
        self,
        *,
        node: Node,
        in_use: InUse,
        ledgers: Mapping[Device, Ledger],
        profile: Profile,
        verdicts: Verdicts | None = None,
    ) -> None:
        self._node = node
        self._in_use = in_use
        self._ledgers = ledgers
        self._profile = profile
        self._features = profile.features
        self._known = verdicts
        self._verdicts: dict[tuple[Device, Option], Fits | DeviceRefusal | AllocationError] = {}
        self._taken: dict[tuple[int, Option], Amounts | Shortage] = {}
        self._selected: dict[tuple[Device, Option], DeviceRefusal | None] = {}

    def shared(self, device: Device) -> bool:
        """Say whether a device is given in shares."""
        return device.shareable and self._features.consumable_capacity

    def held(self, device: Device) -> Mapping[str, int]:
        """Give what shares of a device hold, in nanos."""
        return self._in_use.consumed.get(device.id, {})

    def verdict(self, device: Device, option: Option) -> Fits | DeviceRefusal:
        """Judge a device, in the order of the scheduler's checks.

        Raises:
            SelectorFailedError: A selector does not compile or raises on this device.
            SelectorUnknownError: A selector is not supported yet.
            CapacityRequestError: The device would be charged with what cannot be counted.
        """
        found = self.outcome(device, option)
        if isinstance(found, AllocationError):
            raise found.with_traceback(None)
        return found

    def outcome(self, device: Device, option: Option) -> Fits | DeviceRefusal | AllocationError:
        """Judge a device; what `verdict` would raise is given instead."""
        key = (device, option)
        found = self._verdicts.get(key)
        if found is None:
            try:
                found = self._judge(device, option)
            except AllocationError as error:
                found = error
            self._verdicts[key] = found
        return found

    def _judge(self, device: Device, option: Option) -> Fits | DeviceRefusal:
        refuse = DeviceRefusal.of
        if not option.admin and (held := self._held(device)):
            return refuse(device.id, "InUse", held)
        if (passed_over := self.selected(device, option)) is not None:
            return passed_over
        charged = self._charged(device, option)
        if isinstance(charged, Shortage):
            return refuse(device.id, charged.reason, charged.message)
        if device.counters:
            if not self._features.partitionable_devices:
                return refuse(device.id, "FeatureDisabled", "DRAPartitionableDevices is off in this cluster")
            if not self._ledgers[device].fits(device):
                return refuse(device.id, "CountersExhausted", "the shared counters of its card are used up")
        if self._features.device_taints and (taint := option.tolerates(device)) is not None:
            return refuse(device.id, "Tainted", f"taint {taint.key}={taint.value}:{taint.effect}")
        return Fits(charged)

    def _charged(self, device: Device, option: Option) -> Amounts | Shortage:
        if not self._features.consumable_capacity:
            return {}
        charged = self._consumptions(device, option)
        if isinstance(charged, Shortage) or option.all_devices:
            # With mode All, what is held is compared after constraints: see `Holdings.judge`.
            return charged
        return shortage(device, charged, self.held(device)) or charged

    def _consumptions(self, device: Device, option: Option) -> Amounts | Shortage:
        # Devices of one model share their capacities, and take the same.
        key = (id(device.capacity), option)
        found = self._taken.get(key)
        if found is None:
            found = self._taken[key] = self._computed(device, option)
        return found

    def _computed(self, device: Device, option: Option) -> Amounts | Shortage:
        try:
            return consumptions(
                device,
                option.capacity,
                keep_form=self._profile.keep_form,
                milli_steps=self._profile.milli_steps,
            )
        except CapacityRequestError as error:
            where = f"{option.path}.capacity.requests[{error.field}]"
            raise type(error)(error.message, field=where, remedy=error.remedy) from None

    def selected(self, device: Device, option: Option) -> DeviceRefusal | None:
        """Judge by selectors and node alone.

        Raises:
            SelectorFailedError: A selector does not compile or raises on this device.
            SelectorUnknownError: A selector is not supported yet.
        """
        key = (device, option)
        if key not in self._selected:
            self._selected[key] = self._select(device, option)
        return self._selected[key]

    def _select(self, device: Device, option: Option) -> DeviceRefusal | None:
        if device.problem:
            return DeviceRefusal.of(device.id, "NotSupported", device.problem)
        if device.binding_conditions and not self._features.device_binding_and_status:
            message = "it has binding conditions, and DRADeviceBindingConditions is off in this cluster"
            return DeviceRefusal.of(device.id, "FeatureDisabled", message)
        known = self._known.selected(device, option) if self._known is not None else None
        if known is False and len(option.selectors) == 1:
            return DeviceRefusal.of(device.id, "SelectorFalse", f"false: {option.selectors[0]}")
        if not known and (wrong := self._first_false(device, option)):
            return DeviceRefusal.of(device.id, "SelectorFalse", f"false: {wrong}")
        if not matches(device.nodes, self._node):
            return DeviceRefusal.of(device.id, "OtherNode", f"it is not for node {self._node.name}")
        return None

    def confirms(self, device: Device, option: Option) -> bool:
        """Ask the evaluator again about a device that an index found."""
        try:
            return self._known is None or not self._first_false(device, option)
        except AllocationError:
            return False

    def _first_false(self, device: Device, option: Option) -> str:
        """Give the first expression that is false on a device, "" if all are true."""
        for place, expression in enumerate(option.selectors):
            if not self._evaluate(device, option, place):
                return expression
        return ""

    def _evaluate(self, device: Device, option: Option, place: int) -> bool:
        expression = option.selectors[place]
        try:
            selector = compile_selector(expression, release=self._profile.release)
            return selector.evaluate(self._view(device))
        except SelectorNotSupportedError as error:
            raise SelectorUnknownError(error.message, field=_place(option, place)) from None
        except SelectorRaisedError as error:
            raise SelectorFailedError(
                f"{_shortened(expression)} fails on device {device.id.device} of pool {device.id.pool}:"
                f" {error.message}",
                field=_place(option, place),
                remedy="Ask with has() before reading what a device may lack.",
            ) from None
        except (InvalidSelectorError, SelectorError) as error:
            raise SelectorInvalidError(
                f"{_shortened(expression)} does not compile: {error.message}",
                field=_place(option, place),
                remedy=error.remedy,
            ) from None

    def _view(self, device: Device) -> DeviceView:
        if self._profile.channel == "stable" and device.view.allow_multiple_allocations:
            return dataclasses.replace(device.view, allow_multiple_allocations=False)
        return device.view

    def _held(self, device: Device) -> str:
        if device.id in self._in_use.whole:
            return "it is held as a whole"
        if not self.shared(device) and self._in_use.shares.get(device.id):
            # It was shareable when they were given out.
            return "shares of it are held, and it cannot be shared any more"
        return ""

    def counts(self, device: Device, option: Option) -> bool:
        """Say whether mode All counts a device by its capacity."""
        if not self._features.consumable_capacity:
            return True
        charged = self._consumptions(device, option)
        if isinstance(charged, Shortage):
            return False
        if self._profile.static_all:
            return True
        return shortage(device, charged, self.held(device)) is None


def _place(option: Option, place: int) -> str:
    """Name the object and the field that a selector stands in."""
    inherited = len(option.device_class.selectors)
    if place < inherited:
        return f"DeviceClass {option.device_class.name}: spec.selectors[{place}].cel.expression"
    return f"{option.path}.selectors[{place - inherited}].cel.expression"


def _shortened(expression: str) -> str:
    return repr(expression if len(expression) <= 200 else f"{expression[:197]}...")
