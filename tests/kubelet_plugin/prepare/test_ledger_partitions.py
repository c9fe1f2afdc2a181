"""A card as a whole, shares of it and partitions of it are never held at the same time, whoever allocated."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.cards import Card, Partition
from driver.errors import OverCommitError, OverCommitReleasingError
from driver.places import Place, exclude, place_of
from driver.shares import Share
from kubelet_plugin.prepare.ledger import CardFullError, Ledger, ReservationInDoubtError
from tests.support.node_world import card

SLOTS = 8
MIB = 8000


def part(of: str, start: int, size: int, *, profile: int = 1) -> Card:
    place = Place(card=of, kind="mig", profile=profile, start=start, size=size)
    return card(
        place.name,
        mib=size * MIB // SLOTS,
        shareable=False,
        partition=Partition(card_uuid="GPU-1", profile=f"{size}g"),
    )


CARDS: Mapping[str, Card] = {
    one.name: one
    for name in ("card-0", "card-1")
    for one in (
        card(name, mib=MIB),
        *(part(name, start, size) for size in (1, 2, 4, 8) for start in range(0, SLOTS, size)),
        part(name, 3, 1, profile=2),
    )
}
HALF, QUARTER, OTHER_HALF = (part("card-0", *at).name for at in ((4, 4), (6, 2), (0, 4)))


def share(uid: str, device: str = "card-0", *, mib: int = 1000, request: str = "r") -> Share:
    whole = place_of(device) is not None
    amount = CARDS[device].memory_mib if whole else mib
    return Share(claim_uid=uid, request=request, device=device, memory_mib=amount, whole=whole)


def reserve(ledger: Ledger, uid: str, *shares: Share) -> None:
    ledger.check_and_reserve(shares, claim_uid=uid, cards=CARDS)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [("card-0", HALF), (HALF, "card-0"), (HALF, QUARTER), (QUARTER, HALF)],
)
def test_what_needs_the_same_part_of_a_card_is_refused(held: str, wanted: str) -> None:
    ledger = Ledger()
    reserve(ledger, "a", share("a", held))
    with pytest.raises(CardFullError, match="needs the same part of the card") as refused:
        reserve(ledger, "b", share("b", wanted))
    assert refused.value.holders == {"a"}
    assert not ledger.use(wanted).claims


def test_halves_and_cards_beside_each_other_are_given_out() -> None:
    ledger = Ledger()
    for uid, device in (("a", HALF), ("b", OTHER_HALF), ("c", "card-1")):
        reserve(ledger, uid, share(uid, device))


def test_a_claim_that_was_given_the_same_part_twice_is_refused() -> None:
    ledger = Ledger()
    with pytest.raises(CardFullError):
        reserve(ledger, "a", share("a", HALF), share("a", QUARTER, request="other"))
    assert not ledger.use(HALF).claims


def test_what_is_being_released_is_waited_for() -> None:
    ledger = Ledger()
    reserve(ledger, "a", share("a", HALF))
    ledger.mark_releasing("a")
    with pytest.raises(OverCommitReleasingError):
        reserve(ledger, "b", share("b", "card-0"))
    ledger.release("a")
    reserve(ledger, "b", share("b", "card-0"))


def test_a_record_in_doubt_about_a_partition_keeps_its_card() -> None:
    ledger = Ledger()
    ledger.hold_in_doubt("a", devices=frozenset({HALF}))
    for device in ("card-0", HALF, QUARTER):
        with pytest.raises(ReservationInDoubtError):
            reserve(ledger, "b", share("b", device))
    reserve(ledger, "b", share("b", OTHER_HALF))


def test_a_partition_whose_claim_is_known_from_its_record_alone_keeps_the_card() -> None:
    ledger = Ledger()
    gone = Place(card="card-0", kind="mig", profile=99, start=5, size=3).name
    ledger.load([Share(claim_uid="a", request="r", device=gone, memory_mib=1, whole=True)], claim_uid="a")
    with pytest.raises(CardFullError):
        reserve(ledger, "b", share("b", "card-0"))
    reserve(ledger, "b", share("b", OTHER_HALF))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "release"]),
        st.sampled_from("abcdef"),
        st.lists(st.sampled_from(sorted(CARDS)), min_size=1, max_size=2, unique=True),
        st.integers(1, MIB),
    ),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_whatever_is_asked_no_slot_and_no_mib_is_held_twice(
    steps: list[tuple[str, str, list[str], int]],
) -> None:
    ledger = Ledger()
    held: dict[str, list[Share]] = {}
    for verb, uid, devices, mib in steps:
        if verb == "release":
            ledger.release(uid)
            held.pop(uid, None)
            continue
        wanted = [share(uid, one, mib=mib, request=one) for one in devices]
        with contextlib.suppress(OverCommitError):
            reserve(ledger, uid, *wanted)
            held[uid] = wanted
        everything = [one for shares in held.values() for one in shares]
        for first, second in combinations({one.device for one in everything}, 2):
            assert not exclude(first, second)
        for name in {one.device for one in everything}:
            assert sum(one.memory_mib for one in everything if one.device == name) <= CARDS[name].memory_mib
            assert ledger.use(name).claims == {one.claim_uid for one in everything if one.device == name}


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_what_does_not_fit_is_refused_only_where_something_stands_in_its_way(
    steps: list[tuple[str, str, list[str], int]],
) -> None:
    ledger = Ledger()
    for number, (_, _, devices, _) in enumerate(steps):
        uid, device = f"c{number}", devices[0]
        before = {name for name in CARDS if ledger.use(name).claims}
        free = not any(one == device or exclude(one, device) for one in before)
        try:
            reserve(ledger, uid, share(uid, device, mib=MIB))
        except OverCommitError:
            assert not free
        else:
            assert free
