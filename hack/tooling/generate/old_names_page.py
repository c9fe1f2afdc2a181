"""Makes the page of names of before: what each resource and annotation becomes.

Flow: each row is an example that is converted when the page is made, so the page says what conversion does.

Limits: one example for each name. A part of a card in percent is shown for one size of card.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from driver.conversion import CardKind, ConversionSettings, convert
from driver.vendors import catalogue
from driver.vendors.facts import VendorFacts
from driver.vendors.legacy import LegacyNames, LegacyTemplate

_SIZE_MIB = 40960
_INTRODUCTION = (
    "What pods asked for before, and what their claims ask for instead. How to change over, what is refused "
    "and what is different: [migrating](../migrating.md). Extended resources that stand for DeviceClasses "
    "are [there](../migrating.md#whole-devices-by-the-name-of-a-class) too."
)
_ROLES: Mapping[str, str] = {
    "useUUID": "only cards with one of these UUIDs (or PCI addresses)",
    "avoidUUID": "no card with one of these",
    "useType": "only cards whose vendor and model contain one of these, whatever the case",
    "avoidType": "no card whose vendor and model contain one of these",
    "mode": "`hami-core`: any amount, with templates too; other modes are refused by name",
    "modes": "`hami-core`: a share by amounts; `mps`: one on a card whose caps on compute MPS holds; `mig`: "
    "a [partition](../migrating.md#modes) of at least as much memory; several: any of them, the first first",
    "qos": "`fixed-share`, `burst-share`: the cap on compute holds; `best-effort`: it does not",
    "numaBind": "`true`: all cards of a container at one NUMA node",
}


def page() -> str:
    """The page, without its head line."""
    lines = ["# Names of before", "", _INTRODUCTION, ""]
    for facts in catalogue.VENDORS:
        lines += _vendor(facts)
    return "\n".join(lines)


def _vendor(facts: VendorFacts) -> Iterator[str]:
    yield f"## {facts.title}"
    yield ""
    yield f"Class `{facts.device_class}`."
    yield ""
    yield "| a container asks | its claim asks |"
    yield "|---|---|"
    for entry in facts.legacy:
        for limits in _examples(entry):
            asked = ", ".join(f"`{name}: {value}`" for name, value in limits.items())
            yield f"| {asked} | {_becomes(limits, facts=facts, entry=entry)} |"
    yield ""
    annotations = dict.fromkeys(pair for entry in facts.legacy for pair in entry.annotations)
    if annotations:
        yield "| annotation | becomes |"
        yield "|---|---|"
        several = {entry.annotation("mode") for entry in facts.legacy if len(entry.modes) > 1}
        for role, key in annotations:
            yield f"| `{key}` | {_ROLES['modes' if key in several else role]} |"
        yield ""


def _examples(entry: LegacyNames) -> Iterator[dict[str, str]]:
    yield {entry.count: "1"}
    if entry.parts_fill:
        yield {entry.count: str(entry.parts)}
    if entry.memory and not entry.templates:
        yield {entry.count: "1", entry.memory: "20000" if entry.memory_steps_mib else "8"}
    if entry.memory_in_bytes:
        yield {entry.count: "1", entry.memory: "1536Mi"}
    for template in entry.templates:
        yield {entry.count: "1", entry.memory: str(template.memory_mib)}
    if entry.memory_percent:
        yield {entry.count: "1", entry.memory_percent: "50"}
    if entry.cores:
        yield {entry.count: "1", entry.cores: str(entry.cores_of // 4)}
    if entry.priority:
        yield {entry.count: "1", entry.cores: str(entry.cores_of // 4), entry.priority: "0"}


def _becomes(limits: Mapping[str, str], *, facts: VendorFacts, entry: LegacyNames) -> str:
    model = entry.models[0] if entry.models else "any"
    kind = CardKind(vendor=facts.name, model=model, memory_mib=_SIZE_MIB)
    found = convert(
        {"metadata": {}, "spec": {"containers": [{"name": "main", "resources": {"limits": limits}}]}},
        identity="page",
        settings=ConversionSettings(),
        stock=(kind,),
        classes={},
    )
    if found is None:
        raise AssertionError(limits)
    devices = found.templates[0]["spec"]["spec"]["devices"]
    (request,) = devices["requests"]
    options = [request["exactly"]] if "exactly" in request else request["firstAvailable"]
    text = _amounts(options[0])
    if "firstAvailable" in request:
        text = f"of a card of {_SIZE_MIB // 1024} GiB {text}; an alternative for each size there is"
    return ", ".join(filter(None, (text, _models(entry), _template(entry, limits), _priority(devices))))


def _priority(devices: Mapping[str, Any]) -> str:
    stated = [one["opaque"]["parameters"].get("priority") for one in devices.get("config", [])]
    return next((f"`priority: {one}` in its ShareConfig" for one in stated if one), "")


def _amounts(option: Mapping[str, Any]) -> str:
    requests = option.get("capacity", {}).get("requests", {})
    parts = [f"`{name}: {value}`" for name, value in sorted(requests.items(), reverse=True)]
    if "memory" not in requests:
        parts.insert(0, "all of its memory" if parts else "a whole card")
    number = option["count"]
    return (f"{number} cards, each " if number > 1 else "") + ", ".join(parts)


def _models(entry: LegacyNames) -> str:
    return f"of model {entry.models[0]}" if entry.models else ""


def _template(entry: LegacyNames, limits: Mapping[str, str]) -> str:
    def fits(one: LegacyTemplate) -> bool:
        return limits.get(entry.memory) == str(one.memory_mib)

    return next((f"as template `{one.name}`" for one in entry.templates if fits(one)), "")
