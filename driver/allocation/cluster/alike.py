"""Nodes that a pod's claims cannot tell apart.

Purpose: decide for one node, and know it for all that differ from it in names only.

Flow: `Likeness.key` of a node; equal keys mean that the allocator comes to the same end, with the same
devices by their place on the node. `Likeness.nodes` finds all plain nodes with the key of one at once.

Limits: a key holds what the claims can see and no more: which devices serve, raise or are counted for which
option, what values constraints find equal, and for each combination of options whether a device has room for
all of them. Where there are too many combinations, and where counters are drawn on, what is held of each
device is in the key instead, and fewer nodes are alike than could be.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence

from driver.allocation.cluster.bitmaps import content_of, part
from driver.allocation.cluster.numbering import Numbering
from driver.allocation.cluster.question import Charge, Question
from driver.allocation.cluster.seen import Outlook, Seen
from driver.allocation.cluster.state import State
from driver.allocation.cluster.values import Pattern, Values, pattern_of

MAX_COMBINATIONS = 64


class Likeness:
    """What nodes have in common in the eyes of one question."""

    def __init__(
        self, question: Question, *, numbering: Numbering, state: State, seen: Seen, values: Values
    ) -> None:
        self._question = question
        self._numbering = numbering
        self._state = state
        self._values = values
        self._plain = seen.plain
        combined = self._combinations()
        self._by_use = combined is None
        fields = dict.fromkeys(
            bits for one in question.wanted.values() for bits in (one.fit, one.raises, one.listed)
        )
        fields.update(dict.fromkeys(combined or ()))
        if any(option.admin for option in question.wanted):
            fields[numbering.exclusive] = None
        fields.pop(0, None)
        self._bitmaps = list(fields)
        self._fields = [content_of(one) for one in fields]
        self._attributes = sorted(
            {one.attribute for claim in question.prepared.claims for one in claim.constraints}
        )

    def key(self, outlook: Outlook) -> Hashable:
        """Give what the claims can see of a node."""
        segment = outlook.segment
        if segment is None:
            bits: Sequence[int] = ()
        else:
            start, stop = segment.start, segment.stop
            bits = [part(content, start, stop) for content in self._fields]
        patterns = tuple(self._pattern(name, outlook) for name in self._attributes)
        used: Hashable = None
        if segment is not None and (self._by_use or outlook.counters):
            used = tuple(
                (id(one.capacity), one.shareable, self._state.usage.use(one.id)) for one in segment.devices
            )
        return outlook.signature, tuple(bits), patterns, used

    def nodes(self, outlook: Outlook) -> int:
        """Mark the plain nodes with the key of a node, by their highest numbers; 0 if it is not plain."""
        segment = outlook.segment
        if segment is None or not outlook.plain or self._by_use:
            return 0
        found = self._numbering.bounds.alike(self._bitmaps, segment.start, segment.stop) & self._plain
        for name in self._attributes:
            found &= self._values.alike(name, segment, self._numbering.segments.values())
        return found

    def _pattern(self, attribute: str, outlook: Outlook) -> Pattern:
        if outlook.plain and outlook.segment is not None:
            return self._values.pattern(attribute, outlook.segment, self._numbering.segments.values())
        return pattern_of(attribute, outlook.devices)

    def _combinations(self) -> Iterable[int] | None:
        """Give, for each way to give a device several times, the devices that have room for it.

        None if there are too many ways.
        """
        requests = sum(len(claim.requests) for claim in self._question.prepared.claims)
        if requests < 2:
            return ()
        kinds = Counter(tuple(sorted(one.charges)) for one in self._question.wanted.values() if one.charges)
        ways = 1
        for count in kinds.values():
            ways *= count + 1
        if ways > MAX_COMBINATIONS:
            return None
        return [self._room(tuple(kinds), times) for times in _times(list(kinds.values()))]

    def _room(self, kinds: Sequence[tuple[tuple[Charge, int], ...]], times: Sequence[int]) -> int:
        some: list[tuple[Charge, int]] = [((), -1)]
        for kind, count in zip(kinds, times, strict=True):
            if count:
                some = [
                    (_sum(before, charge, count), among & devices)
                    for before, among in some
                    for charge, devices in kind
                    if among & devices
                ]
        result = 0
        for charge, among in some:
            result |= self._question.room(charge, among)
        return result


def _times(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Give all ways to take some of each kind, at least two in all."""
    every = itertools.product(*(range(count + 1) for count in counts))
    return (times for times in every if sum(times) > 1)


def _sum(before: Charge, charge: Charge, count: int) -> Charge:
    sums = dict(before)
    for name, nanos in charge:
        sums[name] = sums.get(name, 0) + nanos * count
    return tuple(sums.items())
