"""Random allocation problems that an API server would have accepted.

Purpose: small clusters with all that decides an allocation: shares, counters, taints, binding conditions,
partial and stale pools, node selection of every kind, firstAvailable, All, adminAccess, constraints, several
claims, configs.

Flow: `case(rng, id)` gives one problem in the form of the corpus, without `expected`; `tags` name what is in
it.

Limits: everything follows from the random source.
"""

from __future__ import annotations

import random

from tooling.replay.allocator_pools import DRIVERS, JSON, Pools

STOCK = (
    *("adminAccess", "consumableCapacity", "deviceBindingAndStatus"),
    *("deviceTaints", "partitionableDevices", "prioritizedList"),
)
LISTS = "listTypeAttributes"
STABLE = ("adminAccess", "prioritizedList", "partitionableDevices", "deviceTaints")

_ORDINARY = (
    "10Gi",
    "4Gi",
    "1Gi",
    "1536Mi",
    "512Mi",
    "100M",
    "3G",
    "40Gi",
    "80Gi",
    "81Gi",
    "0",
    "1",
    "123456789",
    "16Gi",
)
ODD = ("1500m", "-4Gi", "8Ei", "9223372036854775807", "500m", "1e30")
_CORES = ("30", "50", "10", "25", "100", "0", "1", "99", "101", "12500m")


def case(rng: random.Random, name: str) -> JSON:
    """One problem."""
    features = _features(rng)
    nodes = [
        _node(rng, label)
        for label in rng.sample(("node-1", "node-10", "node-9", "node-2", "n"), rng.choice((1, 1, 2, 2, 3)))
    ]
    pools = Pools(rng, nodes=nodes, lists=LISTS in features)
    for node in nodes:
        for _ in range(rng.choice((1, 1, 2, 3))):
            pools.add(node["name"])
    rng.shuffle(pools.slices)
    asked = _Asked(rng)
    classes = asked.classes()
    claims = [asked.claim(place) for place in range(rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3)))]
    tried = [one["name"] for one in rng.sample(nodes, rng.randrange(1, len(nodes) + 1))]
    tags = pools.tags | asked.tags | {f"without {one}" for one in STOCK if one not in features}
    return {
        "id": name,
        "tags": sorted(tags | ({LISTS} if LISTS in features else set())),
        "features": dict.fromkeys(sorted(features), True),
        "nodes": nodes,
        "slices": pools.slices,
        "classes": classes,
        "allocated": _held(rng, pools.slices),
        "claims": claims,
        "tryNodes": tried,
    }


def _features(rng: random.Random) -> set[str]:
    roll = rng.random()
    if roll < 0.78:
        return set(STOCK)
    if roll < 0.86:
        return {*STOCK, LISTS}
    if roll < 0.95:
        return set(STOCK) - {rng.choice(STOCK)}
    return {one for one in STABLE if rng.random() < 0.8}


def _node(rng: random.Random, name: str) -> JSON:
    labels = {"kubernetes.io/hostname": name, "zone": rng.choice("abc")}
    if rng.random() < 0.5:
        labels["fabric"] = rng.choice(("blue", "red"))
    if rng.random() < 0.5:
        labels["rank"] = rng.choice(("0", "1", "2", "x"))
    return {"name": name, "labels": labels}


def _held(rng: random.Random, slices: list[JSON]) -> JSON:
    devices: list[JSON] = []
    shares: list[JSON] = []
    density = rng.choice((0.0, 0.05, 0.1, 0.3, 0.6))
    seen = set()
    for one in slices:
        spec = one["spec"]
        for device in spec.get("devices") or ():
            known = {"driver": spec["driver"], "pool": spec["pool"]["name"], "device": device["name"]}
            if tuple(known.values()) in seen:
                continue
            seen.add(tuple(known.values()))
            if not device.get("allowMultipleAllocations"):
                if rng.random() < density:
                    devices.append(known)
                continue
            for _ in range(rng.choice((0, 1, 1, 2)) if rng.random() < density + 0.1 else 0):
                shares.append(known | {"shareID": f"held-{len(shares)}"} | _consumed(rng, device))
    if rng.random() < 0.05:
        devices.append({"driver": DRIVERS[0], "pool": "gone", "device": "gpu-0"})
    return {name: value for name, value in (("devices", devices), ("shares", shares)) if value}


def _consumed(rng: random.Random, device: JSON) -> JSON:
    amounts = {}
    for name, capacity in device["capacity"].items():
        if rng.random() < 0.95:
            amounts[name] = (
                rng.choice(("30", "50", "0", "100"))
                if name == "cores"
                else rng.choice(("1Gi", "10Gi", "20Gi", capacity["value"]))
            )
    if rng.random() < 0.03:
        amounts["unknown"] = "1"
    return {"consumedCapacity": amounts} if amounts else {}


class _Asked:
    """Makes classes and claims that fit each other."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.tags: set[str] = set()

    def classes(self) -> list[JSON]:
        """The classes of the cluster."""
        rng = self._rng
        made: list[JSON] = [{"metadata": {"name": "any"}, "spec": {}}]
        for place, driver in enumerate(DRIVERS):
            spec: JSON = {"selectors": [_cel(f'device.driver == "{driver}"')]}
            if rng.random() < 0.3:
                spec["config"] = [self._opaque(driver) for _ in range(rng.choice((1, 2)))]
            made.append({"metadata": {"name": f"class-{place}"}, "spec": spec})
        shared = (
            "device.allowMultipleAllocations == true"
            if rng.random() < 0.5
            else "device.allowMultipleAllocations"
        )
        made.append({"metadata": {"name": "shared"}, "spec": {"selectors": [_cel(shared)]}})
        return made

    def claim(self, place: int) -> JSON:
        """One claim."""
        rng = self._rng
        names = [f"r{number}" for number in range(rng.choice((1, 1, 1, 1, 2, 2, 3)))]
        requests = [self._request(name) for name in names]
        labels = [
            label
            for one in requests
            for label in (
                one["name"],
                *(f"{one['name']}/{sub['name']}" for sub in one.get("firstAvailable", ())),
            )
        ]
        devices: JSON = {"requests": requests}
        if rng.random() < 0.2:
            devices["constraints"] = [self._constraint(labels) for _ in range(rng.choice((1, 1, 2)))]
        if rng.random() < 0.25:
            self.tags.add("config")
            devices["config"] = [
                self._opaque(rng.choice(DRIVERS)) | self._for(labels) for _ in range(rng.choice((1, 2)))
            ]
        name = f"claim-{place}"
        if place:
            self.tags.add("claims")
        return {
            "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
            "spec": {"devices": devices},
        }

    def _opaque(self, driver: str) -> JSON:
        return {
            "opaque": {"driver": driver, "parameters": {"kind": "Config", "value": self._rng.randrange(100)}}
        }

    def _for(self, labels: list[str]) -> JSON:
        rng = self._rng
        some = rng.sample(labels, rng.randrange(len(labels) + 1))
        some = [one for one in some if one.partition("/")[0] not in some or "/" not in one]
        return {"requests": some} if some else {}

    def _constraint(self, labels: list[str]) -> JSON:
        rng = self._rng
        attribute = rng.choice(
            (
                *(
                    "resource.kubernetes.io/numaNode",
                    "resource.kubernetes.io/pcieRoot",
                    "resource.kubernetes.io/numaNode",
                ),
                *(f"{rng.choice(DRIVERS)}/{name}" for name in ("model", "uuid", "links")),
            )
        )
        kind = rng.choice(("matchAttribute", "matchAttribute", "distinctAttribute"))
        self.tags.add(kind)
        return {kind: attribute} | self._for(labels)

    def _request(self, name: str) -> JSON:
        rng = self._rng
        if rng.random() < 0.2:
            self.tags.add("firstAvailable")
            subs = [self._option() | {"name": f"s{place}"} for place in range(rng.choice((2, 2, 3)))]
            return {"name": name, "firstAvailable": subs}
        exactly = self._option()
        if rng.random() < 0.06:
            self.tags.add("adminAccess")
            exactly["adminAccess"] = True
        return {"name": name, "exactly": exactly}

    def _option(self) -> JSON:
        rng = self._rng
        option: JSON = {
            "deviceClassName": rng.choice(
                (
                    *("any", "any", "any", "any", "class-0", "class-0", "class-0"),
                    "class-1",
                    "shared",
                    "class-2",
                )
            )
        }
        if rng.random() < 0.01:
            option["deviceClassName"] = "nowhere"
        if rng.random() < 0.09:
            self.tags.add("All")
            option["allocationMode"] = "All"
        else:
            option |= {"allocationMode": "ExactCount", "count": rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3))}
            if rng.random() < 0.002:
                option["count"] = 33
        if rng.random() < 0.3:
            option["selectors"] = [_cel(self._selector(2)) for _ in range(rng.choice((1, 1, 2)))]
        if rng.random() < 0.25:
            option["capacity"] = {"requests": self._amounts()}
        if rng.random() < 0.25:
            option["tolerations"] = [self._toleration()]
        return option

    def _amounts(self) -> JSON:
        rng = self._rng
        self.tags.add("capacity")
        amounts = {}
        if rng.random() < 0.85:
            amounts["memory"] = rng.choice(ODD) if rng.random() < 0.05 else rng.choice(_ORDINARY)
        if rng.random() < 0.5:
            amounts["cores"] = rng.choice(_CORES)
        if not amounts or rng.random() < 0.02:
            amounts["bandwidth"] = "1"
        return amounts

    def _toleration(self) -> JSON:
        rng = self._rng
        made: JSON = {"operator": "Exists"}
        if rng.random() < 0.7:
            made["key"] = rng.choice(("example.com/broken", "example.com/reserved"))
            if rng.random() < 0.5:
                made |= {"operator": "Equal", "value": rng.choice(("yes", "no"))}
        if rng.random() < 0.5:
            made["effect"] = rng.choice(("NoSchedule", "NoExecute"))
        if made.get("effect") == "NoExecute" and rng.random() < 0.3:
            made["tolerationSeconds"] = 60
        return made

    def _selector(self, depth: int) -> str:
        rng = self._rng
        if depth and rng.random() < 0.4:
            operator = rng.choice(("&&", "||"))
            return f"({self._selector(depth - 1)}) {operator} ({self._selector(depth - 1)})"
        driver = rng.choice((*(DRIVERS[0],) * 5, DRIVERS[1], DRIVERS[2]))
        return rng.choice(_SELECTORS if rng.random() < 0.4 else _TAME).replace("DRIVER", driver)


def _cel(expression: str) -> JSON:
    return {"cel": {"expression": expression}}


_TAME = (
    'device.driver == "DRIVER"',
    'device.attributes["DRIVER"].?vendor.orValue("nvidia") in ["nvidia", "amd"]',
    'device.attributes["resource.kubernetes.io"].?numaNode.orValue(0) <= 1',
    '!("healthy" in device.attributes["DRIVER"]) || device.attributes["DRIVER"].healthy',
    'device.capacity["DRIVER"].?memory.orValue(quantity("80Gi")).isGreaterThan(quantity("9Gi"))',
    "true",
)
_SELECTORS = (
    'device.attributes["DRIVER"].vendor == "nvidia"',
    'device.attributes["DRIVER"].?vendor.orValue("") in ["nvidia", "amd"]',
    'device.attributes["DRIVER"].model.startsWith("A")',
    'has(device.attributes["DRIVER"].model) && device.attributes["DRIVER"].model != "H100"',
    '"healthy" in device.attributes["DRIVER"] && device.attributes["DRIVER"].healthy',
    '!device.attributes["DRIVER"].healthy',
    'device.attributes["resource.kubernetes.io"].numaNode == 0',
    'device.attributes["resource.kubernetes.io"].?numaNode.orValue(9) <= 1',
    'device.attributes["DRIVER"].driverVersion.isGreaterThan(semver("400.0.0"))',
    'device.capacity["DRIVER"].memory.compareTo(quantity("40Gi")) >= 0',
    '"memory" in device.capacity["DRIVER"] && device.capacity["DRIVER"].memory > quantity("32Gi")',
    'device.capacity["DRIVER"].memory.isLessThan(quantity("100Gi"))',
    'device.driver == "DRIVER"',
    "device.allowMultipleAllocations",
    'device.attributes["DRIVER"].uuid.matches("^id-[0-4]")',
    'device.attributes["DRIVER"].type == "part"',
    'device.attributes["DRIVER"].?type.orValue("whole") == "whole"',
    'device.attributes["DRIVER"].nope == 1',
    'device.attributes["DRIVER"].model == 5',
    'device.attributes["DRIVER"].links.includes(1)',
    'has(device.attributes["DRIVER"].links) && 0 in device.attributes["DRIVER"].links',
    'cel.bind(a, device.attributes["DRIVER"], has(a.model) ? a.model in ["A100", "MI300X"] : false)',
    '["nvidia", "amd"].exists(v, v == device.attributes["DRIVER"].vendor)',
    "true",
)
