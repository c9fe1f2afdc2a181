from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from driver.isolation.base import InForce
from driver.isolation.rules import ShareKey
from kubelet_plugin.in_force.book import Book, Observation

SHARE = ShareKey(claim_uid="u", request="r", device="d")
HOLDS = Observation(container="app", found=InForce(holds=True, message="Holds."))
FAILS = Observation(
    container="app", found=InForce(holds=False, message="Static.", reason="StaticBinary", remedy="Link it.")
)
IDLE = Observation(
    container="app", found=InForce(holds=False, known=False, message="Not yet.", reason="CardNotUsedYet")
)


def said(book: Book, *observations: Observation, now: float) -> str:
    verdict = book.round(SHARE, observations, now=now)
    return f"{verdict.status} {verdict.reason}" if verdict else "nothing"


def test_a_proof_counts_at_once() -> None:
    assert said(Book(deadline_s=30), IDLE, HOLDS, now=0) == "True Seen"


def test_a_failure_counts_when_it_lasted_for_the_deadline_and_not_before() -> None:
    book = Book(deadline_s=30)
    assert [said(book, FAILS, now=now) for now in (0, 15, 29.9, 30)] == [
        "nothing",
        "nothing",
        "nothing",
        "False StaticBinary",
    ]


def test_a_failure_that_was_interrupted_starts_anew() -> None:
    book = Book(deadline_s=30)
    said(book, FAILS, now=0)
    said(book, IDLE, now=20)
    assert said(book, FAILS, now=40) == "nothing"


def test_one_process_that_fails_outweighs_all_that_do_not() -> None:
    book = Book(deadline_s=0)
    assert said(book, HOLDS, FAILS, HOLDS, now=0) == "False StaticBinary"


def test_a_proof_after_a_failure_counts_at_once() -> None:
    book = Book(deadline_s=0)
    said(book, FAILS, now=0)
    assert said(book, HOLDS, now=5) == "True Seen"


def test_what_was_proved_stays_proved_while_nothing_speaks_against_it() -> None:
    book = Book(deadline_s=30)
    said(book, HOLDS, now=0)
    assert said(book, IDLE, now=100) == "True Seen"
    assert said(book, now=1000) == "True Seen"


def test_what_is_not_known_is_said_after_the_deadline() -> None:
    book = Book(deadline_s=30)
    assert said(book, IDLE, now=0) == "nothing"
    assert said(book, IDLE, now=30) == "Unknown CardNotUsedYet"


def test_a_share_without_any_process_says_so_after_the_deadline() -> None:
    book = Book(deadline_s=30)
    said(book, now=0)
    assert said(book, now=31) == "Unknown NoProcess"


def test_a_failure_whose_process_is_gone_is_over_after_the_deadline() -> None:
    book = Book(deadline_s=30)
    said(book, FAILS, now=0)
    said(book, FAILS, now=30)
    assert said(book, now=40) == "False StaticBinary"
    assert said(book, now=71) == "Unknown NoProcess"


def test_shares_that_are_gone_are_forgotten() -> None:
    book = Book(deadline_s=30)
    said(book, HOLDS, now=0)
    book.keep(())
    assert book.verdict(SHARE) is None


@given(rounds=st.lists(st.lists(st.sampled_from([HOLDS, FAILS, IDLE]), max_size=4), max_size=30))
def test_false_is_said_only_after_failures_in_a_row_and_true_never_with_a_lasting_failure(
    rounds: list[list[Observation]],
) -> None:
    book = Book(deadline_s=10)
    row = 0
    before = "nothing"
    for number, observations in enumerate(rounds):
        now = said(book, *observations, now=5.0 * number)
        row = row + 1 if FAILS in observations else 0
        if now.startswith("False") and not before.startswith("False"):
            assert row >= 3
        if row >= 3:
            assert now.startswith("False")
        before = now
