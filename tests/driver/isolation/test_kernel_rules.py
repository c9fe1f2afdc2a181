from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import pytest

from driver.errors import IsolationError
from driver.isolation.kernel_rules import check_kernel_rules
from driver.isolation.rules import (
    ConcurrentContainersError,
    ContainerUse,
    PrivilegedContainerError,
    SameCardTwiceError,
    SharedBetweenPodsError,
    ShareFacts,
    ShareKey,
)

A = ShareKey(claim_uid="claim-a", request="a", device="card-1")
B = ShareKey(claim_uid="claim-a", request="b", device="card-2")
TWIN = ShareKey(claim_uid="claim-b", request="twin", device="card-1", share_id="2")
LIMITED, FREE = (ShareFacts(card_sort_key="0", limited=limited) for limited in (True, False))


def container(
    name: str,
    *uses: ShareKey,
    kind: Literal["init", "sidecar", "app"] = "app",
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
    shares: Mapping[ShareKey, ShareFacts],
    *containers: ContainerUse,
    claim: Collection[ShareKey] = (A, B),
    pod_owned: bool = True,
) -> None:
    check_kernel_rules(
        claim_shares=[key for key in claim if key in shares],
        all_shares=shares,
        containers=containers,
        pod_owned=pod_owned,
    )


def refused(
    expected: type[IsolationError], shares: Mapping[ShareKey, ShareFacts], *uses: ContainerUse
) -> str:
    with pytest.raises(expected) as found:
        check(shares, *uses)
    assert found.value.field.startswith("spec.")
    assert found.value.remedy
    return found.value.message


def test_two_cards_in_one_container_have_a_limit_each() -> None:
    check({A: LIMITED, B: LIMITED}, container("c", A, B))


def test_containers_that_use_a_share_in_turn_may_hold_different_other_shares() -> None:
    check({A: LIMITED, B: LIMITED}, container("first", A, kind="init"), container("second", A, B))


def test_two_containers_at_the_same_time_would_have_the_amount_each() -> None:
    message = refused(ConcurrentContainersError, {A: LIMITED}, container("c", A), container("d", A, order=1))
    assert message.startswith("pod web, container c and container d can use the limited share of request a")


def test_a_sidecar_runs_at_the_same_time_as_the_containers_after_it() -> None:
    refused(ConcurrentContainersError, {A: LIMITED}, container("s", A, kind="sidecar"), container("c", A))


def test_a_claim_of_several_pods_would_give_the_amount_to_each() -> None:
    with pytest.raises(SharedBetweenPodsError, match="each would have all of it"):
        check({A: LIMITED}, container("c", A), pod_owned=False)
    refused(SharedBetweenPodsError, {A: LIMITED}, container("c", A), container("c", A, pod="other"))


def test_two_shares_of_one_card_would_meet_in_one_limit() -> None:
    message = refused(SameCardTwiceError, {A: LIMITED, TWIN: LIMITED}, container("c", A, TWIN))
    assert "would get 2 shares of card card-1 (requests a, twin)" in message


def test_a_limited_share_beside_an_unlimited_one_of_the_same_card_would_limit_both() -> None:
    refused(SameCardTwiceError, {A: LIMITED, TWIN: FREE}, container("c", A, TWIN))


def test_a_privileged_container_could_lift_its_limit() -> None:
    message = refused(PrivilegedContainerError, {A: LIMITED}, container("c", A, privileged=True))
    assert "can lift the limits of its own cgroup" in message


def test_shares_that_the_kernel_does_not_limit_may_be_used_in_any_way() -> None:
    uses: Sequence[ContainerUse] = (
        container("c", A, TWIN, privileged=True),
        container("d", A, order=1),
        container("c", A, pod="other"),
    )
    check({A: FREE, TWIN: FREE}, *uses, pod_owned=False)


def test_what_other_claims_have_is_their_own_matter() -> None:
    check({A: FREE, TWIN: LIMITED}, container("c", TWIN), container("d", TWIN, order=1), container("e", A))
