from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import pytest

from driver.cards import Card
from driver.errors import IsolationError
from driver.isolation.rules import (
    ConcurrentContainersError,
    ContainerUse,
    CorePolicyConflictError,
    DifferentSharesInTurnError,
    PartitionBesideShareError,
    PriorityConflictError,
    PrivilegedContainerError,
    SameCardTwiceError,
    SharedBetweenPodsError,
    ShareFacts,
    ShareKey,
    TooManyCardsError,
    TwoIndicesError,
    card_sort_key,
    check_preload_rules,
)

Kind = Literal["init", "sidecar", "app"]


def key(request: str, *, device: str = "", claim: str = "claim-a", share: str = "") -> ShareKey:
    return ShareKey(claim_uid=claim, request=request, device=device or f"card-{request}", share_id=share)


def limited(place: int | str = 0, *, policy: str = "", vendor: str = "nvidia") -> ShareFacts:
    return ShareFacts(card_sort_key=str(place).zfill(2), limited=True, core_policy=policy, vendor=vendor)


def whole(place: int | str = 0, *, vendor: str = "nvidia") -> ShareFacts:
    return ShareFacts(card_sort_key=str(place).zfill(2), limited=False, vendor=vendor)


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
    shares: Mapping[ShareKey, ShareFacts],
    containers: Sequence[ContainerUse],
    *,
    claim: Collection[ShareKey] | None = None,
    pod_owned: bool = True,
) -> Mapping[ShareKey, int]:
    return check_preload_rules(
        claim_shares=claim if claim is not None else list(shares),
        all_shares=shares,
        containers=containers,
        pod_owned=pod_owned,
    )


A, B, C = key("a"), key("b"), key("c")


def test_a_share_stands_at_the_position_of_its_card_in_pci_order() -> None:
    assert check({A: limited(5), B: limited(2)}, [container("c", A, B)]) == {A: 1, B: 0}


def test_whole_cards_of_other_claims_count_for_the_position() -> None:
    other = key("w", claim="claim-b")
    found = check({A: limited(5), other: whole(2)}, [container("c", A, other)], claim=[A])
    assert found == {A: 1}


def test_cards_of_another_vendor_do_not_count_for_the_position() -> None:
    found = check({A: limited(5), B: whole(2, vendor="amd")}, [container("c", A, B)])
    assert found == {A: 0, B: 0}


def test_a_share_that_no_container_uses_is_accepted() -> None:
    assert check({A: limited(3)}, [container("c")]) == {A: 0}


def test_each_container_may_have_a_limited_request_of_its_own() -> None:
    found = check({A: limited(1), B: limited(2)}, [container("c", A), container("d", B, order=1)])
    assert found == {A: 0, B: 0}


def test_two_containers_may_use_two_shares_of_one_card() -> None:
    one, two = key("a", device="card"), key("b", device="card")
    found = check({one: limited(1), two: limited(1)}, [container("c", one), container("d", two, order=1)])
    assert found == {one: 0, two: 0}


def test_an_init_container_and_then_an_app_container_may_use_one_share() -> None:
    assert check({A: limited()}, [container("i", A, kind="init"), container("c", A)]) == {A: 0}


def test_two_init_containers_may_use_one_share_one_after_the_other() -> None:
    uses = [container("i", A, kind="init"), container("j", A, kind="init", order=1)]
    assert check({A: limited()}, uses) == {A: 0}


def test_an_init_container_that_ends_before_a_sidecar_starts_may_use_its_share() -> None:
    uses = [container("i", A, kind="init", order=0), container("s", A, kind="sidecar", order=1)]
    assert check({A: limited()}, uses) == {A: 0}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("app", 0), ("app", 1)),
        (("sidecar", 0), ("app", 0)),
        (("sidecar", 0), ("init", 1)),
        (("sidecar", 1), ("sidecar", 0)),
    ],
)
def test_a_limited_share_that_two_containers_can_use_at_once_is_refused(
    first: tuple[Kind, int], second: tuple[Kind, int]
) -> None:
    uses = [
        container("one", A, kind=first[0], order=first[1]),
        container("two", A, kind=second[0], order=second[1]),
    ]
    with pytest.raises(
        ConcurrentContainersError, match="pod web, container one and container two"
    ) as refused:
        check({A: limited()}, uses)
    assert "Give each container a request of its own" in refused.value.remedy


def test_a_whole_card_may_be_used_by_two_containers_at_once() -> None:
    assert check({A: whole()}, [container("c", A), container("d", A, order=1)]) == {A: 0}


def test_a_whole_card_may_stand_at_two_positions() -> None:
    uses = [container("c", A, B), container("d", B, order=1)]
    assert check({A: whole(1), B: whole(2)}, uses) == {A: 0, B: 0}


def test_a_limited_share_that_would_stand_at_two_positions_is_refused() -> None:
    uses = [container("i", A, B, kind="init"), container("c", A)]
    with pytest.raises(TwoIndicesError, match="number 0 in pod web, container c and number 1 in container i"):
        check({A: limited(2), B: whole(1)}, uses)


def test_two_shares_of_one_card_in_one_container_are_refused() -> None:
    one, two = key("a", device="card"), key("b", device="card")
    with pytest.raises(SameCardTwiceError, match=r"2 shares of card card \(requests a, b\)"):
        check({one: limited(), two: limited()}, [container("c", one, two)])


def test_two_shares_of_one_card_that_only_their_share_id_tells_apart_are_refused() -> None:
    one, two = key("a", device="card", share="1"), key("a", device="card", share="2")
    with pytest.raises(SameCardTwiceError):
        check({one: limited(), two: limited()}, [container("c", one, two)])


def test_two_unlimited_results_of_one_card_may_meet_in_one_container() -> None:
    one, two = key("a", device="card"), key("b", device="card")
    assert check({one: whole(), two: whole()}, [container("c", one, two)]) == {one: 0, two: 0}


def test_a_limited_share_of_another_claim_on_the_same_card_is_refused() -> None:
    other = key("b", device="card", claim="claim-b")
    ours = key("a", device="card")
    with pytest.raises(SameCardTwiceError):
        check({ours: limited(), other: limited()}, [container("c", ours, other)], claim=[ours])


def test_a_limited_share_of_a_claim_of_its_own_standing_is_refused() -> None:
    with pytest.raises(SharedBetweenPodsError) as refused:
        check({A: limited()}, [container("c", A)], pod_owned=False)
    assert "resourceClaimTemplateName" in refused.value.remedy


def test_a_limited_share_that_two_pods_use_is_refused_with_their_names() -> None:
    uses = [container("c", A, pod="one"), container("c", A, pod="two")]
    with pytest.raises(SharedBetweenPodsError, match=r"several pods \(one, two\)"):
        check({A: limited()}, uses)


def test_a_whole_card_may_be_used_by_two_pods() -> None:
    uses = [container("c", A, pod="one"), container("c", A, pod="two")]
    assert check({A: whole()}, uses, pod_owned=False) == {A: 0}


def test_different_core_policies_in_one_container_are_refused() -> None:
    shares = {A: limited(1, policy="force"), B: limited(2, policy="disable")}
    with pytest.raises(CorePolicyConflictError, match="b: disable, a: force"):
        check(shares, [container("c", A, B)])


def test_different_core_policies_in_two_containers_are_accepted() -> None:
    shares = {A: limited(1, policy="force"), B: limited(2, policy="disable")}
    assert check(shares, [container("c", A), container("d", B, order=1)]) == {A: 0, B: 0}


def test_a_share_without_a_cap_has_no_core_policy_to_conflict() -> None:
    shares = {A: limited(1, policy="disable"), B: limited(2)}
    assert check(shares, [container("c", A, B)]) == {A: 0, B: 1}


def test_different_priorities_in_one_container_are_refused() -> None:
    shares = {A: replace(limited(1), first=True), B: limited(2)}
    with pytest.raises(PriorityConflictError, match="a: high, b: low"):
        check(shares, [container("c", A, B)])


def test_different_priorities_in_two_containers_are_accepted() -> None:
    shares = {A: replace(limited(1), first=True), B: limited(2)}
    assert check(shares, [container("c", A), container("d", B, order=1)]) == {A: 0, B: 0}


def test_a_whole_card_beside_a_share_has_no_priority_to_conflict() -> None:
    shares = {A: limited(1), B: replace(whole(2), first=True)}
    assert check(shares, [container("c", A, B)]) == {A: 0, B: 1}


def test_containers_that_use_a_share_in_turn_must_hold_the_same_limited_shares() -> None:
    uses = [container("i", A, kind="init"), container("c", A, B)]
    with pytest.raises(DifferentSharesInTurnError, match=r"not the same other limited shares \(b\)"):
        check({A: limited(1), B: limited(2)}, uses)


def test_containers_that_use_a_share_in_turn_may_differ_in_whole_cards() -> None:
    uses = [container("i", A, kind="init"), container("c", A, B)]
    assert check({A: limited(1), B: whole(2)}, uses) == {A: 0, B: 1}


def test_a_limited_share_in_a_privileged_container_is_refused() -> None:
    with pytest.raises(PrivilegedContainerError, match="sees all cards"):
        check({A: limited()}, [container("c", A, privileged=True)])


def test_a_whole_card_in_a_privileged_container_is_accepted() -> None:
    assert check({A: whole()}, [container("c", A, privileged=True)]) == {A: 0}


def test_a_limited_share_beyond_the_sixteenth_card_is_refused() -> None:
    before = {key(f"w{n}"): whole(n) for n in range(16)}
    with pytest.raises(TooManyCardsError, match="number 16"):
        check({**before, A: limited(99)}, [container("c", A, *before)])


def test_containers_without_our_shares_do_not_matter() -> None:
    other = key("o", claim="claim-b")
    shares = {A: limited(), other: limited(1)}
    uses = [container("c", A), container("d", other, order=1), container("e", other, order=2)]
    assert check(shares, uses, claim=[A]) == {A: 0}


def test_every_refusal_has_a_name_of_its_own() -> None:
    refusals = IsolationError.__subclasses__()
    ours = [kind for kind in refusals if kind.__module__ == "driver.isolation.rules"]
    assert len({kind.reason for kind in ours}) == len(ours) == 10


def test_cards_sort_by_pci_address_even_with_a_long_domain() -> None:
    def at(address: str, name: str = "n") -> str:
        return card_sort_key(Card(name=name, vendor="v", model="m", memory_bytes=1 << 20, pci_bus_id=address))

    addresses = ["0000:3b:00.0", "0000:af:00.0", "0001:01:00.0", "10000:01:00.0", ""]
    assert sorted(addresses, key=at) == addresses
    assert at("", "a") < at("", "b")


def partition(place: int | str = 0, *, vendor: str = "nvidia") -> ShareFacts:
    return ShareFacts(card_sort_key=str(place).zfill(2), limited=False, vendor=vendor, partition=True)


@pytest.mark.parametrize("ours", [[A], [A, B]], ids=["of another claim", "of the same claim"])
def test_a_limited_share_beside_a_partition_is_refused_by_name(ours: list[ShareKey]) -> None:
    with pytest.raises(PartitionBesideShareError) as refused:
        check({A: limited(5), B: partition(2)}, [container("c", A, B)], claim=ours)
    assert refused.value.message.startswith(
        "pod web, container c would get a share with a limit (request a) beside a partition of a card "
        "(request b)"
    )
    assert refused.value.remedy


def test_a_partition_of_another_vendor_and_one_in_another_container_are_no_trouble() -> None:
    assert check({A: limited(5), B: partition(2, vendor="ascend")}, [container("c", A, B)])[A] == 0
    assert check({A: limited(5), B: partition(2)}, [container("c", A), container("d", B)])[A] == 0


def test_a_card_without_a_limit_beside_a_partition_is_no_trouble() -> None:
    check({A: whole(5), B: partition(2)}, [container("c", A, B)])
