"""The allocator's verdicts about cards, asked once for each shape of card.

Purpose: 40,000 cards are a few hundred different ones to a request: what its selectors read, capacities, what
is held, taints.

Flow: `Judge.at(node)` gives a `Seat`: the node's pools and their cards; `Judge.verdict` says what rules a
card out for a request there: first what is held as a whole, then what the allocator says of the card if
nothing of it were held (once for each shape), with the comparison of amounts in its place between.

Limits: cards that draw on shared counters, and those that a selector reads in a way that its text does not
tell, are judged one by one, and no more than `MAX_SINGLE` of them: `exhausted` says so then.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from driver.allocation.capacity import Shortage, consumptions
from driver.allocation.counters import ledgers
from driver.allocation.fit import Fit, Fits
from driver.allocation.models import Amounts, Device
from driver.allocation.nodes import Node
from driver.allocation.pools import Pool, gather
from driver.allocation.profile import Profile
from driver.allocation.requests import Claim, Option
from driver.allocation.snapshot import InUse, Snapshot
from driver.allocation.why_not.falsehood import reads
from driver.allocation.why_not.obstacles import Obstacle, held, in_use, obstacle
from driver.cel import DeviceView
from driver.quantities import Quantity

MAX_SINGLE = 6_000
_MAX_EXPLAINED = 200

Paths = Sequence[tuple[str, ...]]
_ABSENT = ("absent",)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a card is to a request, whatever others hold of it.

    Attributes:
        before: What rules it out before amounts are compared.
        charged: What the request would take: name, nanos, and the nanos that there are.
        after: What rules it out afterwards.
        short: The obstacle of each capacity of which others may have left too little.
    """

    before: Obstacle | None
    charged: tuple[tuple[str, int, int], ...] = ()
    after: Obstacle | None = None
    short: Mapping[str, Obstacle] = field(default_factory=dict)


class Short(NamedTuple):
    """A card of which others have left too little.

    Attributes:
        obstacle: Which capacity is short.
        free: What is left of it, in nanos.
    """

    obstacle: Obstacle
    free: int


class Seat:
    """A node with its pools."""

    def __init__(self, snapshot: Snapshot, name: str, profile: Profile) -> None:
        """Gather a node's pools."""
        self._profile = profile
        self._fits: dict[bool, Fit] = {}
        self.node = snapshot.nodes.get(name) or Node(name, {})
        self.pools = gather(snapshot, self.node, profile)
        self.devices = [device for pool in self.pools for device in pool.usable]

    def fit(self, in_use: InUse, *, empty: bool) -> Fit:
        """Give the allocator's judge for this node and what is held; with `empty`, that is nothing."""
        if empty not in self._fits:
            self._fits[empty] = Fit(
                node=self.node,
                in_use=in_use,
                ledgers=ledgers(self.pools, in_use, self._profile),
                profile=self._profile,
            )
        return self._fits[empty]


class Judge:
    """What rules cards out."""

    def __init__(self, snapshot: Snapshot, claims: Sequence[Claim], profile: Profile) -> None:
        """Prepare for the requests of claims."""
        self._snapshot = snapshot
        self._profile = profile
        self._in_use = snapshot.in_use
        self._constraints = sorted({rule.attribute for claim in claims for rule in claim.constraints})
        self._paths: dict[Option, Paths | None] = {
            option: _paths(option)
            for claim in claims
            for request in claim.requests
            for option in request.options
        }
        self._twins: dict[Option, Option] = {}
        first: dict[Hashable, Option] = {}
        for option in self._paths:
            self._twins[option] = first.setdefault(_content(option), option)
        self._known: dict[Hashable, Shape] = {}
        self._singles = 0
        self._whole, self._unshared = held(whole=True), held(whole=False)
        self._capacities: dict[int, tuple[object, int]] = {}
        self._numbers: dict[Hashable, int] = {}

    def at(self, name: str) -> Seat:
        """Give a node with its pools."""
        return Seat(self._snapshot, name, self._profile)

    def twin(self, option: Option) -> Option:
        """Give the first request that asks the same of a card."""
        return self._twins[option]

    def verdict(self, device: Device, option: Option, seat: Seat) -> Obstacle | Short | None:
        """Say what rules a card out for a request, None if it serves it."""
        one = device.id
        if not option.admin:
            if one in self._in_use.whole:
                return self._whole
            if not self._shared(device) and self._in_use.shares.get(one):
                return self._unshared
        if device.counters:
            return self._drawing(device, option, seat)
        shape = self._shape(device, option, seat)
        if shape.before is not None:
            return shape.before
        if shape.charged and device.shareable and (sums := self._in_use.consumed.get(one)):
            for name, taken, size in shape.charged:
                free = size - sums.get(name, 0)
                if taken > free:
                    return Short(shape.short[name], max(free, 0))
        return shape.after

    def _shared(self, device: Device) -> bool:
        return device.shareable and self._profile.features.consumable_capacity

    @property
    def exhausted(self) -> bool:
        """Whether no more cards are to be judged one by one."""
        return self._singles >= MAX_SINGLE

    def held(self, device: Device) -> Mapping[str, int]:
        """Give what others hold of a card, in nanos by capacity."""
        return self._in_use.consumed.get(device.id, {})

    def shape(self, device: Device, seat: Seat) -> Hashable:
        """Give what tells a card apart from others, for all requests and constraints together."""
        views = tuple(None if paths is None else _read(device.view, paths) for paths in self._paths.values())
        if None in views or device.counters:
            return device
        values = tuple(_key(device.attribute(one)) for one in self._constraints)
        one, in_use = device.id, self._in_use
        sums = in_use.consumed.get(one)
        state = (
            one in in_use.whole,
            None if sums is None else tuple(sums.items()),
            in_use.shares.get(one, 0),
        )
        return views, values, state, self._kind(device, seat)

    def _shape(self, device: Device, option: Option, seat: Seat) -> Shape:
        paths = self._paths[option]
        if paths is None:
            self._singles += 1
            return self._judged(device, option, seat)
        key = (option, _read(device.view, paths), self._kind(device, seat))
        try:
            return self._known[key]
        except KeyError:
            found = self._known[key] = self._judged(device, option, seat)
            return found

    def _judged(self, device: Device, option: Option, seat: Seat) -> Shape:
        verdict = seat.fit(InUse(), empty=True).outcome(device, option)
        after = None
        if isinstance(verdict, Fits):
            charged: Amounts = verdict.consumed
        else:
            brief = self._singles > _MAX_EXPLAINED
            found = obstacle(verdict, device, option, release=self._profile.release, brief=brief)
            if found.reason != "Tainted":
                return Shape(found)
            after = found
            consumed = consumptions(
                device,
                option.capacity,
                keep_form=self._profile.keep_form,
                milli_steps=self._profile.milli_steps,
            )
            charged = {} if isinstance(consumed, Shortage) else consumed
        return Shape(
            None,
            tuple((name, taken.nano, device.capacity[name].value.nano) for name, taken in charged.items()),
            after,
            {name: in_use(device, option, name, taken) for name, taken in charged.items()},
        )

    def _drawing(self, device: Device, option: Option, seat: Seat) -> Obstacle | Short | None:
        """Judge a card that draws on counters, which others may have used up."""
        self._singles += 1
        verdict = seat.fit(self._in_use, empty=False).outcome(device, option)
        if isinstance(verdict, Fits):
            return None
        if verdict.reason == "CapacityInUse":
            sums = self.held(device)
            for name, taken, size in self._judged(device, option, seat).charged:
                if taken > size - sums.get(name, 0):
                    free = max(size - sums.get(name, 0), 0)
                    return Short(in_use(device, option, name, Quantity(taken)), free)
        return obstacle(verdict, device, option, release=self._profile.release)

    def _kind(self, device: Device, seat: Seat) -> Hashable:
        nodes = device.nodes
        return (
            self._capacity(device),
            device.shareable,
            device.taints,
            device.problem or device.view.problem,
            nodes.node_name == seat.node.name or (id(nodes), seat.node.name),
            device.id.driver,
            device.binding_conditions,
        )

    def _capacity(self, device: Device) -> int:
        kept = self._capacities.get(id(device.capacity))
        if kept is None:
            content = tuple((name, one.value.nano, one.policy) for name, one in device.capacity.items())
            number = self._numbers.setdefault(content, len(self._numbers))
            # The mapping is kept, so that its id stays its own.
            kept = self._capacities[id(device.capacity)] = (device.capacity, number)
        return kept[1]


def _content(option: Option) -> Hashable:
    """Give all that a card is judged by."""
    amounts = tuple((name, amount.nano, amount.text) for name, amount in sorted(option.capacity.items()))
    tolerations = tuple(repr(sorted(one.items(), key=str)) for one in option.tolerations)
    return option.device_class.name, option.selectors, option.admin, amounts, tolerations


def pools_of(seat: Seat, *, incomplete: bool) -> list[Pool]:
    """Give the pools of a node of which slices are missing, or those that contradict themselves."""
    return [pool for pool in seat.pools if (pool.incomplete if incomplete else bool(pool.invalid))]


def _paths(option: Option) -> Paths | None:
    found: set[tuple[str, ...]] = set()
    for expression in option.selectors:
        paths = reads(expression)
        if paths is None:
            return None
        found |= paths
    return sorted(found)


def _read(view: DeviceView, paths: Paths) -> tuple[Hashable, ...]:
    return tuple([_value(view, path) for path in paths])


def _value(view: DeviceView, path: tuple[str, ...]) -> Hashable:
    if len(path) == 1:
        return view.driver if path[0] == "driver" else view.allow_multiple_allocations
    kind, domain, name = path
    holder: Mapping[str, Any] = (view.attributes if kind == "attributes" else view.capacity).get(domain, {})
    value = holder.get(name, _ABSENT)
    return value if type(value) is str else _key(value)


def _key(value: object) -> Hashable:
    nano = getattr(value, "nano", None)
    if nano is not None:
        return "quantity", nano
    return (type(value), repr(value)) if isinstance(value, list | tuple | dict) else (type(value), value)
