"""A watcher beside the tests that adds up, at each state of the claims, what was given of each card.

Purpose: invariant 1 (never over-commit) is checked all the time, not only where a test thought of it.
Flow: all ResourceClaims and ResourceSlices are followed; each change makes a new sum; a sum above the
largest capacity that the card was ever published with is kept as a violation.
Limits: allocations, the promise, not what the node prepared; namespaces whose allocations a test wrote by
hand are left out.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity as _parse_quantity

from driver.kube.resources import RESOURCE_CLAIMS, RESOURCE_SLICES, Resource
from tests.cluster.support.api import JSON, Api
from tests.cluster.support.following import Following
from tests.cluster.support.manifests import DRIVER

Device = tuple[str, str]


class Ledger:
    """Sums of allocations by card, from start to stop."""

    def __init__(self, api: Api) -> None:
        self._lock = threading.Lock()
        self._claims: dict[str, JSON] = {}
        self._capacity: dict[Device, dict[str, Decimal]] = defaultdict(dict)
        self._excused: set[str] = set()
        self.violations: list[str] = []
        self.states = 0
        self._following = Following(
            api, (RESOURCE_CLAIMS, RESOURCE_SLICES), listed=self._see, changed=self._change
        )

    def start(self) -> None:
        """Begins to watch."""
        self._following.start()

    def stop(self) -> None:
        """Ends; the threads notice within seconds."""
        self._following.stop()

    def excuse(self, namespace: str) -> None:
        """Leaves out a namespace in which a test writes allocations by hand."""
        with self._lock:
            self._excused.add(namespace)

    def _see(self, kind: Resource, objects: list[JSON]) -> None:
        with self._lock:
            if kind is RESOURCE_CLAIMS:
                self._claims = {one["metadata"]["uid"]: one for one in objects}
                self._check()
            else:
                for one in objects:
                    self._learn(one)

    def _change(self, kind: Resource, change: str, one: JSON) -> None:
        with self._lock:
            if kind is RESOURCE_SLICES:
                self._learn(one)
                return
            if change == "DELETED":
                self._claims.pop(one["metadata"]["uid"], None)
            else:
                self._claims[one["metadata"]["uid"]] = one
            self._check()

    def _learn(self, piece: JSON) -> None:
        if piece["spec"]["driver"] != DRIVER:
            return
        for device in piece["spec"].get("devices") or []:
            known = self._capacity[(piece["spec"]["pool"]["name"], device["name"])]
            for name, value in (device.get("capacity") or {}).items():
                known[name] = max(known.get(name, Decimal(0)), parse_quantity(value["value"]))

    def _check(self) -> None:
        self.states += 1
        sums: dict[Device, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        holders: dict[Device, list[str]] = defaultdict(list)
        for one in self._claims.values():
            if one["metadata"]["namespace"] in self._excused:
                continue
            allocation = one.get("status", {}).get("allocation") or {}
            for result in allocation.get("devices", {}).get("results") or []:
                if result["driver"] != DRIVER or result.get("adminAccess"):
                    continue
                device = (result["pool"], result["device"])
                given = result.get("consumedCapacity")
                holders[device].append(f"{one['metadata']['namespace']}/{one['metadata']['name']} {given}")
                whole = self._capacity[device]
                amounts = given or {"memory": str(whole.get("memory", 0))}
                for name, value in amounts.items():
                    sums[device][name] += parse_quantity(value)
        for device, amounts in sums.items():
            for name, total in amounts.items():
                most = self._capacity[device].get(name)
                if most is not None and total > most:
                    said = f"{device[1]}: {total} {name} given of {most}: {holders[device]}"
                    if said not in self.violations:
                        self.violations.append(said)


def parse_quantity(text: str) -> Decimal:
    """A quantity as the Kubernetes project's own client reads it, not as ours does."""
    found: Decimal = _parse_quantity(text)  # type: ignore[no-untyped-call]
    return found
