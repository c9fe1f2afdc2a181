"""Claims as they are stored, and what they take."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from controller.quota.books import Books, claim_view
from driver.cards import Card
from driver.quota.amounts import NOTHING, Charge
from driver.quota.charging import Scope
from tests.controller.quota.world import NAMESPACE, claim, stock

EVERYTHING = Scope()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def view(memory: str = "8Gi", *, uid: str = "u", **option: Any) -> Any:
    return claim_view(claim(memory, uid=uid, **option), carried=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(clock: Clock) -> Books:
    return Books(stock(), version=lambda: 5, clock=clock)


def total(books: Books, scope: Scope = EVERYTHING) -> Charge:
    found = books.seen(NAMESPACE, scope)
    assert found is not None
    return found.total


def test_sums_follow_each_change(books: Books) -> None:
    assert total(books) == NOTHING
    books.note("a", None, view(uid="a"))
    books.note("b", None, view("4Gi", uid="b"))
    assert total(books) == Charge(memory_mib=12 << 10, cards=2)
    books.note("a", view(uid="a"), None)
    assert total(books) == Charge(memory_mib=4 << 10, cards=1)
    books.note("b", view("4Gi", uid="b"), None)
    assert total(books) == NOTHING


def test_sums_are_those_of_a_count_from_scratch_whatever_happened(books: Books) -> None:
    for number in range(50):
        total(books)
        books.note(str(number), None, view(f"{number + 1}Gi", uid=str(number)))
        if number % 3 == 0:
            books.note(str(number), view(f"{number + 1}Gi", uid=str(number)), None)
    fresh = Books(stock(), version=lambda: 5, clock=Clock())
    for one in books._claims[NAMESPACE].values():
        fresh.note(one.uid, None, one)
    assert total(books) == total(fresh)


def test_a_larger_card_makes_whole_cards_count_more(books: Books) -> None:
    books.note("a", None, view("", uid="a"))
    assert total(books).memory_mib == 80 << 10
    books._stock.put("m", [Card(name="d", vendor="nvidia", model="M", memory_bytes=96 << 30)])
    assert total(books).memory_mib == 96 << 10


def test_deleted_claims_are_remembered_for_as_long_as_a_reservation_may_last(
    books: Books, clock: Clock
) -> None:
    books.note("a", None, view(uid="a"))
    books.note("a", view(uid="a"), None)
    found = books.seen(NAMESPACE, EVERYTHING)
    assert found is not None
    assert "a" in found.gone
    clock.now = 300.0
    books.note("b", None, view(uid="b"))
    books.note("b", view(uid="b"), None)
    found = books.seen(NAMESPACE, EVERYTHING)
    assert found is not None
    assert list(found.gone) == ["b"]


def test_a_claim_that_was_made_again_under_its_name_is_another_one(books: Books) -> None:
    books.note("a", None, view(uid="first"))
    books.note("a", view(uid="first"), None)
    books.note("a", None, view(uid="second"))
    found = books.seen(NAMESPACE, EVERYTHING)
    assert found is not None
    assert (list(found.uids), list(found.gone)) == (["second"], ["first"])


def test_nothing_is_known_before_the_first_list() -> None:
    assert Books(stock(), version=lambda: 0, clock=Clock()).seen(NAMESPACE, EVERYTHING) is None


@pytest.mark.parametrize(
    "document",
    [
        {"metadata": {"uid": "u"}},
        {"metadata": {"uid": "u"}, "spec": 5, "status": {"allocation": {"devices": 7}}},
        {"metadata": {"uid": "u"}, "status": {"allocation": {"devices": {"results": [None]}}}},
    ],
)
def test_a_claim_that_no_api_server_stores_is_never_passed_over(document: Any) -> None:
    assert claim_view(document, carried=True).uid == "u"


def test_claims_of_one_template_share_what_they_ask_for() -> None:
    assert view(uid="a").ask is view(uid="b").ask


def test_little_is_kept_of_claims_with_long_selectors_and_nothing_of_those_that_are_gone(
    books: Books,
) -> None:
    def long(number: int) -> Any:
        texts = [{"cel": {"expression": f"'{number}-{one}' != '{'x' * 9_000}'"}} for one in range(8)]
        return view(uid=f"u{number}", selectors=texts)

    total(books)
    tracemalloc.start()
    try:
        for number in range(100):
            one = long(number)
            books.note(f"c{number}", None, one)
        assert tracemalloc.get_traced_memory()[0] < 200_000
        for number in range(100):
            one = long(number)
            books.note(f"c{number}", one, None)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
