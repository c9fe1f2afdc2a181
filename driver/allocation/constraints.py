"""matchAttribute and distinctAttribute.

Purpose: what the devices of one claim must have in common, or must not.

Flow: a `Constraint` is a rule; `join` is asked with what the devices before have left of it and gives what is
left of it with one more.

Limits: distinct means distinct from all devices before, and what is taken back is as if it had never been
(1.36 compares with the last device of each request only, forgets, and so hands out one card twice). Where
list-typed attributes are on, a value is a set: match wants one element in common to all, distinct none in
common to any two, and a scalar is a set of one. Where they are off, a list is of an unknown type: it may
stand alone, and matches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from driver.allocation.models import Device
from driver.errors import shown

_SCALARS = frozenset({"string", "bool", "int", "version"})


class Value(NamedTuple):
    """A value of an attribute.

    Attributes:
        kind: `string`, `bool`, `int` or `version`; "" if it is none that can be compared.
        elements: Its elements; one for a scalar.
    """

    kind: str
    elements: frozenset[Any]

    def common(self, other: Value) -> frozenset[Any]:
        """Give the elements of both; none if they are of different kinds."""
        return self.elements & other.elements if self.kind == other.kind else frozenset()

    def __str__(self) -> str:
        elements = sorted(map(shown, self.elements))
        return elements[0] if len(elements) == 1 else f"[{', '.join(elements)}]"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule over the devices of a claim.

    Attributes:
        attribute: Qualified name of the attribute.
        distinct: Whether values must differ rather than be equal.
        requests: Requests or sub-requests it binds; all if empty.
        lists: Whether lists are compared by their elements.
    """

    attribute: str
    distinct: bool
    requests: frozenset[str]
    lists: bool = False

    def binds(self, request: str) -> bool:
        """Say whether it applies to a request, given as `name` or `name/sub`."""
        return not self.requests or request in self.requests or request.partition("/")[0] in self.requests

    def value(self, device: Device) -> Value | None:
        """Give what a device brings; None if it lacks the attribute."""
        found = device.attribute(self.attribute)
        if found is None:
            return None
        kind, content = found
        if kind in _SCALARS:
            return Value(kind, frozenset((content,)))
        if self.lists and kind[:-1] in _SCALARS and kind.endswith("s") and content:
            return Value(kind[:-1], frozenset(content))
        return Value("", frozenset())

    def join(self, value: Value | None, earlier: Sequence[Value]) -> Value | str:
        """Add a device to those that it binds.

        Args:
            value: What the device brings.
            earlier: What `join` gave for the devices before, in their order.

        Returns:
            What is to be held against later devices, or why this one cannot join.
        """
        if value is None:
            return f"it has no attribute {self.attribute}"
        return self._distinct(value, earlier) if self.distinct else self._matching(value, earlier)

    def _matching(self, value: Value, earlier: Sequence[Value]) -> Value | str:
        if not earlier:
            if self.lists and not value.kind:
                return f"{self.attribute} is of a type that cannot be compared"
            return value
        common = earlier[-1].common(value)
        if not common:
            return f"{self.attribute} is {value}, but must match {earlier[-1]}"
        return Value(value.kind, common)

    def _distinct(self, value: Value, earlier: Sequence[Value]) -> Value | str:
        if earlier and not value.kind:
            return f"{self.attribute} is of a type that cannot be compared, but must be distinct"
        if any(value.common(other) for other in earlier):
            return f"{self.attribute} is {value} once more, but must be distinct"
        return value
