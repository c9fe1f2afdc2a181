"""Which container of a pod can use which share.

Purpose: CDI knows no containers and the kubelet's call names none. What limits may meet in one container is
in the pods' specs alone: claims listed under `spec.resourceClaims`, and the claim that the scheduler made for
extended resources (`status.extendedResourceClaimStatus`).

Flow: claim -> pods that reserve it -> all their claims -> `ContainerUse` for `driver.isolation.rules`.

Limits: pure; pods are JSON as the API server has them. Ephemeral containers cannot use claims.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from driver.isolation.rules import ContainerUse, ShareKey
from driver.kube.client import JSON
from driver.shares import Share

SharesByClaim = Mapping[str, Sequence[Share]]
"""Shares of our driver on this node by the claim's object name, in one namespace."""


def share_key(share: Share) -> ShareKey:
    """How the rules name a share."""
    return ShareKey(
        claim_uid=share.claim_uid, request=share.base_request, device=share.device, share_id=share.share_id
    )


def reserving_pods(claim: JSON) -> tuple[tuple[str, str], ...]:
    """(name, UID) of the pods that the claim is reserved for."""
    entries = (claim.get("status") or {}).get("reservedFor") or []
    return tuple(
        (str(entry.get("name")), str(entry.get("uid")))
        for entry in entries
        if entry.get("resource") == "pods"
    )


def is_pod_owned(claim: JSON) -> bool:
    """Whether the claim was made for the one pod that it is reserved for (by a template, say).

    That another pod is reserved as well, or instead, means that somebody named the claim in it by hand.
    """
    owners = (claim.get("metadata") or {}).get("ownerReferences") or []
    made_for = {
        owner.get("uid") for owner in owners if owner.get("kind") == "Pod" and owner.get("controller")
    }
    return bool(made_for) and all(uid in made_for for _, uid in reserving_pods(claim))


def runs_here(pod: JSON | None, *, uid: str, node: str) -> bool:
    """Whether this is the pod of that UID, and bound to this node."""
    if pod is None or (pod.get("metadata") or {}).get("uid") != uid:
        return False
    return bool((pod.get("spec") or {}).get("nodeName") == node)


def has_claim_names(pod: JSON) -> bool:
    """Whether it is known of each claim that the pod refers to what it is called, or that it needs none."""
    told = {entry.get("name") for entry in (pod.get("status") or {}).get("resourceClaimStatuses") or []}
    entries = (pod.get("spec") or {}).get("resourceClaims") or []
    return all(entry.get("resourceClaimName") or entry.get("name") in told for entry in entries)


def claim_names(pod: JSON) -> frozenset[str]:
    """Object names of all claims of the pod."""
    extended = _extended_claim(pod)
    return frozenset(_claims_by_entry(pod).values()) | ({extended} if extended else frozenset())


def container_uses(pod: JSON, *, shares: SharesByClaim) -> tuple[ContainerUse, ...]:
    """All containers of a pod, init containers first, with what each can use."""
    metadata = pod.get("metadata") or {}
    by_entry = _claims_by_entry(pod)
    return tuple(
        ContainerUse(
            pod_uid=str(metadata.get("uid")),
            pod_name=str(metadata.get("name")),
            container=str(container.get("name")),
            kind=kind,
            order=order,
            uses=frozenset(_used(container, pod, by_entry=by_entry, shares=shares)),
            privileged=bool((container.get("securityContext") or {}).get("privileged")),
        )
        for kind, order, container in _containers(pod)
    )


def _containers(pod: JSON) -> Iterator[tuple[Literal["init", "sidecar", "app"], int, Mapping[str, Any]]]:
    spec = pod.get("spec") or {}
    for order, container in enumerate(spec.get("initContainers") or []):
        yield "sidecar" if container.get("restartPolicy") == "Always" else "init", order, container
    for order, container in enumerate(spec.get("containers") or []):
        yield "app", order, container


def _claims_by_entry(pod: JSON) -> dict[str, str]:
    generated = {
        entry.get("name"): entry.get("resourceClaimName")
        for entry in (pod.get("status") or {}).get("resourceClaimStatuses") or []
    }
    names = {
        str(entry.get("name")): entry.get("resourceClaimName") or generated.get(entry.get("name"))
        for entry in (pod.get("spec") or {}).get("resourceClaims") or []
    }
    # An entry without a claim needs none (the template may say so).
    return {entry: str(name) for entry, name in names.items() if name}


def _extended_claim(pod: JSON) -> str:
    status = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    return str(status.get("resourceClaimName") or "")


def _used(
    container: Mapping[str, Any], pod: JSON, *, by_entry: Mapping[str, str], shares: SharesByClaim
) -> Iterator[ShareKey]:
    for entry in (container.get("resources") or {}).get("claims") or []:
        name = by_entry.get(str(entry.get("name")), "")
        yield from _matching(shares.get(name, ()), request=str(entry.get("request") or ""))
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    for mapping in extended.get("requestMappings") or []:
        if mapping.get("containerName") == container.get("name"):
            of_claim = shares.get(_extended_claim(pod), ())
            yield from _matching(of_claim, request=str(mapping.get("requestName") or ""))


def _matching(shares: Sequence[Share], *, request: str) -> Iterator[ShareKey]:
    for share in shares:
        if not request or share.base_request == request:
            yield share_key(share)
