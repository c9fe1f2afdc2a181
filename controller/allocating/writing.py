"""Writes an allocation into a claim, and takes one back.

Flow: read the claim, put Kubernetes' finalizer on it, write `status.allocation` with the resourceVersion that
was read, and look at what the server stored.

Source of the rules: the finalizer `resource.kubernetes.io/delete-protection` makes the controller manager
release the claim when its pods are gone, as for claims that kube-scheduler allocated. `allocationTimestamp`
is always set, since kube-scheduler from 1.36 on would otherwise set it when it binds the pod, which the API
server refuses as a change of an immutable field (seen on 1.36.3).

After a restore of etcd what was decided may rest on a history that is gone, until the informers have listed
anew. The server counts versions from a lower number then, and that is seen before an allocation is sent: by
the answer about the finalizer, or where that is there already by a list of the one claim.

Limits: three requests for a claim. Where no answer comes it is not known what the server did: the caller
keeps the allocation in its books until `fencing.settled` says what is stored. Each request is sent only while
this replica leads, and what still comes late finds another resourceVersion: `sending` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from controller.allocating.errors import AllocationLostError, ClaimChangedError
from controller.allocating.sending import Claims, version_of
from controller.lease import LeadershipLostError
from driver.api.share_allocation import GivenShare, config_entry, is_share_allocation
from driver.cards import DRIVER_NAME
from driver.kube.client import JSON, ApiError, UnreachableError
from driver.kube.resources import RESOURCE_CLAIMS
from driver.quantities import parse_quantity

FINALIZER = "resource.kubernetes.io/delete-protection"

_log = structlog.get_logger("allocating")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An allocation that was decided.

    Attributes:
        namespace: Namespace of the claim.
        name: Name of the claim.
        uid: UID of the claim.
        allocation: The AllocationResult as the allocator made it.
        holder: The pod for which the claim is reserved at once, as in `status.reservedFor`; None where
            kube-scheduler will do that.
        seen: Resource version up to which claims were known when it was decided; 0 if that is not known.
    """

    namespace: str
    name: str
    uid: str
    allocation: JSON
    holder: JSON | None = None
    seen: int = 0


def complete(wanted: Wanted, *, now: datetime) -> JSON:
    """The allocation as it is written: with what was given to each share, and the time."""
    devices = dict(wanted.allocation.get("devices") or {})
    shares = [
        GivenShare(
            request=one["request"],
            pool=one["pool"],
            device=one["device"],
            memory=str(one["consumedCapacity"]["memory"]),
            cores=str(one["consumedCapacity"]["cores"]),
        )
        for one in devices.get("results") or []
        if one["driver"] == DRIVER_NAME and one.get("consumedCapacity") and not one.get("adminAccess")
    ]
    # Always there, also without shares: it marks the allocation as one of ours.
    devices["config"] = [*(devices.get("config") or []), config_entry(shares)]
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**wanted.allocation, "devices": devices, "allocationTimestamp": stamp}


async def write(client: Claims, wanted: Wanted, *, now: datetime) -> JSON:
    """Writes an allocation; the claim as it is stored.

    Raises:
        ClaimChangedError: The claim is not the one that was decided about any more.
        AllocationLostError: The server dropped what says how much was given; nothing is allocated.
        ApiError: The server refused, gave no answer, or its history was set back.
        LeadershipLostError: This replica does not lead any more; the allocation was not sent.
    """
    claim = await client.get(RESOURCE_CLAIMS, wanted.name, namespace=wanted.namespace)
    _check(claim, wanted)
    finalizers = claim["metadata"].get("finalizers") or []
    if FINALIZER not in finalizers:
        metadata = {**claim["metadata"], "finalizers": [*finalizers, FINALIZER]}
        claim = await client.replace(
            RESOURCE_CLAIMS, {**claim, "metadata": metadata}, name=wanted.name, namespace=wanted.namespace
        )
        _check(claim, wanted)
        version = version_of(claim)
    else:
        version = await client.version(RESOURCE_CLAIMS, wanted.name, namespace=wanted.namespace)
    if 0 < version < wanted.seen:
        raise UnreachableError(
            "The API server's history was set back; claims are to be listed anew.", status=0
        )
    allocation = complete(wanted, now=now)
    status = {**(claim.get("status") or {}), "allocation": allocation}
    if wanted.holder is not None:
        # The kubelet starts nothing before it sees its pod here, and nobody else reserves for a pod that
        # kube-scheduler did not bind before the claim is allocated.
        status["reservedFor"] = [wanted.holder]
    stored = await put_status(client, claim, status)
    problem = difference(allocation, (stored.get("status") or {}).get("allocation") or {})
    if problem:
        _log.error("allocation lost on the way", claim=f"{wanted.namespace}/{wanted.name}", lost=problem)
        try:
            await release(client, stored)
        except (ApiError, LeadershipLostError) as failed:
            # Whatever the reason: what counts is that the allocation may still be stored.
            raise ApiError(f"An allocation could not be taken back: {failed}", status=0) from failed
        raise AllocationLostError(
            f"The API server stored the allocation of {wanted.namespace}/{wanted.name} without {problem}.",
            remedy="Look for an admission webhook or policy that changes ResourceClaims.",
        )
    return stored


async def release(client: Claims, claim: JSON) -> JSON:
    """Takes the allocation of a claim back, and our finalizer with it; the claim as it is stored.

    Raises:
        ApiError: The server refused (ConflictError if the claim changed meanwhile), or gave no answer.
        LeadershipLostError: This replica does not lead any more; what was not sent yet will not be.
    """
    # Nobody holds it, or the one pod that we reserved it for; the server allows no holder without allocation.
    stored = await put_status(client, claim, {})
    return await unprotected(client, stored)


def may_be_written(claim: JSON) -> bool:
    """Whether a write of an allocation may be on its way that names this version of a claim.

    Without the finalizer, none was sent with this resourceVersion.
    """
    finalizers = claim["metadata"].get("finalizers") or []
    return FINALIZER in finalizers and not (claim.get("status") or {}).get("allocation")


def difference(sent: JSON, stored: JSON) -> str:
    """Name what the server lost that a limit depends on, "" if nothing.

    `shareID` and `consumedCapacity` may go, because the ShareAllocation says the same; the results
    themselves, the node and the ShareAllocation may not.
    """
    before, after = sent["devices"].get("results") or [], (stored.get("devices") or {}).get("results") or []
    if [_place(one) for one in before] != [_place(one) for one in after]:
        return "its results as they were sent"
    for one, other in zip(before, after, strict=True):
        if other.get("shareID") and _numbers(one) != _numbers(other):
            return f"the amounts of {one['device']}"
    if sent.get("nodeSelector") != stored.get("nodeSelector"):
        return "its node"
    if _given(sent) != _given(stored):
        return "its ShareAllocation"
    return ""


def _given(allocation: Mapping[str, Any]) -> Sequence[Any]:
    config = (allocation.get("devices") or {}).get("config") or []
    return [one["opaque"]["parameters"] for one in config if is_share_allocation(one)]


def _place(result: JSON) -> tuple[Any, ...]:
    return (
        *(result.get(key) for key in ("request", "driver", "pool", "device")),
        bool(result.get("adminAccess")),
    )


def _numbers(result: JSON) -> dict[str, int]:
    return {
        name: parse_quantity(str(amount)).nano
        for name, amount in (result.get("consumedCapacity") or {}).items()
    }


def _check(claim: JSON, wanted: Wanted) -> None:
    metadata, where = claim["metadata"], f"ResourceClaim {wanted.namespace}/{wanted.name}"
    if metadata.get("uid") != wanted.uid:
        raise ClaimChangedError(f"{where} was made anew meanwhile.")
    if metadata.get("deletionTimestamp"):
        raise ClaimChangedError(f"{where} is being deleted.")
    if (claim.get("status") or {}).get("allocation"):
        raise ClaimChangedError(f"{where} was allocated meanwhile.")


async def unprotected(client: Claims, claim: JSON) -> JSON:
    """Takes the finalizer off a claim; the claim as it is stored."""
    metadata = claim["metadata"]
    kept = [one for one in metadata.get("finalizers") or [] if one != FINALIZER]
    return await client.replace(
        RESOURCE_CLAIMS,
        {**claim, "metadata": {**metadata, "finalizers": kept}},
        name=metadata["name"],
        namespace=metadata["namespace"],
    )


async def put_status(client: Claims, claim: JSON, status: JSON) -> JSON:
    """Replaces the status of a claim; the claim as it is stored."""
    metadata = claim["metadata"]
    return await client.replace(
        RESOURCE_CLAIMS,
        {**claim, "status": status},
        name=metadata["name"],
        namespace=metadata["namespace"],
        subresource="status",
    )
