"""matchAttribute and distinctAttribute.

Purpose: what the devices of one claim must have in common, or must not.

Flow: a `Constraint` is a rule; it is asked with the values of the devices that it already binds.

Limits: distinct means distinct from all devices before, as in 1.37; 1.36 compares with the last one only
and so hands out one card twice. Lists count as a value of their own that equals nothing, as long as
list-typed attributes are off in the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from driver.allocation.models import Device

Value: TypeAlias = tuple[str, Any]
_SCALARS = frozenset({"string", "bool", "int", "version"})


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule over the devices of a claim.

    Attributes:
        attribute: Qualified name of the attribute.
        distinct: Whether values must differ rather than be equal.
        requests: Requests or sub-requests it binds; all if empty.
    """

    attribute: str
    distinct: bool
    requests: frozenset[str]

    def binds(self, request: str) -> bool:
        """Say whether it applies to a request, given as `name` or `name/sub`."""
        return not self.requests or request in self.requests or request.partition("/")[0] in self.requests

    def refuses(self, device: Device, earlier: list[Value]) -> str:
        """Say why a device cannot join the earlier ones, "" if it can."""
        value = device.attribute(self.attribute)
        if value is None:
            return f"it has no attribute {self.attribute}"
        if self.distinct:
            # What cannot be compared is not known to be distinct.
            if any(_equal(value, other) or not _comparable(value, other) for other in earlier):
                return f"{self.attribute} is {_shown(value)} once more, but must be distinct"
            return ""
        if earlier and not _equal(value, earlier[0]):
            return f"{self.attribute} is {_shown(value)}, but must match {_shown(earlier[0])}"
        return ""

    def value(self, device: Device) -> Value:
        """Give the value that later devices are compared with."""
        return device.attribute(self.attribute) or ("", None)


def _equal(one: Value, other: Value) -> bool:
    return one[0] in _SCALARS and one == other


def _comparable(one: Value, other: Value) -> bool:
    return one[0] in _SCALARS and other[0] in _SCALARS


def _shown(value: Value) -> str:
    return repr(value[1])
