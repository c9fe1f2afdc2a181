"""Allocations written by hand into a claim's status, as an allocator from outside would: nobody checks sums.

Limits: the tests' administrator may write them; kube-scheduler takes such a claim as allocated and places the
pod on the node that the allocation names.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from driver.kube.resources import PODS, RESOURCE_CLAIMS
from tests.cluster.support.api import JSON
from tests.cluster.support.manifests import DRIVER, sharing
from tests.cluster.support.space import Space


def result(
    *,
    pool: str,
    device: str,
    request: str = "card",
    driver: str = DRIVER,
    consumed: Mapping[str, str] | None = None,
) -> JSON:
    """One result; with consumed amounts it is a share and gets an id."""
    found: JSON = {"request": request, "driver": driver, "pool": pool, "device": device}
    if consumed is not None:
        found["consumedCapacity"] = dict(consumed)
        found["shareID"] = str(uuid.uuid4())
    return found


def allocate(
    space: Space, claim: str, results: Sequence[JSON], *, node: str, config: Sequence[JSON] = ()
) -> JSON:
    """Writes the allocation of a claim that has none."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    allocation: JSON = {
        "devices": {"results": list(results)},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field]}]},
        # Left out, the API server takes the scheduler's reservation for a change of the allocation.
        "allocationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if config:
        allocation["devices"]["config"] = [{"source": "FromClaim", **one} for one in config]
    # The finalizer is what makes kube-controller-manager release the claim after its last pod.
    finalizers = {"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}}
    space.api.patch(RESOURCE_CLAIMS, claim, finalizers, namespace=space.name)
    return space.api.patch(
        RESOURCE_CLAIMS,
        claim,
        {"status": {"allocation": allocation}},
        namespace=space.name,
        subresource="status",
    )


def pod_with(space: Space, name: str, ask: JSON, results: Sequence[JSON], *, node: str) -> None:
    """A pod whose own claim asks for `ask` and was given `results`, whatever kube-scheduler would say.

    The pod is held back by a scheduling gate until its claim is made and allocated.
    """
    space.create(*sharing(name, ask, gated=True))

    def made(one: JSON) -> str:
        statuses = one["status"].get("resourceClaimStatuses") or [{}]
        return str(statuses[0].get("resourceClaimName", ""))

    claim = space.wait_pod(name, made, what="has its claim")
    allocate(space, claim, results, node=node)
    space.api.patch(PODS, name, {"spec": {"schedulingGates": None}}, namespace=space.name)
