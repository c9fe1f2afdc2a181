"""The devices of one node, as a policy likes them best.

Purpose: from an answer that fits to a better one on the same node.

Flow: `Better.than(first)` asks the allocator again with the policy's order of cards. With a topology, it goes
through the attributes, the closest first, and takes the first compact answer. Several requests of a pod are
decided one after the other, so that a later one sees what an earlier one takes (else all would like the same
card best); what comes out is only a hint for the decision about all together.

Limits: whatever is tried, the answer serves each request by the same sub-request (`firstAvailable`) as the
first fit: an author's order of preference counts for more than a policy. Where nothing better is found, the
first fit stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from driver.allocation.allocator import allocate
from driver.allocation.decision import Decision
from driver.allocation.models import JSON, Device, DeviceID, parse_amounts
from driver.allocation.nodes import Node
from driver.allocation.placement import topology
from driver.allocation.placement.policy import PlacementPolicy, Strategy, Wish
from driver.allocation.placement.preferences import Hinted, card_preference
from driver.allocation.placement.usage import misfit
from driver.allocation.pools import gather
from driver.allocation.preference import Preference
from driver.allocation.requests import Claim
from driver.allocation.snapshot import InUse, Snapshot

MAX_STEPS = 20_000
"""Steps of search on one node after which nothing better is looked for."""

_Held = TypeVar("_Held")


@dataclass(frozen=True, slots=True)
class Placed:
    """An answer and how well it does.

    Attributes:
        decision: The answer.
        closeness: See `topology.closeness`; 0 without a topology.
        unmet: Whether the devices have nothing in common.
        misfit: What is left on the devices, see `usage.misfit`; the worst of them.
        steps: Steps of search that it took beyond the first fit.
    """

    decision: Decision
    closeness: int
    unmet: bool
    misfit: float
    steps: int


class Better:
    """Looks for a better answer on one node."""

    def __init__(
        self,
        snapshot: Snapshot,
        node: str,
        raw: Sequence[JSON],
        claims: Sequence[Claim],
        policy: PlacementPolicy,
        *,
        release: str,
        share_id: Callable[[], str],
    ) -> None:
        """Prepare for one node; `claims` are those of `raw`, read."""
        self._snapshot = snapshot
        self._node = node
        self._raw = raw
        self._claims = claims
        self._policy = policy
        self._release = release
        self._share_id = share_id
        self._steps = 0
        self._cards = card_preference(policy.cards)
        self._options = {
            (place, option.label): option
            for place, claim in enumerate(claims)
            for request in claim.requests
            for option in request.options
        }

    def than(self, first: Decision) -> Placed:
        """Give the best answer that is found; `first` if there is no better one."""
        best = self._by_cards(first)
        attributes = self._policy.topology_attributes
        close, unmet = 0, False
        if self._policy.topology is not Wish.NONE:
            close, best = self._closest(self._single(best))
            unmet = close == 2 * len(attributes)
        return Placed(best, close, unmet, self._misfit(best), self._steps)

    @cached_property
    def _devices(self) -> Mapping[DeviceID, Device]:
        node = self._snapshot.nodes.get(self._node) or Node(self._node, {})
        return {one.id: one for pool in gather(self._snapshot, node) for one in pool.devices}

    def _by_cards(self, first: Decision) -> Decision:
        if self._cards is None or not self._options:
            return first
        best = self._ask(self._raw, self._cards, first) or first
        requests = sum(len(claim.requests) for claim in self._claims)
        if requests < 2 or self._policy.cards is Strategy.BINPACK:
            # Packed, one request after the other on the same card is what is wanted.
            return best
        if len(self._claims) == 1:
            hints = self._hints(self._raw[0], self._claims[0], self._snapshot)
            return (hints and self._ask(self._raw, Hinted(hints, self._cards), first)) or best
        return self._claim_by_claim(first) or best

    def _ask(
        self,
        raw: Sequence[JSON],
        preference: Preference | None,
        first: Decision,
        *,
        snapshot: Snapshot | None = None,
    ) -> Decision | None:
        """Ask the allocator; None unless all requests are met as they are in the first answer."""
        if self._steps > MAX_STEPS:
            return None
        decision = allocate(
            snapshot or self._snapshot,
            node=self._node,
            claims=raw,
            release=self._release,
            share_id=self._share_id,
            preference=preference,
        )
        self._steps += decision.steps
        return decision if decision.refusal is None and _labels(decision) == _labels(first) else None

    def _hints(self, raw: JSON, claim: Claim, snapshot: Snapshot) -> dict[str, list[DeviceID]]:
        """Decide the requests of a claim one after the other, without its constraints."""
        hints: dict[str, list[DeviceID]] = {}
        devices = raw["spec"]["devices"]
        for request, written in zip(claim.requests, devices["requests"], strict=True):
            alone = {**raw, "spec": {"devices": {"requests": [written]}}}
            if any(option.all_devices for option in request.options) or self._steps > MAX_STEPS:
                continue
            decision = allocate(
                snapshot, node=self._node, claims=[alone], release=self._release, preference=self._cards
            )
            self._steps += decision.steps
            if decision.allocations is None:
                continue
            for result in _results(decision, 0):
                hints.setdefault(result["request"], []).append(_id(result))
            snapshot = _holding(snapshot, [{"status": {"allocation": decision.allocations[0]}}])
        return hints

    def _claim_by_claim(self, first: Decision) -> Decision | None:
        if any(option.admin or option.all_devices for option in self._options.values()):
            # They see each other within a pod in ways of their own.
            return None
        snapshot, allocations = self._snapshot, []
        for place, raw in enumerate(self._raw):
            only = replace(first, allocations=(first.allocations or ())[place : place + 1])
            hints = self._hints(raw, self._claims[place], snapshot)
            decision = self._ask([raw], Hinted(hints, self._cards), only, snapshot=snapshot)
            if decision is None or decision.allocations is None:
                return None
            allocations.append(decision.allocations[0])
            snapshot = _holding(snapshot, [{"status": {"allocation": decision.allocations[0]}}])
        return replace(first, allocations=tuple(allocations))

    def _single(self, best: Decision) -> Decision:
        """Put a single device where it breaks no larger group, unless the policy has an order of cards."""
        if self._cards is not None or sum(map(len, self._chosen(best))) != 1:
            return best
        grouped: Preference | None = None
        for attribute in self._policy.topology_attributes:
            grouped = topology.Grouped(attribute, grouped)
        return self._ask(self._raw, grouped, best) or best

    def _closest(self, best: Decision) -> tuple[int, Decision]:
        attributes = self._policy.topology_attributes
        close = self._closeness(best)
        for place, attribute in enumerate(attributes):
            if close <= 2 * place:
                break
            for decision in self._compact(attribute, best):
                nearer = self._closeness(decision)
                if nearer < close:
                    close, best = nearer, decision
                if close <= 2 * place:
                    break
        return close, best

    def _compact(self, attribute: str, first: Decision) -> Sequence[Decision]:
        """Give answers in which devices may share an attribute, as they are found."""
        tried = []
        grouped = topology.Grouped(attribute, self._cards)
        bound = [
            topology.bound(raw, claim, attribute) for raw, claim in zip(self._raw, self._claims, strict=True)
        ]
        if (decision := self._ask(bound, grouped, first)) is not None:
            tried.append(decision)
            if len(self._raw) == 1 or self._together(decision, attribute):
                return tried
        for group in topology.groups(self._devices.values(), attribute)[: topology.MAX_GROUPS]:
            decision = self._ask(self._raw, topology.Grouped(attribute, self._cards, group), first)
            if decision is not None:
                tried.append(decision)
                if self._together(decision, attribute):
                    break
        return tried

    def _together(self, decision: Decision, attribute: str) -> bool:
        chosen = {one for answer in self._chosen(decision) for one in answer}
        return topology.shared(chosen, self._devices, attribute)

    def _closeness(self, decision: Decision) -> int:
        return topology.closeness(self._chosen(decision), self._devices, self._policy.topology_attributes)

    def _chosen(self, decision: Decision) -> list[list[DeviceID]]:
        """Give the devices of each claim that were chosen: not those that mode All or an admin gets."""
        return [
            [
                _id(result)
                for result in _results(decision, place)
                if not self._options[place, result["request"]].all_devices and not result.get("adminAccess")
            ]
            for place in range(len(self._raw))
        ]

    def _misfit(self, decision: Decision) -> float:
        if self._policy.nodes is not Strategy.BEST_FIT:
            return 0.0
        after = _holding(
            self._snapshot, [{"status": {"allocation": one}} for one in decision.allocations or ()]
        )
        chosen = {one for answer in self._chosen(decision) for one in answer}
        return max((misfit(_left(self._devices[one], after.in_use)) for one in chosen), default=0.0)


def _left(device: Device, in_use: InUse) -> tuple[float, ...]:
    if device.id in in_use.whole:
        return ()
    held = in_use.consumed.get(device.id, {})
    return tuple(
        1.0 - held.get(name, 0) / capacity.value.nano
        for name, capacity in device.capacity.items()
        if capacity.value.nano > 0
    )


def _labels(decision: Decision) -> list[list[str]]:
    return [
        [result["request"] for result in _results(decision, place)]
        for place in range(len(decision.allocations or ()))
    ]


def _results(decision: Decision, place: int) -> Sequence[JSON]:
    assert decision.allocations is not None  # noqa: S101 - only answers come here
    return (decision.allocations[place].get("devices") or {}).get("results") or ()


def _id(result: JSON) -> DeviceID:
    return DeviceID(result["driver"], result["pool"], result["device"])


def _holding(snapshot: Snapshot, claims: Sequence[JSON]) -> Snapshot:
    """Give the snapshot in which more claims hold what they were given, without a copy of what was held."""
    in_use = snapshot.in_use
    whole: set[DeviceID] = set()
    shares: dict[DeviceID, int] = {}
    consumed: dict[DeviceID, dict[str, int]] = {}
    for claim in claims:
        for result in (claim["status"]["allocation"].get("devices") or {}).get("results") or ():
            if result.get("adminAccess"):
                continue
            held = _id(result)
            if not result.get("shareID"):
                whole.add(held)
                continue
            shares[held] = shares.get(held, in_use.shares.get(held, 0)) + 1
            sums = consumed.setdefault(held, dict(in_use.consumed.get(held, {})))
            for name, amount in parse_amounts(result.get("consumedCapacity")).items():
                sums[name] = sums.get(name, 0) + amount.nano
    both = _Either(whole, in_use.whole) if whole else in_use.whole
    return snapshot.with_in_use(InUse(both, _Over(shares, in_use.shares), _Over(consumed, in_use.consumed)))


class _Either(AbstractSet[DeviceID]):
    """The union of two sets, without a copy."""

    def __init__(self, one: AbstractSet[DeviceID], other: AbstractSet[DeviceID]) -> None:
        self._one, self._other = one, other

    def __contains__(self, key: object) -> bool:
        return key in self._one or key in self._other

    def __iter__(self) -> Iterator[DeviceID]:
        yield from self._one
        yield from (key for key in self._other if key not in self._one)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Over(Mapping[DeviceID, _Held]):
    """One mapping laid over another."""

    def __init__(self, upper: Mapping[DeviceID, _Held], lower: Mapping[DeviceID, _Held]) -> None:
        self._upper, self._lower = upper, lower

    def __getitem__(self, key: DeviceID) -> _Held:
        found = self._upper.get(key)
        return self._lower[key] if found is None else found

    def __iter__(self) -> Iterator[DeviceID]:
        yield from self._upper
        yield from (key for key in self._lower if key not in self._upper)

    def __len__(self) -> int:
        return sum(1 for _ in self)
