"""What is asked, of all devices at once.

Purpose: for each option of each request the devices that serve it by themselves, and from that the nodes that
may serve the claims together.

Flow: `Question.wanted` holds bitmaps over devices: those that fit, those whose look ends the attempt
(`raises`), those that mode All counts (`listed`). `candidates` are nodes, by their highest device number.

Limits: candidates are a superset of the nodes that can serve the claims or end the attempt; what two requests
take of one device, counters, and constraints beyond one value in common are left to the allocator. `exact`
says that nothing is left to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from driver.allocation.capacity import Shortage, consumptions
from driver.allocation.claims import PreparedClaims
from driver.allocation.cluster.numbering import Numbering
from driver.allocation.cluster.seen import Seen
from driver.allocation.cluster.state import State
from driver.allocation.cluster.values import Values
from driver.allocation.errors import CapacityRequestError
from driver.allocation.requests import Claim, Option, Request
from driver.cel import compile_selector
from driver.errors import SelectorError

Charge = tuple[tuple[str, int], ...]
"""Name and nanos of what a share takes of each capacity."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Devices in the eyes of one option.

    Attributes:
        option: The request, or the sub-request of it.
        selected: Its selectors are true for them; devices that are held by others were not looked at.
        fit: They serve it, given what others hold.
        raises: Looking at them ends the attempt.
        listed: Mode All counts them.
        charges: What shares of it take, and of which devices they take it.
    """

    option: Option
    selected: int
    fit: int
    raises: int
    listed: int
    charges: tuple[tuple[Charge, int], ...]


class Question:
    """A pod's claims, asked of one state of a cluster.

    Attributes:
        prepared: The claims.
        wanted: Devices in the eyes of each request or sub-request.
        raises: Devices at which some option ends the attempt.
        noticed: Devices that some option would not pass over.
        takes_all: Whether some option wants all devices.
        helped_from_outside: Whether devices that name no node may play a part.
        single: The only thing that is asked, if it is only one, for a number of devices, and nothing raises.
        exact: Whether each plain node that is a candidate can serve the claims.
        candidates: Nodes that may serve the claims or end the attempt, by their highest device number.
    """

    def __init__(
        self, prepared: PreparedClaims, *, numbering: Numbering, state: State, seen: Seen, values: Values
    ) -> None:
        self.prepared = prepared
        self._numbering = numbering
        self._bounds = numbering.bounds
        self._state = state
        self._seen = seen
        self._values = values
        self._live = numbering.index.live & ~numbering.unreadable
        self._enough: dict[tuple[str, int], int] = {}
        self.wanted = {option: self._wanted(option) for option in prepared.options}
        every = self.wanted.values()
        self.raises = _union(one.raises for one in every)
        self.noticed = self.raises | _union(one.fit | one.listed for one in every)
        self.takes_all = any(option.all_devices for option in self.wanted)
        self.helped_from_outside = self.takes_all or bool(self.noticed & ~numbering.local)
        self.exact = self._is_exact()
        self.single: Option | None = None
        if len(self.wanted) == 1 and len(prepared.claims) == 1 and not self.raises and not self.takes_all:
            (self.single,) = self.wanted
        self.candidates = self._candidates()

    def _is_exact(self) -> bool:
        claims = self.prepared.claims
        return (
            len(claims) == 1
            and len(claims[0].requests) == 1
            and not claims[0].constraints
            and not self.raises
            and not self.takes_all
        )

    def _candidates(self) -> int:
        nodes = self._bounds.highest
        for claim in self.prepared.claims:
            for request in claim.requests:
                nodes &= self._nodes_for(request)
            for constraint in claim.constraints:
                if not constraint.distinct and not constraint.lists and nodes:
                    nodes &= self._with_match(claim, constraint.attribute, constraint.binds)
        if self.raises:
            nodes |= self._bounds.tops(self.raises)
        if self.takes_all:
            listed = _union(one.listed for one in self.wanted.values())
            nodes |= self._seen.peculiar | self._bounds.tops(listed)
        if self.helped_from_outside:
            nodes |= self._seen.outside
        return nodes & self._seen.known

    def asks_nothing(self) -> bool:
        """Say whether a node without devices may do."""
        return all(
            any(not option.count and not option.all_devices for option in request.options)
            for claim in self.prepared.claims
            for request in claim.requests
        )

    def room(self, charge: Charge, among: int) -> int:
        """Leave the devices that have room for a charge."""
        for name, nanos in charge:
            if not among:
                return 0
            key = (name, nanos)
            enough = self._enough.get(key)
            if enough is None:
                enough = self._enough[key] = self._state.enough(name, nanos)
            among &= enough
        return among

    def _wanted(self, option: Option) -> Wanted:
        available = self._live if option.admin else self._live & ~self._state.blocked
        selected, raises = self._selected(option, self._live if option.all_devices else available)
        shared, whole, uncountable = self._charged(option, selected)
        odd = selected & self._numbering.odd
        roomy = whole | odd | _union(self.room(charge, some) for charge, some in shared)
        listed = 0
        if option.all_devices:
            static = self.prepared.profile.static_all
            listed = whole | odd | _union(some for _, some in shared) if static else roomy
        fit = roomy & available & ~self._untolerated(option)
        return Wanted(option, selected, fit, raises | uncountable, listed, shared)

    def _selected(self, option: Option, among: int) -> tuple[int, int]:
        raises = 0
        for expression in option.selectors:
            if not among:
                break
            try:
                selector = compile_selector(expression, release=self.prepared.profile.release)
            except SelectorError:
                return 0, raises | among
            selection = self._numbering.index.select(selector)
            raises |= among & selection.raises
            among &= selection.true
        return among, raises

    def _charged(self, option: Option, among: int) -> tuple[tuple[tuple[Charge, int], ...], int, int]:
        """Say what shares take of which devices, which others can serve, and which cannot be counted with."""
        profile = self.prepared.profile
        shared: defaultdict[Charge, int] = defaultdict(int)
        whole = uncountable = 0
        for alike in self._numbering.classes.values():
            some = alike.some & among
            if not some:
                continue
            try:
                taken = consumptions(
                    alike.one,
                    option.capacity,
                    keep_form=profile.keep_form,
                    milli_steps=profile.milli_steps,
                )
            except CapacityRequestError:
                uncountable |= some
                continue
            if isinstance(taken, Shortage):
                continue
            if alike.one.shareable:
                shared[tuple((name, amount.nano) for name, amount in taken.items())] |= some
            else:
                whole |= some
        return tuple(shared.items()), whole, uncountable

    def _untolerated(self, option: Option) -> int:
        return _union(
            alike.some
            for alike in self._numbering.tainted.values()
            if option.tolerates(alike.one) is not None
        )

    def _nodes_for(self, request: Request, among: int = -1) -> int:
        """Give the nodes that can serve a request by itself with some of their devices."""
        return _union(self._nodes_for_option(option, among) for option in request.options)

    def _nodes_for_option(self, option: Option, among: int) -> int:
        wanted, bounds = self.wanted[option], self._bounds
        if option.all_devices:
            return bounds.tops(wanted.listed) & ~bounds.tops(wanted.listed & ~wanted.fit)
        return bounds.tops(wanted.fit & among, option.count) if option.count else bounds.highest

    def _with_match(self, claim: Claim, attribute: str, binds: Callable[[str], bool]) -> int:
        """Give the nodes where all that a constraint binds can have one value in common."""
        unbound = self._bounds.highest
        for request in claim.requests:
            free = [one for one in request.options if not binds(one.label) or one.all_devices]
            unbound &= _union(self._nodes_for_option(one, -1) for one in free)
        places = self._values.places(attribute, self._numbering.segments.values())
        if places is None:
            return self._bounds.highest
        found = unbound
        for among in places:
            nodes = self._bounds.highest
            for request in claim.requests:
                if not nodes:
                    break
                nodes &= _union(
                    self._nodes_for_option(one, among if binds(one.label) else -1) for one in request.options
                )
            found |= nodes
        return found


def _union(some: Iterable[int]) -> int:
    result = 0
    for one in some:
        result |= one
    return result
