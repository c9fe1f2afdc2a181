"""Makes whatever an earlier leader sent for a claim a conflict, by changing the claim once.

Purpose: `controller.allocating.sending` says why whoever begins to lead has to do so, and for which claims.

Flow: `fence` takes Kubernetes' finalizer off a claim that is not allocated. Where somebody's webhook or
policy refuses that, it writes a status that gives nothing and takes it back: an allocation without devices,
for nodes of which there are none (`blank`). Those are two more versions, and the request is of the kind of
the late write itself, which few who guard metadata and specs refuse. `unblanked` takes back what a leader
left that ended between the two.

A blank allocation is safe for whoever sees it: no node has the label that it wants, so kube-scheduler places
no pod by it (and takes it back, if it looks just then). kube-controller-manager would reserve it for a pod
that was made for its node, and the kubelet would start that pod without cards; so none is written for a claim
that such a pod names.

Limits: where the status is refused as well, or a pod stands in the way, nothing is allocated by anybody: the
late write could give any card. `AllocationHeldUpError` says so, and why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from controller.allocating.errors import AllocationHeldUpError
from controller.allocating.sending import Claims
from controller.allocating.writing import may_be_written, put_status, unprotected
from driver.api.share_allocation import config_entry, is_share_allocation
from driver.kube.client import JSON, ApiError, ConflictError, NotFoundError
from driver.kube.resources import RESOURCE_CLAIMS
from driver.slices import FENCE

_REFUSALS = (400, 403, 409, 413, 422)


def blank(*, now: datetime) -> JSON:
    """An allocation of ours that gives no device, and is for no node."""
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "devices": {"results": [], "config": [config_entry(())]},
        "nodeSelector": FENCE,
        "allocationTimestamp": stamp,
    }


def is_blank(claim: JSON) -> bool:
    """Whether a claim has an allocation as `blank` makes it, and no pod holds it."""
    status = claim.get("status") or {}
    allocation = status.get("allocation") or {}
    devices = allocation.get("devices") or {}
    return (
        not status.get("reservedFor")
        and allocation.get("nodeSelector") == FENCE
        and not devices.get("results")
        and any(map(is_share_allocation, devices.get("config") or ()))
    )


async def unblanked(client: Claims, claim: JSON) -> JSON | None:
    """Takes a blank allocation back; the claim as it is stored, None if it is gone.

    Raises:
        ApiError: The server refused, or gave no answer; also a conflict, where somebody was faster.
        LeadershipLostError: This replica does not lead any more.
    """
    try:
        return await put_status(client, claim, {})
    except NotFoundError:
        return None


async def fence(client: Claims, claim: JSON, *, may_blank: bool, now: datetime) -> JSON | None:
    """Makes whatever another leader sent for this version of a claim a conflict; the claim as it is stored.

    It is changed at most once: where that is a conflict somebody else has changed it, and that does as well.

    Args:
        client: The API server.
        claim: A claim for which `may_be_written`, read since this replica leads.
        may_blank: Whether its status may be written: no pod that was made for its node names it.
        now: The time that an allocation carries.

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
            if not _is_refusal(refused):
                raise
            if not may_blank:
                raise _held_up(claim, refused) from refused
        try:
            return await _changed(client, claim, lambda: _blanked(client, claim, now=now))
        except ApiError as refused:
            if not _is_refusal(refused):
                raise
            raise _held_up(claim, refused) from refused
    except NotFoundError:
        return None


def _is_refusal(failed: ApiError) -> bool:
    """Whether somebody refused; else the same may work in a moment."""
    # A webhook that does not answer and must be asked is an internal error, in these words.
    return failed.status in _REFUSALS or (failed.status == 500 and "webhook" in str(failed))


async def _blanked(client: Claims, claim: JSON, *, now: datetime) -> JSON:
    stored = await put_status(client, claim, {**(claim.get("status") or {}), "allocation": blank(now=now)})
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
        f"ResourceClaim {metadata['namespace']}/{metadata['name']} may not be changed by the controller that "
        f"began to lead ({refused}). An allocation that an earlier one sent for it could still be stored, so "
        "no cards are given out, to nobody.",
        field="metadata.finalizers",
        remedy="Let the controller's service account update ResourceClaims and their status in the admission "
        "webhook or policy that refuses it, or delete the claim.",
    )
