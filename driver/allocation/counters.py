"""Shared counters of partitionable devices.

Purpose: partitions of one card draw on common counters; no counter may go below zero.

Flow: a `Ledger` for each pool with counters starts with what held devices took; `fits` is asked before,
`take` and `put_back` around each step of the search.

Limits: books are kept by driver and pool (1.36 keeps them by pool name alone, and so lets two drivers
draw on one book). A shareable device takes its counters with its first share only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from driver.allocation.models import Device, DeviceID
from driver.allocation.pools import Pool
from driver.allocation.profile import Profile
from driver.allocation.snapshot import InUse


class Ledger:
    """What is left of a pool's counters."""

    def __init__(self, pool: Pool, in_use: InUse, profile: Profile | None = None) -> None:
        rules = profile or Profile.of()
        self._left = {
            (name, counter): amount.nano
            for name, amounts in pool.counter_sets.items()
            for counter, amount in amounts.items()
        }
        self._shared = rules.features.consumable_capacity
        self._drawing: dict[Device, int] = {}
        self._paid: set[DeviceID] = set()
        for device in pool.everywhere:
            shares = in_use.shares.get(device.id)
            if shares or device.id in in_use.whole:
                self._change(device, -1)
            if shares and (rules.counters_by_shares or in_use.consumed.get(device.id)):
                self._paid.add(device.id)

    def fits(self, device: Device) -> bool:
        """Say whether the counters last for a device.

        One that is overdrawn already blocks all devices that draw on any.
        """
        if not device.counters or self._draws(device):
            return True
        self._change(device, -1)
        enough = all(left >= 0 for left in self._left.values())
        self._change(device, 1)
        return enough

    def take(self, device: Device) -> None:
        """Book a device that was chosen."""
        if device.counters:
            if not self._draws(device):
                self._change(device, -1)
            self._drawing[device] = self._drawing.get(device, 0) + 1

    def put_back(self, device: Device) -> None:
        """Undo `take`."""
        if device.counters:
            self._drawing[device] -= 1
            if not self._draws(device):
                self._change(device, 1)

    def paid(self, device: Device) -> bool:
        """Say whether shares that others hold have taken the counters of a device already."""
        return device.id in self._paid

    def left(self, counter_set: str) -> tuple[tuple[str, int], ...]:
        """Give what is left of a set, in nanos by counter."""
        return tuple(
            sorted((name, left) for (owner, name), left in self._left.items() if owner == counter_set)
        )

    def _draws(self, device: Device) -> bool:
        if not (self._shared and device.shareable):
            return False
        return device.id in self._paid or self._drawing.get(device, 0) > 0

    def _change(self, device: Device, sign: int) -> None:
        for name, amounts in device.counters:
            for counter, amount in amounts.items():
                key = (name, counter)
                if key in self._left:
                    self._left[key] += sign * amount.nano


def ledgers(pools: Iterable[Pool], in_use: InUse, profile: Profile) -> Mapping[Device, Ledger]:
    """Open the books of all pools that have counters, by device."""
    books: dict[Device, Ledger] = {}
    if profile.features.partitionable_devices:
        for pool in pools:
            if pool.counter_sets:
                books.update(dict.fromkeys(pool.devices, Ledger(pool, in_use, profile)))
    return books
