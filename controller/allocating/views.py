"""What allocating keeps of claims, pods and classes.

Purpose: anybody may write claims and pods, by the ten thousand and each as large as the API allows, and all
of them are known here. So of each as much is kept as an ordinary one needs, and a claim that is longer is
read again when its turn comes.

Flow: an informer projects each object by `claim_view`, `pod_view` or `class_view`.

Limits: documents are kept as JSON text, ten times smaller than as dicts, and equal ones once. Of a claim that
waits at most `MAX_KEPT` bytes, of one that is allocated what it holds of our cards. Of a pod at most
`MAX_WISHES_KEPT` bytes of what decides where it may run, and `MAX_NAMES` claims and resources: one that has
more of these is refused by name, if one of ours is among those that are kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from controller.allocating.fencing import is_blank
from controller.allocating.pod_fit import Amounts, PodFacts, facts_of, pod_asks, pod_wishes
from controller.claims import HELD, named
from controller.extended import asked_of_pod, resource_of
from controller.handover import expected_node
from controller.shared_text import SharedText, shared
from driver.api.asked import STAMP
from driver.api.share_allocation import is_share_allocation, shares_given
from driver.cards import DRIVER_NAME
from driver.errors import ConfigError, QuantityError
from driver.kube.client import JSON
from driver.quantities import parse_quantity
from driver.slices import canonical

MAX_DOCUMENT = 65_536
"""Bytes of a claim's spec that are looked at: 32 requests with long selectors, and some configuration."""
MAX_KEPT = 4096
"""Bytes that are kept of a claim that waits; ordinary ones have a few hundred."""
MAX_WISHES = 8192
"""Bytes of what a pod says about its node that are looked at: each node is compared with all of it."""
MAX_WISHES_KEPT = 2048
MAX_NAMES = 16
"""Names of claims and of extended resources of a pod that are kept, each."""
MAX_LENGTH = 1024
"""Bytes of the names of claims, and of resources."""
_MAX_GROUP = 320
_MAX_STAMP = 128


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A ResourceClaim.

    Attributes:
        uid: UID of the claim.
        asked: What it asks for, while it is not allocated: see `asked_text`; None otherwise, or if that is
            too long to be kept.
        held: What it holds of our cards, as the allocator reads it, as JSON text; b"" if nothing.
        node: The one node that its allocation is for, "" if it has none or is for several.
        allocated: Whether it has an allocation.
        ours: Whether its allocation was written by our allocator.
        deleting: Whether it is being deleted.
        reserved: Whether pods hold it.
        blank: Whether its allocation gives nothing, see `fencing.blank`.
    """

    uid: str
    asked: SharedText | None = None
    held: bytes = b""
    node: str = ""
    allocated: bool = False
    ours: bool = False
    deleting: bool = False
    reserved: bool = False
    blank: bool = False


@dataclass(frozen=True, slots=True)
class ClassView:
    """A DeviceClass.

    Attributes:
        ours: Whether it picks only devices of our driver.
        document: As JSON text.
        extended: The extended resource that it stands for, "" if none but that of its name.
        created: When it was made, as the API writes it.
    """

    ours: bool
    document: bytes
    extended: str = ""
    created: str = ""


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod.

    Attributes:
        uid: UID of the pod.
        node: Its node, "" while it waits.
        asks: What it takes of its node.
        wishes: What decides where it may run, as `pod_wishes` gives it, as JSON text; None once it is on a
            node, if it asks for no devices, or if that is too long to be kept.
        claims: Names of its claims in the pod's order, each once, "" where one does not exist yet.
        extended: Extended resources that it asks for: place of the container, name, count.
        gated: Whether a scheduling gate holds it.
        gone: Whether it is done or being deleted.
        starting: Whether it is on a node and does not run yet.
        too_long: Whether it has more claims or resources, or longer names, than are kept.
        priority: Its priority; the higher first.
        created: When it was made, as the API writes it; the earlier first.
        nominated: The node that kube-scheduler expects it on, if it may get devices there; "" if none.
        group: Whom it belongs together with, as `group_of` gives it, while it waits; "" if to nobody.
    """

    uid: str
    node: str
    asks: Amounts
    wishes: SharedText | None = None
    claims: tuple[str, ...] = ()
    extended: tuple[tuple[int, str, int], ...] = ()
    gated: bool = False
    gone: bool = False
    starting: bool = False
    too_long: bool = False
    priority: int = 0
    created: str = ""
    nominated: str = ""
    group: str = ""

    @property
    def facts(self) -> PodFacts | None:
        """What decides where it may run, decoded anew each time; None where that is not known."""
        return None if self.wishes is None else facts_of(json.loads(self.wishes.text), asks=self.asks)

    @property
    def ended(self) -> bool:
        """Whether its containers are over for good; one that is being deleted may still run."""
        return not self.asks.pods

    @property
    def waits(self) -> bool:
        """Whether it waits for a node, and asks for devices."""
        return bool(self.claims or self.extended) and not (self.node or self.gated or self.gone)

    @property
    def may_need(self) -> bool:
        """Whether it cannot run before its claims are allocated: it waits, or was made for its node."""
        return self.waits or (self.starting and bool(self.claims) and not self.gone)


def asked_text(document: JSON) -> bytes:
    """What a claim asks for, its classes, and the webhook's stamp, as JSON text; b"" if it is too long."""
    devices = (document.get("spec") or {}).get("devices") or {}
    stamp = (document["metadata"].get("annotations") or {}).get(STAMP)
    annotations = {STAMP: stamp[:_MAX_STAMP]} if isinstance(stamp, str) else {}
    text = canonical({"annotations": annotations, "devices": devices})
    return text if len(text) <= MAX_DOCUMENT else b""


def claim_view(document: JSON) -> ClaimView:
    """Projects a claim."""
    metadata, status = document["metadata"], document.get("status") or {}
    uid = str(metadata.get("uid") or "")
    allocation = status.get("allocation")
    deleting = bool(metadata.get("deletionTimestamp"))
    if not allocation:
        text = asked_text(document)
        return ClaimView(
            uid=uid, asked=shared(text) if 0 < len(text) <= MAX_KEPT else None, deleting=deleting
        )
    config = (allocation.get("devices") or {}).get("config") or []
    own = ((document.get("spec") or {}).get("devices") or {}).get("config") or []
    if any(map(is_share_allocation, own)):
        # It brought a ShareAllocation of its own, which kube-scheduler copies: what was given is not known.
        config = []
    held = _held(uid, allocation, config)
    return ClaimView(
        uid=uid,
        held=canonical({"metadata": named(document), "status": {"allocation": {"devices": held}}})
        if held["results"]
        else b"",
        node=sys.intern(only_node(allocation)),
        allocated=True,
        ours=any(is_share_allocation(entry) and entry.get("source") == "FromClaim" for entry in config),
        deleting=deleting,
        reserved=bool(status.get("reservedFor")),
        blank=is_blank(document),
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
        if not _readable(kept.get("consumedCapacity")):
            # Nobody knows how much that is, so it holds the whole card, and stops no decision about others.
            kept = {
                name: value for name, value in kept.items() if name not in ("shareID", "consumedCapacity")
            }
        results.append(kept)
    return {"results": results}


def _readable(amounts: Mapping[str, object] | None) -> bool:
    try:
        return all(parse_quantity(str(amount)).nano >= 0 for amount in (amounts or {}).values())
    except QuantityError:
        return False


def only_node(allocation: JSON) -> str:
    """The one node that an allocation is for; "" if it is for several."""
    terms = (allocation.get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    fields = terms[0].get("matchFields") or [] if len(terms) == 1 else []
    for one in fields:
        if (
            one.get("key") == "metadata.name"
            and one.get("operator") == "In"
            and len(one.get("values") or ()) == 1
        ):
            return str(one["values"][0])
    return ""


def class_view(document: JSON, *, ours: bool) -> ClassView:
    """Projects a DeviceClass."""
    metadata, spec = document["metadata"], document.get("spec") or {}
    return ClassView(
        ours=ours,
        document=canonical({"metadata": {"name": metadata["name"]}, "spec": spec}),
        extended=resource_of(document),
        created=str(metadata.get("creationTimestamp") or ""),
    )


def pod_view(document: JSON) -> PodView:
    """Projects a pod."""
    metadata, spec, status = document["metadata"], document.get("spec") or {}, document.get("status") or {}
    entries = spec.get("resourceClaims") or []
    node = sys.intern(str(spec.get("nodeName") or ""))
    nominated = "" if node else sys.intern(expected_node(document))
    asks = pod_asks(document)
    extended = () if node else tuple(asked_of_pod(spec))
    if not (entries or extended or nominated):
        # Most pods: what they take of their node is all that counts.
        return PodView(uid="", node=node, asks=asks, gone=_is_gone(metadata, asks))
    names = _claim_names(entries, status)
    claims = names[: _kept(names)]
    kept = _kept([name for _, name, _ in extended])
    text = b"" if node else wishes_text(document)
    return PodView(
        uid=str(metadata.get("uid") or ""),
        node=node,
        asks=asks,
        wishes=shared(text) if 0 < len(text) <= MAX_WISHES_KEPT else None,
        claims=claims,
        extended=extended[:kept],
        gated=bool(spec.get("schedulingGates")),
        gone=_is_gone(metadata, asks),
        starting=bool(node) and status.get("phase", "Pending") == "Pending",
        too_long=len(claims) < len(names) or kept < len(extended),
        priority=int(spec.get("priority") or 0),
        created=str(metadata.get("creationTimestamp") or ""),
        nominated=nominated,
        group="" if node else sys.intern(group_of(document)),
    )


def group_of(document: JSON) -> str:
    """What pods have in common that are of use together only: their PodGroup, else whoever controls them.

    PodGroups are those of Kubernetes (1.36 and 1.35), of Volcano and of the coscheduling plugin.
    """
    metadata, spec = document["metadata"], document.get("spec") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    workload = spec.get("workloadRef") or {}
    said = (
        (spec.get("schedulingGroup") or {}).get("podGroupName")
        or "/".join(str(workload.get(key) or "") for key in ("name", "podGroup", "podGroupReplicaKey")).strip(
            "/"
        )
        or annotations.get("scheduling.k8s.io/group-name")
        or labels.get("scheduling.x-k8s.io/pod-group")
    )
    if said:
        return f"group {said}"[:_MAX_GROUP]
    owners = metadata.get("ownerReferences") or []
    return next((str(one.get("uid"))[:_MAX_GROUP] for one in owners if one.get("controller")), "")


def wishes_text(document: JSON) -> bytes:
    """What `pod_wishes` gives, as JSON text; b"" if it is too long."""
    text = canonical(pod_wishes(document))
    return text if len(text) <= MAX_WISHES else b""


def _kept(names: Sequence[str]) -> int:
    """How many of some names are kept."""
    lengths = accumulate(map(len, names[:MAX_NAMES]))
    return sum(length <= MAX_LENGTH for length in lengths)


def _claim_names(entries: Sequence[JSON], status: JSON) -> tuple[str, ...]:
    made = {
        one.get("name"): one.get("resourceClaimName") for one in status.get("resourceClaimStatuses") or []
    }
    names = (
        str(entry.get("resourceClaimName") or made.get(entry.get("name")) or "")
        for entry in entries
        # One that is there without a name says that no claim is needed.
        if entry.get("resourceClaimName") or made.get(entry.get("name"), "") is not None
    )
    return tuple(dict.fromkeys(names))


def _is_gone(metadata: JSON, asks: Amounts) -> bool:
    # A pod that is done asks for nothing, not even for its own place.
    return bool(metadata.get("deletionTimestamp")) or not asks.pods
