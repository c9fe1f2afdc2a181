"""What slices and nodes make of a cluster, kept up to date in place.

Purpose: numbers, index, value patterns and outlooks of all nodes, of which a changed slice touches only its
own node's part.

Flow: `replace` follows a change of slices or nodes and says which devices went and came; `seen` gives the
outlooks by the rules of a release.

Limits: mutable, with one owner, as the index is; `generation` tells whoever computed something from it that
it has changed since. A change of slices that name no node, and of pools that are on several nodes, makes all
nodes look again.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from driver.allocation.cluster.numbering import Numbering, Segment
from driver.allocation.cluster.seen import Seen
from driver.allocation.cluster.values import Values
from driver.allocation.cluster.warm import warm
from driver.allocation.models import Slice
from driver.allocation.profile import Profile
from driver.allocation.snapshot import Snapshot

_MOST_DISPLACED = 64


class World:
    """All nodes and devices.

    Attributes:
        snapshot: Slices, classes and nodes.
        numbering: Devices by number.
        values: What constraints compare.
        names: All nodes, in order.
        displaced: The highest numbers of nodes whose numbers are out of the order of names, as a bitmap.
        generation: Grows with each change.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.numbering = Numbering()
        self.values = Values()
        self.names = snapshot.node_names
        self.displaced = 0
        self.generation = 0
        self._seen: dict[Profile, Seen] = {}
        self._ordered: list[Segment] = []
        for node in snapshot.homes:
            self._place(node)
        segments = tuple(self.numbering.segments.values())
        self.values.warm(segments)
        warm(self.numbering.index, [segment.devices[0] for segment in segments])

    def seen(self, profile: Profile) -> Seen:
        """Give the outlooks of all nodes by the rules of a release."""
        found = self._seen.get(profile)
        if found is None:
            found = self._seen[profile] = Seen(profile)
            found.look(self.snapshot, self.numbering, self.names)
        return found

    def replace(
        self, snapshot: Snapshot, *, slices: Iterable[str] = (), nodes: Iterable[str] = ()
    ) -> tuple[list[Segment], list[Segment]]:
        """Follow a change of slices and nodes.

        Args:
            snapshot: The state after.
            slices: Names of slices that are not what they were.
            nodes: Nodes that are not what they were.

        Returns:
            The devices that went, and those that came.
        """
        pairs = [(self.snapshot.named(name), snapshot.named(name)) for name in slices]
        changed = [one for pair in pairs for one in pair if one is not None]
        homes = {one.nodes.node_name for one in changed}
        names = snapshot.node_names
        left, joined = (set[str](), set[str]())
        if names != self.names:
            left, joined = set(self.names) - set(names), set(names) - set(self.names)
        affected = self._affected(changed, snapshot)
        again = set(self.names if affected is None else affected.union(nodes)) - left - joined
        if affected is not None:
            again = {name for name in again if self._is_node(name)}
        for seen in self._seen.values():
            seen.forget(again | left)
        gone = [segment for node in sorted(homes) if (segment := self._clear(node)) is not None]
        self.snapshot = snapshot
        come = [segment for node in sorted(homes) if (segment := self._place(node)) is not None]
        self.values.replace(gone=gone, come=come)
        for seen in self._seen.values():
            seen.look(snapshot, self.numbering, again | joined)
        self.names = names
        self.generation += 1
        return gone, come

    @property
    def disordered(self) -> bool:
        """Whether so many nodes are out of order that everything should be numbered anew."""
        return self.displaced.bit_count() > max(_MOST_DISPLACED, len(self.names) // 16)

    def _is_node(self, name: str) -> bool:
        place = bisect.bisect_left(self.names, name)
        return place < len(self.names) and self.names[place] == name

    def _affected(self, changed: Iterable[Slice], snapshot: Snapshot) -> set[str] | None:
        """Give the nodes that may see something else than before; None if that may be all."""
        nodes: set[str] = set()
        for one in changed:
            for some in (self.snapshot, snapshot):
                for other in (one, *some.pool(one.driver, one.pool)):
                    if not other.nodes.node_name:
                        return None
                    nodes.add(other.nodes.node_name)
        return nodes

    def _place(self, node: str) -> Segment | None:
        segment = self.numbering.place(node, self.snapshot.local(node))
        if segment is None or not node:
            return segment
        place = bisect.bisect(self._ordered, segment.start, key=_start)
        lower = self._ordered[place - 1].node if place else ""
        higher = self._ordered[place].node if place < len(self._ordered) else None
        if lower < node and (higher is None or node < higher):
            self._ordered.insert(place, segment)
        else:
            self.displaced |= _top(segment)
        return segment

    def _clear(self, node: str) -> Segment | None:
        segment = self.numbering.clear(node)
        if segment is None or not node:
            return segment
        self.displaced &= ~_top(segment)
        place = bisect.bisect_left(self._ordered, segment.start, key=_start)
        if place < len(self._ordered) and self._ordered[place] is segment:
            del self._ordered[place]
        return segment


def _start(segment: Segment) -> int:
    return segment.start


def _top(segment: Segment) -> int:
    return 1 << (segment.stop - 1)
