"""What explaining keeps of pods, claims and classes.

Limits: of pods only those that are not on a node and name claims; of claims that are allocated only what they
hold of our cards, and nothing if they hold none; of claims that wait no configuration, and no requests longer
than `MAX_DOCUMENT`: anybody may write claims, and all of them are kept in memory. Documents are kept as JSON
text and decoded when they are needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.explaining.classes import is_ours
from driver.cards import DRIVER_NAME
from driver.kube.client import JSON
from driver.slices import canonical

UNSCHEDULED = "spec.nodeName="
"""Field selector of the pods that wait for a node."""

MAX_DOCUMENT = 8192
"""Bytes that are kept of a claim that waits; ordinary ones have a few hundred."""
_MAX_CLASSES = 8  # kept of a claim that is too long; enough to know whose it is
_HELD = ("request", "driver", "pool", "device", "shareID", "consumedCapacity", "adminAccess")


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod that waits for a node.

    Attributes:
        uid: UID of the pod.
        claims: Names of its claims, in the pod's order, as far as they exist.
        gated: A scheduling gate holds it; nobody looks for a node yet.
    """

    uid: str
    claims: tuple[str, ...]
    gated: bool


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A ResourceClaim.

    Attributes:
        uid: UID of the claim.
        classes: Names of the classes that it asks for.
        allocated: Whether it has an allocation.
        document: What the allocator has to see of it, as JSON text; b"" if that is too long to be kept.
    """

    uid: str
    classes: frozenset[str]
    allocated: bool
    document: bytes


@dataclass(frozen=True, slots=True)
class ClassView:
    """A DeviceClass."""

    ours: bool
    document: bytes


def pod_view(document: JSON) -> PodView | None:
    """Projects a pod; None if it names no claims or is going away."""
    spec, metadata = document.get("spec") or {}, document["metadata"]
    entries = spec.get("resourceClaims") or []
    if not entries or spec.get("nodeName") or metadata.get("deletionTimestamp"):
        return None
    statuses = (document.get("status") or {}).get("resourceClaimStatuses") or []
    made = {one.get("name"): one.get("resourceClaimName") for one in statuses}
    names = (entry.get("resourceClaimName") or made.get(entry.get("name")) for entry in entries)
    return PodView(
        uid=str(metadata.get("uid") or ""),
        claims=tuple(str(name) for name in names if name),
        gated=bool(spec.get("schedulingGates")),
    )


def claim_view(document: JSON) -> ClaimView | None:
    """Projects a claim; None if it is allocated and holds none of our cards."""
    uid = str(document["metadata"].get("uid") or "")
    allocation = (document.get("status") or {}).get("allocation")
    if allocation:
        results = (allocation.get("devices") or {}).get("results") or []
        ours = [
            {name: result[name] for name in _HELD if name in result}
            for result in results
            if result.get("driver") == DRIVER_NAME
        ]
        if not ours:
            return None
        held = {"metadata": _named(document), "status": {"allocation": {"devices": {"results": ours}}}}
        return ClaimView(uid=uid, classes=frozenset(), allocated=True, document=canonical(held))
    devices = (document.get("spec") or {}).get("devices") or {}
    # Configuration is nothing to the allocator, and the only part of a claim that may be large.
    asked = {name: value for name, value in devices.items() if name != "config"}
    text = canonical({"metadata": _named(document), "spec": {"devices": asked}})
    classes = list(dict.fromkeys(_classes(devices)))
    if len(text) > MAX_DOCUMENT:
        text, classes = b"", classes[:_MAX_CLASSES]
    return ClaimView(uid=uid, classes=frozenset(classes), allocated=False, document=text)


def class_view(document: JSON) -> ClassView:
    """Projects a DeviceClass."""
    spec = {name: value for name, value in (document.get("spec") or {}).items() if name != "config"}
    kept = {"metadata": {"name": document["metadata"]["name"]}, "spec": spec}
    return ClassView(ours=is_ours(document), document=canonical(kept))


def decoded(text: bytes) -> JSON:
    """The document again."""
    found: JSON = json.loads(text)
    return found


def _named(document: JSON) -> JSON:
    metadata = document["metadata"]
    return {key: metadata[key] for key in ("name", "namespace", "uid") if key in metadata}


def _classes(devices: Mapping[str, Any]) -> list[str]:
    names: list[str] = []
    for request in devices.get("requests") or []:
        options = [request.get("exactly") or {}, *(request.get("firstAvailable") or [])]
        names += [str(option["deviceClassName"]) for option in options if option.get("deviceClassName")]
    return names
