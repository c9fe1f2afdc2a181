"""Cards that are in one mode as a whole, as policies offer them and as an allocator reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from driver.api.policy import AcceleratorPolicySpec, NamedPolicy, Partitions, effective_policy
from driver.cards import Card
from driver.partitions.base import IN_PARTITION_MODE
from driver.partitions.offer import offered
from driver.places import exclude
from driver.slices import publication_of, with_generation
from driver.vendors.amd import Amd
from tests.driver.partitions.test_exclusion import Asked, Cluster, asked, claim, give_in_turn
from tests.support.amd_node import AmdCard, AmdHost


def policy_of(mode: Partitions | None, found: tuple[Card, ...], **names: list[str]) -> tuple[Card, ...]:
    spec = AcceleratorPolicySpec(partitions=mode)
    return offered(
        found, policy=effective_policy([NamedPolicy(name="p", spec=spec)], node_labels={}), **names
    )


def published(cards: tuple[Card, ...]) -> list[str]:
    return [card.name for card in cards if not card.unpublished]


@pytest.fixture(scope="module")
def card() -> AmdCard:
    return AmdCard(number=0)


@pytest.fixture(scope="module")
def cards(card: AmdCard, tmp_path_factory: pytest.TempPathFactory) -> tuple[Card, ...]:
    return Amd().discover(AmdHost(tmp_path_factory.mktemp("spx"), card)).cards


@pytest.fixture(scope="module")
def cut(card: AmdCard, tmp_path_factory: pytest.TempPathFactory) -> tuple[Card, ...]:
    """The same card in mode CPX."""
    return Amd().discover(AmdHost(tmp_path_factory.mktemp("cpx"), replace(card, mode="CPX"))).cards


def test_without_a_policy_a_card_in_a_mode_is_not_offered_in_any_way(cut: tuple[Card, ...]) -> None:
    assert published(policy_of(None, cut)) == []
    assert policy_of(None, cut)[0].unpublished == IN_PARTITION_MODE


def test_static_offers_the_partitions_of_the_mode_alone_and_draws_on_no_counters(
    card: AmdCard, cut: tuple[Card, ...]
) -> None:
    found = policy_of(Partitions.STATIC, cut)
    assert sorted(published(found)) == sorted(card.part("CPX", part) for part in range(8))
    assert not any(one.counters for one in found)
    assert len(found) == 9


def test_static_leaves_a_card_in_no_mode_whole(card: AmdCard, cards: tuple[Card, ...]) -> None:
    assert [one.name for one in policy_of(Partitions.STATIC, cards)] == [card.name]


def test_dynamic_offers_the_same_whatever_mode_the_card_is_in(
    cards: tuple[Card, ...], cut: tuple[Card, ...]
) -> None:
    now, then = policy_of(Partitions.DYNAMIC, cards), policy_of(Partitions.DYNAMIC, cut)
    assert len(published(now)) == 1 + 2 + 4 + 8
    assert published(now) == published(then)
    slices = [publication_of(found[1:], node="n").slices for found in (now, then)]
    assert slices[0] == slices[1]


def test_a_partition_of_a_mode_is_never_a_claims_own(card: AmdCard, cut: tuple[Card, ...]) -> None:
    one = card.part("CPX", 0)
    assert policy_of(Partitions.STATIC, cut, ours=[one]) == policy_of(Partitions.STATIC, cut)
    assert policy_of(Partitions.DYNAMIC, cut, ours=[one]) == policy_of(Partitions.DYNAMIC, cut)


def test_partitions_of_two_modes_of_a_card_exclude_each_other_wherever_they_are(card: AmdCard) -> None:
    other = replace(card, number=1)
    assert exclude(card.part("DPX", 0), card.part("CPX", 7))
    assert exclude(card.part("CPX", 7), card.part("QPX", 0))
    assert not exclude(card.part("CPX", 7), card.part("CPX", 6))
    assert not exclude(card.part("CPX", 7), other.part("QPX", 0))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Slices of a node with two cards."""
    root: Path = tmp_path_factory.mktemp("two")
    found = Amd().discover(AmdHost(root, AmdCard(number=0), AmdCard(number=1))).cards
    slices = publication_of(policy_of(Partitions.DYNAMIC, found), node="n").slices
    return [with_generation(one, 1) for one in slices]


@given(claims=asked(None, 1, 24, 40, 96, 190))
@settings(max_examples=15, deadline=None)
def test_whatever_is_asked_a_card_is_given_out_in_one_mode(
    two: list[dict[str, object]], claims: list[Asked]
) -> None:
    give_in_turn(Cluster(two), claims)


def test_a_card_is_full_when_all_partitions_of_its_mode_are_given(two: list[dict[str, object]]) -> None:
    cluster = Cluster(two)
    given_out = [cluster.give(claim(f"c{number}", "part", 20)) for number in range(16)]
    assert len({*given_out}) == 16
    assert all("-xcp-4-" in name for name in given_out)
    assert cluster.give(claim("more", "part", 1)) == cluster.give(claim("share", "card", 1)) == ""


def test_the_first_partition_of_a_card_decides_its_mode(two: list[dict[str, object]]) -> None:
    cluster = Cluster(two)
    first = cluster.give(claim("half", "part", 90))
    assert "-xcp-1-" in first
    card = first.partition("-xcp-")[0]
    # kube-scheduler takes the first that fits: of this card that is the other half.
    assert cluster.give(claim("eighth", "part", 20)).startswith(f"{card}-xcp-1-")
    second = cluster.give(claim("another", "part", 20))
    assert "-xcp-4-" in second
    assert not second.startswith(card)
    assert cluster.give(claim("whole", "card", None)) == cluster.give(claim("half", "part", 90)) == ""
