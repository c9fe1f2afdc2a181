"""What is asked: classes, claims, and their requests.

Purpose: a claim's spec with its classes looked up and its amounts read, refused with the field's path
where it asks for what cannot be or is not supported yet.

Flow: `parse_claim` gives a `Claim` of `Request`s; each has one or more `Option`s (the request itself, or
its firstAvailable sub-requests), and an option holds the selectors of class and request in their order.

Limits: selectors are compiled when a device is looked at, so that an error shows only where the
scheduler's would. Fields that we do not know are refused by name, never ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from driver.allocation.constraints import Constraint
from driver.allocation.errors import (
    CapacityRequestError,
    ClaimUnreadableError,
    ClassNotFoundError,
    NotSupportedError,
)
from driver.allocation.models import JSON, Device, Taint, parse_amounts
from driver.errors import QuantityError
from driver.quantities import MAX_AMOUNT, Quantity

_OPTION_FIELDS = frozenset(
    {"deviceClassName", "selectors", "allocationMode", "count", "tolerations", "capacity"}
)
_CONSTRAINT_FIELDS = frozenset({"requests", "matchAttribute", "distinctAttribute"})
_CLASS_FIELDS = frozenset({"selectors", "config", "extendedResourceName"})


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """A DeviceClass."""

    name: str
    selectors: tuple[str, ...]
    config: tuple[JSON, ...]
    problem: str = ""

    @classmethod
    def parse(cls, raw: JSON) -> DeviceClass:
        """Read a DeviceClass (v1)."""
        spec = raw.get("spec") or {}
        unknown = sorted(set(spec) - _CLASS_FIELDS)
        selectors, problem = _expressions(spec.get("selectors"))
        if unknown:
            problem = f"the field {unknown[0]} is not supported yet"
        return cls(raw["metadata"]["name"], selectors, tuple(spec.get("config") or ()), problem)


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """One way to meet a request.

    Attributes:
        label: `request` or `request/sub`, as results name it.
        device_class: Its class.
        selectors: Those of the class, then its own.
        count: How many devices; 0 with `all_devices`.
        all_devices: Whether it wants all that match.
        admin: Whether it wants access to devices whoever holds them.
        tolerations: As written, for the results too.
        capacity: Amounts asked for, by name.
    """

    label: str
    device_class: DeviceClass
    selectors: tuple[str, ...]
    count: int
    all_devices: bool
    admin: bool
    tolerations: tuple[JSON, ...]
    capacity: Mapping[str, Quantity] = field(default_factory=dict)

    def tolerates(self, device: Device) -> Taint | None:
        """Give the first taint that stands in the way, None if there is none."""
        return next(
            (
                taint
                for taint in device.taints
                if taint.effect in {"NoSchedule", "NoExecute"}
                and not any(_tolerates(one, taint) for one in self.tolerations)
            ),
            None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A request of a claim."""

    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """What a claim asks for."""

    name: str
    requests: tuple[Request, ...]
    constraints: tuple[Constraint, ...]
    config: tuple[JSON, ...]


def parse_claim(raw: JSON, classes: Mapping[str, DeviceClass]) -> Claim:
    """Read a ResourceClaim (v1) and look up its classes.

    Raises:
        AllocationError: It asks for what cannot be, or is not supported yet.
    """
    try:
        metadata = raw.get("metadata") or {}
        name = f"{metadata.get('namespace') or 'default'}/{metadata.get('name') or ''}"
        return _parse(raw, name, classes)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ClaimUnreadableError(
            f"a claim cannot be read: {error!r}", remedy="Write it as the API documentation shows."
        ) from None


def _parse(raw: JSON, name: str, classes: Mapping[str, DeviceClass]) -> Claim:
    spec = (raw.get("spec") or {}).get("devices") or {}
    path = f"{name}: spec.devices"
    _known(spec, frozenset({"requests", "constraints", "config"}), path)
    requests = tuple(
        _request(one, classes, f"{path}.requests[{place}]")
        for place, one in enumerate(spec.get("requests") or ())
    )
    constraints = tuple(
        _constraint(one, f"{path}.constraints[{place}]")
        for place, one in enumerate(spec.get("constraints") or ())
    )
    return Claim(name, requests, constraints, tuple(spec.get("config") or ()))


def _request(raw: JSON, classes: Mapping[str, DeviceClass], path: str) -> Request:
    name = raw["name"]
    _known(raw, frozenset({"name", "exactly", "firstAvailable"}), path)
    if exactly := raw.get("exactly"):
        _known(exactly, _OPTION_FIELDS | {"adminAccess"}, f"{path}.exactly")
        return Request(name, (_option(exactly, name, classes, f"{path}.exactly"),))
    options = []
    for place, one in enumerate(raw.get("firstAvailable") or ()):
        where = f"{path}.firstAvailable[{place}]"
        _known(one, _OPTION_FIELDS | {"name"}, where)
        options.append(_option(one, f"{name}/{one['name']}", classes, where))
    if not options:
        raise NotSupportedError("a request without 'exactly' and 'firstAvailable'", field=path)
    return Request(name, tuple(options))


def _option(raw: JSON, label: str, classes: Mapping[str, DeviceClass], path: str) -> Option:
    class_name = raw.get("deviceClassName") or ""
    device_class = classes.get(class_name)
    if device_class is None:
        raise ClassNotFoundError(
            f"there is no DeviceClass {class_name!r}",
            field=f"{path}.deviceClassName",
            remedy="Create it, or name one that `kubectl get deviceclasses` lists.",
        )
    if device_class.problem:
        raise NotSupportedError(device_class.problem, field=f"DeviceClass {class_name}")
    mode = raw.get("allocationMode") or "ExactCount"
    if mode not in {"ExactCount", "All"}:
        raise NotSupportedError(
            f"allocation mode {mode!r} is not supported yet", field=f"{path}.allocationMode"
        )
    selectors, problem = _expressions(raw.get("selectors"))
    if problem:
        raise NotSupportedError(problem, field=f"{path}.selectors")
    count = raw.get("count") or 1
    if type(count) is not int or count < 0:
        raise ClaimUnreadableError(f"a count of {count!r} means nothing", field=f"{path}.count")
    capacity = raw.get("capacity") or {}
    _known(capacity, frozenset({"requests"}), f"{path}.capacity")
    return Option(
        label=label,
        device_class=device_class,
        selectors=device_class.selectors + selectors,
        count=count if mode == "ExactCount" else 0,
        all_devices=mode == "All",
        admin=raw.get("adminAccess") is True,
        tolerations=tuple(raw.get("tolerations") or ()),
        capacity=_amounts(capacity.get("requests"), f"{path}.capacity.requests"),
    )


def _amounts(raw: Mapping[str, str] | None, path: str) -> dict[str, Quantity]:
    try:
        amounts = parse_amounts(raw, field=path)
    except QuantityError as error:
        raise CapacityRequestError(error.message, field=error.field, remedy=error.remedy) from None
    for name, amount in amounts.items():
        if amount.nano < 0:
            raise CapacityRequestError(
                f"{amount} is negative", field=f"{path}[{name}]", remedy="Ask for 0 or more."
            )
        if amount.rounded_up > MAX_AMOUNT:
            raise CapacityRequestError(
                f"{amount} is more than can be counted with",
                field=f"{path}[{name}]",
                remedy="Ask for at most 4Ei.",
            )
    return amounts


def _constraint(raw: JSON, path: str) -> Constraint:
    _known(raw, _CONSTRAINT_FIELDS, path)
    attribute = raw.get("matchAttribute") or raw.get("distinctAttribute")
    if not attribute:
        raise NotSupportedError("a constraint of an unknown kind is not supported yet", field=path)
    return Constraint(attribute, not raw.get("matchAttribute"), frozenset(raw.get("requests") or ()))


def _expressions(raw: Iterable[JSON] | None) -> tuple[tuple[str, ...], str]:
    expressions: list[str] = []
    for one in raw or ():
        if set(one) != {"cel"} or set(one["cel"]) != {"expression"}:
            return (), "a selector that is not a CEL expression is not supported yet"
        expressions.append(one["cel"]["expression"])
    return tuple(expressions), ""


def _known(raw: JSON, fields: frozenset[str], path: str) -> None:
    for name in raw:
        if name not in fields:
            raise NotSupportedError(f"the field {name!r} is not supported yet", field=f"{path}.{name}")


def _tolerates(toleration: JSON, taint: Taint) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.effect:
        return False
    if toleration.get("key") and toleration["key"] != taint.key:
        return False
    operator = toleration.get("operator") or "Equal"
    return operator == "Exists" or (operator == "Equal" and (toleration.get("value") or "") == taint.value)
