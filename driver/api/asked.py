"""What a claim asks for, carried over where the API server drops it.

Purpose: API servers without the feature gate DRAConsumableCapacity (1.34 and 1.35 by default) drop `capacity`
from the requests of a claim or template before they store it; a mutating webhook still sees it (tried on
1.34.4). It writes the amounts into a ShareConfig, which such servers keep, and stamps the object with a
digest of what it saw. Whoever allocates there takes the amounts from the ShareConfig, and takes nothing from
an object without a stamp that fits: it may have lost its amounts.

Constraints with `distinctAttribute` belong to the same gate. 1.34 keeps them all the same; 1.35 drops the
attribute and then refuses the constraint that is left without one (tried on 1.35.4). So they are carried over
too, and taken out of `constraints`.

API servers of several releases can run side by side, and a webhook is not told which of them asks. So amounts
are carried over and stamped also where the server is seen to keep them; then they stand in the claim twice,
and those of the request count.

Flow: `carry_over` at admission gives config entries and stamp; `restored` gives the requests back with their
amounts; `check_stamp` comes before it. `refuse_lost` finds out that what was carried over was not heeded, as
by kube-scheduler, which knows nothing of it.

Limits: of our capacities only, `memory` and `cores`. An object whose constraints were taken out cannot be
applied again where the server drops them: it has to be made anew. A stamp is no secret and no proof: it tells
a claim that asks for nothing from one that lost what it asked for. At most 32 entries of configuration (API
limit).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from driver.api.base import API_VERSION
from driver.api.share_allocation import is_share_allocation
from driver.api.share_config import ShareConfig, decode_share_config
from driver.cards import DRIVER_NAME
from driver.errors import ClaimError, ConfigError, spelled
from driver.quantities import MIB, parse_quantity

JSON = dict[str, Any]
Amounts = Mapping[str, str]

STAMP = f"{DRIVER_NAME}/asked"
"""Annotation of claims and templates that went through the webhook."""
MAX_CONFIGS = 32
MAX_NAMES = 32
"""Requests and sub-requests that an entry of configuration may name (API limit)."""
REMEDY = (
    "Make the ResourceClaimTemplate anew, if there is one, then the claim and its pod, with "
    "capacity.requests in the request."
)
_NAMES = ("memory", "cores")
_CARRIED = "capacity.requests of the ShareConfig"


class ClaimNotStampedError(ClaimError):
    """The claim did not go through the admission webhook, so what it asked for may have been lost."""

    reason: ClassVar[str] = "ClaimNotStamped"


class AmountsLostError(ClaimError):
    """What the claim asked for was lost before it was allocated, and more was given."""

    reason: ClassVar[str] = "AmountsLost"


def asked_of(devices: Mapping[str, Any], *, is_ours: Callable[[str], bool]) -> dict[str, Amounts]:
    """What each request and sub-request of our classes asks for.

    Args:
        devices: `spec.devices` of a claim, whether or not its requests still hold their amounts.
        is_ours: Whether a DeviceClass of this name picks only devices of our driver.

    Returns:
        Amounts by `name` or `name/sub`; empty where nothing is asked for. Amounts in the request count more
        than those of a ShareConfig.

    Raises:
        ConfigError: A ShareConfig does not decode.
    """
    carried = list(_carried(devices.get("config") or [], field="spec.devices.config"))
    found: dict[str, Amounts] = {}
    for label, option in _options(devices):
        if not is_ours(str(option.get("deviceClassName") or "")):
            continue
        amounts: dict[str, str] = {}
        for names, values in carried:
            if _meant(names, label):
                amounts |= values
        found[label] = amounts | _amounts(option)
    return found


def only_carried(
    devices: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], *, request: str, field: str
) -> Amounts:
    """The amounts that configuration asks for and the request itself does not.

    Args:
        devices: `spec.devices` of the claim.
        entries: Configuration in force: of the classes first, then of the claim.
        request: The request, `name` or `name/sub`.
        field: Path of `entries`, for errors.

    Raises:
        ConfigError: A ShareConfig for this request does not decode.
    """
    amounts: dict[str, str] = {}
    for number, entry in enumerate(entries):
        if _meant(entry.get("requests") or [], request):
            for _, values in _carried([entry], field=field, first=number):
                amounts |= values
    asked = next((_amounts(option) for label, option in _options(devices) if label == request), {})
    return {name: text for name, text in amounts.items() if name not in asked}


def refuse_lost(carried: Amounts, given: Mapping[str, int], *, request: str, field: str) -> None:
    """Refuses what was given where configuration asked for less and the allocator did not heed it.

    Args:
        carried: What `only_carried` says.
        given: Memory in bytes and cores in percent; 0 cores are no cap.
        request: The request, for the error.
        field: Path of what was given, for the error.

    Raises:
        AmountsLostError: More was given than asked for.
        QuantityError: What was asked for is no amount.
    """
    for name, text in carried.items():
        asked = parse_quantity(text, field=f"{_CARRIED}.{name}").rounded_up
        if name == "memory":
            # Our slices give whole MiB, and at least one.
            more = given[name] > max(-(-asked // MIB) * MIB, MIB)
        else:
            more = asked > 0 and not 0 < given[name] <= asked
        if more:
            raise AmountsLostError(
                f"Request {request} asked for {name}: {text}, but was given {_words(name, given[name])}: "
                "its capacity.requests were lost when the claim, or the template that it was made from, was "
                "stored by an API server that drops them.",
                field=field,
                remedy=REMEDY,
            )


def _words(name: str, amount: int) -> str:
    if name == "memory":
        return f"{amount // MIB}Mi"
    return f"{amount} percent" if amount else "no cap"


def _meant(names: Sequence[str], label: str) -> bool:
    return not names or label in names or label.partition("/")[0] in names


def distinct_of(devices: Mapping[str, Any]) -> list[JSON]:
    """The constraints with `distinctAttribute`, also those that were carried over; each once, in one order.

    Raises:
        ConfigError: A ShareConfig does not decode.
    """
    found = [_constraint(one) for one in devices.get("constraints") or [] if one.get("distinctAttribute")]
    found += _carried_constraints(devices)
    unique = {json.dumps(one, sort_keys=True): one for one in found}
    return [unique[text] for text in sorted(unique)]


def other_constraints(devices: Mapping[str, Any]) -> list[JSON]:
    """The constraints that every API server keeps."""
    return [one for one in devices.get("constraints") or [] if not one.get("distinctAttribute")]


def _carried_constraints(devices: Mapping[str, Any]) -> list[JSON]:
    return [
        _constraint({"requests": one.requests, "distinctAttribute": one.distinct_attribute})
        for _, said in _configs(devices.get("config") or [], field="spec.devices.config")
        for one in said.constraints
    ]


def _constraint(one: Mapping[str, Any]) -> JSON:
    return {"distinctAttribute": str(one["distinctAttribute"]), "requests": list(one.get("requests") or [])}


def stamp_of(asked: Mapping[str, Amounts], distinct: Sequence[JSON] = ()) -> str:
    """The digest of what is asked for."""
    amounts = {label: dict(values) for label, values in asked.items()}
    text = json.dumps([amounts, list(distinct)] if distinct else amounts, sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def carry_over(
    devices: Mapping[str, Any], *, is_ours: Callable[[str], bool], kept: bool = False
) -> tuple[list[JSON], str]:
    """What a webhook adds to a claim or template.

    Args:
        devices: Its `spec.devices`, as it was sent.
        is_ours: Whether a DeviceClass of this name picks only devices of our driver.
        kept: Whether the API server is seen to keep amounts, and constraints with them. Then constraints are
            left to it, and so is everything where there is no room for more entries: the stamp alone tells
            then that another server dropped what was asked.

    Returns:
        Entries to add to `config`, and the stamp; no entries where the requests ask for nothing, or where
        what they ask for stands in a ShareConfig already. Constraints that were carried over have to be taken
        out: see `other_constraints`.

    Raises:
        ConfigError: A ShareConfig does not decode, or there would be more entries than the API allows.
    """
    asked = asked_of(devices, is_ours=is_ours)
    bare = {**devices, "requests": [_without_amounts(one) for one in devices.get("requests") or []]}
    known = asked_of(bare, is_ours=is_ours)
    groups: dict[str, list[str]] = {}
    for label, amounts in asked.items():
        if amounts and known.get(label) != amounts:
            groups.setdefault(json.dumps(dict(amounts), sort_keys=True), []).append(label)
    entries = [
        _entry(labels[start : start + MAX_NAMES], json.loads(text))
        for text, labels in groups.items()
        for start in range(0, len(labels), MAX_NAMES)
    ]
    distinct = distinct_of(devices)
    carried = _carried_constraints(devices)
    missing = [one for one in distinct if one not in carried]
    if missing and not kept:
        entries.append(_config({"constraints": missing}))
    present = len(devices.get("config") or [])
    if present + len(entries) > MAX_CONFIGS:
        if kept:
            return [], stamp_of(asked, distinct)
        raise ConfigError(
            f"With what its requests ask for, the claim would have {present + len(entries)} entries of "
            f"configuration, but at most {MAX_CONFIGS} are possible.",
            field="spec.devices.config",
            remedy="Ask for fewer different amounts, or give one entry for several requests.",
        )
    return entries, stamp_of(asked, distinct)


def check_stamp(
    devices: Mapping[str, Any],
    annotations: Mapping[str, str],
    *,
    is_ours: Callable[[str], bool],
    kept: bool = False,
) -> None:
    """Refuses a claim that may have lost what it asked for.

    Args:
        devices: Its `spec.devices`, as it is stored.
        annotations: Its annotations.
        is_ours: Whether a DeviceClass of this name picks only devices of our driver.
        kept: Whether the API servers are seen to keep amounts: then a claim needs no stamp, but one that has
            a stamp of something else was stored by a server that dropped what it asked for, unless amounts
            in its requests show that it was not.

    Raises:
        ClaimNotStampedError: It has no stamp, or one of something else.
        ConfigError: A ShareConfig does not decode.
    """
    stamp = annotations.get(STAMP)
    if kept and (stamp is None or any(option.get("capacity") for _, option in _options(devices))):
        return
    if stamp is not None and stamp == stamp_of(asked_of(devices, is_ours=is_ours), distinct_of(devices)):
        return
    raise ClaimNotStampedError(
        "The claim did not go through Dragoman's admission webhook, so what it asks for may have been lost."
        if stamp is None
        else "The claim is not what went through Dragoman's admission webhook.",
        field=f"metadata.annotations[{STAMP}]",
        remedy="See that the webhook runs, then make the claim anew; if it was made from a "
        "ResourceClaimTemplate, make the template anew first.",
    )


def restored(devices: Mapping[str, Any], *, is_ours: Callable[[str], bool]) -> JSON:
    """The same requests with the amounts that they ask for, and the constraints that were carried over."""
    asked = asked_of(devices, is_ours=is_ours)
    requests = []
    for one in devices.get("requests") or []:
        name = str(one.get("name"))
        made = dict(one)
        if one.get("exactly"):
            made["exactly"] = _with_amounts(one["exactly"], asked.get(name) or {})
        if one.get("firstAvailable"):
            made["firstAvailable"] = [
                _with_amounts(sub, asked.get(f"{name}/{sub.get('name')}") or {})
                for sub in one["firstAvailable"]
            ]
        requests.append(made)
    distinct = distinct_of(devices)
    if not distinct:
        return {**devices, "requests": requests}
    return {**devices, "requests": requests, "constraints": [*other_constraints(devices), *distinct]}


def _options(devices: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in devices.get("requests") or []:
        name = str(one.get("name"))
        if one.get("exactly"):
            yield name, one["exactly"]
        for sub in one.get("firstAvailable") or []:
            yield f"{name}/{sub.get('name')}", sub


def _amounts(option: Mapping[str, Any]) -> dict[str, str]:
    requests = (option.get("capacity") or {}).get("requests") or {}
    return {name: spelled(requests[name]) for name in _NAMES if requests.get(name) is not None}


def _carried(
    entries: Sequence[Mapping[str, Any]], *, field: str, first: int = 0
) -> Iterator[tuple[Sequence[str], dict[str, str]]]:
    for names, said in _configs(entries, field=field, first=first):
        if said.capacity is not None:
            values = said.capacity.requests
            given = {"memory": values.memory, "cores": values.cores}
            yield names, {name: text for name, text in given.items() if text is not None}


def _configs(
    entries: Sequence[Mapping[str, Any]], *, field: str, first: int = 0
) -> Iterator[tuple[Sequence[str], ShareConfig]]:
    for index, entry in enumerate(entries, first):
        opaque = entry.get("opaque")
        if not isinstance(opaque, Mapping) or opaque.get("driver") != DRIVER_NAME:
            continue
        if is_share_allocation(entry):
            continue
        said = decode_share_config(opaque.get("parameters"), field=f"{field}[{index}].opaque.parameters")
        yield entry.get("requests") or [], said


def _without_amounts(request: Mapping[str, Any]) -> JSON:
    made = dict(request)
    if request.get("exactly"):
        made["exactly"] = {**request["exactly"], "capacity": None}
    if request.get("firstAvailable"):
        made["firstAvailable"] = [{**sub, "capacity": None} for sub in request["firstAvailable"]]
    return made


def _with_amounts(option: Mapping[str, Any], amounts: Amounts) -> JSON:
    if not amounts:
        return dict(option)
    requests = {**((option.get("capacity") or {}).get("requests") or {}), **amounts}
    return {**option, "capacity": {"requests": requests}}


def _entry(labels: Sequence[str], amounts: Amounts) -> JSON:
    return {"requests": list(labels), **_config({"capacity": {"requests": dict(sorted(amounts.items()))}})}


def _config(says: JSON) -> JSON:
    parameters = {"apiVersion": API_VERSION, "kind": "ShareConfig", **says}
    return {"opaque": {"driver": DRIVER_NAME, "parameters": dict(sorted(parameters.items()))}}
