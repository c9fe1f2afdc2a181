"""What `service` cannot express, refused by name.

Purpose: a process joins MPS by one folder, so a container can have one share of MPS, and sees no card beside
that share's: the server that it joins has one card. And MPS limits processes, so whatever lets more of them
share one budget on purpose would multiply it.

Flow: the same facts as `driver.isolation.rules` -> `check_service_rules` -> refusal or nothing.

Limits: those of `driver.isolation.rules`. How many processes a container starts is not known before it runs;
`Service.in_force` looks at that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from driver.errors import IsolationError
from driver.isolation.rules import (
    SEES_ALL_CARDS,
    ContainerUse,
    ShareFacts,
    ShareKey,
    named,
    refuse_overlap,
    refuse_privileged,
    refuse_several_pods,
)

_NVIDIA = "nvidia"


class OneMpsShareError(IsolationError):
    """A container would get a share of MPS and another NVIDIA card or share."""

    reason = "OneMpsShare"


def check_service_rules(
    *,
    claim_shares: Collection[ShareKey],
    all_shares: Mapping[ShareKey, ShareFacts],
    containers: Sequence[ContainerUse],
    pod_owned: bool,
) -> None:
    """Checks the shares of one claim in all containers that can use them.

    Args:
        claim_shares: The claim's shares on this node, adminAccess included.
        all_shares: Facts of these and of every other share that `containers` use; `limited` says that MPS
            holds something of it.
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
            message=f"Request {share.request} has a limit that MPS holds, but several pods can use its "
            "claim: MPS would give each of them all of it.",
        )
        for first, second in combinations(uses, 2):
            refuse_overlap(
                first,
                second,
                what=f"the share of request {share.request}",
                because="MPS would give each of them all of it",
            )
    for use in concerned:
        _check_container(use, all_shares, ours=ours)


def _check_container(use: ContainerUse, facts: Mapping[ShareKey, ShareFacts], *, ours: set[ShareKey]) -> None:
    of_vendor = sorted(key for key in use.uses if facts[key].vendor == _NVIDIA)
    limited = [key for key in of_vendor if facts[key].limited]
    if not limited:
        return
    refuse_privileged(use, ours.intersection(limited), because=SEES_ALL_CARDS)
    if len(of_vendor) > 1:
        raise OneMpsShareError(
            f"{named(use)} would get {len(of_vendor)} NVIDIA shares (requests "
            f"{', '.join(sorted({key.request for key in of_vendor}))}), one of them held by MPS: a process "
            "joins one share of MPS and sees its card alone.",
            field="spec.containers[].resources.claims",
            remedy="Give each share a container of its own, or have it held by another method.",
        )
