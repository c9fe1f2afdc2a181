"""What a claim asks for, in the form that charging works on: small, comparable, and read once.

Flow: `ask_of` reads `spec.devices` of a claim and gives an `Ask`; equal specs give equal asks, so that what
one of them is charged is known for all of them. `packed` makes a short text of an ask, which is what is kept
of each claim; `unpacked` reads it.

Limits: reads anything that an API server could have stored and never raises: what cannot be read counts as
a request for a whole card. An ask is small whatever the claim is: of many or long selectors only the first
are in it, and one that would still be longer than `MAX_PACKED` counts as one for whole cards. Both err to the
side of more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from driver.api.asked import asked_of
from driver.cards import CORES_PER_CARD, DRIVER_NAME
from driver.errors import ConfigError, QuantityError
from driver.quantities import MIB, parse_quantity

MAX_RESULTS = 32
"""Devices that a claim can be given (API limit); `allocationMode: All` is charged with as many."""
MAX_SELECTORS = 8
"""Different selectors of a claim that are looked at; without the others it could get more cards."""
MAX_CHARACTERS = 2048
"""Characters of all of them together: compiling takes some 4 ms for each thousand."""
MAX_PACKED = 4096
"""Bytes of what is kept of a claim."""
ANY_CLASS = ""
"""Stands for classes of which there are too many to be kept: counts as any class that a quota is about."""
_MAX_REQUESTS, _MAX_ALTERNATIVES = 32, 8
_MAX_NAME, _MAX_CLASS_NAME = 63, 253
_MAX_MIB = 1 << 43  # 8 EiB, which is more than the API's integers hold


@dataclass(frozen=True, slots=True)
class Option:
    """One way to meet a request.

    Attributes:
        class_name: DeviceClass, or `ANY_CLASS`.
        selectors: CEL expressions of the request, as far as they are looked at.
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
    ask = Ask(tuple(_requests(devices, amounts)))
    if len(packed(ask)) <= MAX_PACKED:
        return ask
    by_class = _whole_cards(ask, is_by_class=True)
    return by_class if len(packed(by_class)) <= MAX_PACKED else _whole_cards(ask, is_by_class=False)


def packed(ask: Ask) -> bytes:
    """A short text for an ask; equal ones have equal texts."""
    classes: dict[str, int] = {}
    selectors: dict[str, int] = {}
    requests = [
        [
            request.name,
            [
                [
                    classes.setdefault(one.class_name, len(classes)),
                    [selectors.setdefault(text, len(selectors)) for text in one.selectors],
                    one.count,
                    one.memory_mib,
                    one.cores,
                    int(one.everything),
                ]
                for one in request.options
            ],
        ]
        for request in ask.requests
    ]
    text = json.dumps([list(classes), list(selectors), requests], ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def unpacked(text: bytes) -> Ask:
    """What `packed` made a text of."""
    classes, selectors, requests = json.loads(text.decode("utf-8", "surrogatepass"))
    return Ask(
        tuple(
            Request(
                name,
                tuple(
                    Option(
                        class_name=classes[class_],
                        selectors=tuple(selectors[one] for one in which),
                        count=count,
                        memory_mib=memory,
                        cores=cores,
                        everything=bool(everything),
                    )
                    for class_, which, count, memory, cores, everything in options
                ),
            )
            for name, options in requests
        )
    )


def drivers_of(claim: Mapping[str, Any]) -> dict[str, bool] | None:
    """Which requests of an allocated claim were given cards of ours; None while it is not allocated.

    Allocations are the one thing about a claim that users cannot write. One that gives no device to anybody
    is none: our allocator writes such a one for a moment where it may change nothing else of a claim.
    """
    status = claim.get("status")
    allocation = status.get("allocation") if isinstance(status, Mapping) else None
    if not isinstance(allocation, Mapping):
        return None
    found: dict[str, bool] = {}
    for result in (allocation.get("devices") or {}).get("results") or []:
        name = str(result.get("request") or "").partition("/")[0]
        found[name] = found.get(name, False) or result.get("driver") == DRIVER_NAME
    return found or None


def _whole_cards(ask: Ask, *, is_by_class: bool) -> Ask:
    """An ask that is charged no less than another one, in few words."""
    found = []
    for request in ask.requests:
        by_class: dict[str, list[Option]] = {}
        for one in request.options:
            by_class.setdefault(one.class_name if is_by_class else ANY_CLASS, []).append(one)
        options: list[Option] = []
        for name, some in by_class.items():
            most = Option(
                name, count=max(one.count for one in some), everything=any(one.everything for one in some)
            )
            options.append(most)
            memory = max((one.memory_mib for one in some if one.memory_mib is not None), default=None)
            if memory is not None:
                # A quota may say that a whole card counts less than what a share of it asks for.
                options.append(replace(most, memory_mib=memory, cores=max(one.cores or 0 for one in some)))
        found.append(Request(request.name, tuple(options)))
    return Ask(tuple(found))


class _Heeded:
    """The selectors of a claim that are looked at."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._characters = 0

    def of(self, raw: Any) -> tuple[str, ...]:
        return tuple(one for one in _expressions(raw) if self._is_heeded(one))

    def _is_heeded(self, text: str) -> bool:
        if text in self._texts:
            return True
        if len(self._texts) >= MAX_SELECTORS or self._characters + len(text) > MAX_CHARACTERS:
            return False
        self._texts.add(text)
        self._characters += len(text)
        return True


def _requests(devices: Mapping[str, Any], amounts: Mapping[str, Mapping[str, str]]) -> Sequence[Request]:
    found = []
    heeded = _Heeded()
    for one in _listed(devices.get("requests"))[:_MAX_REQUESTS]:
        if not isinstance(one, Mapping):
            continue
        name = str(one.get("name") or "")[:_MAX_NAME]
        options: dict[Option, None] = {}
        exactly = one.get("exactly")
        if isinstance(exactly, Mapping) and exactly.get("adminAccess") is not True:
            options[_option(exactly, amounts.get(name), heeded)] = None
        for sub in _listed(one.get("firstAvailable"))[:_MAX_ALTERNATIVES]:
            if isinstance(sub, Mapping):
                options[_option(sub, amounts.get(f"{name}/{sub.get('name')}"), heeded)] = None
        if options:
            found.append(Request(name, tuple(options)))
    return found


def _option(raw: Mapping[str, Any], carried: Mapping[str, str] | None, heeded: _Heeded) -> Option:
    capacity = raw.get("capacity")
    asked = capacity.get("requests") if isinstance(capacity, Mapping) else None
    said = {**(carried or {}), **(asked if isinstance(asked, Mapping) else {})}
    everything = raw.get("allocationMode") == "All"
    count = raw.get("count")
    memory, cores = _whole(said.get("memory")), _whole(said.get("cores"))
    class_name = str(raw.get("deviceClassName") or "")
    return Option(
        class_name=class_name if len(class_name) <= _MAX_CLASS_NAME else ANY_CLASS,
        selectors=heeded.of(raw.get("selectors")),
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


def _expressions(raw: Any) -> Iterator[str]:
    for one in _listed(raw):
        cel = one.get("cel") if isinstance(one, Mapping) else None
        yield str(cel.get("expression") or "") if isinstance(cel, Mapping) else ""


def _listed(raw: Any) -> Sequence[Any]:
    return raw if isinstance(raw, list) else ()
