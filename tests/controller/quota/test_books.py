"""Claims as they are stored, and what they take."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from controller.by_turns import AtOnce
from controller.quota import charges
from controller.quota.books import Books, claim_view
from controller.quota.charges import Charges
from driver.cards import Card
from driver.quota.amounts import NOTHING, Charge
from driver.quota.charging import Scope
from tests.controller.quota.world import NAMESPACE, claim, stock

T = TypeVar("T")

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
    return Books(Charges(stock()), version=lambda: 5, clock=clock)


def total(books: Books, scope: Scope = EVERYTHING) -> Charge:
    asyncio.run(books.complete(NAMESPACE, scope))
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
    fresh = Books(Charges(stock()), version=lambda: 5, clock=Clock())
    for one in books._claims[NAMESPACE].values():
        fresh.note(one.uid, None, one)
    assert total(books) == total(fresh)


def test_a_larger_card_makes_whole_cards_count_more(books: Books) -> None:
    books.note("a", None, view("", uid="a"))
    assert total(books).memory_mib == 80 << 10
    books._charges._stock.put("m", [Card(name="d", vendor="nvidia", model="M", memory_bytes=96 << 30)])
    assert total(books).memory_mib == 96 << 10


def test_deleted_claims_are_remembered_for_as_long_as_a_reservation_may_last(
    books: Books, clock: Clock
) -> None:
    books.note("a", None, view(uid="a"))
    books.note("a", view(uid="a"), None)
    total(books)
    found = books.seen(NAMESPACE, EVERYTHING)
    assert found is not None
    assert "a" in found.gone
    clock.now = 300.0
    books.note("b", None, view(uid="b"))
    books.note("b", view(uid="b"), None)
    total(books)
    found = books.seen(NAMESPACE, EVERYTHING)
    assert found is not None
    assert list(found.gone) == ["b"]


def test_a_claim_that_was_made_again_under_its_name_is_another_one(books: Books) -> None:
    books.note("a", None, view(uid="first"))
    books.note("a", view(uid="first"), None)
    books.note("a", None, view(uid="second"))
    total(books)
    found = books.seen(NAMESPACE, EVERYTHING)
    assert found is not None
    assert (list(found.uids), list(found.gone)) == (["second"], ["first"])


def test_nothing_is_known_before_the_first_list() -> None:
    assert Books(Charges(stock()), version=lambda: 0, clock=Clock()).seen(NAMESPACE, EVERYTHING) is None


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


class Slow(AtOnce):
    """Counts pieces of work, and says what was asked meanwhile."""

    def __init__(self) -> None:
        self.pieces = 0
        self.between: Callable[[], None] = lambda: None

    async def run(self, namespace: str, work: Callable[[], T]) -> T:
        self.pieces += 1
        found = await super().run(namespace, work)
        await asyncio.sleep(0)
        self.between()
        return found


def different(number: int) -> Any:
    return view(uid=f"u{number}", selectors=[{"cel": {"expression": f"{number} < 1000"}}])


def test_a_count_gives_the_event_loop_back_between_claims_that_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """All claims of a namespace, charged without an await, held up the Lease and everybody's admission."""
    monkeypatch.setattr(charges, "_SLICE_S", 0.0)
    beside = Slow()
    books = Books(Charges(stock(), beside=beside), version=lambda: 5, clock=Clock())
    for number in range(20):
        books.note(f"c{number}", None, different(number))
    assert total(books).cards == 20
    assert beside.pieces == 20
    books.note("more", None, different(0))
    assert total(books).cards == 20
    assert beside.pieces == 20


def test_a_handler_of_claims_works_nothing_out() -> None:
    beside = Slow()
    books = Books(Charges(stock(), beside=beside), version=lambda: 5, clock=Clock())
    total(books)
    for number in range(5):
        books.note(f"c{number}", None, different(number))
    assert beside.pieces == 0
    assert books.seen(NAMESPACE, EVERYTHING) is None


def test_what_changes_during_a_count_is_counted_as_it_is_then() -> None:
    beside, changes = Slow(), iter(range(1))
    known = stock()
    books = Books(Charges(known, beside=beside), version=lambda: 5, clock=Clock())
    first, second, third = different(1), different(2), view("4Gi", uid="u3")
    books.note("c1", None, first)
    books.note("c2", None, second)

    def change() -> None:
        for _ in changes:
            books.note("c1", first, None)
            books.note("c2", second, view("1Gi", uid="u2"))
            books.note("c3", None, third)
            known.put("m", [Card(name="d", vendor="nvidia", model="M", memory_bytes=96 << 30)])

    beside.between = change
    assert total(books) == Charge(memory_mib=5 << 10, cards=2)


def test_a_claim_that_is_gone_counts_while_pods_use_its_cards(clock: Clock) -> None:
    used = {"a"}
    books = Books(Charges(stock()), version=lambda: 5, clock=clock, in_use=used.__contains__)
    gone = view("80Gi", uid="a")
    books.note("team/c", None, gone)
    books.note("team/c", gone, None)
    # Made anew under its name, which is another one.
    books.note("team/c", None, view("1Gi", uid="b"))
    assert total(books).memory_mib == 81 << 10
    used.clear()
    assert [books.ended("a"), books.ended("a")] == [NAMESPACE, ""]
    assert total(books).memory_mib == 1 << 10
