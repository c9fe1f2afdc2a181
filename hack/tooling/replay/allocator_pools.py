"""Random pools of devices: ordinary, shareable, partitionable, for all nodes, by label, and per device.

Limits: each slice would pass the API server's validation; a pool as a whole may be incomplete, stale or
invalid, as drivers can make it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

JSON = dict[str, Any]

DRIVERS = ("dragoman.dev", "gpu.example.com", "net.example.com")
TAGS = ("shares", "exclusive", "partitions", "all-nodes", "by-label", "per-device")

_MODELS = (
    ("nvidia", "A100", "80Gi"),
    ("nvidia", "H100", "80Gi"),
    ("ascend", "910B4", "32Gi"),
    ("amd", "MI300X", "192Gi"),
)
_VERSIONS = ("550.54.15", "570.86.10", "24.1.0", "1.2.3-rc.1")
_MEMORY_POLICIES: tuple[JSON | None, ...] = (
    None,
    {},
    {"default": "4Gi"},
    {"default": "1Gi", "validRange": {"min": "1Mi", "step": "1Mi"}},
    {"default": "2Gi", "validRange": {"min": "1Gi"}},
    {"default": "2Gi", "validRange": {"min": "1Gi", "max": "16Gi"}},
    {"default": "3G", "validRange": {"min": "1G", "max": "9G", "step": "2G"}},
    {"default": "1Gi", "validRange": {"min": "0", "step": "1Gi"}},
    {"default": "4Gi", "validValues": ["1Gi", "2Gi", "4Gi", "8Gi", "16Gi", "32Gi"]},
    {"default": "1500m", "validValues": ["1500m", "1Gi"]},
)
_CORE_POLICIES: tuple[JSON | None, ...] = (
    None,
    {"default": "0", "validRange": {"min": "0", "max": "100", "step": "1"}},
    {"default": "10", "validRange": {"min": "5", "max": "95", "step": "5"}},
    {"default": "25", "validValues": ["10", "25", "50", "100"]},
    {"default": "30"},
    {"default": "1500m", "validRange": {"min": "500m", "step": "500m"}},
)
_EFFECTS = ("NoSchedule", "NoExecute", "None")


class Pools:
    """Makes the slices of one cluster."""

    def __init__(self, rng: random.Random, *, nodes: Sequence[Mapping[str, Any]], lists: bool) -> None:
        self._rng, self._nodes, self._lists = rng, nodes, lists
        self.slices: list[JSON] = []
        self.tags: set[str] = set()
        self._names = 0

    def add(self, node: str) -> None:
        """One more pool, for a node or with a say about it."""
        rng = self._rng
        tag = rng.choice((*TAGS, "shares", "exclusive", "shares"))
        self.tags.add(tag)
        driver = rng.choice((DRIVERS[0], DRIVERS[0], DRIVERS[0], DRIVERS[1]))
        if tag in {"all-nodes", "by-label", "per-device"}:
            driver = rng.choice(DRIVERS)
        pool = node if rng.random() < 0.7 else f"{node}-{rng.choice('ab')}"
        where: JSON = {"nodeName": node}
        if tag == "all-nodes":
            pool, where = rng.choice(("everywhere", node)), {"allNodes": True}
        elif tag == "by-label":
            pool, where = rng.choice(("labelled", node)), {"nodeSelector": selector(rng, node)}
        elif tag == "per-device":
            pool, where = rng.choice(("mixed", "other")), {"perDeviceNodeSelection": True}
        if any(
            one["spec"]["driver"] == driver and one["spec"]["pool"]["name"] == pool for one in self.slices
        ):
            pool = f"{pool}-{len(self.slices)}"
        parts = self._parts(tag, driver, node)
        self._publish(driver, pool, where, parts)

    def _parts(self, tag: str, driver: str, node: str) -> list[JSON]:
        """What the pool's slices hold, one entry a slice."""
        rng = self._rng
        if tag == "partitions":
            return self._partitions()
        count = rng.choice((1, 2, 2, 3, 4, 6))
        like = self._template(
            driver, shareable=tag == "shares" or (tag != "exclusive" and rng.random() < 0.4)
        )
        found = [
            self._device(f"{rng.choice(('gpu', 'card'))}-{place}", like, place) for place in range(count)
        ]
        if tag == "per-device":
            for one in found:
                one.update(
                    rng.choice(
                        ({"nodeName": node}, {"allNodes": True}, {"nodeSelector": selector(rng, node)})
                    )
                )
        if rng.random() < 0.35:
            for one in found:
                one["attributes"] = {
                    name: value for name, value in one["attributes"].items() if rng.random() < 0.9
                }
        return [{"devices": part} for part in _split(found, rng)]

    def _template(self, driver: str, *, shareable: bool) -> JSON:
        rng = self._rng
        vendor, model, memory = rng.choice(_MODELS)
        own = rng.choice(("", "", f"{driver}/"))
        device: JSON = {
            "attributes": {
                f"{own}vendor": {"string": vendor},
                f"{own}model": {"string": model},
                f"{own}driverVersion": {"version": rng.choice(_VERSIONS)},
                f"{own}healthy": {"bool": rng.random() < 0.8},
            },
            "capacity": {"memory": {"value": memory}, "cores": {"value": "100"}},
        }
        if rng.random() < 0.05:
            device["capacity"] = {}
        if shareable:
            device["allowMultipleAllocations"] = True
            for name, policies in (("memory", _MEMORY_POLICIES), ("cores", _CORE_POLICIES)):
                policy = rng.choice(policies)
                if policy is not None and name in device["capacity"]:
                    device["capacity"][name]["requestPolicy"] = policy
        return device

    def _device(self, name: str, like: JSON, place: int) -> JSON:
        rng = self._rng
        attributes = {
            **like["attributes"],
            "resource.kubernetes.io/numaNode": {"int": place // 2},
            "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{place // 2:02x}"},
            "uuid": {"string": f"id-{rng.randrange(1000):03d}"},
        }
        if self._lists and rng.random() < 0.6:
            attributes["links"] = rng.choice(
                (
                    {"ints": [place, place + 1]},
                    {"ints": [place // 2]},
                    {"int": place // 2},
                    {"strings": ["a", "b"]},
                )
            )
        device = {**like, "name": name, "attributes": attributes}
        if rng.random() < 0.12:
            device["taints"] = [self._taint()]
            self.tags.add("taints")
        if rng.random() < 0.06:
            device |= {
                "bindingConditions": ["example.com/ready"],
                "bindingFailureConditions": ["example.com/failed"],
            }
            if rng.random() < 0.5:
                device["bindsToNode"] = True
            self.tags.add("binding")
        return device

    def _taint(self) -> JSON:
        rng = self._rng
        taint = {
            "key": rng.choice(("example.com/broken", "example.com/reserved")),
            "effect": rng.choice(_EFFECTS),
        }
        taint["timeAdded"] = "2026-01-01T00:00:00Z"
        return taint | ({"value": rng.choice(("yes", "no"))} if rng.random() < 0.5 else {})

    def _partitions(self) -> list[JSON]:
        rng = self._rng
        cards = rng.choice((1, 1, 2))
        sets, devices = [], []
        shareable = rng.random() < 0.15
        for card in range(cards):
            name = f"card-{card}"
            total = {"memory": {"value": "80Gi"}, "slices": {"value": "7"}}
            sets.append({"name": name, "counters": total})
            for place, (memory, slices) in enumerate(
                (("80Gi", "7"), ("40Gi", "4"), ("40Gi", "3"), ("10Gi", "1"), ("10Gi", "1"))
            ):
                if place and rng.random() < 0.3:
                    continue
                taken = {"memory": {"value": memory}, "slices": {"value": slices}}
                device = self._device(
                    f"card-{card}-part-{place}",
                    {"attributes": {"type": {"string": "part" if place else "whole"}}},
                    card,
                )
                device["capacity"] = {"memory": {"value": memory}}
                device["consumesCounters"] = [{"counterSet": name, "counters": taken}]
                if shareable:
                    device["allowMultipleAllocations"] = True
                devices.append(device)
        roll = rng.random()
        if roll < 0.06:
            devices[-1]["consumesCounters"][0]["counterSet"] = "nowhere"
            self.tags.add("invalid")
        elif roll < 0.1:
            devices[-1]["consumesCounters"][0]["counters"] = {"unknown": {"value": "1"}}
            self.tags.add("invalid")
        elif roll < 0.2:
            devices.append({"name": "plain", "attributes": {"type": {"string": "plain"}}})
        return [{"sharedCounters": sets}, *({"devices": part} for part in _split(devices, rng))]

    def _publish(self, driver: str, pool: str, where: JSON, parts: list[JSON]) -> None:
        rng = self._rng
        generation = rng.choice((1, 1, 2, 5))
        count = len(parts)
        roll = rng.random()
        if roll < 0.03:
            count += 1
            self.tags.add("incomplete")
        elif roll < 0.05 and len(parts) > 1:
            parts = parts[:-1]
            self.tags.add("incomplete")
        elif roll < 0.08 and len(parts) > 1 and "devices" in parts[-1] and "devices" in parts[-2]:
            parts[-1]["devices"][-1]["name"] = parts[-2]["devices"][0]["name"]
            if len({one["name"] for one in parts[-1]["devices"]}) == len(parts[-1]["devices"]):
                self.tags.add("invalid")
            else:
                parts[-1]["devices"] = parts[-1]["devices"][-1:]
        for part in parts:
            self._slice((driver, pool), where, part, generation=generation, count=count)
        if rng.random() < 0.1:
            self.tags.add("stale")
            shift = rng.choice((-1, -1, 1)) if generation > 1 else 1
            old = [{**part} for part in parts[: rng.randrange(1, len(parts) + 1)]]
            # One count for all: with several in a generation, the reference takes one of them by chance.
            announced = rng.choice((len(old), len(parts) + 1))
            for part in old:
                self._slice(
                    (driver, pool),
                    where,
                    part,
                    generation=generation + shift,
                    count=announced,
                )
        elif rng.random() < 0.05 and self._may_spread(where, parts):
            self.tags.add("over-nodes")
            other = rng.choice([one["name"] for one in self._nodes if one["name"] != where["nodeName"]])
            later = generation + rng.choice((0, 1))
            self._slice((driver, pool), {"nodeName": other}, {"devices": []}, generation=later, count=count)

    def _may_spread(self, where: JSON, parts: list[JSON]) -> bool:
        # Counters of a pool that is on several nodes: 1.36 and 1.37 differ, 1.36 by a flaw.
        return "nodeName" in where and len(self._nodes) > 1 and "sharedCounters" not in parts[0]

    def _slice(self, pool: tuple[str, str], where: JSON, part: JSON, *, generation: int, count: int) -> None:
        driver, name = pool
        self._names += 1
        place = where
        if "sharedCounters" in part and "nodeName" not in where and "allNodes" not in where:
            place = {"allNodes": True}
        self.slices.append(
            {
                "metadata": {"name": f"{self._rng.choice('zmkba')}{self._names}-{driver}"},
                "spec": {
                    "driver": driver,
                    "pool": {"name": name, "generation": generation, "resourceSliceCount": count},
                    **place,
                    **part,
                },
            }
        )


def selector(rng: random.Random, node: str) -> JSON:
    """A node selector of one term, which may or may not choose the node."""
    term: JSON = rng.choice(
        (
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": [rng.choice("abc")]}]},
            {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["c"]}]},
            {"matchExpressions": [{"key": "fabric", "operator": "Exists"}]},
            {"matchExpressions": [{"key": "rank", "operator": "Gt", "values": ["1"]}]},
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]},
            {
                "matchExpressions": [
                    {"key": "zone", "operator": "In", "values": ["a", "b"]},
                    {"key": "fabric", "operator": "DoesNotExist"},
                ]
            },
        )
    )
    return {"nodeSelectorTerms": [term]}


def _split(devices: list[JSON], rng: random.Random) -> list[list[JSON]]:
    if len(devices) < 2 or rng.random() < 0.6:
        return [devices]
    cut = rng.randrange(1, len(devices))
    return [devices[:cut], devices[cut:]]
