"""What a pod is being given while the search goes on.

Purpose: the one mutable thing of a search: devices taken, amounts charged, counters booked and values that
constraints hold, with the checks that depend on them.

Flow: `judge` says whether a device can be added, `add` adds it, `drop` takes the last one back.

Limits: what others hold is in `driver.allocation.fit`; this adds the pod's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driver.allocation.capacity import shortage
from driver.allocation.constraints import Value
from driver.allocation.counters import Ledger
from driver.allocation.decision import DeviceRefusal
from driver.allocation.fit import Fit, Fits
from driver.allocation.models import Amounts, Device
from driver.allocation.requests import Claim, Option


@dataclass(frozen=True, slots=True)
class Chosen:
    """A device for a request.

    Attributes:
        claim: Index of the claim.
        option: What it serves.
        device: The device.
        consumed: What it is charged, of each capacity.
        shared: Whether it is given as a share.
    """

    claim: int
    option: Option
    device: Device
    consumed: Amounts
    shared: bool


class Holdings:
    """What the pod has so far."""

    def __init__(self, claims: Sequence[Claim], fit: Fit, books: Mapping[Device, Ledger]) -> None:
        self._claims = claims
        self._fit = fit
        self.books = books
        self.chosen: list[Chosen] = []
        # How often each device was chosen; only for those that were.
        self.times: dict[Device, int] = {}
        self.results = [0] * len(claims)
        self._marked: dict[tuple[int, Device], int] = {}
        self._charged: dict[Device, dict[str, int]] = {}
        # For each constraint of each claim: the devices it binds, and what it holds against the next.
        self.members: list[list[list[Device]]] = [[[] for _ in claim.constraints] for claim in claims]
        self.values: list[list[list[Value]]] = [[[] for _ in claim.constraints] for claim in claims]

    def judge(self, claim: int, option: Option, device: Device) -> Fits | DeviceRefusal:
        """Say whether a device can be added for an option, in the order of the scheduler's checks.

        Raises:
            AllocationError: Looking at the device ends the attempt.
        """
        shared = self._fit.shared(device)
        if not shared and device in self.times:
            if not option.admin:
                return DeviceRefusal.of(device.id, "TakenByPod", "another request of the pod has it")
            if self.marked(claim, device):
                return DeviceRefusal.of(device.id, "TakenByPod", "this claim has it already")
        verdict = self._fit.verdict(device, option)
        if isinstance(verdict, DeviceRefusal):
            return verdict
        short = None
        if device in self._charged or option.all_devices:
            short = shortage(device, verdict.consumed, self._held(device))
        if short is not None and not option.all_devices:
            return DeviceRefusal.of(device.id, short.reason, short.message)
        book = self.books.get(device)
        if book is not None and not book.fits(device):
            message = "the shared counters of its card are used up"
            return DeviceRefusal.of(device.id, "CountersExhausted", message)
        if unmet := self._unmet(claim, option, device):
            return DeviceRefusal.of(device.id, "ConstraintUnmet", unmet)
        # With mode All the scheduler asks constraints first, and an unmet one is an error there.
        return DeviceRefusal.of(device.id, short.reason, short.message) if short else verdict

    def _unmet(self, claim: int, option: Option, device: Device) -> str:
        for place, constraint in enumerate(self._claims[claim].constraints):
            if constraint.binds(option.label):
                joined = constraint.join(constraint.value(device), self.values[claim][place])
                if isinstance(joined, str):
                    return joined
        return ""

    def marked(self, claim: int, device: Device) -> bool:
        """Say whether a claim has a device that is given as a whole."""
        return self._marked.get((claim, device), 0) > 0

    def charged(self, device: Device) -> Mapping[str, int]:
        """Give what the pod's own shares of a device take, in nanos."""
        return self._charged.get(device, {})

    def _held(self, device: Device) -> Mapping[str, int]:
        held, ours = self._fit.held(device), self._charged.get(device)
        if not ours:
            return held
        return {name: held.get(name, 0) + ours.get(name, 0) for name in {*held, *ours}}

    def add(self, claim: int, option: Option, device: Device, fits: Fits) -> None:
        """Add a device that was judged to fit."""
        shared = self._fit.shared(device)
        self.chosen.append(Chosen(claim, option, device, fits.consumed if shared else {}, shared))
        self.times[device] = self.times.get(device, 0) + 1
        self.results[claim] += 1
        self._marked[claim, device] = self._marked.get((claim, device), 0) + 1
        book = self.books.get(device)
        if book is not None:
            book.take(device)
        if shared:
            sums = self._charged.setdefault(device, {})
            for name, amount in fits.consumed.items():
                sums[name] = sums.get(name, 0) + amount.nano
        for place, constraint in enumerate(self._claims[claim].constraints):
            if constraint.binds(option.label):
                values = self.values[claim][place]
                joined = constraint.join(constraint.value(device), values)
                if isinstance(joined, str):
                    raise AssertionError(f"{device.id} was judged to fit, but {joined}")
                values.append(joined)
                self.members[claim][place].append(device)

    def drop(self) -> None:
        """Take the last device back."""
        last = self.chosen.pop()
        claim, device = last.claim, last.device
        self.times[device] -= 1
        if not self.times[device]:
            del self.times[device]
        self.results[claim] -= 1
        self._marked[claim, device] -= 1
        book = self.books.get(device)
        if book is not None:
            book.put_back(device)
        if last.shared:
            sums = self._charged[device]
            for name, amount in last.consumed.items():
                sums[name] -= amount.nano
            if device not in self.times:
                del self._charged[device]
        for place, constraint in enumerate(self._claims[claim].constraints):
            if constraint.binds(last.option.label):
                self.values[claim][place].pop()
                self.members[claim][place].pop()
