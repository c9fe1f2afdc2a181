"""What `kernel` cannot express, refused by name.

Purpose: a limit of the kernel belongs to one container's cgroup and one card. Two containers with one share
would have its whole amount each, and two shares of one card in one container would meet in one limit.

Flow: the same facts as `driver.isolation.rules` -> `check_kernel_rules` -> refusal or nothing.

Limits: those of `driver.isolation.rules`. Containers that use a share in turn may hold whatever else they
like:
each has a cgroup of its own, in which nothing of the former is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from driver.isolation.rules import (
    ConcurrentContainersError,
    ContainerUse,
    PrivilegedContainerError,
    SameCardTwiceError,
    SharedBetweenPodsError,
    ShareFacts,
    ShareKey,
    can_overlap,
)


def check_kernel_rules(
    *,
    claim_shares: Collection[ShareKey],
    all_shares: Mapping[ShareKey, ShareFacts],
    containers: Sequence[ContainerUse],
    pod_owned: bool,
) -> None:
    """Checks the shares of one claim in all containers that can use them.

    Args:
        claim_shares: The claim's shares on this node, adminAccess included.
        all_shares: Facts of these and of every other share that `containers` use; `limited` says that the
            kernel holds its memory.
        containers: All containers of all pods that may use the claim.
        pod_owned: The claim was made for one pod, and is reserved for no other.

    Raises:
        IsolationError: A subclass for each rule; message and remedy name pod, container and request.
    """
    ours = set(claim_shares)
    concerned = [use for use in containers if use.uses & ours]
    for share in sorted(key for key in ours if all_shares[key].limited):
        uses = [use for use in concerned if share in use.uses]
        if not pod_owned or len({use.pod_uid for use in uses}) > 1:
            raise SharedBetweenPodsError(
                f"Request {share.request} has a memory limit that the kernel holds, but several pods can use "
                "its claim: each would have all of it.",
                field="spec.resourceClaims[].resourceClaimName",
                remedy="Use resourceClaimTemplateName, so that each pod has its own claim.",
            )
        for first, second in combinations(uses, 2):
            if can_overlap(first, second):
                raise ConcurrentContainersError(
                    f"{_named(first)} and container {second.container} can use the limited share of request "
                    f"{share.request} at the same time; the kernel would give each of them all of it.",
                    field="spec.containers[].resources.claims",
                    remedy="Give each container a request of its own.",
                )
    for use in concerned:
        _check_container(use, all_shares, ours=ours)


def _check_container(use: ContainerUse, facts: Mapping[ShareKey, ShareFacts], *, ours: set[ShareKey]) -> None:
    limited = sorted(key for key in use.uses & ours if facts[key].limited)
    if use.privileged and limited:
        raise PrivilegedContainerError(
            f"{_named(use)} is privileged and can lift the limits of its own cgroup; the limit of request "
            f"{limited[0].request} cannot be put in force in it.",
            field="spec.containers[].securityContext.privileged",
            remedy="Run the container without privileged, or ask for whole cards.",
        )
    on_card: dict[str, list[ShareKey]] = defaultdict(list)
    for key in sorted(use.uses):
        on_card[key.device].append(key)
    for device, keys in on_card.items():
        if len(keys) > 1 and any(facts[key].limited for key in keys):
            requests = ", ".join(sorted({key.request for key in keys}))
            raise SameCardTwiceError(
                f"{_named(use)} would get {len(keys)} shares of card {device} (requests {requests}); the "
                "kernel holds one limit for each card of a container.",
                field="spec.containers[].resources.claims",
                remedy="Ask for one larger share, or add a constraint distinctAttribute: dragoman.dev/uuid.",
            )


def _named(use: ContainerUse) -> str:
    return f"pod {use.pod_name}, container {use.container}"
