"""From chosen devices to AllocationResults.

Purpose: exactly what kube-scheduler would write into `status.allocation`.

Flow: `allocation_result` for each claim; the share ids come from outside, so that tests are
deterministic.

Limits: 1.36 repeats a claim's config for each request it matches; 1.37 gives each once and leaves
`requests` out where it applies to all. Readers must understand both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from driver.allocation.holdings import Chosen
from driver.allocation.models import JSON
from driver.allocation.nodes import Node, merged_selector
from driver.allocation.profile import Profile
from driver.allocation.requests import Claim, Option


def allocation_result(
    claim: Claim, chosen: Sequence[Chosen], *, node: Node, profile: Profile, share_id: Callable[[], str]
) -> dict[str, Any]:
    """Make the v1 AllocationResult of a claim."""
    devices: dict[str, Any] = {}
    if chosen:
        devices["results"] = [_result(one, profile, share_id) for one in chosen]
    taken: dict[str, Option] = {}
    for one in chosen:
        taken.setdefault(one.option.label.partition("/")[0], one.option)
    # An option without results (mode All is never empty) cannot have been chosen.
    config = (_config_once if profile.config_once else _config_repeated)(claim, taken)
    if config:
        devices["config"] = config
    result: dict[str, Any] = {"devices": devices} if devices else {}
    selector = merged_selector((one.device for one in chosen), node)
    if selector is not None:
        result["nodeSelector"] = selector
    return result


def _result(chosen: Chosen, profile: Profile, share_id: Callable[[], str]) -> dict[str, Any]:
    device, option = chosen.device, chosen.option
    result: dict[str, Any] = {
        "request": option.label,
        "driver": device.id.driver,
        "pool": device.id.pool,
        "device": device.id.device,
    }
    if option.admin:
        result["adminAccess"] = True
    if option.tolerations:
        result["tolerations"] = [dict(one) for one in option.tolerations]
    if profile.features.device_binding_and_status:
        for field in ("bindingConditions", "bindingFailureConditions"):
            if device.raw.get(field):
                result[field] = list(device.raw[field])
    if chosen.shared:
        result["shareID"] = share_id()
        if chosen.consumed:
            result["consumedCapacity"] = {
                name: chosen.consumed[name].canonical() for name in sorted(chosen.consumed)
            }
    return result


def _entry(source: str, requests: Sequence[str], config: JSON) -> dict[str, Any]:
    entry: dict[str, Any] = {"source": source}
    if requests:
        entry["requests"] = list(requests)
    return entry | dict(config)


def _of_classes(taken: dict[str, Option]) -> list[tuple[list[str], JSON]]:
    labels: dict[str, list[str]] = {}
    configs: dict[str, tuple[JSON, ...]] = {}
    for option in taken.values():
        labels.setdefault(option.device_class.name, []).append(option.label)
        configs[option.device_class.name] = option.device_class.config
    return [(labels[name], config) for name, some in configs.items() for config in some]


def _without_requests(config: JSON) -> JSON:
    return {name: value for name, value in config.items() if name != "requests"}


def _config_repeated(claim: Claim, taken: dict[str, Option]) -> list[dict[str, Any]]:
    entries = [_entry("FromClass", labels, config) for labels, config in _of_classes(taken)]
    for config in claim.config:
        requests = config.get("requests") or ()
        times = sum(_names(requests, option) for option in taken.values()) if requests else 1
        entries += [_entry("FromClaim", requests, _without_requests(config))] * times
    return entries


def _config_once(claim: Claim, taken: dict[str, Option]) -> list[dict[str, Any]]:
    every = {option.label for option in taken.values()}
    entries = []
    for labels, config in _of_classes(taken):
        entries.append(_entry("FromClass", [] if set(labels) == every else labels, config))
    for config in claim.config:
        requests = config.get("requests") or ()
        named = {option.label for option in taken.values() if _names(requests, option)}
        if not requests or named:
            shown = [] if named == every else requests
            entries.append(_entry("FromClaim", shown, _without_requests(config)))
    return entries


def _names(requests: Sequence[str], option: Option) -> bool:
    return option.label in requests or option.label.partition("/")[0] in requests
