"""What became of claims and slices, in the order in which the API server stored it.

Purpose: a handover is right if no allocation of one allocator came up among those of the other. That is seen
in the order of the writes only: one etcd numbers the writes of all kinds, so the resourceVersions of claims
and slices can be compared.
Flow: claims and slices are followed without a gap; `Allocated` and `Fence` are noted at each change.
Limits: our driver alone. If something may have been missed, the history says so in `gaps`: it is of no use
then.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby

from driver.api.share_allocation import is_share_allocation
from driver.kube.resources import RESOURCE_CLAIMS, RESOURCE_SLICES, Resource
from tests.cluster.support.api import JSON, Api
from tests.cluster.support.following import Following
from tests.cluster.support.manifests import DRIVER

OURS, SCHEDULER = "our allocator", "kube-scheduler"
OPEN, FENCED, NONE = "open", "fenced", "none"


@dataclass(frozen=True, kw_only=True)
class Allocated:
    """A claim was allocated."""

    version: int
    seen: float
    claim: str
    uid: str
    by: str
    devices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Fence:
    """The slices changed: who can allocate from them now."""

    version: int
    seen: float
    state: str


class History:
    """Follows the claims and slices of one cluster, from start to stop."""

    def __init__(self, api: Api) -> None:
        self._claims: dict[str, tuple[str, ...]] = {}
        self._slices: dict[str, bool] = {}
        self.allocated: list[Allocated] = []
        self.fences: list[Fence] = []
        self.changed: list[str] = []
        self._following = Following(
            api, (RESOURCE_CLAIMS, RESOURCE_SLICES), listed=self._list, changed=self._note
        )

    @property
    def gaps(self) -> int:
        """How often something may have been missed."""
        return self._following.gaps

    def start(self) -> None:
        """Begins to watch."""
        self._following.start()

    def stop(self) -> None:
        """Ends; the threads notice within seconds."""
        self._following.stop()

    def turns(self) -> list[tuple[str, list[Allocated]]]:
        """Allocations in the order of the server's writes, those of one allocator after another together."""
        ordered = sorted(self.allocated, key=lambda one: one.version)
        return [(by, list(found)) for by, found in groupby(ordered, key=lambda one: one.by)]

    def state_at(self, version: int) -> Fence:
        """Who could allocate from the slices when this was written."""
        before = [one for one in self.fences if one.version < version]
        return max(before, key=lambda one: one.version)

    def _list(self, kind: Resource, objects: list[JSON]) -> None:
        for one in objects:
            self._note(kind, "ADDED", one)

    def _note(self, kind: Resource, change: str, one: JSON) -> None:
        version = int(one["metadata"]["resourceVersion"])
        if kind is RESOURCE_SLICES:
            self._note_slice(change, one, version)
        else:
            self._note_claim(change, one, version)

    def _note_slice(self, change: str, one: JSON, version: int) -> None:
        if one["spec"]["driver"] != DRIVER:
            return
        if change == "DELETED":
            self._slices.pop(one["metadata"]["uid"], None)
        else:
            self._slices[one["metadata"]["uid"]] = "nodeName" in one["spec"]
        state = NONE if not self._slices else OPEN if any(self._slices.values()) else FENCED
        if not self.fences or self.fences[-1].state != state:
            self.fences.append(Fence(version=version, seen=time.monotonic(), state=state))

    def _note_claim(self, change: str, one: JSON, version: int) -> None:
        uid = one["metadata"]["uid"]
        allocation = (one.get("status") or {}).get("allocation")
        if change == "DELETED" or not allocation:
            self._claims.pop(uid, None)
            return
        name = f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        devices = tuple(
            f"{each['device']} {each.get('shareID')}"
            for each in allocation["devices"]["results"]
            if each["driver"] == DRIVER
        )
        if uid in self._claims:
            if self._claims[uid] != devices:
                self.changed.append(f"{name}: {self._claims[uid]} -> {devices}")
            return
        self._claims[uid] = devices
        written = allocation["devices"].get("config") or []
        by = OURS if any(map(is_share_allocation, written)) else SCHEDULER
        self.allocated.append(
            Allocated(version=version, seen=time.monotonic(), claim=name, uid=uid, by=by, devices=devices)
        )
