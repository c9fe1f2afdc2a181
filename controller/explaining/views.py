"""What explaining keeps of pods, claims and classes.

Limits: of pods only those that are not on a node and name claims or extended resources; of claims that are
allocated only what they hold of our cards, and nothing if they hold none; of claims that wait no requests
longer than `MAX_DOCUMENT`, and of configuration only ours, up to the same length: anybody may write claims,
and all of them are kept in memory. Documents are kept as JSON text and decoded when they are needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from controller.claims import HELD, class_names, named
from controller.explaining.classes import is_ours
from controller.extended import asked_of_pod
from driver.cards import DRIVER_NAME
from driver.kube.client import JSON
from driver.slices import canonical

UNSCHEDULED = "spec.nodeName="
"""Field selector of the pods that wait for a node."""

MAX_DOCUMENT = 8192
"""Bytes that are kept of a claim that waits; ordinary ones have a few hundred."""
MAX_EXTENDED = 16
"""Extended resources that are kept of a pod."""
_MAX_CLASSES = 8  # kept of a claim that is too long; enough to know whose it is


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod that waits for a node.

    Attributes:
        uid: UID of the pod.
        claims: Names of its claims, in the pod's order, as far as they exist.
        gated: A scheduling gate holds it; nobody looks for a node yet.
        extended: Extended resources that it asks for, whosever they are: place of the container, name, count.
    """

    uid: str
    claims: tuple[str, ...]
    gated: bool
    extended: tuple[tuple[int, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A ResourceClaim.

    Attributes:
        uid: UID of the claim.
        classes: Names of the classes that it asks for.
        allocated: Whether it has an allocation.
        document: What the allocator has to see of it, as JSON text; b"" if that is too long to be kept.
        config: The list of configuration for our driver, as JSON text; b"" if there is none, or too much.
    """

    uid: str
    classes: frozenset[str]
    allocated: bool
    document: bytes
    config: bytes = b""


@dataclass(frozen=True, slots=True)
class ClassView:
    """A DeviceClass.

    Attributes:
        ours: Whether it picks only devices of our driver.
        document: What the allocator has to see of it, as JSON text.
        config: The list of configuration for our driver, as JSON text; b"" if there is none, or too much.
        extended: The extended resource that it stands for, "" if none but that of its name.
        created: When it was made, as the API writes it.
    """

    ours: bool
    document: bytes
    config: bytes = b""
    extended: str = ""
    created: str = ""


def pod_view(document: JSON) -> PodView | None:
    """Projects a pod; None if it names no claims and no extended resources, or is going away."""
    spec, metadata = document.get("spec") or {}, document["metadata"]
    if spec.get("nodeName") or metadata.get("deletionTimestamp"):
        return None
    entries = spec.get("resourceClaims") or []
    extended = tuple(asked_of_pod(spec))[:MAX_EXTENDED]
    if not entries and not extended:
        return None
    status = document.get("status") or {}
    statuses = status.get("resourceClaimStatuses") or []
    made = {one.get("name"): one.get("resourceClaimName") for one in statuses}
    names = [entry.get("resourceClaimName") or made.get(entry.get("name")) for entry in entries]
    special = (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName")
    if special:
        # What was asked for by resources is a claim by now.
        names, extended = [*names, special], ()
    return PodView(
        uid=str(metadata.get("uid") or ""),
        claims=tuple(str(name) for name in names if name),
        gated=bool(spec.get("schedulingGates")),
        extended=extended,
    )


def claim_view(document: JSON) -> ClaimView | None:
    """Projects a claim; None if it is allocated and holds none of our cards."""
    uid = str(document["metadata"].get("uid") or "")
    allocation = (document.get("status") or {}).get("allocation")
    if allocation:
        results = (allocation.get("devices") or {}).get("results") or []
        ours = [
            {name: result[name] for name in HELD if name in result}
            for result in results
            if result.get("driver") == DRIVER_NAME
        ]
        if not ours:
            return None
        held = {"metadata": named(document), "status": {"allocation": {"devices": {"results": ours}}}}
        return ClaimView(uid=uid, classes=frozenset(), allocated=True, document=canonical(held))
    devices = (document.get("spec") or {}).get("devices") or {}
    # Configuration is nothing to the allocator, and the part of a claim that may be large.
    asked = {name: value for name, value in devices.items() if name != "config"}
    text = canonical({"metadata": named(document), "spec": {"devices": asked}})
    classes = list(dict.fromkeys(class_names(devices)))
    if len(text) > MAX_DOCUMENT:
        text, classes = b"", classes[:_MAX_CLASSES]
    return ClaimView(
        uid=uid,
        classes=frozenset(classes),
        allocated=False,
        document=text,
        config=_config(devices.get("config")),
    )


def class_view(document: JSON) -> ClassView:
    """Projects a DeviceClass."""
    whole, metadata = document.get("spec") or {}, document["metadata"]
    spec = {name: value for name, value in whole.items() if name != "config"}
    return ClassView(
        ours=is_ours(document),
        document=canonical({"metadata": {"name": metadata["name"]}, "spec": spec}),
        config=_config(whole.get("config")),
        extended=str(whole.get("extendedResourceName") or ""),
        created=str(metadata.get("creationTimestamp") or ""),
    )


def decoded(text: bytes) -> JSON:
    """The document again."""
    found: JSON = json.loads(text)
    return found


def _config(entries: Any) -> bytes:
    """Keep of a claim's or class's configuration what is for our driver."""
    ours = [one for one in entries or [] if (one.get("opaque") or {}).get("driver") == DRIVER_NAME]
    text = canonical({"config": ours}) if ours else b""
    return text if len(text) <= MAX_DOCUMENT else b""
