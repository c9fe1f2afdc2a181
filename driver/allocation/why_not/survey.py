"""All nodes, card by card.

Purpose: what rules out each card of each node, added up, and what the search for changes needs to know.

Flow: `Survey.visit` takes one node after the other. Where a request has not cards enough by themselves, they
are why; otherwise the allocator is asked, once for each set of equal nodes, and its refusal is why.

Limits: the allocator's own order decides which request is to blame: the first one that cannot be met. At most
`MAX_SEARCHES` nodes are searched, `MAX_STEPS` steps made, and `MAX_VERDICTS` pairs of a card and a request
looked at (requests that ask the same count once); the other nodes are counted as skipped.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from driver.allocation.decision import Decision, Refusal
from driver.allocation.models import Device
from driver.allocation.profile import Profile
from driver.allocation.requests import Claim, Option, Request
from driver.allocation.snapshot import Snapshot
from driver.allocation.why_not.hints import MAX_HINTS, Hints, Tally, remember
from driver.allocation.why_not.judge import Judge, Seat, Short, pools_of
from driver.allocation.why_not.obstacles import Obstacle, cut, loss, plain
from driver.allocation.why_not.reasons import is_released

MAX_SEARCHES = 400
MAX_STEPS = 30_000
MAX_VERDICTS = 400_000
_TOGETHER = frozenset({"NoDevice", "NoCombination"})
_TOO_MUCH = frozenset({"CapacityTooSmall", "CapacityRequestTooLarge"})

Blamed = tuple[int, Option]
Verdicts = Sequence[Obstacle | Short | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What claims come to on a node.

    Attributes:
        fits: Whether it can take them.
        blamed: The request to blame.
        verdicts: What rules out each card for it.
        refusal: The allocator's, where it was asked.
        end: What ends the attempt for the whole pod.
    """

    fits: bool = False
    blamed: Blamed | None = None
    verdicts: Verdicts = ()
    refusal: Refusal | None = None
    end: Obstacle | None = None


@dataclass(slots=True)
class _Look:
    """A node's requests one by one.

    Attributes:
        blamed: The first request without cards enough.
        verdicts: What rules each card out for it.
        certain: Whether no selector could end the attempt in another way.
        fits: Whether the node can certainly take the claims.
        seen: Whether a request was looked at already.
        end: What surely ends the attempt for the whole pod.
        raising: The first request with a card that ends the attempt if the search comes to it.
        judged: What rules out each card, by request.
    """

    blamed: Blamed | None = None
    verdicts: Verdicts = ()
    certain: bool = True
    fits: bool = True
    seen: bool = False
    end: Obstacle | None = None
    raising: tuple[Blamed, Verdicts] | None = None
    judged: dict[Option, Verdicts] = field(default_factory=dict)


class Survey:
    """What was found on all nodes.

    Attributes:
        tallies: Cards and nodes by request, reason and text; without a request where the search as a whole
            failed.
        obstacles: Cards by request and obstacle.
        free: The least and the most, in nanos, that is left where a capacity is short.
        notes: Nodes and cards by reason and text, where it is not about a request.
        hints: What may help, by claim and request.
        refused: Reason, message, field and remedy of nodes that were refused as a whole.
        searched: Nodes that have cards for each request, but not for all together.
        fitting: Nodes that could take the claims.
        skipped: Nodes that were not searched.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        claims: Sequence[Claim],
        profile: Profile,
        decide: Callable[[str], Decision],
    ) -> None:
        """Prepare for a pod's claims; `decide` asks the allocator about them on a node."""
        self._snapshot = snapshot
        self._claims = claims
        self._decide = decide
        self._judge = Judge(snapshot, claims, profile)
        self._decisions: dict[Hashable, Decision] = {}
        # Nothing can come between a single request and the cards that serve it.
        self._alone = sum(len(claim.requests) for claim in claims) <= 1 and not any(
            claim.constraints for claim in claims
        )
        self._steps = self._verdicts = 0
        self.tallies: dict[tuple[int, Option | None, str, str], Tally] = {}
        self.obstacles: dict[tuple[int, Option, Obstacle], int] = {}
        self.free: dict[tuple[int, Option, Obstacle], tuple[int, int]] = {}
        self.notes: dict[tuple[str, str], Tally] = {}
        self.hints: dict[Blamed, Hints] = {}
        self.refused: dict[tuple[str, str, str, str], Tally] = {}
        self.searched: list[str] = []
        self.fitting: list[str] = []
        self.skipped = 0

    def visit(self, name: str) -> None:
        """Look at one node."""
        if self._judge.exhausted or self._verdicts >= MAX_VERDICTS:
            self.skipped += 1
            return
        seat = self._judge.at(name)
        outcome = self.outcome(seat)
        if outcome is None:
            self.skipped += 1
        elif outcome.fits:
            self.fitting.append(name)
        else:
            self._pools(seat)
            if outcome.end is not None:
                whole = (outcome.end.reason, "", "", outcome.end.remedy)
                self.refused.setdefault(whole, Tally()).add(name, "", outcome.end.message, cards=0)
            if outcome.refusal is not None:
                self._refuse(seat, outcome.refusal)
            if outcome.blamed is not None:
                self._blame(seat, outcome.blamed, outcome.verdicts)
            elif outcome.refusal is not None:
                self._as_refused(seat, outcome.refusal)

    def seat(self, name: str) -> Seat:
        """Give a node with its pools."""
        return self._judge.at(name)

    def outcome(self, seat: Seat) -> Outcome | None:
        """Say what the claims come to on a node, None if that would take too long to find out."""
        found = self._first_impossible(seat)
        if found.fits:
            return Outcome(fits=True)
        if found.blamed is not None and found.certain:
            return Outcome(blamed=found.blamed, verdicts=found.verdicts, end=found.end)
        decision = self._decision(seat)
        if decision is None:
            return None
        refusal = decision.refusal
        if refusal is None:
            return Outcome(fits=True)
        together = refusal.reason in _TOGETHER
        if found.raising is not None and not together:
            blamed, verdicts = found.raising
            return Outcome(refusal=refusal, blamed=blamed, verdicts=verdicts)
        # A card on which a selector raises may be taken by another request before it is looked at.
        if found.blamed is None or (together and any(map(_fatal, found.verdicts))):
            return Outcome(refusal=refusal)
        return Outcome(refusal=refusal, blamed=found.blamed, verdicts=found.verdicts)

    def _first_impossible(self, seat: Seat) -> _Look:
        """Find the first request without cards enough."""
        look = _Look()
        for place, claim in enumerate(self._claims):
            for request in claim.requests:
                if any(option.all_devices for option in request.options):
                    look.certain = look.certain and not claim.constraints
                    look.fits, look.seen = False, True
                missing = self._missing(look, place, request, seat)
                if look.end is not None:
                    return look
                if missing is not None:
                    look.fits = False
                    if look.blamed is None:
                        look.blamed, look.verdicts = missing
        sure = self._alone and look.certain
        look.fits = look.fits and sure and not any(device.counters for device in seat.devices)
        return look

    def _missing(
        self, look: _Look, place: int, request: Request, seat: Seat
    ) -> tuple[Blamed, Verdicts] | None:
        """Give what rules cards out for a request's last sub-request, None if there are enough for one."""
        missing = None
        for option in request.options:
            if option.all_devices:
                return None
            verdicts = self._judged(option, seat, look)
            missing = ((place, option), verdicts)
            if not look.seen:
                look.end = _sure_end(verdicts, option.count)
            look.seen = True
            if look.end is not None:
                look.blamed, look.verdicts, look.fits = (*missing, False)
                return None
            if any(map(_fatal, verdicts)):
                look.certain = False
                look.raising = look.raising or missing
            if sum(one is None for one in verdicts) >= option.count:
                return None
        return missing

    def _judged(self, option: Option, seat: Seat, look: _Look) -> Verdicts:
        twin = self._judge.twin(option)
        known = look.judged.get(twin)
        if known is None:
            self._verdicts += len(seat.devices)
            known = look.judged[twin] = [self._judge.verdict(one, twin, seat) for one in seat.devices]
        return known

    def _decision(self, seat: Seat) -> Decision | None:
        shapes = tuple(self._judge.shape(device, seat) for device in seat.devices)
        pools = tuple((pool.driver, len(pool.usable), pool.incomplete, pool.invalid) for pool in seat.pools)
        key = (shapes, pools)
        known = self._decisions.get(key)
        if known is None:
            if len(self._decisions) >= MAX_SEARCHES or self._steps >= MAX_STEPS:
                return None
            known = self._decide(seat.node.name)
            self._steps += known.steps
            self._decisions[key] = known
        return known

    def _pools(self, seat: Seat) -> None:
        name = seat.node.name
        for pool in pools_of(seat, incomplete=True):
            text = f"slices of their pool are missing, driver {pool.driver}"
            self._note("PoolIncomplete", text, name, pool.devices, f"{pool.title} is incomplete")
        for pool in pools_of(seat, incomplete=False):
            self._note("PoolInvalid", plain(pool.invalid), name, pool.devices, pool.invalid)
        obsolete = self._obsolete(seat)
        for driver, pool_name in obsolete:
            text = f"newer slices of the pool are for other nodes only, driver {driver}"
            self._note("PoolObsolete", text, name, (), f"pool {pool_name} of {driver} is obsolete here")
        if not seat.pools and not obsolete:
            self._note("NoSlice", "no ResourceSlice is for the node", name, (), self._other_slice())

    def _note(self, reason: str, text: str, node: str, devices: Sequence[Device], message: str) -> None:
        tally = self.notes.setdefault((reason, text), Tally())
        first = devices[0].id.device if devices else ""
        tally.add(node, first, message, cards=len(devices))

    def _obsolete(self, seat: Seat) -> list[tuple[str, str]]:
        known = {(pool.driver, pool.name) for pool in seat.pools}
        return sorted(
            {
                (one.driver, one.pool)
                for one in self._snapshot.candidates(seat.node)
                if one.nodes.node_name == seat.node.name and (one.driver, one.pool) not in known
            }
        )

    def _other_slice(self) -> str:
        other = next((one for one in self._snapshot.slices if one.nodes.selector is not None), None)
        return f"slice {other.name}, for example, selects other nodes" if other is not None else ""

    def _refuse(self, seat: Seat, refusal: Refusal) -> None:
        """Count a node that was refused as a whole."""
        message = refusal.message.replace(f" on node {refusal.node}", "")
        whole = (refusal.reason, message, refusal.field, refusal.remedy)
        self.refused.setdefault(whole, Tally()).add(seat.node.name, "", refusal.message, cards=0)

    def _as_refused(self, seat: Seat, refusal: Refusal) -> None:
        """Count cards for the reasons that the search found."""
        name = seat.node.name
        if len(self.searched) < MAX_HINTS:
            self.searched.append(name)
        for one in refusal.devices:
            if one.reason in {"PoolIncomplete", "PoolInvalid"}:
                # Noted already.
                continue
            key = (-1, None, one.reason, plain(one.message))
            self.tallies.setdefault(key, Tally()).add(name, one.device, one.message)

    def _blame(self, seat: Seat, blamed: Blamed, judged: Verdicts) -> None:
        name = seat.node.name
        claim, option = blamed
        for device, one in zip(seat.devices, judged, strict=True):
            if one is None:
                continue
            found = one.obstacle if isinstance(one, Short) else one
            key = (claim, option, found.reason, found.text)
            tally = self.tallies.get(key)
            if tally is None:
                tally = self.tallies[key] = Tally()
            tally.add(name, device.id.device, found.message)
            known = (claim, option, found)
            self.obstacles[known] = self.obstacles.get(known, 0) + 1
            if isinstance(one, Short):
                least, most = self.free.get(known, (one.free, one.free))
                self.free[known] = (min(least, one.free), max(most, one.free))
        self._hint(self.hints.setdefault(blamed, Hints()), seat, option, judged)

    def _hint(self, hints: Hints, seat: Seat, option: Option, judged: Verdicts) -> None:
        node = seat.node.name
        fitting = sum(one is None for one in judged)
        needed = option.count - fitting
        hints.few.add(node, "", "", cards=0)
        least, most = hints.fitting or (fitting, fitting)
        hints.fitting = (min(least, fitting), max(most, fitting))
        if fitting > hints.fewer[0]:
            hints.fewer = (fitting, node)
        if needed > 0:
            self._reduce(hints, seat, option, judged, needed)
        released = 0
        for one in judged:
            if one is None:
                continue
            found = one.obstacle if isinstance(one, Short) else one
            released += is_released(found.reason)
            if found.taint is not None:
                remember(hints.taints, found.taint, node)
            elif found.selector >= 0:
                remember(hints.selectors, (found.selector, found.part), node)
        if released >= needed and len(hints.released) < MAX_HINTS:
            hints.released.append(node)

    def _reduce(self, hints: Hints, seat: Seat, option: Option, judged: Verdicts, needed: int) -> None:
        """Remember the node if asking for less would help there more than on those known."""
        losses: list[tuple[float, int, Device]] = []
        for device, one in zip(seat.devices, judged, strict=True):
            if isinstance(one, Short) or (one is not None and one.reason in _TOO_MUCH):
                lost = loss(device, option, self._judge.held(device))
                if lost is not None:
                    losses.append((lost, len(losses), device))
        losses = heapq.nsmallest(needed, losses)
        if len(losses) < needed or (
            len(hints.reductions) >= MAX_HINTS and losses[-1][0] >= hints.reductions[-1].loss
        ):
            return
        cuts = [cut(device, option, self._judge.held(device)) for _, _, device in losses]
        if all(cuts):
            hints.reduce(node=seat.node.name, cuts=[one for one in cuts if one is not None])


def _fatal(verdict: Obstacle | Short | None) -> bool:
    return isinstance(verdict, Obstacle) and verdict.fatal


def _sure_end(verdicts: Verdicts, count: int) -> Obstacle | None:
    """Give the card that ends the attempt, if the search for the first request comes to it."""
    fitting = 0
    for one in verdicts:
        if isinstance(one, Obstacle) and one.fatal:
            return one if fitting < count else None
        fitting += one is None
    return None
