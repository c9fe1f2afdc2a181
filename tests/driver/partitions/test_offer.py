from __future__ import annotations

from dataclasses import replace

import pytest

from driver.api.policy import (
    AcceleratorPolicySpec,
    CardOverride,
    EffectivePolicy,
    NamedPolicy,
    Partitions,
    effective_policy,
)
from driver.cards import Card, Partition
from driver.partitions.base import IN_PARTITION_MODE
from driver.partitions.offer import offered
from driver.places import Place

UUID = "GPU-1"
CARD = Card(
    name="nvidia-1", vendor="nvidia", model="x", memory_bytes=40 << 30, uuid=UUID, counters={"slot-0": 1}
)
IN_MODE = replace(CARD, unpublished=IN_PARTITION_MODE)


def part(start: int, size: int = 1, *, exists: bool = False, profile: int = 19, **fields: object) -> Card:
    place = Place(card=CARD.name, kind="mig", profile=profile, start=start, size=size)
    return Card(
        name=place.name,
        vendor="nvidia",
        model="x",
        memory_bytes=size << 30,
        cores=14 * size,
        partition=Partition(card_uuid=UUID, profile=f"{size}g", exists=exists),
        counters={f"slot-{slot}": 1 for slot in place.slots},
        **fields,  # type: ignore[arg-type]
    )


def policy(mode: Partitions | None) -> EffectivePolicy:
    spec = AcceleratorPolicySpec(partitions=mode)
    return effective_policy([NamedPolicy(name="p", spec=spec)], node_labels={})


def names(cards: tuple[Card, ...], *, published: bool = True) -> list[str]:
    return [card.name for card in cards if not (published and card.unpublished)]


def test_without_a_policy_cards_are_as_they_were() -> None:
    found = offered([CARD, part(0), part(1)], policy=policy(None))
    assert found == (replace(CARD, counters={}),)


def test_without_a_policy_instances_that_are_there_are_known_and_not_offered() -> None:
    found = offered([IN_MODE, part(0, exists=True), part(1)], policy=policy(Partitions.NONE))
    assert names(found, published=False) == [CARD.name, part(0).name]
    assert names(found) == []


def test_static_offers_what_is_there_and_draws_on_no_counters() -> None:
    found = offered([IN_MODE, part(0, exists=True), part(1)], policy=policy(Partitions.STATIC))
    assert names(found) == [part(0).name]
    assert not any(card.counters for card in found)
    assert found[0].unpublished == IN_PARTITION_MODE


def test_static_leaves_a_card_out_of_the_mode_as_it_is() -> None:
    found = offered([CARD, part(0)], policy=policy(Partitions.STATIC))
    assert names(found) == [CARD.name]


def test_static_does_not_offer_what_was_made_for_a_claim() -> None:
    mine = part(0, exists=True)
    found = offered([IN_MODE, mine], policy=policy(Partitions.STATIC), ours=[mine.name])
    assert names(found) == []
    assert "goes with it" in found[1].unpublished


@pytest.mark.parametrize("mode", [Partitions.NONE, Partitions.STATIC])
def test_one_of_ours_that_went_with_a_boot_stays_known_and_is_not_offered(mode: Partitions) -> None:
    found = offered([CARD, part(0)], policy=policy(mode), ours=[part(0).name])
    assert names(found) == [CARD.name]
    assert part(0).name in names(found, published=False)


def test_dynamic_offers_the_card_and_all_that_could_be_made_of_it() -> None:
    found = offered([CARD, part(0), part(0, 4), part(1)], policy=policy(Partitions.DYNAMIC))
    assert names(found) == [CARD.name, part(1).name, part(0).name, part(0, 4).name]
    assert all(card.counters for card in found)


def test_dynamic_takes_a_card_out_of_the_mode_when_nobody_else_made_anything_in_it() -> None:
    mine = part(0, exists=True)
    found = offered([IN_MODE, mine, part(1)], policy=policy(Partitions.DYNAMIC), ours=[mine.name])
    assert names(found) == [CARD.name, part(1).name, mine.name]


def test_an_instance_of_somebody_else_keeps_away_the_card_and_what_needs_its_slots() -> None:
    found = offered(
        [IN_MODE, part(0, exists=True), part(0, 4), part(4, 4), part(1)], policy=policy(Partitions.DYNAMIC)
    )
    assert names(found) == [part(1).name, part(0).name, part(4, 4).name]
    assert (
        "not made for claims"
        in offered([CARD, part(0, exists=True)], policy=policy(Partitions.DYNAMIC))[0].unpublished
    )


def test_what_was_made_by_half_for_a_claim_stays_on_offer() -> None:
    mine = part(0, exists=True, unpublished="The GPU instance has no compute instance.")
    found = offered([IN_MODE, mine], policy=policy(Partitions.DYNAMIC), ours=[mine.name])
    assert mine.name in names(found)


def test_another_reason_against_a_card_stays() -> None:
    excluded = replace(CARD, unpublished="Excluded by policy.")
    found = offered([excluded, part(0)], policy=policy(Partitions.DYNAMIC))
    assert found[0].unpublished == "Excluded by policy."


def test_a_single_card_may_be_partitioned() -> None:
    spec = AcceleratorPolicySpec(cards=(CardOverride(uuid=UUID, partitions=Partitions.DYNAMIC),))
    found = effective_policy([NamedPolicy(name="p", spec=spec)], node_labels={})
    assert part(0).name in names(offered([CARD, part(0)], policy=found))


def test_a_card_that_is_excluded_takes_its_partitions_with_it() -> None:
    spec = AcceleratorPolicySpec(
        partitions=Partitions.STATIC, cards=(CardOverride(uuid=UUID, excluded=True),)
    )
    found = effective_policy([NamedPolicy(name="p", spec=spec)], node_labels={})
    assert found.apply(part(0, exists=True)).unpublished == "Excluded by policy."


def test_reserved_memory_is_not_taken_from_partitions() -> None:
    spec = AcceleratorPolicySpec(reserved_memory="512Mi", sharing=True)
    found = effective_policy([NamedPolicy(name="p", spec=spec)], node_labels={})
    applied = found.apply(part(0))
    assert applied.memory_bytes == part(0).memory_bytes
    assert not applied.shareable


def test_partitions_whose_card_does_not_answer_are_kept() -> None:
    assert names(offered([part(0, exists=True)], policy=policy(Partitions.STATIC))) == [part(0).name]


@pytest.mark.parametrize("mode", list(Partitions))
def test_the_order_does_not_depend_on_the_order_in_which_they_were_found(mode: Partitions) -> None:
    parts = [part(2), part(0, 2), part(0), part(4, 4)]
    assert offered([CARD, *parts], policy=policy(mode)) == offered(
        [*reversed(parts), CARD], policy=policy(mode)
    )
