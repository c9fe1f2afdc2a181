"""One question, put to one state of a cluster.

Purpose: from the nodes that may do to decisions: the allocator is asked on a node only where bitmaps do not
know the answer, and once for all nodes that are alike.

Flow: `first` goes through the candidates in order and skips those that are like one that was refused;
`answers` decides about each kind of node.

Limits: all searches together take about as many steps as one may take on a single node. Where one node has
taken them all, the others still have a part of as many again, in small helpings: a node that is hard to
decide about must not hide those that are not.
"""

from __future__ import annotations

import heapq
import itertools
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from driver.allocation.allocator import decide
from driver.allocation.attempt import foregone
from driver.allocation.claims import PreparedClaims
from driver.allocation.cluster.alike import Likeness
from driver.allocation.cluster.answers import Answers
from driver.allocation.cluster.bitmaps import bits
from driver.allocation.cluster.numbering import Segment
from driver.allocation.cluster.question import Question
from driver.allocation.cluster.seen import Outlook
from driver.allocation.cluster.state import State
from driver.allocation.cluster.take import take
from driver.allocation.cluster.world import World
from driver.allocation.decision import Decision, Refusal
from driver.allocation.errors import SearchLimitError
from driver.allocation.fit import Fit, Fits, Verdicts
from driver.allocation.holdings import Chosen
from driver.allocation.kinds import error_kind, node_only
from driver.allocation.models import Device
from driver.allocation.nodes import Node
from driver.allocation.pools import Pool, gather
from driver.allocation.preference import Preference
from driver.allocation.requests import Option
from driver.allocation.result import allocation_result
from driver.allocation.search import MAX_RESULTS, MAX_STEPS
from driver.allocation.snapshot import Snapshot

_HELPINGS = 16
"""How much shorter a search may be after one that found no end."""

ShareID = Callable[[], str]


class Ask:
    """A pod's claims and a state."""

    def __init__(
        self,
        prepared: PreparedClaims,
        *,
        snapshot: Snapshot,
        world: World,
        state: State,
        preference: Preference | None,
        share_id: ShareID | None,
    ) -> None:
        self._prepared = prepared
        self._snapshot = snapshot
        self._world = world
        self._state = state
        self._seen = world.seen(prepared.profile)
        self._preference = preference
        self._share_id = share_id
        self._steps = 0
        self._most = MAX_STEPS
        self._limit: int | None = None
        self._left = 0
        self._likeness: Likeness | None = None
        self._foregone = foregone(prepared) is not None
        if not self._foregone:
            self._question = Question(
                prepared,
                numbering=world.numbering,
                state=state,
                seen=self._seen,
                values=world.values,
            )

    def first(self, nodes: Sequence[str], *, all_nodes: bool) -> Decision:
        """Decide where the claims go.

        Args:
            nodes: The nodes to try, in order.
            all_nodes: Whether that is all nodes in the order of their names.
        """
        head = nodes[0] if nodes else ""
        if self._foregone:
            return self.decide(head)
        futile: set[Hashable] = set()
        futile_nodes = 0
        endless: Decision | None = None
        for name in self._candidates() if all_nodes else self._among(nodes):
            outlook = self._seen.nodes.get(name)
            if outlook and (outlook.top & futile_nodes or (futile and self._like().key(outlook) in futile)):
                continue
            decision = self._probe(name, outlook)
            if decision.refusal is None:
                return decision
            if decision.refusal.reason == SearchLimitError.reason:
                endless = endless or decision
            elif _ends_all(decision.refusal):
                return self.decide(name)
            if self._steps > self._most:
                return self._given_up(decision)
            if outlook and (alike := self._like().nodes(outlook)):
                futile_nodes |= alike
                self._left &= ~alike
            elif outlook:
                futile.add(self._like().key(outlook))
        return endless or self.decide(head)

    def answers(self) -> Answers:
        """Decide about all nodes."""
        if self._foregone:
            return Answers((), (), self.decide)
        feasible = self._question.candidates & self._seen.plain if self._question.exact else 0
        rest = self._question.candidates & ~feasible
        by_key: list[str] = []
        endless = 0
        while rest and self._steps <= self._most:
            number = (rest & -rest).bit_length() - 1
            outlook = self._seen.nodes[self._world.numbering.segment_at(number).node]
            alike = self._like().nodes(outlook)
            if not alike:
                by_key.append(outlook.name)
            else:
                refusal = self._probe(outlook.name, outlook).refusal
                if refusal is None:
                    feasible |= rest & alike
                elif refusal.reason == SearchLimitError.reason:
                    endless |= rest & (alike | outlook.top)
            rest &= ~(alike | outlook.top)
        some, undecided = self._by_key(itertools.chain(by_key, *self._bare()))
        undecided += self._names(rest | endless)
        return Answers(
            tuple(sorted(itertools.chain(self._names(feasible), some))), tuple(sorted(undecided)), self.decide
        )

    def _by_key(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """Decide about nodes that are not plain: those that can serve the claims, and those undecided."""
        feasible: list[str] = []
        undecided: list[str] = []
        known: dict[Hashable, str] = {}
        for name in names:
            outlook = self._seen.nodes[name]
            key = self._like().key(outlook)
            if key not in known:
                if self._steps > self._most:
                    undecided.append(name)
                    continue
                refusal = self._probe(name, outlook).refusal
                known[key] = refusal.reason if refusal else ""
            if not known[key]:
                feasible.append(name)
            elif known[key] == SearchLimitError.reason:
                undecided.append(name)
        return feasible, undecided

    def decide(self, name: str) -> Decision:
        """Ask the allocator."""
        node = self._snapshot.node(name)
        return self._decide(node, gather(self._snapshot, node, self._prepared.profile))

    def _probe(self, name: str, outlook: Outlook | None) -> Decision:
        """Ask the allocator, without what it would pass over; reasons are not complete then."""
        if outlook is None or not outlook.plain or outlook.segment is None or self._preference is not None:
            return self.decide(name)
        segment = outlook.segment
        if self._question.single is not None and (found := self._taken(segment, self._question.single)):
            return found
        some = self._question.noticed >> segment.start
        devices = tuple(device for place, device in enumerate(segment.devices) if some >> place & 1)
        pool = Pool("", "", devices, counter_sets={}, everywhere=devices, incomplete=False, invalid="")
        return self._decide(self._snapshot.node(name), [pool], _Known(segment, self._question))

    def _taken(self, segment: Segment, option: Option) -> Decision | None:
        """Take devices for the only request, where that needs no search; None where it does."""
        (claim,) = self._prepared.claims
        fitting = self._question.wanted[option].fit >> segment.start & ((1 << len(segment.devices)) - 1)
        constraints = [one for one in claim.constraints if one.binds(option.label)]
        values, segments = self._world.values, self._world.numbering.segments
        if not 0 < option.count <= MAX_RESULTS:
            return None
        places = take(
            list(bits(fitting)),
            option.count,
            constraints=constraints,
            pattern=lambda attribute: values.pattern(attribute, segment, segments.values()),
        )
        if places is None:
            return None
        node, profile = self._snapshot.node(segment.node), self._prepared.profile
        fit = Fit(node=node, in_use=self._snapshot.in_use, ledgers={}, profile=profile)
        chosen = []
        for place in places:
            device = segment.devices[place]
            fits = fit.outcome(device, option)
            if not isinstance(fits, Fits):
                return None
            shared = fit.shared(device)
            chosen.append(Chosen(0, option, device, fits.consumed if shared else {}, shared))
        share_id = self._share_id or (lambda: str(uuid.uuid4()))
        result = allocation_result(claim, chosen, node=node, profile=profile, share_id=share_id)
        return Decision(node.name, (result,), None, option.count)

    def _decide(self, node: Node, pools: Sequence[Pool], known: Verdicts | None = None) -> Decision:
        decision = decide(
            self._prepared,
            node=node,
            pools=pools,
            in_use=self._snapshot.in_use,
            share_id=self._share_id,
            preference=self._preference,
            verdicts=known,
            limit=self._limit,
        )
        self._steps += decision.steps
        endless = decision.refusal is not None and decision.refusal.reason == SearchLimitError.reason
        if endless and self._limit is None:
            self._limit = MAX_STEPS // _HELPINGS
            self._most = self._steps + MAX_STEPS // 2
        return decision

    def _like(self) -> Likeness:
        if self._likeness is None:
            self._likeness = Likeness(
                self._question,
                numbering=self._world.numbering,
                state=self._state,
                seen=self._seen,
                values=self._world.values,
            )
        return self._likeness

    def _candidates(self) -> Iterator[str]:
        """Give the nodes that may do, in the order of their names."""
        displaced = self._world.displaced
        self._left = self._question.candidates & ~displaced
        others = sorted(
            itertools.chain(
                self._names(self._question.candidates & displaced), (min(names) for names in self._bare())
            )
        )
        return heapq.merge(self._in_order(), others) if others else self._in_order()

    def _in_order(self) -> Iterator[str]:
        """Give the nodes that are left, as long as there are any."""
        while self._left:
            lowest = self._left & -self._left
            self._left ^= lowest
            yield self._world.numbering.segment_at(lowest.bit_length() - 1).node

    def _among(self, nodes: Iterable[str]) -> Iterator[str]:
        """Give those of some nodes that may do; those that nobody knows may."""
        candidates = self._question.candidates
        bare = set(itertools.chain.from_iterable(self._bare()))
        for name in nodes:
            outlook = self._seen.nodes.get(name)
            if outlook is None or outlook.top & candidates or name in bare:
                yield name

    def _bare(self) -> list[set[str]]:
        """Give the nodes without devices of their own that may do, by what they see."""
        groups = self._seen.bare.values()
        if not groups:
            return []
        if self._question.asks_nothing() or self._question.helped_from_outside:
            return list(groups)
        return []

    def _names(self, nodes: int) -> Iterator[str]:
        at = self._world.numbering.segment_at
        return (at(number).node for number in bits(nodes))

    def _given_up(self, last: Decision) -> Decision:
        error = SearchLimitError(
            f"no devices were found in {self._steps} steps over several nodes",
            remedy="Ask for fewer devices in one pod, or for fewer claims.",
        )
        refusal = Refusal(error.reason, error.message, remedy=error.remedy, node=last.node)
        return Decision(last.node, None, refusal, self._steps)


class _Known:
    """What the index said of selectors, for the devices of one node."""

    def __init__(self, segment: Segment, question: Question) -> None:
        self._places = {device: place for place, device in enumerate(segment.devices)}
        mask = (1 << len(segment.devices)) - 1
        self._answers = {
            option: (one.selected >> segment.start & mask, one.raises >> segment.start & mask)
            for option, one in question.wanted.items()
        }

    def selected(self, device: Device, option: Option) -> bool | None:
        place = self._places[device]
        selected, raises = self._answers[option]
        return None if raises >> place & 1 else bool(selected >> place & 1)


def _ends_all(refusal: Refusal) -> bool:
    """Say whether a refusal ends the attempt on all nodes, as it would in kube-scheduler."""
    return error_kind(refusal) is not None and not node_only(refusal)
