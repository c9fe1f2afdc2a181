"""When a card has a fault and when that is over; all times are handed in."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.vendors.base import CardFault, CardHealth
from kubelet_plugin.card_health.book import (
    BELIEVED_AFTER_S,
    FORGIVEN_AFTER_S,
    HOLD_OFF_S,
    LONGEST_HOLD_OFF_S,
    REPORT_HOLDS_S,
    HealthBook,
    Verdict,
    hold_off_s,
)
from kubelet_plugin.card_health.missing import KEPT_FOR_S

GOOD = CardHealth(name="a", health="Healthy")
SILENT = CardHealth(name="a", health="Unknown", reason="HealthUnreadable")
UNREAD = CardHealth(name="a", health="Unknown", message="No health is read.")
LOST = CardHealth(name="a", health="Unhealthy", message="Lost.", reason="CardLost", certain=True)
PENDING = CardHealth(name="a", health="Unhealthy", message="Pending.", reason="RowRemapPending")
XID = CardFault(name="a", reason="Xid74", message="NVLink.", xid=74)
GRAVE = CardFault(name="a", reason="Xid79", message="Off the bus.", xid=79, certain=True)


class Told:
    """A book and its clock: each step is an answer at a time."""

    def __init__(self) -> None:
        self.book = HealthBook()
        self.now = 0.0

    def look(self, answer: CardHealth, *, after: float = 0.0, ignored: frozenset[int] = frozenset()) -> str:
        """The reason of the card's fault after this answer; "" if it has none."""
        self.now += after
        self.book.answered([answer])
        verdict = self.verdict(ignored=ignored)
        return verdict.reason if verdict else ""

    def verdict(self, *, ignored: frozenset[int] = frozenset()) -> Verdict | None:
        found = self.book.judge(now=self.now, at=f"at {self.now:g}", ignored_xids={"a": ignored})
        return found.get("a")

    def report(self, fault: CardFault) -> None:
        self.book.reported(fault, now=self.now)

    def recover(self, *, relapses: int = 0) -> None:
        self.look(GOOD)
        assert self.look(GOOD, after=hold_off_s(relapses)) == ""


def test_bad_news_are_a_fault_at_once_with_reason_message_and_beginning() -> None:
    told = Told()
    assert told.look(GOOD) == ""
    assert told.look(LOST, after=7) == "CardLost"
    assert told.verdict() == Verdict(reason="CardLost", message="Lost.", since="at 7", certain=True)


def test_a_fault_is_over_when_nothing_was_wrong_for_the_hold_off_and_not_before() -> None:
    told = Told()
    told.look(LOST)
    assert told.look(GOOD, after=100) == "CardLost"
    assert told.look(GOOD, after=HOLD_OFF_S - 0.1) == "CardLost"
    assert told.look(GOOD, after=0.1) == ""


def test_bad_news_during_the_hold_off_begin_it_anew_and_the_fault_keeps_its_beginning() -> None:
    told = Told()
    told.look(LOST)
    told.look(GOOD, after=1)
    told.look(LOST, after=HOLD_OFF_S - 1)
    told.look(GOOD, after=1)
    assert told.look(GOOD, after=HOLD_OFF_S - 1) == "CardLost"
    verdict = told.verdict()
    assert verdict is not None
    assert verdict.since == "at 0"


def test_each_relapse_doubles_the_hold_off_up_to_the_longest() -> None:
    assert [hold_off_s(relapses) for relapses in (0, 1, 2)] == [HOLD_OFF_S, 2 * HOLD_OFF_S, 4 * HOLD_OFF_S]
    assert hold_off_s(10_000) == LONGEST_HOLD_OFF_S
    told = Told()
    for relapses in range(3):
        told.look(LOST, after=1)
        told.look(GOOD, after=1)
        assert told.look(GOOD, after=hold_off_s(relapses) - 1) == "CardLost"
        assert told.look(GOOD, after=1) == ""


def test_a_card_that_was_well_for_long_is_forgiven() -> None:
    told = Told()
    for _ in range(3):
        told.look(LOST, after=FORGIVEN_AFTER_S)
        told.recover(relapses=0)


def test_an_answer_that_could_not_be_had_makes_no_fault_and_ends_none() -> None:
    told = Told()
    assert told.look(SILENT) == ""
    told.look(LOST)
    told.look(GOOD, after=1)
    assert told.look(SILENT, after=HOLD_OFF_S) == "CardLost"
    assert told.look(GOOD, after=HOLD_OFF_S) == "CardLost"
    assert told.look(GOOD, after=HOLD_OFF_S) == ""


def test_a_driver_that_answers_every_other_time_keeps_no_card_ill_for_ever() -> None:
    told = Told()
    told.look(LOST)
    told.look(GOOD)
    looks = 0
    while told.look(SILENT if looks % 3 == 0 else GOOD, after=2.0):
        looks += 1
        assert looks < HOLD_OFF_S * 2
    # Only the time between two good answers counts.
    assert told.now >= 2 * HOLD_OFF_S


def test_a_card_whose_health_nobody_reads_recovers_by_being_there() -> None:
    told = Told()
    told.look(CardHealth(name="a", health="Unhealthy", reason="CardMissing", certain=True))
    told.look(UNREAD)
    assert told.look(UNREAD, after=HOLD_OFF_S) == ""


def test_a_fault_is_named_after_its_first_cause_and_only_a_graver_one_renames_it() -> None:
    told = Told()
    told.look(PENDING)
    other = CardHealth(name="a", health="Unhealthy", reason="DriverStale")
    assert told.look(other, after=1) == "RowRemapPending"
    assert told.look(LOST, after=1) == "CardLost"
    assert told.look(PENDING, after=1) == "CardLost"
    verdict = told.verdict()
    assert verdict is not None
    assert verdict.since == "at 0"


def test_a_report_is_a_fault_while_all_answers_are_good() -> None:
    told = Told()
    told.look(GOOD)
    told.report(XID)
    assert told.look(GOOD) == "Xid74"
    assert told.look(GOOD, after=REPORT_HOLDS_S - 1) == "Xid74"


def test_a_report_that_is_not_repeated_is_over_after_a_while_and_then_held_off() -> None:
    told = Told()
    told.report(XID)
    told.look(GOOD)
    assert told.look(GOOD, after=REPORT_HOLDS_S) == "Xid74"
    assert told.look(GOOD, after=HOLD_OFF_S) == ""


def test_a_report_that_is_repeated_counts_from_its_last_time() -> None:
    told = Told()
    told.report(XID)
    told.look(GOOD, after=REPORT_HOLDS_S - 1)
    told.report(XID)
    told.look(GOOD, after=REPORT_HOLDS_S - 1)
    assert told.look(GOOD, after=HOLD_OFF_S) == "Xid74"


def test_a_driver_that_wants_nothing_done_ends_a_report_but_not_in_the_moment_of_it() -> None:
    cleared = CardHealth(name="a", health="Healthy", cleared=True)
    told = Told()
    told.report(GRAVE)
    assert told.look(cleared) == "Xid79"
    told.look(cleared, after=BELIEVED_AFTER_S)
    assert told.look(cleared, after=HOLD_OFF_S) == ""


def test_the_gravest_of_several_causes_names_the_fault() -> None:
    told = Told()
    told.report(GRAVE)
    assert told.look(PENDING) == "Xid79"


def test_an_xid_that_a_policy_ignores_is_no_fault_and_one_that_it_comes_to_ignore_is_over() -> None:
    told = Told()
    told.report(XID)
    assert told.look(GOOD, ignored=frozenset({74})) == ""
    told.report(XID)
    assert told.look(GOOD) == "Xid74"
    told.look(GOOD, ignored=frozenset({74}))
    assert told.look(GOOD, after=HOLD_OFF_S, ignored=frozenset({74})) == ""


def test_cards_are_judged_each_for_itself() -> None:
    book = HealthBook()
    book.answered([LOST, CardHealth(name="b", health="Healthy")])
    assert set(book.judge(now=0, at="")) == {"a"}


def test_a_card_that_nobody_asks_for_any_more_is_forgotten() -> None:
    book = HealthBook()
    book.answered([LOST])
    book.judge(now=0, at="")
    book.answered([])
    assert book.judge(now=0, at="") == {}
    assert book.answer("a") is None


def restarted(book: HealthBook, *, now: float) -> HealthBook:
    """What the next agent's book knows."""
    again = HealthBook()
    again.recall(json.loads(json.dumps(book.remembered(now=now))), now=now)
    return again


def test_what_is_remembered_is_a_fault_with_the_same_beginning_after_a_restart() -> None:
    told = Told()
    told.look(LOST, after=5)
    told.report(XID)
    again = restarted(told.book, now=1000)
    assert again.judge(now=1000, at="later") == {"a": told.verdict()}
    # The report goes on from when it was made.
    again.answered([GOOD])
    again.judge(now=REPORT_HOLDS_S + 5, at="")
    assert again.judge(now=REPORT_HOLDS_S + 5 + HOLD_OFF_S, at="") == {}


def test_a_recalled_fault_holds_until_somebody_answers_for_its_card_and_is_remembered_on() -> None:
    told = Told()
    told.report(GRAVE)
    told.verdict()
    again = restarted(told.book, now=60)
    again.answered([])
    assert again.judge(now=62, at="") == {"a": told.verdict()}
    third = restarted(again, now=100)
    third.answered([GOOD])
    assert third.judge(now=101, at="") == {"a": told.verdict()}
    third.answered([])
    assert third.judge(now=102, at="") == {}


def test_a_recalled_card_for_which_nobody_answers_is_let_go_like_any_missing_one() -> None:
    told = Told()
    told.look(LOST)
    again = restarted(told.book, now=100)
    assert set(again.judge(now=100 + KEPT_FOR_S - 1, at="")) == {"a"}
    assert again.judge(now=100 + KEPT_FOR_S, at="") == {}
    assert again.remembered(now=100 + KEPT_FOR_S) == {}


def test_a_restart_does_not_shorten_the_hold_off_of_a_card_that_relapses() -> None:
    told = Told()
    told.look(LOST)
    told.recover()
    told.book = restarted(told.book, now=told.now)
    told.look(LOST, after=60)
    told.look(GOOD)
    assert told.look(GOOD, after=hold_off_s(1) - 1) == "CardLost"
    assert told.look(GOOD, after=1) == ""
    # Forgiven, it need not be remembered.
    assert told.book.remembered(now=told.now + FORGIVEN_AFTER_S + 60) == {}


def test_a_report_that_is_repeated_again_and_again_is_written_once_a_minute() -> None:
    told = Told()
    told.look(GOOD)
    kept = []
    for _ in range(300):
        told.report(XID)
        told.verdict()
        told.now += 1
        kept.append(json.dumps(told.book.remembered(now=told.now)))
    assert len(set(kept)) == 5


def test_times_that_are_still_to_come_count_as_now() -> None:
    told = Told()
    told.now = 1e6
    told.report(XID)
    told.verdict()
    again = restarted(told.book, now=0)
    again.answered([GOOD])
    again.judge(now=REPORT_HOLDS_S, at="")
    assert again.judge(now=REPORT_HOLDS_S + HOLD_OFF_S, at="") == {}


def test_healthy_cards_need_not_be_remembered() -> None:
    told = Told()
    told.look(GOOD)
    assert told.book.remembered(now=0) == {}


@pytest.mark.parametrize("odd", [{"a": {}}, {"a": {"verdict": "x"}}, {"a": 7}, {"a": None}])
def test_what_nobody_remembered_is_refused(odd: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        HealthBook().recall(odd, now=0)


STEPS = st.lists(
    st.tuples(st.floats(min_value=0.5, max_value=300), st.sampled_from([GOOD, LOST, PENDING, SILENT])),
    min_size=1,
    max_size=300,
)


@given(STEPS)
def test_however_a_card_flaps_its_recoveries_are_few_and_ever_farther_apart(
    steps: list[tuple[float, CardHealth]],
) -> None:
    told = Told()
    recoveries: list[float] = []
    faulty = False
    for after, answer in steps:
        now_faulty = bool(told.look(answer, after=after))
        if faulty and not now_faulty:
            recoveries.append(told.now)
        faulty = now_faulty
    for start in recoveries:
        assert sum(start <= moment < start + 3600 for moment in recoveries) <= 7
    gaps = [later - earlier for earlier, later in pairwise(recoveries)]
    expected = [hold_off_s(relapses + 1) for relapses in range(len(gaps))]
    assert all(
        gap >= least for gap, least in zip(gaps, expected, strict=True) if sum(gaps) < FORGIVEN_AFTER_S
    )


@given(STEPS)
def test_bad_news_are_always_a_fault_and_a_fault_never_ends_with_bad_news(
    steps: list[tuple[float, CardHealth]],
) -> None:
    told = Told()
    for after, answer in steps:
        assert told.look(answer, after=after) or answer.health != "Unhealthy"
