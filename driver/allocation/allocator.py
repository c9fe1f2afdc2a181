"""Decisions: a pod's claims on a node.

Purpose: the two ways to ask. `allocate` reads everything from a snapshot; `decide` is for whoever asks of
many nodes and has read the claims once and knows each node's pools.

Flow: prepare the claims, gather the node's pools, make an `Attempt`, write results.

Limits: pure; a snapshot is never changed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from driver.allocation.attempt import Attempt
from driver.allocation.claims import PreparedClaims, prepare
from driver.allocation.decision import Decision
from driver.allocation.fit import Verdicts
from driver.allocation.models import JSON
from driver.allocation.nodes import Node
from driver.allocation.pools import Pool, gather
from driver.allocation.preference import Preference
from driver.allocation.profile import Features, Profile
from driver.allocation.result import allocation_result
from driver.allocation.snapshot import InUse, Snapshot
from driver.cel.environments import DEFAULT_RELEASE
from driver.errors import AllocationError


def allocate(
    snapshot: Snapshot,
    *,
    node: str,
    claims: Sequence[JSON],
    release: str = DEFAULT_RELEASE,
    share_id: Callable[[], str] | None = None,
    preference: Preference | None = None,
    features: Features | None = None,
) -> Decision:
    """Decide whether a pod's claims can be met on a node, and by which devices.

    Args:
        snapshot: The state of the cluster.
        node: Name of the node.
        claims: The pod's ResourceClaims (v1) that are not allocated yet, in the pod's order.
        release: Kubernetes release whose rules apply.
        share_id: Makes ids for shares; random UUIDs if not given.
        preference: In what order devices are tried; kube-scheduler's if not given.
        features: What is switched on in the cluster; as in a stock cluster if not given.
    """
    profile = Profile.of(release, features)
    here = snapshot.nodes.get(node) or Node(node, {})
    return decide(
        prepare(claims, classes=snapshot.classes, profile=profile),
        node=here,
        pools=gather(snapshot, here, profile),
        in_use=snapshot.in_use,
        share_id=share_id,
        preference=preference,
    )


def decide(
    prepared: PreparedClaims,
    *,
    node: Node,
    pools: Sequence[Pool],
    in_use: InUse,
    share_id: Callable[[], str] | None = None,
    preference: Preference | None = None,
    verdicts: Verdicts | None = None,
    limit: int | None = None,
) -> Decision:
    """Decide about claims that were read before, on a node whose pools are known.

    Args:
        prepared: The claims and the rules.
        node: The node.
        pools: Its pools, as `gather` gives them.
        in_use: What is held.
        share_id: Makes ids for shares; random UUIDs if not given.
        preference: In what order devices are tried; kube-scheduler's if not given.
        verdicts: What is known of selectors. Devices that are given are evaluated all the same, and if
            that disagrees nothing of the verdicts is believed.
        limit: Steps of search after which it is given up; those of kube-scheduler's time if None.
    """

    def attempt_with(known: Verdicts | None) -> Attempt:
        return Attempt(
            prepared,
            node=node,
            pools=pools,
            in_use=in_use,
            preference=preference,
            verdicts=known,
            limit=limit,
        )

    attempt = attempt_with(verdicts)
    try:
        chosen = attempt.run()
        if verdicts is not None and not attempt.confirms(chosen):
            attempt = attempt_with(None)
            chosen = attempt.run()
    except AllocationError as error:
        return Decision(node.name, None, attempt.refusal(error), attempt.steps)
    new_id = share_id or (lambda: str(uuid.uuid4()))
    results = tuple(
        allocation_result(
            claim,
            [one for one in chosen if one.claim == number],
            node=node,
            profile=prepared.profile,
            share_id=new_id,
        )
        for number, claim in enumerate(prepared.claims)
    )
    return Decision(node.name, results, None, attempt.steps)
