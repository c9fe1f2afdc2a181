"""A device as selectors see it.

Purpose: a device of a ResourceSlice, converted once, so that evaluating a selector converts nothing.

Flow: `DeviceView.build` sorts attributes and capacities by domain (names without one belong to the
driver) and parses versions and quantities.

Limits: what cannot be read (a version that is none, a value of an unknown type) does not stop the build:
as in the reference, each selector that is evaluated on the device raises, whether it reads that value or
not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driver.cel.values import INT_MAX, INT_MIN, DomainMap
from driver.cel.versions import Version
from driver.errors import QuantityError
from driver.quantities import parse_quantity


class _UnreadableError(Exception):
    """A value of a device that no selector can see."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device.

    Attributes:
        driver: Name of its driver.
        attributes: Values by domain and identifier.
        capacity: Quantities by domain and identifier; the full value, not what is left.
        allow_multiple_allocations: Whether it can be shared.
        problem: Why no selector can be evaluated on it, "" if one can.
    """

    driver: str
    attributes: DomainMap
    capacity: DomainMap
    allow_multiple_allocations: bool
    problem: str = ""

    @classmethod
    def build(cls, device: Mapping[str, Any], *, driver: str) -> DeviceView:
        """Convert a device of a ResourceSlice (v1 JSON)."""
        problem = ""
        attributes, capacity = DomainMap(), DomainMap()
        for name, value in (device.get("attributes") or {}).items():
            try:
                _place(attributes, name, _attribute(value), driver)
            except _UnreadableError as error:
                problem = problem or f"attribute {name}: {error}"
        for name, value in (device.get("capacity") or {}).items():
            try:
                _place(capacity, name, parse_quantity(str(value["value"])), driver)
            except (QuantityError, KeyError, TypeError) as error:
                problem = problem or f"capacity {name}: {error}"
        shared = device.get("allowMultipleAllocations") is True
        return cls(driver, attributes, capacity, shared, problem)


def _place(domains: DomainMap, name: str, value: Any, driver: str) -> None:
    domain, slash, identifier = name.partition("/")
    if not slash:
        domain, identifier = driver, name
    domains.setdefault(domain, {})[identifier] = value


def _attribute(value: Any) -> Any:
    if not isinstance(value, Mapping) or len(value) != 1:
        raise _UnreadableError("not exactly one value")
    ((kind, content),) = value.items()
    readers = _READERS.get(kind)
    if readers is not None:
        return readers(content)
    element = _READERS.get(kind.removesuffix("s")) if kind.endswith("s") else None
    if element is None or not isinstance(content, list):
        raise _UnreadableError(f"a value of the unknown type {kind}")
    return [element(one) for one in content]


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _UnreadableError("not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _UnreadableError("not valid Unicode") from None
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _UnreadableError("not a bool")
    return value


def _int(value: Any) -> int:
    if type(value) is not int or not INT_MIN <= value <= INT_MAX:
        raise _UnreadableError("not an integer of 64 bits")
    return value


def _version(value: Any) -> Version:
    version = Version.parse(_string(value))
    if version is None:
        raise _UnreadableError("not a semantic version")
    return version


_READERS = {"string": _string, "bool": _bool, "int": _int, "version": _version}
