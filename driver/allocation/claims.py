"""From a ResourceClaim to questions.

Purpose: a claim's spec with its classes looked up and its amounts read, refused with the field's path
where it asks for what cannot be, is switched off, or is not supported yet.

Flow: `prepare` reads the claims of a pod once, to be asked of many nodes, and notes each problem at the place
where kube-scheduler would meet it: what stands before may end the attempt earlier, and with another reason.
`parse_claim` reads one claim and raises.

Limits: fields that we do not know are refused by name, never ignored. Amounts are read here and judged only
where a device would be charged with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driver.allocation.constraints import Constraint
from driver.allocation.errors import (
    AdminAccessDisabledError,
    CapacityDisabledError,
    CapacityRequestError,
    ClaimUnreadableError,
    ClassNotFoundError,
    ConstraintUnknownError,
    NotSupportedError,
    PrioritizedListDisabledError,
)
from driver.allocation.limits import check_claim
from driver.allocation.models import JSON, parse_amounts
from driver.allocation.profile import Profile
from driver.allocation.requests import Claim, DeviceClass, Option, Request
from driver.allocation.selectors import expressions
from driver.errors import AllocationError, QuantityError, shown
from driver.quantities import Quantity

_OPTION_FIELDS = frozenset(
    {"deviceClassName", "selectors", "allocationMode", "count", "tolerations", "capacity"}
)
_CONSTRAINT_FIELDS = frozenset({"requests", "matchAttribute", "distinctAttribute"})


@dataclass(frozen=True, slots=True, eq=False)
class PreparedClaims:
    """The claims of a pod, read once.

    Attributes:
        claims: In the pod's order.
        profile: The rules that they were read by, and are answered by.
    """

    claims: tuple[Claim, ...]
    profile: Profile

    @property
    def options(self) -> tuple[Option, ...]:
        """All requests and sub-requests, in order."""
        return tuple(
            option for claim in self.claims for request in claim.requests for option in request.options
        )


def prepare(
    claims: Sequence[JSON], *, classes: Mapping[str, DeviceClass], profile: Profile
) -> PreparedClaims:
    """Read the claims of a pod, whatever is wrong with them.

    Args:
        claims: ResourceClaims (v1) that are not allocated yet.
        classes: DeviceClasses by name.
        profile: The cluster's rules.
    """
    return PreparedClaims(tuple(_Reader(classes, profile).read(one) for one in claims), profile)


def parse_claim(raw: JSON, classes: Mapping[str, DeviceClass], profile: Profile | None = None) -> Claim:
    """Read a ResourceClaim (v1) and look up its classes.

    Raises:
        AllocationError: It asks for what cannot be, or is not supported yet.
    """
    claim = _Reader(classes, profile or Profile.of()).read(raw)
    if claim.first_problem is not None:
        raise claim.first_problem
    return claim


class _Reader:
    def __init__(self, classes: Mapping[str, DeviceClass], profile: Profile) -> None:
        self._classes = classes
        self._profile = profile
        self._features = profile.features

    def read(self, raw: JSON) -> Claim:
        """Read a claim; what is wrong is noted in it."""
        name = "?"
        try:
            metadata = raw.get("metadata") or {}
            name = f"{metadata.get('namespace') or 'default'}/{metadata.get('name') or ''}"
            return self._claim(raw, name)
        except AllocationError as error:
            return Claim(name, (), (), (), problem=error.with_traceback(None))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            unreadable = ClaimUnreadableError(
                f"a claim cannot be read: {error!r}",
                field=name,
                remedy="Write it as the API documentation shows.",
            )
            return Claim(name, (), (), (), problem=unreadable)

    def _claim(self, raw: JSON, name: str) -> Claim:
        spec = (raw.get("spec") or {}).get("devices") or {}
        path = f"{name}: spec.devices"
        _known(spec, frozenset({"requests", "constraints", "config"}), path)
        check_claim(spec, path)
        _references(spec, path)
        requests: list[Request] = []
        options: list[Option] = []
        try:
            for place, one in enumerate(spec.get("requests") or ()):
                options = []
                self._request(one, f"{path}.requests[{place}]", options)
                requests.append(Request(one["name"], tuple(options)))
        except AllocationError as error:
            return Claim(
                name, tuple(requests), (), (), problem=error.with_traceback(None), before=tuple(options)
            )
        late: AllocationError | None = None
        constraints: list[Constraint] = []
        try:
            for place, one in enumerate(spec.get("constraints") or ()):
                constraints.append(self._constraint(one, f"{path}.constraints[{place}]"))
        except AllocationError as error:
            late = error.with_traceback(None)
        config = tuple(spec.get("config") or ())
        return Claim(name, tuple(requests), tuple(constraints), config, late_problem=late)

    def _request(self, raw: JSON, path: str, options: list[Option]) -> None:
        """Read a request; `options` keeps what was read before something was wrong."""
        name = _text(raw["name"], f"{path}.name")
        _known(raw, frozenset({"name", "exactly", "firstAvailable"}), path)
        exactly, several = raw.get("exactly"), raw.get("firstAvailable") or ()
        if bool(exactly) == bool(several):
            raise NotSupportedError("a request needs one of 'exactly' and 'firstAvailable'", field=path)
        if several and not self._features.prioritized_list:
            raise PrioritizedListDisabledError(
                "DRAPrioritizedList is off in this cluster",
                field=f"{path}.firstAvailable",
                remedy="Write one request with 'exactly'.",
            )
        if exactly:
            where = f"{path}.exactly"
            self._capacity_allowed(exactly, where)
            _known(exactly, _OPTION_FIELDS | {"adminAccess"}, where)
            options.append(self._option(exactly, name, where))
            return
        for place, one in enumerate(several):
            self._capacity_allowed(one, f"{path}.firstAvailable[{place}]")
        for place, one in enumerate(several):
            where = f"{path}.firstAvailable[{place}]"
            _known(one, _OPTION_FIELDS | {"name"}, where)
            sub = _text(one["name"], f"{where}.name")
            options.append(self._option(one, f"{name}/{sub}", where))

    def _capacity_allowed(self, raw: JSON, path: str) -> None:
        # The stable allocator has never heard of amounts.
        if self._profile.channel == "stable" or self._features.consumable_capacity:
            return
        if raw.get("capacity"):
            raise CapacityDisabledError(
                "DRAConsumableCapacity is off in this cluster",
                field=f"{path}.capacity",
                remedy="Ask for whole devices, or have the gate switched on.",
            )

    def _option(self, raw: JSON, label: str, path: str) -> Option:
        own, problem = expressions(raw.get("selectors"))
        if problem:
            raise NotSupportedError(problem, field=f"{path}.selectors")
        if raw.get("adminAccess") is not None and not self._features.admin_access:
            raise AdminAccessDisabledError(
                "DRAAdminAccess is off in this cluster", field=f"{path}.adminAccess"
            )
        device_class = self._class(raw, path)
        mode = raw.get("allocationMode") or "ExactCount"
        if mode not in {"ExactCount", "All"}:
            raise NotSupportedError(
                f"allocation mode {shown(mode)} is not supported yet", field=f"{path}.allocationMode"
            )
        count = raw.get("count") or (1 if mode == "ExactCount" else 0)
        if type(count) is not int or count < 0:
            raise ClaimUnreadableError(f"a count of {shown(count)} means nothing", field=f"{path}.count")
        if mode == "All" and count:
            raise ClaimUnreadableError("a count means nothing with mode All", field=f"{path}.count")
        capacity = raw.get("capacity") or {}
        _known(capacity, frozenset({"requests"}), f"{path}.capacity")
        return Option(
            label=label,
            device_class=device_class,
            selectors=device_class.selectors + own,
            count=count,
            all_devices=mode == "All",
            admin=raw.get("adminAccess") is True,
            tolerations=_tolerations(raw.get("tolerations") or (), f"{path}.tolerations"),
            capacity=_amounts(capacity.get("requests"), f"{path}.capacity.requests"),
            path=path,
        )

    def _class(self, raw: JSON, path: str) -> DeviceClass:
        name = raw.get("deviceClassName") or ""
        found = self._classes.get(name)
        if found is None:
            raise ClassNotFoundError(
                f"there is no DeviceClass {name!r}",
                field=f"{path}.deviceClassName",
                remedy="Create it, or name one that `kubectl get deviceclasses` lists.",
            )
        if found.problem:
            raise NotSupportedError(found.problem, field=f"DeviceClass {name}")
        return found

    def _constraint(self, raw: JSON, path: str) -> Constraint:
        match = raw.get("matchAttribute")
        attribute = match or raw.get("distinctAttribute")
        unknown = [name for name in raw if name not in _CONSTRAINT_FIELDS]
        if not attribute or unknown:
            what = f"of the kind {unknown[0]!r}" if unknown else "without an attribute"
            raise ConstraintUnknownError(f"a constraint {what} is not known", field=path)
        if not match and self._profile.channel == "stable":
            raise ConstraintUnknownError(
                "this cluster's scheduler does not know distinctAttribute",
                field=f"{path}.distinctAttribute",
                remedy="Have DRAConsumableCapacity switched on.",
            )
        _text(attribute, f"{path}.{'matchAttribute' if match else 'distinctAttribute'}")
        return Constraint(
            attribute, not match, frozenset(raw.get("requests") or ()), self._features.list_type_attributes
        )


def _amounts(raw: Mapping[str, str] | None, path: str) -> dict[str, Quantity]:
    try:
        return parse_amounts(raw, field=path)
    except QuantityError as error:
        raise CapacityRequestError(error.message, field=error.field, remedy=error.remedy) from None


def _tolerations(raw: Sequence[JSON], path: str) -> tuple[JSON, ...]:
    for place, one in enumerate(raw):
        if not isinstance(one, Mapping):
            raise ClaimUnreadableError("a toleration is no object", field=f"{path}[{place}]")
    return tuple(raw)


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise ClaimUnreadableError(f"{shown(value)} is no name", field=path)
    return value


def _references(spec: JSON, path: str) -> None:
    """Check that names are there once, and that what is referred to is there."""
    names: set[str] = set()
    for place, request in enumerate(spec.get("requests") or ()):
        here = [request["name"]]
        here += [f"{request['name']}/{one['name']}" for one in request.get("firstAvailable") or ()]
        for name in here:
            if name in names:
                raise ClaimUnreadableError(
                    f"two requests are called {name!r}", field=f"{path}.requests[{place}].name"
                )
            names.add(name)
    for kind in ("constraints", "config"):
        for place, one in enumerate(spec.get(kind) or ()):
            for name in one.get("requests") or ():
                if name not in names:
                    raise ClaimUnreadableError(
                        f"there is no request {name!r}", field=f"{path}.{kind}[{place}].requests"
                    )


def _known(raw: JSON, fields: frozenset[str], path: str) -> None:
    for name in raw:
        if name not in fields:
            raise NotSupportedError(f"the field {name!r} is not supported yet", field=f"{path}.{name}")
