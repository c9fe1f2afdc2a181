"""What a claim asks for, in the form that charging works on: small, comparable, and read once.

Flow: `ask_of` reads `spec.devices` of a claim and gives an `Ask`; equal specs give equal asks, so that what
one of them is charged is known for all of them.

Limits: reads anything that an API server could have stored and never raises: what cannot be read counts as
a request for a whole card. At most the API's 32 requests with 8 alternatives each, and texts as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from driver.api.asked import asked_of
from driver.cards import CORES_PER_CARD, DRIVER_NAME
from driver.errors import ConfigError, QuantityError
from driver.quantities import MIB, parse_quantity

MAX_RESULTS = 32
"""Devices that a claim can be given (API limit); `allocationMode: All` is charged with as many."""
_MAX_MIB = 1 << 43  # 8 EiB, which is more than the API's integers hold


@dataclass(frozen=True, slots=True)
class Option:
    """One way to meet a request.

    Attributes:
        class_name: DeviceClass.
        selectors: CEL expressions of the request.
        count: Devices; `MAX_RESULTS` for all that there are.
        memory_mib: Memory of each in MiB, rounded up; None if none is asked for, which gives a whole card.
        cores: Compute of each in percent, rounded up; None if none is asked for.
        everything: Whether it asks for all devices that there are, by `allocationMode: All`.
    """

    class_name: str
    selectors: tuple[str, ...] = ()
    count: int = 1
    memory_mib: int | None = None
    cores: int | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request: the first of the options that can be met is given.

    Attributes:
        name: Its name.
        options: What it could be given; one for `exactly`.
    """

    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a claim asks for.

    Attributes:
        requests: Its requests, without those for admin access, which take nothing from anybody.
    """

    requests: tuple[Request, ...] = ()
    _hash: int = field(default=0, compare=False, repr=False)

    def __hash__(self) -> int:
        """As the requests; kept, since charges are looked up by asks."""
        return self._hash or hash(self.requests)


def ask_of(claim: Mapping[str, Any], *, carried: bool) -> Ask:
    """Reads a claim.

    Args:
        claim: A ResourceClaim, or anything with its `spec`.
        carried: Whether amounts count that stand in a ShareConfig and not in the request: where our allocator
            decides, since it heeds them. kube-scheduler does not, and gives a whole card.
    """
    spec = claim.get("spec")
    devices = spec.get("devices") if isinstance(spec, Mapping) else None
    if not isinstance(devices, Mapping):
        return Ask()
    amounts: Mapping[str, Mapping[str, str]] = {}
    if carried:
        try:
            amounts = asked_of(devices, is_ours=lambda _name: True)
        except (ConfigError, AttributeError, TypeError):
            # It could not be allocated either; without amounts it counts a whole card for each device.
            amounts = {}
    found = tuple(_requests(devices, amounts))
    return Ask(found, hash(found))


def drivers_of(claim: Mapping[str, Any]) -> dict[str, bool] | None:
    """Which requests of an allocated claim were given cards of ours; None while it is not allocated.

    Allocations are the one thing about a claim that users cannot write.
    """
    status = claim.get("status")
    allocation = status.get("allocation") if isinstance(status, Mapping) else None
    if not isinstance(allocation, Mapping):
        return None
    found: dict[str, bool] = {}
    for result in (allocation.get("devices") or {}).get("results") or []:
        name = str(result.get("request") or "").partition("/")[0]
        found[name] = found.get(name, False) or result.get("driver") == DRIVER_NAME
    return found


def _requests(devices: Mapping[str, Any], amounts: Mapping[str, Mapping[str, str]]) -> Sequence[Request]:
    found = []
    for one in devices.get("requests") or []:
        if not isinstance(one, Mapping):
            continue
        name = str(one.get("name") or "")
        options = []
        exactly = one.get("exactly")
        if isinstance(exactly, Mapping) and exactly.get("adminAccess") is not True:
            options.append(_option(exactly, amounts.get(name)))
        options += [
            _option(sub, amounts.get(f"{name}/{sub.get('name')}"))
            for sub in one.get("firstAvailable") or []
            if isinstance(sub, Mapping)
        ]
        if options:
            found.append(Request(intern(name), tuple(options)))
    return found


def _option(raw: Mapping[str, Any], carried: Mapping[str, str] | None) -> Option:
    capacity = raw.get("capacity")
    asked = capacity.get("requests") if isinstance(capacity, Mapping) else None
    said = {**(carried or {}), **(asked if isinstance(asked, Mapping) else {})}
    everything = raw.get("allocationMode") == "All"
    count = raw.get("count")
    memory, cores = _whole(said.get("memory")), _whole(said.get("cores"))
    return Option(
        class_name=intern(str(raw.get("deviceClassName") or "")),
        selectors=_expressions(raw.get("selectors")),
        count=MAX_RESULTS if everything else count if type(count) is int and count > 0 else 1,
        memory_mib=None if memory is None else min(max(1, -(-memory // MIB)), _MAX_MIB),
        cores=None if cores is None else min(max(0, cores), CORES_PER_CARD),
        everything=everything,
    )


def _whole(amount: object) -> int | None:
    if amount is None:
        return None
    try:
        return parse_quantity(str(amount)).rounded_up
    except QuantityError:
        return None


def _expressions(raw: Any) -> tuple[str, ...]:
    found = []
    for one in raw or []:
        cel = one.get("cel") if isinstance(one, Mapping) else None
        found.append(intern(str(cel.get("expression") or "")) if isinstance(cel, Mapping) else "")
    return tuple(found)
