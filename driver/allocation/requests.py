"""What is asked, as values: classes, claims, and their requests.

Purpose: the questions of an allocation, read once and asked of many nodes.

Flow: `driver.allocation.claims` makes them from the API's objects; each request has one or more `Option`s
(the request itself, or its firstAvailable sub-requests), and an option holds the selectors of class and
request in their order.

Limits: selectors are compiled when a device is looked at, so that an error shows only where the scheduler's
would. What is wrong with a claim stands in it at the place where the scheduler would notice, since it may
notice something else first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from driver.allocation.constraints import Constraint
from driver.allocation.limits import class_over_limit
from driver.allocation.models import JSON, Device, Taint
from driver.allocation.selectors import expressions
from driver.errors import AllocationError
from driver.quantities import Quantity

_CLASS_FIELDS = frozenset({"selectors", "config", "extendedResourceName"})


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """A DeviceClass.

    Attributes:
        name: Its name.
        selectors: CEL expressions, all of which must be true.
        config: Copied into results.
        problem: Why it cannot be used, "" if it can.
    """

    name: str
    selectors: tuple[str, ...]
    config: tuple[JSON, ...]
    problem: str = ""

    @classmethod
    def parse(cls, raw: JSON) -> DeviceClass:
        """Read a DeviceClass (v1); what is wrong with it is its `problem`."""
        name: str = raw["metadata"]["name"]
        try:
            spec = raw.get("spec") or {}
            selectors, problem = expressions(spec.get("selectors"))
            if unknown := sorted(set(spec) - _CLASS_FIELDS):
                problem = f"the field {unknown[0]} is not supported yet"
            config = tuple(spec.get("config") or ())
            return cls(name, selectors, config, problem or class_over_limit(spec))
        except (KeyError, TypeError, AttributeError) as error:
            return cls(name, (), (), f"it cannot be read: {error!r}")


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
        path: The claim and the path of the field in it, for messages.
    """

    label: str
    device_class: DeviceClass
    selectors: tuple[str, ...]
    count: int
    all_devices: bool
    admin: bool
    tolerations: tuple[JSON, ...]
    capacity: Mapping[str, Quantity] = field(default_factory=dict)
    path: str = ""

    def tolerates(self, device: Device) -> Taint | None:
        """Give the first taint that stands in the way, None if there is none."""
        return next(
            (
                taint
                for taint in device.taints
                if taint.effect in {"NoSchedule", "NoExecute"}
                and not any(tolerates(one, taint) for one in self.tolerations)
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
    """What a claim asks for.

    Attributes:
        name: Namespace and name.
        requests: Its requests; with a `problem`, those before it.
        constraints: Rules over its devices.
        config: Copied into the result.
        problem: What is wrong with a request, or with the claim as a whole.
        before: Sub-requests that stand before the one with the problem in the same request.
        late_problem: What is noticed only after the devices were counted.
    """

    name: str
    requests: tuple[Request, ...]
    constraints: tuple[Constraint, ...]
    config: tuple[JSON, ...]
    problem: AllocationError | None = None
    before: tuple[Option, ...] = ()
    late_problem: AllocationError | None = None

    @property
    def first_problem(self) -> AllocationError | None:
        """Give what is wrong with it, whenever that is noticed."""
        return self.problem or self.late_problem


def tolerates(toleration: JSON, taint: Taint) -> bool:
    """Say whether a toleration is for a taint, of a device or of a node: the rule is the same."""
    if toleration.get("effect") and toleration["effect"] != taint.effect:
        return False
    if toleration.get("key") and toleration["key"] != taint.key:
        return False
    operator = toleration.get("operator") or "Equal"
    return operator == "Exists" or (operator == "Equal" and (toleration.get("value") or "") == taint.value)
