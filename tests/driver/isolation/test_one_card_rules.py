from __future__ import annotations

import pytest

from driver.isolation.preload_one_card import MixedLibrariesError, OneCardOnlyError, check_one_card_rules
from driver.isolation.rules import ContainerUse, ShareFacts, ShareKey
from tests.driver.isolation.test_rules import container, key, limited, whole


def check(
    *uses: ContainerUse, facts: dict[ShareKey, ShareFacts], ours: tuple[ShareKey, ...] | None = None
) -> None:
    check_one_card_rules(
        claim_shares=tuple(facts) if ours is None else ours, all_shares=facts, containers=uses
    )


@pytest.mark.parametrize("vendor", ["ascend", "amd"])
def test_a_limited_share_beside_another_card_of_its_vendor_is_refused(vendor: str) -> None:
    a, b = key("a"), key("b")
    with pytest.raises(OneCardOnlyError) as refused:
        check(container("app", a, b), facts={a: limited(0, vendor=vendor), b: whole(1, vendor=vendor)})
    assert "pod web, container app" in refused.value.message
    assert refused.value.remedy


def test_two_limited_shares_of_one_ascend_card_are_refused() -> None:
    a, b = key("a", device="card"), key("b", device="card")
    with pytest.raises(OneCardOnlyError):
        check(container("app", a, b), facts={a: limited(0, vendor="ascend"), b: limited(0, vendor="ascend")})


def test_limited_shares_of_two_vendors_in_one_container_are_refused() -> None:
    a, b = key("a"), key("b")
    with pytest.raises(MixedLibrariesError, match="ascend and nvidia"):
        check(container("app", a, b), facts={a: limited(0), b: limited(0, vendor="ascend")})


def test_each_in_a_container_of_its_own_is_given() -> None:
    a, b = key("a"), key("b")
    facts = {a: limited(0, vendor="ascend"), b: limited(1, vendor="ascend")}
    check(container("first", a), container("second", b), facts=facts)


def test_whole_cards_and_nvidias_shares_are_not_concerned() -> None:
    a, b = key("a"), key("b")
    check(container("app", a, b), facts={a: whole(0, vendor="ascend"), b: whole(1, vendor="ascend")})
    check(container("app", a, b), facts={a: limited(0), b: limited(1)})
    check(container("app", a, b), facts={a: limited(0, vendor="ascend"), b: whole(0)})


def test_containers_that_use_nothing_of_the_claim_are_not_looked_at() -> None:
    a, b, c = key("a"), key("b", claim="other"), key("c", claim="other")
    facts = {a: limited(0, vendor="ascend"), b: limited(0), c: limited(0, vendor="amd")}
    check(container("app", a), container("other", b, c), facts=facts, ours=(a,))
