"""Pools as one node sees them.

Purpose: which slices count (generations), whether a pool is complete, whether it contradicts itself, and
the order in which pools, slices and devices are tried.

Flow: `gather(snapshot, node)` gives the pools in order; incomplete and invalid ones are in it, so that
one can say so, but have nothing to give.

Limits: first fit follows names: pools by driver and pool name as bytes, slices by object name, devices as
listed; pools with binding conditions come last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from driver.allocation.models import Amounts, Device, Slice
from driver.allocation.nodes import Node, matches
from driver.allocation.snapshot import Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """A pool.

    Attributes:
        driver: Its driver.
        name: Its name.
        devices: In the order in which they are tried; all that its slices list.
        counter_sets: Shared counters by set.
        everywhere: Devices of the pool at this generation on all nodes: who else draws on its counters.
        incomplete: Whether slices are missing.
        invalid: What contradicts what, "" if nothing does.
    """

    driver: str
    name: str
    devices: tuple[Device, ...]
    counter_sets: dict[str, Amounts]
    everywhere: tuple[Device, ...]
    incomplete: bool
    invalid: str

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"pool {self.name} of {self.driver}"

    @property
    def usable(self) -> tuple[Device, ...]:
        """The devices that may be taken."""
        return () if self.incomplete or self.invalid else self.devices


def gather(snapshot: Snapshot, node: Node) -> list[Pool]:
    """Collect the pools of a node, in the order in which they are tried."""
    relevant: dict[tuple[str, str], list[Slice]] = {}
    for one in snapshot.candidates(node):
        if _relevant(one, node):
            relevant.setdefault((one.driver, one.pool), []).append(one)
    pools = []
    for (driver, name), slices in relevant.items():
        generation = max(one.generation for one in slices)
        current = sorted((one for one in slices if one.generation == generation), key=lambda one: one.name)
        everywhere = snapshot.pool(driver, name)
        counts = {one.count for one in current}
        incomplete = False
        if len(current) not in counts:
            if any(one.generation > generation for one in everywhere):
                continue
            incomplete = sum(one.generation == generation for one in everywhere) not in counts
        pools.append(_pool(driver, name, current, incomplete=incomplete, everywhere=everywhere))
    return sorted(pools, key=_order)


def _order(pool: Pool) -> tuple[bool, bytes, bytes]:
    binding = any(device.binding_conditions for device in pool.devices)
    return binding, pool.driver.encode(), pool.name.encode()


def _relevant(one: Slice, node: Node) -> bool:
    if one.counter_sets:
        return True
    if one.per_device:
        return any(matches(device.nodes, node) for device in one.devices)
    return matches(one.nodes, node)


def _pool(
    driver: str, name: str, slices: list[Slice], *, incomplete: bool, everywhere: Iterable[Slice]
) -> Pool:
    generation = slices[0].generation
    return Pool(
        driver=driver,
        name=name,
        devices=tuple(device for one in slices for device in one.devices),
        counter_sets={name: amounts for one in slices for name, amounts in one.counter_sets},
        everywhere=tuple(
            device for one in everywhere if one.generation == generation for device in one.devices
        ),
        incomplete=incomplete,
        invalid="" if incomplete else _contradiction(slices),
    )


def _contradiction(slices: list[Slice]) -> str:
    devices: set[str] = set()
    sets: dict[str, Amounts] = {}
    for one in slices:
        if one.problem:
            return one.problem
        for name, amounts in one.counter_sets:
            if name in sets:
                return f"counter set {name!r} is defined twice"
            sets[name] = amounts
    for one in slices:
        for device in one.devices:
            if device.id.device in devices:
                return f"two devices are called {device.id.device!r}"
            devices.add(device.id.device)
            for name, amounts in device.counters:
                missing = sorted(set(amounts) - set(sets.get(name, ())))
                if name not in sets or missing:
                    what = f"counter {missing[0]!r}" if name in sets else "counter set"
                    return f"device {device.id.device!r} consumes from the unknown {what} of {name!r}"
    return ""
