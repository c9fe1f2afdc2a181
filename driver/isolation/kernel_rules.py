"""What `kernel` cannot express, refused by name.

Purpose: a limit of the kernel belongs to one container's cgroup and one card. Two containers with one share
would have its whole amount each, and two shares of one card in one container would meet in one limit.

Flow: the same facts as `driver.isolation.rules` -> `check_kernel_rules` -> refusal or nothing.

Limits: those of `driver.isolation.rules`. Containers that use a share in turn may hold whatever else they
like: each has a cgroup of its own, in which nothing of the former is left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from driver.isolation.rules import (
    ContainerUse,
    ShareFacts,
    ShareKey,
    refuse_overlap,
    refuse_privileged,
    refuse_same_card,
    refuse_several_pods,
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
        refuse_several_pods(
            uses,
            pod_owned=pod_owned,
            message=f"Request {share.request} has a memory limit that the kernel holds, but several pods can "
            "use its claim: each would have all of it.",
        )
        for first, second in combinations(uses, 2):
            refuse_overlap(
                first,
                second,
                what=f"the limited share of request {share.request}",
                because="the kernel would give each of them all of it",
            )
    for use in concerned:
        limited = {key for key in use.uses & ours if all_shares[key].limited}
        refuse_privileged(use, limited, because="can lift the limits of its own cgroup")
        refuse_same_card(use, all_shares, because="the kernel holds one limit for each card of a container")
