"""What constraints compare, as patterns of what is equal on a node.

Purpose: "are there two cards behind one root port with room left" for all nodes at once, and nodes that have
the same pattern recognised.

Flow: for an attribute each value of a node gets a place in the order in which values appear there;
`places[k]` are the devices that have their node's k-th value. `pattern` gives the places of a node's devices.

Limits: made when first asked for, one attribute at a time, and then kept up to date; of more than
`MAX_ATTRIBUTES` the one that nobody has asked for the longest is dropped. An attribute of which a node has
more than `MAX_PLACES` values has no places: it is a name rather than something in common. Mutable, for one
owner.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Sequence

from driver.allocation.cluster.bitmaps import bitmap, span
from driver.allocation.cluster.numbering import Segment
from driver.allocation.constraints import Constraint
from driver.allocation.models import Device

MAX_ATTRIBUTES = 32
MAX_PLACES = 64
_COMMON = 16

_MISSING = -1
_INCOMPARABLE = -2

Pattern = tuple[int, ...]


def pattern_of(attribute: str, devices: Iterable[Device]) -> Pattern:
    """Number the values of devices in the order in which they appear."""
    rule = Constraint(attribute, distinct=False, requests=frozenset())
    seen: dict[Hashable, int] = {}
    places = []
    for device in devices:
        value = rule.value(device)
        if value is None:
            places.append(_MISSING)
        elif not value.kind:
            places.append(_INCOMPARABLE)
        else:
            places.append(seen.setdefault(value, len(seen)))
    return tuple(places)


class _Attribute:
    def __init__(self, name: str, segments: Iterable[Segment]) -> None:
        self._name = name
        self._same: dict[Pattern, Pattern] = {}
        self.nodes: dict[Pattern, int] = {}
        self.patterns: dict[Segment, Pattern] = {}
        self.places: list[int] | None = []
        self.add(segments)

    def add(self, segments: Iterable[Segment]) -> None:
        found: list[list[int]] = []
        alike: dict[Pattern, list[int]] = {}
        for segment in segments:
            pattern = pattern_of(self._name, segment.devices)
            pattern = self._same.setdefault(pattern, pattern)
            self.patterns[segment] = pattern
            alike.setdefault(pattern, []).append(segment.stop - 1)
            if self.places is None or max(pattern) >= MAX_PLACES:
                self.places = None
                continue
            found += [[] for _ in range(max(pattern) + 1 - len(found))]
            for number, place in enumerate(pattern, segment.start):
                if place == _INCOMPARABLE:
                    # What cannot be compared may stand alone, so it counts as having a value.
                    found = found or [[]]
                    found[0].append(number)
                elif place != _MISSING:
                    found[place].append(number)
        for pattern, numbers in alike.items():
            self.nodes[pattern] = self.nodes.get(pattern, 0) | bitmap(numbers)
        if self.places is not None:
            self.places += [0] * (len(found) - len(self.places))
            for place, numbers in enumerate(found):
                self.places[place] |= bitmap(numbers)

    def remove(self, segment: Segment) -> None:
        rest = ~span(segment.start, segment.stop)
        if self.places is not None:
            self.places = [some & rest for some in self.places]
        pattern = self.patterns.pop(segment)
        self.nodes[pattern] &= ~(1 << (segment.stop - 1))
        if not self.nodes[pattern]:
            del self.nodes[pattern], self._same[pattern]


class Values:
    """Patterns of the attributes that were asked for."""

    def __init__(self) -> None:
        self._attributes: OrderedDict[str, _Attribute] = OrderedDict()

    def warm(self, segments: Sequence[Segment]) -> None:
        """Make the patterns of the attributes that most devices have, before anybody asks."""
        count: Counter[str] = Counter()
        for segment in segments:
            for device in segment.devices[:1]:
                for name in device.attributes:
                    count[name if "/" in name else f"{device.id.driver}/{name}"] += 1
        for name, _ in count.most_common(_COMMON):
            self._attribute(name, segments)

    def places(self, attribute: str, segments: Iterable[Segment]) -> Sequence[int] | None:
        """Give for each place the devices whose value has it on their node; None if there are too many."""
        return self._attribute(attribute, segments).places

    def pattern(self, attribute: str, segment: Segment, segments: Iterable[Segment]) -> Pattern:
        """Give the places of the devices of a node."""
        return self._attribute(attribute, segments).patterns[segment]

    def alike(self, attribute: str, segment: Segment, segments: Iterable[Segment]) -> int:
        """Mark the nodes that have the pattern of one node, by their highest device number."""
        found = self._attribute(attribute, segments)
        return found.nodes[found.patterns[segment]]

    def replace(self, *, gone: Sequence[Segment], come: Sequence[Segment]) -> None:
        """Follow a change of slices."""
        for attribute in self._attributes.values():
            for segment in gone:
                attribute.remove(segment)
            attribute.add(come)

    def _attribute(self, name: str, segments: Iterable[Segment]) -> _Attribute:
        found = self._attributes.get(name)
        if found is None:
            found = self._attributes[name] = _Attribute(name, segments)
            if len(self._attributes) > MAX_ATTRIBUTES:
                self._attributes.popitem(last=False)
        else:
            self._attributes.move_to_end(name)
        return found
