"""One policy on one stream, and what is measured on the way. Pure.

Measured:

* **at the first refusal**: the memory and the compute that are allocated, in percent of the cluster's. All
  claims that came before had been placed (some were released again), so this is how far a cluster fills until
  somebody has to wait.
* **refused**: claims of the whole stream that found no place, in percent; a refused one does not come again.
* **stranded**: at the end, memory that is free on cards with less compute left than the smallest claim asks
  for, in percent of all memory; and compute that is free on cards with less memory left than the smallest
  claim asks for, in percent of all compute; the mean of the two. Nobody of this stream can have it until
  something else is released.
* **whole cards**: cards that nobody holds anything of, in percent of all cards: when half of the cluster's
  scarcer dimension was allocated for the first time, and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from driver.allocation import Decision, DeviceID, InUse, Snapshot, allocate
from driver.allocation.models import Device
from driver.allocation.placement import PlacementPolicy, Ranking, Strategy, place, rank_nodes
from driver.allocation.preference import Preference
from driver.allocation.requests import Option
from driver.quantities import parse_quantity
from tooling.bench.policies_stream import SMALLEST_CORES, SMALLEST_GIB, Arrival

JSON = dict[str, Any]
_SLOTS = 10
_NANO = 10**9
_GIB = (1 << 30) * _NANO

Chooser = Callable[[Snapshot, JSON], Decision]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A policy under test."""

    name: str
    choose: Chooser


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run gave; all in percent."""

    memory_at_refusal: float
    cores_at_refusal: float
    refused: float
    stranded: float
    whole_at_half: float
    whole_at_end: float


def ours(name: str, nodes: Strategy, cards: Strategy) -> Row:
    """A row for a policy of ours."""
    policy = PlacementPolicy(nodes=nodes, cards=cards)

    def choose(snapshot: Snapshot, claim: JSON) -> Decision:
        return place(snapshot, claims=[claim], policy=policy, share_id=lambda: "share")

    return Row(name=name, choose=choose)


def hami_like(name: str, *, nodes_packed: bool, cards_packed: bool) -> Row:
    """A row for HAMi's formula: slots, cores and memory in use, each as a part of the whole, added up.

    Written from the published formula; HAMi itself is not run. Its tenth-of-a-card slots count in the score
    only and never refuse.
    """
    ranking = _hami_nodes(packed=nodes_packed)
    cards = _HamiCards(packed=cards_packed)

    def choose(snapshot: Snapshot, claim: JSON) -> Decision:
        decision = Decision("", None, None)
        names = sorted(one.nodes.node_name for one in snapshot.slices)
        for node in rank_nodes(snapshot, names, ranking):
            decision = allocate(
                snapshot, node=node, claims=[claim], share_id=lambda: "share", preference=cards
            )
            if decision.allocations is not None:
                break
        return decision

    return Row(name=name, choose=choose)


class _HamiCards(Preference):
    def __init__(self, *, packed: bool) -> None:
        self._sign = -1 if packed else 1

    def order(self, devices: Sequence[Device], option: Option, in_use: InUse) -> Sequence[Device]:
        del option
        return sorted(devices, key=lambda one: self._sign * _hami_score(one, in_use))


def _hami_nodes(*, packed: bool) -> Ranking:
    sign = -1 if packed else 1

    def ranking(devices: Sequence[Device], _option: Option | None, in_use: InUse, /) -> float:
        return sign * sum(_hami_score(one, in_use) for one in devices) / len(devices)

    return ranking


def _hami_score(device: Device, in_use: InUse) -> float:
    held = in_use.consumed.get(device.id, {})
    parts = [held.get(name, 0) / one.value.nano for name, one in device.capacity.items()]
    return in_use.shares.get(device.id, 0) / _SLOTS + sum(parts)


ROWS = (
    ours("first fit (kube-scheduler)", Strategy.FIRST_FIT, Strategy.FIRST_FIT),
    ours("binpack nodes, binpack cards", Strategy.BINPACK, Strategy.BINPACK),
    ours("binpack nodes, best-fit cards", Strategy.BINPACK, Strategy.BEST_FIT),
    ours("best-fit nodes, best-fit cards", Strategy.BEST_FIT, Strategy.BEST_FIT),
    ours("binpack nodes, spread cards", Strategy.BINPACK, Strategy.SPREAD),
    ours("spread nodes, binpack cards", Strategy.SPREAD, Strategy.BINPACK),
    ours("spread nodes, spread cards", Strategy.SPREAD, Strategy.SPREAD),
    hami_like("HAMi's formula: binpack, spread (its default)", nodes_packed=True, cards_packed=False),
    hami_like("HAMi's formula: binpack, binpack", nodes_packed=True, cards_packed=True),
)


class _Books:
    """What is held, kept up to date claim by claim."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._devices = {device.id: device for one in snapshot.slices for device in one.devices}
        self._shares: dict[DeviceID, int] = {}
        self._consumed: dict[DeviceID, dict[str, int]] = {}
        self.snapshot = replace(snapshot, in_use=InUse(frozenset(), self._shares, self._consumed))

    def take(self, allocation: JSON, *, sign: int = 1) -> None:
        """Book what a claim was given; with -1, take it back."""
        for result in allocation["devices"]["results"]:
            held = DeviceID(result["driver"], result["pool"], result["device"])
            self._shares[held] = self._shares.get(held, 0) + sign
            sums = self._consumed.setdefault(held, {})
            for name, amount in result["consumedCapacity"].items():
                sums[name] = sums.get(name, 0) + sign * parse_quantity(amount).nano
            if not self._shares[held]:
                del self._shares[held], self._consumed[held]

    def allocated(self, name: str) -> float:
        """Part of a dimension that is held, in percent."""
        held = sum(sums.get(name, 0) for sums in self._consumed.values())
        return 100 * held / self._whole(name)

    def untouched(self) -> float:
        """Cards that nobody holds anything of, in percent."""
        return 100 * (1 - len(self._shares) / len(self._devices))

    def stranded(self) -> float:
        """Capacity that nobody of the stream can have, in percent."""
        lost = {"memory": 0, "cores": 0}
        for one, sums in self._consumed.items():
            capacity = self._devices[one].capacity
            free = {name: capacity[name].value.nano - sums.get(name, 0) for name in lost}
            if free["cores"] < SMALLEST_CORES * _NANO:
                lost["memory"] += free["memory"]
            if free["memory"] < SMALLEST_GIB * _GIB:
                lost["cores"] += free["cores"]
        return sum(100 * amount / self._whole(name) for name, amount in lost.items()) / len(lost)

    def _whole(self, name: str) -> int:
        return sum(device.capacity[name].value.nano for device in self._devices.values())


def run(row: Row, snapshot: Snapshot, arrivals: Sequence[Arrival]) -> Outcome:
    """Send a stream through a policy."""
    books = _Books(snapshot)
    alive: list[tuple[float, JSON]] = []
    at_refusal: tuple[float, float] | None = None
    at_half: float | None = None
    refused = 0
    for number, arrival in enumerate(arrivals):
        for _, allocation in (one for one in alive if one[0] <= number):
            books.take(allocation, sign=-1)
        alive = [one for one in alive if one[0] > number]
        decision = row.choose(books.snapshot, arrival.claim)
        if decision.allocations is None:
            refused += 1
            at_refusal = at_refusal or (books.allocated("memory"), books.allocated("cores"))
            continue
        books.take(decision.allocations[0])
        alive.append((arrival.leaves, decision.allocations[0]))
        if at_half is None and max(books.allocated("memory"), books.allocated("cores")) >= 50:
            at_half = books.untouched()
    memory, cores = at_refusal or (books.allocated("memory"), books.allocated("cores"))
    return Outcome(
        memory_at_refusal=memory,
        cores_at_refusal=cores,
        refused=100 * refused / len(arrivals),
        stranded=books.stranded(),
        whole_at_half=books.untouched() if at_half is None else at_half,
        whole_at_end=books.untouched(),
    )
