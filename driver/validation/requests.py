"""The requests of a claim, one by one, whatever somebody made of them.

Flow: `options_of` reads `spec.devices.requests`; each request is one option, or one for each of its
sub-requests.

Limits: what the API server checks of a request's form (names, references, modes) is read and not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driver.validation.errors import ObjectTooLargeError, ObjectUnreadableError
from driver.validation.findings import Notes
from driver.validation.limits import MAX_REQUESTS, MAX_SUB_REQUESTS
from driver.validation.reading import as_mapping, entries, mapping, text


@dataclass(frozen=True, kw_only=True)
class Option:
    """A request, or one of its sub-requests.

    Attributes:
        request: Name of the request.
        label: `request`, or `request/sub`.
        field: Its path.
        device_class: Name of its DeviceClass.
        count: How many devices; 0 for all that match.
        admin: Whether it asks for access to devices whoever holds them.
        raw: What was written.
    """

    request: str
    label: str
    field: str
    device_class: str
    count: int
    admin: bool
    raw: Mapping[str, Any]

    @property
    def amounts_field(self) -> str:
        """Path of the amounts that it asks for."""
        return f"{self.field}.capacity.requests"

    def amounts(self) -> Mapping[str, Any]:
        """The amounts that it asks for, as written.

        Raises:
            ObjectUnreadableError: They are no object.
        """
        capacity = mapping(self.raw, "capacity", field=self.field)
        return mapping(capacity, "requests", field=f"{self.field}.capacity")


def options_of(devices: Mapping[str, Any], *, field: str, notes: Notes) -> list[Option]:
    """Reads the requests of a claim, and notes those that cannot be read.

    Args:
        devices: `spec.devices`.
        field: Its path.
        notes: Where to note errors.
    """
    found: list[Option] = []
    try:
        requests = entries(devices, "requests", field=field, most=MAX_REQUESTS)
    except (ObjectUnreadableError, ObjectTooLargeError) as odd:
        notes.refuse(odd)
        return found
    for place, one in enumerate(requests):
        try:
            found += _options(one, field=f"{field}.requests[{place}]")
        except (ObjectUnreadableError, ObjectTooLargeError) as odd:
            notes.refuse(odd)
    return found


def _options(request: Any, *, field: str) -> list[Option]:
    request = as_mapping(request, field=field)
    name = text(request, "name", field=field)
    found = []
    exactly = mapping(request, "exactly", field=field)
    if exactly:
        found.append(_option(exactly, request=name, label=name, field=f"{field}.exactly"))
    several = entries(request, "firstAvailable", field=field, most=MAX_SUB_REQUESTS)
    for place, one in enumerate(several):
        where = f"{field}.firstAvailable[{place}]"
        option = as_mapping(one, field=where)
        sub = text(option, "name", field=where)
        found.append(_option(option, request=name, label=f"{name}/{sub}", field=where))
    return found


def _option(raw: Mapping[str, Any], *, request: str, label: str, field: str) -> Option:
    count = raw.get("count")
    if count is not None and (type(count) is not int or count < 0):
        raise ObjectUnreadableError("A count is a whole number above 0.", field=f"{field}.count")
    every = text(raw, "allocationMode", field=field) == "All"
    return Option(
        request=request,
        label=label,
        field=field,
        device_class=text(raw, "deviceClassName", field=field),
        count=0 if every else count or 1,
        admin=raw.get("adminAccess") is True,
        raw=raw,
    )
