from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from driver.isolation.rules import (
    ConcurrentContainersError,
    ContainerUse,
    PrivilegedContainerError,
    SharedBetweenPodsError,
    ShareFacts,
    ShareKey,
)
from driver.isolation.service_rules import OneMpsShareError, check_service_rules

Kind = Literal["init", "sidecar", "app"]
OURS = ShareKey(claim_uid="claim-a", request="gpu", device="nvidia-0")
OTHER = ShareKey(claim_uid="claim-b", request="other", device="nvidia-1")
FACTS = {
    OURS: ShareFacts(card_sort_key="0", limited=True, vendor="nvidia"),
    OTHER: ShareFacts(card_sort_key="1", limited=False, vendor="nvidia"),
}


def container(
    name: str,
    *uses: ShareKey,
    kind: Kind = "app",
    order: int = 0,
    pod: str = "web",
    privileged: bool = False,
) -> ContainerUse:
    return ContainerUse(
        pod_uid=f"uid-of-{pod}",
        pod_name=pod,
        container=name,
        kind=kind,
        order=order,
        uses=frozenset(uses),
        privileged=privileged,
    )


def check(
    *containers: ContainerUse,
    facts: dict[ShareKey, ShareFacts] | None = None,
    claim_shares: Sequence[ShareKey] = (OURS,),
    pod_owned: bool = True,
) -> None:
    check_service_rules(
        claim_shares=claim_shares, all_shares=facts or FACTS, containers=containers, pod_owned=pod_owned
    )


def test_one_share_in_one_container_is_fine() -> None:
    check(container("app", OURS), container("beside"))


def test_containers_one_after_the_other_may_share() -> None:
    check(container("init", OURS, kind="init"), container("app", OURS))


def test_two_containers_at_the_same_time_would_have_twice_the_share() -> None:
    with pytest.raises(ConcurrentContainersError, match="MPS would give each of them all of it"):
        check(container("app", OURS), container("side", OURS, order=1))


def test_a_claim_that_several_pods_can_use_would_give_each_all_of_it() -> None:
    with pytest.raises(SharedBetweenPodsError, match="several pods"):
        check(container("app", OURS), pod_owned=False)
    with pytest.raises(SharedBetweenPodsError):
        check(container("app", OURS), container("app", OURS, pod="other"))


@pytest.mark.parametrize("limited", [True, False])
def test_a_container_joins_one_share_of_mps_and_sees_no_other_nvidia_card(limited: bool) -> None:
    facts = {**FACTS, OTHER: ShareFacts(card_sort_key="1", limited=limited, vendor="nvidia")}
    with pytest.raises(OneMpsShareError, match="requests gpu, other"):
        check(container("app", OURS, OTHER), facts=facts)


def test_the_other_share_is_refused_as_well_where_only_its_neighbour_is_of_mps() -> None:
    with pytest.raises(OneMpsShareError):
        check(container("app", OURS, OTHER), claim_shares=(OTHER,))


def test_cards_of_other_vendors_do_not_matter() -> None:
    facts = {**FACTS, OTHER: ShareFacts(card_sort_key="1", limited=True, vendor="amd")}
    check(container("app", OURS, OTHER), facts=facts)


def test_what_mps_does_not_hold_is_not_its_concern() -> None:
    facts = {key: ShareFacts(card_sort_key="0", limited=False, vendor="nvidia") for key in FACTS}
    check(container("app", OURS, OTHER, privileged=True), container("b", OURS), facts=facts, pod_owned=False)


def test_a_privileged_container_could_pass_by() -> None:
    with pytest.raises(PrivilegedContainerError, match="sees all cards"):
        check(container("app", OURS, privileged=True))
