"""Makes whatever was sent for a claim, and may not be stored yet, a conflict: by changing the claim once.

Purpose: `controller.allocating.sending` says why whoever begins to lead has to do so, and for which claims.
The same goes for a write of this replica's own that got no answer (`settled`).

Flow: `fence` takes Kubernetes' finalizer off a claim that is not allocated. Where somebody's webhook or
policy refuses that, it writes a status that gives nothing and takes it back: an allocation of a device that
there is not, for nodes of which there are none (`blank`). Those are two more versions, and the request is of
the kind of the late write itself, which few who guard metadata and specs refuse. `unblanked` takes back what
a leader left that ended between the two.

A blank allocation is safe for whoever sees it: no node has the label that it wants, so kube-scheduler places
no pod by it, and takes it back if it looks just then (tried on 1.34.4 and 1.36.3). kube-controller-manager
reserves it for a pod that was made for its node; but nobody registers the device's driver, so the kubelet
refuses that pod, keeps nothing of the claim (it looks for the drivers first) and tries again until the pod
has real cards. That reservation goes with the allocation.

Limits: where the status is refused as well, `AllocationHeldUpError` says so. Of an earlier leader's write
nobody knows which card it gives, so nothing is allocated then; what this replica's own gives stays in its
books.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from controller.allocating.errors import AllocationHeldUpError
from controller.allocating.sending import Claims
from controller.allocating.writing import Wanted, may_be_written, put_status, unprotected
from driver.api.share_allocation import config_entry, is_share_allocation
from driver.cards import DRIVER_NAME
from driver.kube.client import JSON, ApiError, ConflictError, NotFoundError
from driver.kube.resources import RESOURCE_CLAIMS
from driver.slices import FENCE

_log = structlog.get_logger("allocating")

_REFUSALS = (400, 403, 409, 413, 422)
NOBODY = f"nobody.{DRIVER_NAME}"
"""A driver that no node has."""


def blank(claim: JSON, *, now: datetime) -> JSON:
    """An allocation of ours for a claim that gives nothing, and is for no node."""
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    device = {"request": _a_request(claim), "driver": NOBODY, "pool": "none", "device": "none"}
    return {
        "devices": {"results": [device], "config": [config_entry(())]},
        "nodeSelector": FENCE,
        "allocationTimestamp": stamp,
    }


def is_blank(claim: JSON) -> bool:
    """Whether a claim has an allocation as `blank` makes it, or as it made it before it named a driver.

    With the latter a pod that holds it may have been started, so it is nobody's any more.
    """
    status = claim.get("status") or {}
    allocation = status.get("allocation") or {}
    devices = allocation.get("devices") or {}
    drivers = {one.get("driver") for one in devices.get("results") or ()}
    return (
        allocation.get("nodeSelector") == FENCE
        and (drivers == {NOBODY} or not (drivers or status.get("reservedFor")))
        and any(map(is_share_allocation, devices.get("config") or ()))
    )


def _a_request(claim: JSON) -> str:
    """The name of a claim's first request, as results have it: the API server takes no other."""
    request = claim["spec"]["devices"]["requests"][0]
    alternatives = request.get("firstAvailable")
    return "/".join(one["name"] for one in (request, *(alternatives or ())[:1]))


async def unblanked(client: Claims, claim: JSON) -> JSON | None:
    """Takes a blank allocation back; the claim as it is stored, None if that is not known.

    What is not taken back harms nobody: no allocation can be written over it, and kube-scheduler takes it
    back where a pod waits for the claim, or our allocator a little later.

    Raises:
        LeadershipLostError: This replica does not lead any more.
    """
    try:
        return await put_status(client, claim, {})
    except ApiError as failed:
        metadata = claim["metadata"]
        _log.warning(
            "a blank allocation stays", claim=f"{metadata['namespace']}/{metadata['name']}", error=str(failed)
        )
        return None


async def settled(client: Claims, wanted: Wanted, *, now: datetime) -> JSON | None:
    """What is stored of a claim whose write got no answer; None if it is gone or another one by now.

    A write that is still on its way to the server could be stored after the claim was read. So a claim
    without an allocation is changed: what comes late finds another resourceVersion.

    Raises:
        AllocationHeldUpError: It may not be changed.
        ApiError: It cannot be told yet.
        LeadershipLostError: This replica does not lead any more.
    """
    try:
        claim = await client.get(RESOURCE_CLAIMS, wanted.name, namespace=wanted.namespace)
    except NotFoundError:
        return None
    if claim["metadata"].get("uid") != wanted.uid:
        return None
    if is_blank(claim):
        return await unblanked(client, claim)
    return await fence(client, claim, now=now)


async def fence(client: Claims, claim: JSON, *, now: datetime, insist: bool = False) -> JSON | None:
    """Makes whatever was sent for this version of a claim a conflict; the claim as it is stored.

    It is changed at most once: where that is a conflict somebody else has changed it, and that does as well.

    Args:
        client: The API server.
        claim: A claim for which `may_be_written`, read since this replica leads.
        now: The time that an allocation carries.
        insist: Whether the server gave no answer to this several times, though it did to others: a webhook
            that hangs is taken for one that refuses.

    Returns:
        The claim; None if it is gone.

    Raises:
        AllocationHeldUpError: Somebody refuses all of it.
        ApiError: The server gave no answer.
        LeadershipLostError: This replica does not lead any more.
    """
    if not may_be_written(claim):
        return claim
    try:
        try:
            return await _changed(client, claim, lambda: unprotected(client, claim))
        except ApiError as refused:
            if not _is_refusal(refused, insist=insist):
                raise
        try:
            return await _changed(client, claim, lambda: _blanked(client, claim, now=now))
        except ApiError as refused:
            if not _is_refusal(refused, insist=insist):
                raise
            raise _held_up(claim, refused) from refused
    except NotFoundError:
        return None


def _is_refusal(failed: ApiError, *, insist: bool) -> bool:
    """Whether somebody refused; else the same may work in a moment."""
    if insist:
        return not isinstance(failed, NotFoundError)
    # A webhook that does not answer and must be asked is an internal error, in these words.
    return failed.status in _REFUSALS or (failed.status == 500 and "webhook" in str(failed))


async def _blanked(client: Claims, claim: JSON, *, now: datetime) -> JSON:
    stored = await put_status(
        client, claim, {**(claim.get("status") or {}), "allocation": blank(claim, now=now)}
    )
    return await put_status(client, stored, {})


async def _changed(client: Claims, claim: JSON, change: Callable[[], Awaitable[JSON]]) -> JSON:
    """What a change gives, or where it is a conflict what somebody else made of the claim."""
    try:
        return await change()
    except ConflictError:
        metadata = claim["metadata"]
        found = await client.get(RESOURCE_CLAIMS, metadata["name"], namespace=metadata["namespace"])
        if found["metadata"]["resourceVersion"] == metadata["resourceVersion"]:
            # Said by a webhook, say: nobody has changed it.
            raise
        return await put_status(client, found, {}) if is_blank(found) else found


def _held_up(claim: JSON, refused: ApiError) -> AllocationHeldUpError:
    metadata = claim["metadata"]
    return AllocationHeldUpError(
        f"ResourceClaim {metadata['namespace']}/{metadata['name']} may not be changed by the controller "
        f"({refused}). An allocation that was sent for it earlier could still be stored.",
        field="metadata.finalizers",
        remedy="Let the controller's service account update ResourceClaims and their status in the admission "
        "webhook or policy that refuses it, or delete the claim.",
    )
