"""The books of a quota, alone and in every order of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from driver.api.quota import MAX_RESERVATIONS
from driver.errors import ConfigError, DragomanError
from driver.quota.amounts import NOTHING, Charge, Limits
from driver.quota.errors import QuotaExceededError, QuotaPerClaimError, QuotaUnavailableError
from driver.quota.ledger import (
    Ledger,
    Reservation,
    expires_at,
    read_ledger,
    release,
    reserve,
    settle,
    written_left_s,
    written_status,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def wanted(uid: str, *, gib: int = 8, name: str = "c") -> Reservation:
    charge = Charge(memory_mib=gib << 10, cores=10, cards=1)
    return Reservation(uid=uid, name=name, charge=charge, expires=expires_at(NOW), request=f"r-{uid}")


def quota(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "q", "generation": 3}, "spec": {"hard": {"memory": "16Gi"}, **spec}}


@dataclass
class Seen:
    version: int = 1
    total: Charge = NOTHING
    uids: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)


def never(_: Reservation) -> bool:
    return False


def test_a_refusal_says_what_was_asked_used_and_left_and_what_helps() -> None:
    _, ledger = read_ledger(quota())
    ledger = reserve(ledger, wanted("a", gib=12), quota="q")
    with pytest.raises(QuotaExceededError) as refused:
        reserve(ledger, wanted("b"), quota="q")
    text = str(refused.value)
    assert "Quota q has not enough left: memory: asked 8Gi, used 12Gi of 16Gi, left 4Gi" in text
    assert "Ask for less" in text


def test_a_limit_for_one_claim_holds_whatever_is_left() -> None:
    _, ledger = read_ledger(quota(maxPerClaim={"memory": "4Gi"}))
    with pytest.raises(QuotaPerClaimError, match="asked 8Gi, at most 4Gi"):
        reserve(ledger, wanted("a"), quota="q")


def test_a_claim_that_has_a_reservation_keeps_it() -> None:
    _, ledger = read_ledger(quota())
    once = reserve(ledger, wanted("a", gib=16), quota="q")
    assert reserve(once, wanted("a", gib=16), quota="q") is once


def test_a_released_reservation_gives_its_amounts_back() -> None:
    _, ledger = read_ledger(quota())
    ledger = release(reserve(ledger, wanted("a", gib=16), quota="q"), "a")
    assert ledger.used == NOTHING


def test_what_is_not_asked_for_is_not_refused_where_more_is_used_than_allowed() -> None:
    ledger = Ledger(hard=Limits(memory_mib=1024), per_claim=Limits(), counted=Charge(memory_mib=9999))
    only_cores = Reservation(uid="a", name="a", charge=Charge(cores=10), expires=NOW)
    assert reserve(ledger, only_cores, quota="q").used.cores == 10


def test_a_quota_holds_a_bounded_number_of_reservations() -> None:
    many = tuple(
        Reservation(uid=str(n), name="c", charge=Charge(cards=1), expires=NOW)
        for n in range(MAX_RESERVATIONS)
    )
    ledger = Ledger(hard=Limits(memory_mib=1 << 30), per_claim=Limits(), reservations=many)
    with pytest.raises(QuotaUnavailableError):
        reserve(ledger, wanted("new"), quota="q")


def test_the_books_survive_being_written_and_read() -> None:
    document = quota()
    _, ledger = read_ledger(document)
    ledger = settle(ledger, Seen(version=77, total=Charge(memory_mib=4096, cores=30, cards=2)), over=never)
    ledger = reserve(ledger, wanted("a"), quota="q")
    document["status"] = written_status(ledger, document)
    assert read_ledger(document)[1] == ledger
    assert document["status"]["used"] == {"memory": "12Gi", "cores": "40", "cards": "3"}
    assert document["status"]["observedGeneration"] == 3


def test_what_a_status_says_is_used_counts_where_nobody_counted_claims() -> None:
    document = quota()
    document["status"] = {"used": {"memory": "12Gi"}}
    with pytest.raises(QuotaExceededError):
        reserve(read_ledger(document)[1], wanted("a"), quota="q")


def test_a_count_that_is_older_than_the_books_changes_nothing_but_what_is_over() -> None:
    _, ledger = read_ledger(quota())
    ledger = settle(ledger, Seen(version=9, total=Charge(memory_mib=1024)), over=never)
    ledger = reserve(ledger, wanted("a"), quota="q")
    older = settle(ledger, Seen(version=8, uids={"a"}), over=never)
    assert older == ledger
    assert settle(ledger, Seen(version=8), over=lambda _: True).counted == Charge(memory_mib=1024)


def test_a_reservation_goes_when_its_claim_was_seen_deleted() -> None:
    _, ledger = read_ledger(quota())
    ledger = reserve(ledger, wanted("a"), quota="q")
    assert settle(ledger, Seen(version=9, gone={"a"}), over=never).used == NOTHING


def test_a_reservation_is_not_over_by_another_clock_before_some_seconds_more() -> None:
    one = wanted("a")
    assert written_left_s(one, now=one.expires + timedelta(seconds=7)) > 0
    assert written_left_s(one, now=one.expires + timedelta(seconds=9)) < 0
    assert one.expires + timedelta(seconds=9) <= NOW + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"hard": {"memory": "1.5Mi"}}, "spec.hard.memory"),
        ({"hard": {"cores": "-1"}}, "spec.hard.cores"),
        ({"hard": {"memroy": "1Gi"}}, "spec.hard.memroy"),
        ({"hard": {}}, "spec"),
    ],
)
def test_a_quota_that_means_nothing_is_refused_with_its_field(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_ledger({"spec": spec})
    assert refused.value.field == path


def test_amounts_may_be_numbers_or_quantities() -> None:
    spec, _ = read_ledger({"spec": {"hard": {"memory": 1 << 30, "cores": 250, "cards": "4"}}})
    assert (spec.hard.memory_mib, spec.hard.cores_percent, spec.hard.card_count) == (1024, 250, 4)


class Cluster(RuleBasedStateMachine):
    """An API server, replicas with informers that lag, and a quota of three cards.

    A create request goes through a webhook (compare-and-swap) and is stored later, or never. Clocks differ by
    up to three seconds. What must hold: stored claims are never more than three, and never more than the
    books say, whatever is lost, late, killed or counted by whom.
    """

    replicas = 3
    hard = 3
    deadline_s = 34 + 7

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.version = 1
        self.stored: dict[str, int] = {}
        self.events: list[tuple[int, str, bool]] = []
        self.document: dict[str, Any] = {
            "metadata": {"name": "q"},
            "spec": {"hard": {"cards": self.hard}},
        }
        self.quota_version = 1
        self.seen_to = [1] * self.replicas
        self.since: list[dict[str, float]] = [{} for _ in range(self.replicas)]
        self.there: list[set[str]] = [set() for _ in range(self.replicas)]
        self.skew = [-3.0, 0.0, 3.0]
        self.under_way: dict[str, float] = {}
        self.read_before: dict[int, tuple[int, dict[str, Any]]] = {}
        self.made = 0

    # What a replica knows.

    def seen(self, replica: int) -> Seen:
        to = self.seen_to[replica]
        uids: set[str] = set()
        gone: set[str] = set()
        for version, uid, here in self.events:
            if version <= to:
                (uids.add if here else uids.discard)(uid)
                if not here:
                    gone.add(uid)
        return Seen(version=to, total=Charge(cards=len(uids)), uids=uids, gone=gone)

    def wall(self, replica: int) -> datetime:
        return NOW + timedelta(seconds=self.time + self.skew[replica])

    def over(self, replica: int) -> Any:
        def found(one: Reservation) -> bool:
            since = self.since[replica].get(one.uid)
            by_time = one.uid in self.there[replica] and written_left_s(one, now=self.wall(replica)) <= 0
            due = (since is not None and self.time - since >= 50) or by_time
            # The API server is asked for the claim itself: what this replica sees may be old.
            return due and one.uid not in self.stored

        return found

    def note(self, replica: int) -> None:
        for one in (self.document.get("status") or {}).get("reservations") or []:
            self.since[replica].setdefault(one["uid"], self.time)

    # What a replica does.

    def attempt(self, replica: int, uid: str | None) -> bool:
        """Decides on the quota as this replica read it, and writes if nobody else did since."""
        version, document = self.read_before.get(replica, (self.quota_version, self.document))
        _, ledger = read_ledger(document)
        ledger = settle(ledger, self.seen(replica), over=self.over(replica))
        if uid is not None:
            one = Reservation(
                uid=uid, name="c", charge=Charge(cards=1), expires=expires_at(self.wall(replica))
            )
            ledger = reserve(ledger, one, quota="q")
        if version != self.quota_version:
            self.read_before.pop(replica, None)
            return False
        self.document = {**document, "status": written_status(ledger, document)}
        self.quota_version += 1
        self.note(replica)
        return True

    @rule(replica=st.integers(0, 2), answer_lost=st.booleans())
    def create(self, replica: int, answer_lost: bool) -> None:
        self.made += 1
        uid = f"c{self.made}"
        try:
            admitted = self.attempt(replica, uid) or self.attempt(replica, uid)
        except DragomanError:
            return
        if admitted and not answer_lost:
            self.under_way[uid] = self.time

    @rule(replica=st.integers(0, 2))
    def count(self, replica: int) -> None:
        self.attempt(replica, None)

    @rule(replica=st.integers(0, 2))
    def read_and_think(self, replica: int) -> None:
        self.read_before[replica] = (self.quota_version, self.document)

    @rule(data=st.data())
    @precondition(lambda self: self.under_way)
    def store(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(self.under_way)))
        if self.time - self.under_way.pop(uid) <= self.deadline_s:
            self.version += 1
            self.stored[uid] = self.version
            self.events.append((self.version, uid, True))

    @rule(data=st.data())
    @precondition(lambda self: self.under_way)
    def never_stored(self, data: st.DataObject) -> None:
        del self.under_way[data.draw(st.sampled_from(sorted(self.under_way)))]

    @rule(data=st.data())
    @precondition(lambda self: self.stored)
    def delete(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(self.stored)))
        del self.stored[uid]
        self.version += 1
        self.events.append((self.version, uid, False))

    @rule(replica=st.integers(0, 2), all_of_it=st.booleans())
    def catch_up(self, replica: int, all_of_it: bool) -> None:
        self.note(replica)
        self.seen_to[replica] = self.version if all_of_it else min(self.version, self.seen_to[replica] + 1)

    @rule(replica=st.integers(0, 2))
    def restart(self, replica: int) -> None:
        # A fresh list shows what is stored now; what was observed before is forgotten.
        self.since[replica] = {}
        self.read_before.pop(replica, None)
        self.seen_to[replica] = self.version
        self.note(replica)
        # What was there before it judges by the time that is written.
        self.there[replica] = set(self.since[replica])

    @rule(seconds=st.floats(0.1, 30))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    @invariant()
    def never_more_than_the_quota_has(self) -> None:
        assert len(self.stored) <= self.hard

    @invariant()
    def what_may_be_stored_is_in_the_books(self) -> None:
        may_come = [uid for uid, at in self.under_way.items() if self.time - at <= self.deadline_s]
        _, ledger = read_ledger(self.document)
        booked = ledger.used.cards
        reserved = {one.uid for one in ledger.reservations}
        assert all(uid in reserved for uid in may_come)
        unseen = [uid for uid, at in self.stored.items() if at > ledger.version and uid not in reserved]
        assert not unseen
        assert booked >= 0

    def teardown(self) -> None:
        # In the end, exact: everybody sees everything, and a minute has passed by every clock.
        self.under_way.clear()
        self.time += 60 + 2 * max(self.skew)
        for replica in range(self.replicas):
            self.restart(replica)
        assert self.attempt(0, None)
        _, ledger = read_ledger(self.document)
        assert ledger.used.cards == len(self.stored)
        assert not ledger.reservations


TestEveryOrderOfEvents = Cluster.TestCase
TestEveryOrderOfEvents.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
