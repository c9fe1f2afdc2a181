"""The sums of what is held never exceed a card."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.errors import DeviceGoneError, OverCommitError, OverCommitReleasingError
from driver.shares import Share
from kubelet_plugin.prepare.ledger import CardFullError, Ledger, ReservationInDoubtError
from tests.support.node_world import card

CARDS = {name: card(name, mib=1000) for name in ("card-0", "card-1")}


def share(
    uid: str, mib: int, *, cores: int = 0, device: str = "card-0", whole: bool = False, request: str = "r"
) -> Share:
    return Share(
        claim_uid=uid, request=request, device=device, memory_mib=mib, cores_percent=cores, whole=whole
    )


def reserve(ledger: Ledger, uid: str, *shares: Share) -> None:
    ledger.check_and_reserve(shares, claim_uid=uid, cards=CARDS)


def test_memory_is_given_up_to_the_last_mib_and_not_beyond() -> None:
    ledger = Ledger()
    reserve(ledger, "a", share("a", 600))
    reserve(ledger, "b", share("b", 400))
    with pytest.raises(CardFullError, match="0 of 1000 MiB left"):
        reserve(ledger, "c", share("c", 1))
    assert ledger.use("card-0").memory_mib == 1000


def test_caps_on_compute_add_up_to_100_percent_at_most() -> None:
    ledger = Ledger()
    reserve(ledger, "a", share("a", 1, cores=70))
    with pytest.raises(CardFullError, match="30 percent of compute left"):
        reserve(ledger, "b", share("b", 1, cores=31))
    reserve(ledger, "c", share("c", 1, cores=30))


def test_a_share_without_a_cap_needs_no_compute_to_be_left() -> None:
    ledger = Ledger()
    reserve(ledger, "a", share("a", 1, cores=100))
    reserve(ledger, "b", share("b", 1, cores=0))


def test_nobody_joins_a_card_that_is_given_whole_even_if_it_grew_meanwhile() -> None:
    ledger = Ledger()
    reserve(ledger, "a", share("a", 900, whole=True))
    with pytest.raises(CardFullError, match="as a whole"):
        reserve(ledger, "b", share("b", 1))


def test_a_whole_card_is_not_given_while_somebody_is_on_it() -> None:
    ledger = Ledger()
    reserve(ledger, "a", share("a", 1))
    with pytest.raises(CardFullError, match="others are on it"):
        reserve(ledger, "b", share("b", 900, whole=True))


def test_a_claim_gets_all_its_shares_or_none() -> None:
    ledger = Ledger()
    reserve(ledger, "a", share("a", 1000, device="card-1"))
    with pytest.raises(CardFullError):
        reserve(ledger, "b", share("b", 500), share("b", 1, device="card-1", request="s"))
    assert ledger.use("card-0").memory_mib == 0


def test_two_shares_of_one_claim_on_one_card_both_count() -> None:
    ledger = Ledger()
    with pytest.raises(CardFullError):
        reserve(ledger, "a", share("a", 600), share("a", 600, request="s"))


def test_the_same_claim_again_counts_once() -> None:
    ledger = Ledger()
    for _ in range(3):
        reserve(ledger, "a", share("a", 700, cores=60))
    assert (ledger.use("card-0").memory_mib, ledger.use("card-0").cores_percent) == (700, 60)


def test_administrative_access_holds_nothing() -> None:
    ledger = Ledger()
    reserve(ledger, "a", share("a", 1000, whole=True))
    reserve(ledger, "b", Share(claim_uid="b", request="r", device="card-0", admin=True))
    assert ledger.use("card-0").claims == {"a"}


def test_waiting_helps_exactly_if_what_is_being_released_makes_enough_room() -> None:
    ledger = Ledger()
    reserve(ledger, "a", share("a", 300))
    reserve(ledger, "b", share("b", 600))
    ledger.mark_releasing("a")
    with pytest.raises(OverCommitReleasingError) as waits:
        reserve(ledger, "c", share("c", 400))
    assert waits.value.retriable
    with pytest.raises(CardFullError) as full:
        reserve(ledger, "c", share("c", 401))
    assert not full.value.retriable
    assert full.value.holders == {"a", "b"}


def test_an_unknown_card_is_refused() -> None:
    with pytest.raises(DeviceGoneError):
        reserve(Ledger(), "a", share("a", 1, device="card-9"))


def test_a_card_in_doubt_is_given_to_nobody_but_the_claim_in_doubt() -> None:
    ledger = Ledger()
    ledger.hold_in_doubt("x", devices=frozenset({"card-0"}))
    with pytest.raises(ReservationInDoubtError) as refused:
        reserve(ledger, "a", share("a", 1))
    assert refused.value.reason == "ReservationInDoubt"
    reserve(ledger, "a", share("a", 1, device="card-1"))
    reserve(ledger, "x", share("x", 1))
    reserve(ledger, "b", share("b", 1))


def test_two_claims_in_doubt_that_hold_what_they_held_do_not_wait_for_each_other() -> None:
    ledger = Ledger()
    ledger.hold_in_doubt("x", devices=None)
    ledger.hold_in_doubt("y", devices=None)
    for uid, mib in (("x", 600), ("y", 400)):
        ledger.check_and_reserve([share(uid, mib)], claim_uid=uid, cards=CARDS, as_before=True)
    assert ledger.use("card-0").memory_mib == 1000


def test_a_claim_in_doubt_waits_for_other_doubts_as_long_as_it_may_want_more_than_it_held() -> None:
    ledger = Ledger()
    ledger.hold_in_doubt("x", devices=None)
    ledger.hold_in_doubt("y", devices=None)
    with pytest.raises(ReservationInDoubtError):
        reserve(ledger, "x", share("x", 600))
    ledger.release("y")
    reserve(ledger, "x", share("x", 600))


def test_a_doubt_about_unknown_cards_holds_every_card() -> None:
    ledger = Ledger()
    ledger.hold_in_doubt("x", devices=None)
    for device in CARDS:
        with pytest.raises(ReservationInDoubtError):
            reserve(ledger, "a", share("a", 1, device=device))


amounts = st.tuples(
    st.sampled_from("abcdef"),
    st.sampled_from(sorted(CARDS)),
    st.integers(1, 1000),
    st.integers(0, 100),
    st.sampled_from(["reserve", "reserve", "release", "releasing"]),
)


@settings(deadline=None)
@given(st.lists(amounts, max_size=40))
def test_no_sequence_of_reservations_and_releases_exceeds_a_card(
    steps: list[tuple[str, str, int, int, str]],
) -> None:
    ledger = Ledger()
    held: dict[str, Share] = {}
    for uid, device, mib, cores, verb in steps:
        if verb == "reserve":
            wanted = share(uid, mib, cores=cores, device=device, whole=mib == 1000)
            with contextlib.suppress(OverCommitError):
                reserve(ledger, uid, wanted)
                held[uid] = wanted
        elif verb == "release":
            ledger.release(uid)
            held.pop(uid, None)
        else:
            ledger.mark_releasing(uid)
        for name, one in CARDS.items():
            on_card = [found for found in held.values() if found.device == name]
            use = ledger.use(name)
            assert use.memory_mib == sum(found.memory_mib for found in on_card) <= one.memory_mib
            assert use.cores_percent == sum(found.cores_percent for found in on_card) <= 100
            assert len(on_card) <= 1 or not use.whole
