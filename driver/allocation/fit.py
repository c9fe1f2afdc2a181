"""Does one device serve one request?

Purpose: the checks of the scheduler's table, in its order, apart from what depends on the other devices
of the same pod.

Flow: `Fit.verdict(device, option)` gives what the device would be charged, or the first reason against
it. It raises where the scheduler would end the attempt. Verdicts are kept: selectors run once for each
pair.

Limits: looks at what others hold, not at what this pod is being given; `driver.allocation.search` adds
that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driver.allocation.capacity import Shortage, consumptions, shortage
from driver.allocation.counters import Ledger
from driver.allocation.decision import DeviceRefusal
from driver.allocation.errors import SelectorFailedError, SelectorUnknownError
from driver.allocation.models import Amounts, Device
from driver.allocation.nodes import Node, matches
from driver.allocation.requests import Option
from driver.allocation.snapshot import InUse
from driver.cel import (
    InvalidSelectorError,
    SelectorNotSupportedError,
    SelectorRaisedError,
    compile_selector,
)
from driver.errors import SelectorError


@dataclass(frozen=True, slots=True)
class Fits:
    """The device serves the request, and this is what it is charged."""

    consumed: Amounts


class Fit:
    """The judge for one node and one state."""

    def __init__(self, *, node: Node, in_use: InUse, ledgers: Mapping[Device, Ledger], release: str) -> None:
        self._node = node
        self._in_use = in_use
        self._ledgers = ledgers
        self._release = release
        # Selectors are checked against the language of the cluster's own scheduler.
        self.keep_form = release >= "1.37"
        self._verdicts: dict[tuple[Device, Option], Fits | DeviceRefusal | SelectorFailedError] = {}
        self._selected: dict[tuple[Device, Option], DeviceRefusal | None] = {}

    def verdict(self, device: Device, option: Option) -> Fits | DeviceRefusal:
        """Judge a device, in the order of the scheduler's checks.

        Raises:
            SelectorFailedError: A selector does not compile or raises on this device.
            SelectorUnknownError: A selector is not supported yet.
        """
        key = (device, option)
        found = self._verdicts.get(key)
        if found is None:
            try:
                found = self._judge(device, option)
            except SelectorFailedError as error:
                found = error
            self._verdicts[key] = found
        if isinstance(found, SelectorFailedError):
            raise found.with_traceback(None)
        return found

    def _judge(self, device: Device, option: Option) -> Fits | DeviceRefusal:
        refuse = DeviceRefusal.of
        if not option.admin and (held := self._held(device)):
            return refuse(device.id, "InUse", held)
        if (passed_over := self.selected(device, option)) is not None:
            return passed_over
        charged = consumptions(device, option.capacity, keep_form=self.keep_form)
        if isinstance(charged, Shortage):
            return refuse(device.id, charged.reason, charged.message)
        if device.shareable:
            short = shortage(device, charged, self._in_use.consumed.get(device.id, {}))
            if short is not None:
                return refuse(device.id, short.reason, short.message)
        if not self._ledgers[device].fits(device):
            return refuse(device.id, "CountersExhausted", "the shared counters of its card are used up")
        if (taint := option.tolerates(device)) is not None:
            return refuse(device.id, "Tainted", f"taint {taint.key}={taint.value}:{taint.effect}")
        return Fits(charged)

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
        for expression in option.selectors:
            if not self._evaluate(device, option, expression):
                return DeviceRefusal.of(device.id, "SelectorFalse", f"false: {expression}")
        if not matches(device.nodes, self._node):
            return DeviceRefusal.of(device.id, "OtherNode", f"it is not for node {self._node.name}")
        return None

    def _evaluate(self, device: Device, option: Option, expression: str) -> bool:
        where = f"request {option.label}, selector {expression!r}"
        try:
            return compile_selector(expression, release=self._release).evaluate(device.view)
        except SelectorNotSupportedError as error:
            raise SelectorUnknownError(error.message, field=where) from None
        except SelectorRaisedError as error:
            raise SelectorFailedError(
                f"on device {device.id.device} of pool {device.id.pool}: {error.message}",
                field=where,
                remedy="Ask with has() before reading what a device may lack.",
            ) from None
        except (InvalidSelectorError, SelectorError) as error:
            raise SelectorFailedError(error.message, field=where) from None

    def _held(self, device: Device) -> str:
        if device.id in self._in_use.whole:
            return "it is held as a whole"
        if not device.shareable and self._in_use.shares.get(device.id):
            # It was shareable when they were given out.
            return "shares of it are held, and it cannot be shared any more"
        return ""

    def static_capacity(self, device: Device, option: Option, *, against_held: bool) -> bool:
        """Say whether mode All counts a device by its capacity."""
        charged = consumptions(device, option.capacity, keep_form=self.keep_form)
        if isinstance(charged, Shortage):
            return False
        if not against_held or not device.shareable:
            return True
        return shortage(device, charged, self._in_use.consumed.get(device.id, {})) is None
