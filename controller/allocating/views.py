"""What allocating keeps of claims, pods and classes.

Limits: documents are kept as JSON text, ten times smaller than as dicts; of a claim that waits no more than
`MAX_DOCUMENT`, because anybody may write claims; of an allocated one what it holds of our cards.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.allocating.pod_fit import Amounts, PodFacts, pod_asks, pod_facts
from controller.claims import HELD, class_names, named
from controller.handover import expected_node
from driver.api.asked import STAMP
from driver.api.share_allocation import is_share_allocation, shares_given
from driver.cards import DRIVER_NAME
from driver.errors import ConfigError
from driver.kube.client import JSON
from driver.slices import canonical

MAX_DOCUMENT = 65_536
"""Bytes of a claim's spec that are kept: 32 requests with long selectors, and configuration of a few KiB."""


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A ResourceClaim.

    Attributes:
        uid: UID of the claim.
        classes: Names of the classes that it asks for, of each request.
        waiting: What the allocator reads of it, as JSON text, while it is not allocated; b"" otherwise, or if
            it is too long.
        held: What it holds of our cards, as the allocator reads it, as JSON text; b"" if nothing.
        node: The one node that its allocation is for, "" if it has none or is for several.
        ours: Whether its allocation was written by our allocator.
        deleting: Whether it is being deleted.
        reserved: UIDs of the pods that hold it.
    """

    uid: str
    classes: tuple[str, ...]
    waiting: bytes = b""
    held: bytes = b""
    node: str = ""
    allocated: bool = False
    ours: bool = False
    deleting: bool = False
    reserved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassView:
    """A DeviceClass: as JSON text, and whether it picks only devices of our driver."""

    ours: bool
    document: bytes


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod.

    Attributes:
        uid: UID of the pod.
        node: Its node, "" while it waits.
        asks: What it takes of its node.
        facts: What decides where it may run; None once it is on a node, or if it names no claims.
        claims: Names of its claims in the pod's order, "" for one that does not exist yet.
        gated: Whether a scheduling gate holds it.
        gone: Whether it is done or being deleted.
        priority: Its priority; the higher first.
        created: When it was made, as the API writes it; the earlier first.
        nominated: The node that kube-scheduler expects it on, if it may get devices there; "" if none.
    """

    uid: str
    node: str
    asks: Amounts
    facts: PodFacts | None = None
    claims: tuple[str, ...] = ()
    gated: bool = False
    gone: bool = False
    priority: int = 0
    created: str = ""
    nominated: str = ""

    @property
    def waits(self) -> bool:
        """Whether it waits for claims to be allocated."""
        return bool(self.claims) and not (self.node or self.gated or self.gone)


def claim_view(document: JSON) -> ClaimView:
    """Projects a claim."""
    metadata, status = document["metadata"], document.get("status") or {}
    uid = str(metadata.get("uid") or "")
    devices = (document.get("spec") or {}).get("devices") or {}
    classes = tuple(dict.fromkeys(class_names(devices)))
    allocation = status.get("allocation")
    deleting = bool(metadata.get("deletionTimestamp"))
    if not allocation:
        stamp = (metadata.get("annotations") or {}).get(STAMP)
        kept = {**named(document), "annotations": {STAMP: stamp} if isinstance(stamp, str) else {}}
        text = canonical({"metadata": kept, "spec": {"devices": devices}})
        waiting = text if len(text) <= MAX_DOCUMENT else b""
        return ClaimView(uid=uid, classes=classes[:32], waiting=waiting, deleting=deleting)
    config = (allocation.get("devices") or {}).get("config") or []
    held = _held(uid, allocation, config)
    return ClaimView(
        uid=uid,
        classes=classes[:32],
        held=canonical({"metadata": named(document), "status": {"allocation": {"devices": held}}})
        if held["results"]
        else b"",
        node=only_node(allocation),
        allocated=True,
        ours=any(is_share_allocation(entry) and entry.get("source") == "FromClaim" for entry in config),
        deleting=deleting,
        reserved=tuple(str(one.get("uid")) for one in status.get("reservedFor") or []),
    )


def _held(uid: str, allocation: JSON, config: list[JSON]) -> JSON:
    try:
        given = shares_given(config, field="config")
    except ConfigError:
        given = {}
    results = []
    for number, result in enumerate((allocation.get("devices") or {}).get("results") or []):
        if result.get("driver") != DRIVER_NAME:
            continue
        kept = {name: result[name] for name in HELD if name in result}
        share = given.get((str(result.get("request")), str(result.get("pool")), str(result.get("device"))))
        if share is not None and not kept.get("shareID"):
            # Where the server drops both, the books are kept by what was given.
            kept["shareID"] = f"{uid}/{number}"
            kept["consumedCapacity"] = {"memory": share.memory, "cores": share.cores}
        results.append(kept)
    return {"results": results}


def only_node(allocation: JSON) -> str:
    """The one node that an allocation is for; "" if it is for several."""
    terms = (allocation.get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    fields = terms[0].get("matchFields") or [] if len(terms) == 1 else []
    for one in fields:
        if one.get("key") == "metadata.name" and one.get("operator") == "In" and len(one["values"]) == 1:
            return str(one["values"][0])
    return ""


def class_view(document: JSON, *, ours: bool) -> ClassView:
    """Projects a DeviceClass."""
    kept = {"metadata": {"name": document["metadata"]["name"]}, "spec": document.get("spec") or {}}
    return ClassView(ours=ours, document=canonical(kept))


def pod_view(document: JSON) -> PodView:
    """Projects a pod."""
    metadata, spec = document["metadata"], document.get("spec") or {}
    entries = spec.get("resourceClaims") or []
    node = str(spec.get("nodeName") or "")
    statuses = (document.get("status") or {}).get("resourceClaimStatuses") or []
    made = {one.get("name"): one.get("resourceClaimName") for one in statuses}
    asks = pod_asks(document)
    return PodView(
        uid=str(metadata.get("uid") or ""),
        node=node,
        asks=asks,
        facts=pod_facts(document) if entries and not node else None,
        claims=tuple(
            str(entry.get("resourceClaimName") or made.get(entry.get("name")) or "") for entry in entries
        ),
        gated=bool(spec.get("schedulingGates")),
        gone=bool(metadata.get("deletionTimestamp")) or not asks.pods,
        priority=int(spec.get("priority") or 0),
        created=str(metadata.get("creationTimestamp") or ""),
        nominated="" if node else expected_node(document),
    )
