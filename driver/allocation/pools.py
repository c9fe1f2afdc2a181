"""Pools as one node sees them.

Purpose: which slices count (generations), whether a pool is complete, whether it contradicts itself, and
the order in which pools, slices and devices are tried.

Flow: `gather(snapshot, node)` gives the pools in order; incomplete and invalid ones are in it, so that
one can say so, but have nothing to give.

Limits: first fit follows names: pools by driver and pool name as bytes, slices by object name, devices as
listed; pools with binding conditions come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driver.allocation.models import Amounts, Device, Slice
from driver.allocation.nodes import Node, matches
from driver.allocation.profile import Profile
from driver.allocation.snapshot import Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """A pool.

    Attributes:
        driver: Its driver.
        name: Its name.
        devices: In the order in which they are tried; all that its slices list.
        counter_sets: Shared counters by set.
        everywhere: These and those for other nodes: who else draws on its counters.
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


def gather(snapshot: Snapshot, node: Node, profile: Profile | None = None) -> list[Pool]:
    """Collect the pools of a node, in the order in which they are tried."""
    rules = profile or Profile.of()
    relevant: dict[tuple[str, str], list[Slice]] = {}
    for one in snapshot.candidates(node):
        if _relevant(one, node, rules):
            relevant.setdefault((one.driver, one.pool), []).append(one)
    pools = []
    for (driver, name), slices in relevant.items():
        pool = _gathered(snapshot.pool(driver, name), slices, rules)
        if pool is not None:
            pools.append(pool)
    # The stable allocator leaves this order to chance; any will do.
    return sorted(pools, key=_order if rules.channel != "stable" else _name)


def _name(pool: Pool) -> tuple[bytes, bytes]:
    return pool.driver.encode(), pool.name.encode()


def _order(pool: Pool) -> tuple[bool, bytes, bytes]:
    return any(device.binding_conditions for device in pool.usable), *_name(pool)


def _relevant(one: Slice, node: Node, rules: Profile) -> bool:
    if not rules.features.partitionable_devices and (one.counter_sets or one.per_device):
        return False
    if one.counter_sets and not rules.counters_by_node:
        return True
    if one.per_device:
        return any(matches(device.nodes, node) for device in one.devices)
    return matches(one.nodes, node)


def _gathered(everywhere: Sequence[Slice], relevant: list[Slice], rules: Profile) -> Pool | None:
    """Make a pool of the slices for a node; None if it is being replaced by one that has none for it."""
    generation = max(one.generation for one in relevant)
    current = [one for one in relevant if one.generation == generation]
    current.sort(key=everywhere.index if rules.channel == "stable" else lambda one: one.name)
    counts = {one.count for one in current}
    elsewhere: list[Slice] = []
    incomplete = False
    if len(current) not in counts:
        if any(one.generation > generation for one in everywhere):
            return None
        here = set(current)
        elsewhere = [one for one in everywhere if one.generation == generation and one not in here]
        incomplete = len(current) + len(elsewhere) not in counts
    partitions = rules.features.partitionable_devices
    lists = [one for one in current if not (partitions and one.counter_sets)]
    others = [one for one in elsewhere if not (partitions and one.counter_sets)]
    devices = tuple(device for one in lists for device in one.devices)
    invalid = "" if incomplete else _contradiction(current, lists, elsewhere, counters=partitions)
    return Pool(
        driver=current[0].driver,
        name=current[0].pool,
        devices=devices,
        counter_sets={name: amounts for one in (*current, *elsewhere) for name, amounts in one.counter_sets},
        everywhere=devices + tuple(device for one in others for device in one.devices),
        incomplete=incomplete,
        invalid=invalid,
    )


def _contradiction(
    current: list[Slice], lists: list[Slice], elsewhere: list[Slice], *, counters: bool
) -> str:
    every = [*current, *elsewhere]
    # What cannot be read on another node matters only if it may draw on the same counters.
    shared = counters and any(one.counter_sets for one in every)
    problem = next((one.problem for one in (every if shared else current) if one.problem), "")
    if problem:
        return problem
    names: set[str] = set()
    for one in lists:
        for device in one.devices:
            if device.id.device in names:
                return f"two devices are called {device.id.device!r}"
            names.add(device.id.device)
    return _counter_contradiction(every) if counters else ""


def _counter_contradiction(slices: list[Slice]) -> str:
    sets: dict[str, Amounts] = {}
    for one in slices:
        for name, amounts in one.counter_sets:
            if name in sets:
                return f"counter set {name!r} is defined twice"
            sets[name] = amounts
    for one in slices:
        for device in one.devices:
            for name, amounts in device.counters:
                if name not in sets:
                    return f"device {device.id.device!r} consumes from the unknown counter set {name!r}"
                missing = sorted(set(amounts) - set(sets[name]))
                if missing:
                    return (
                        f"device {device.id.device!r} consumes the unknown counter {missing[0]!r} of {name!r}"
                    )
    return ""
