"""Claims held against quotas by two replicas at once, on a virtual clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from controller.quota.overdue import SeenSince
from driver.errors import ConfigError
from driver.quota.errors import (
    QuotaCardsUnknownError,
    QuotaExceededError,
    QuotaPerClaimError,
    QuotaUnavailableError,
)
from tests.controller.quota.world import CLASS, NAME, NAMESPACE, Cluster, claim, quota

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def test_a_thousand_claims_at_once_never_take_more_than_the_quota_has() -> None:
    cluster = Cluster(quota(hard={"memory": "800Gi"}))
    answers = await asyncio.gather(*(cluster.tries(number % 2) for number in range(1000)))
    assert [answer is None for answer in answers].count(True) == 100
    assert all(isinstance(answer, QuotaExceededError) for answer in answers if answer is not None)
    assert cluster.most_mib == 800 << 10
    await asyncio.sleep(1)
    status = await cluster.count()
    assert status["used"]["memory"] == "800Gi"
    assert status["reservations"] == []


async def test_claims_that_wait_together_share_a_write() -> None:
    cluster = Cluster(quota(hard={"memory": "8000Gi"}), replicas=1)
    await asyncio.gather(*(cluster.create(0) for _ in range(500)))
    assert cluster.store.writes < 10


async def test_a_replica_that_is_killed_in_the_storm_leaves_nothing_taken_a_minute_later() -> None:
    cluster = Cluster(quota(hard={"memory": "4000Gi"}))
    storm = asyncio.gather(*(cluster.tries(number % 2) for number in range(1000)))
    await asyncio.sleep(0.08)
    cluster.kill(0)
    answers = await storm
    admitted = [answer is None for answer in answers].count(True)
    assert 0 < admitted < 1000
    assert admitted * 8 << 10 == cluster.used_mib == cluster.most_mib
    cluster.note()
    # What the dead replica had reserved, and nobody will ever store.
    assert len((await cluster.count(1))["reservations"]) > 0
    await asyncio.sleep(52)
    cluster.look_up(1)
    status = await cluster.count(1)
    assert (status["used"]["memory"], status["reservations"]) == (f"{admitted * 8}Gi", [])


async def test_lost_answers_never_let_more_in_and_nobody_is_admitted_twice() -> None:
    cluster = Cluster(quota(hard={"memory": "400Gi"}), lost=0.2)
    answers = await asyncio.gather(*(cluster.tries(number % 2) for number in range(300)))
    assert cluster.most_mib <= 400 << 10
    assert [answer is None for answer in answers].count(True) * 8 << 10 == cluster.used_mib


async def test_without_an_api_server_claims_of_namespaces_with_quotas_are_refused() -> None:
    cluster = Cluster()
    cluster.store.away = True
    began = asyncio.get_running_loop().time()
    with pytest.raises(QuotaUnavailableError, match="could not be read or written"):
        await cluster.create(0)
    assert asyncio.get_running_loop().time() - began <= 4.1


@pytest.mark.parametrize("silent", ["read", "write", "answer"])
async def test_an_api_server_that_never_answers_admits_nobody_and_is_not_waited_for_long(silent: str) -> None:
    cluster = Cluster()
    # A refusal is decided on what is read, an admission has to be written.
    memory = "65Gi" if silent == "read" else "8Gi"
    cluster.store.silent = silent
    began = asyncio.get_running_loop().time()
    refused = await asyncio.gather(*(cluster.tries(number % 2, memory) for number in range(8)))
    assert [type(one) for one in refused] == [QuotaUnavailableError] * 8
    assert asyncio.get_running_loop().time() - began <= 4.1
    assert cluster.used_mib == 0


async def test_a_namespace_without_quotas_needs_no_api_server() -> None:
    cluster = Cluster()
    cluster.store.remove(namespace=NAMESPACE, name=NAME)
    cluster.store.away = True
    await cluster.create(0)


async def test_a_dry_run_is_refused_like_the_real_thing_and_writes_nothing() -> None:
    cluster = Cluster()
    await cluster.create(0, "8Gi", dry_run=True)
    with pytest.raises(QuotaExceededError):
        await cluster.create(0, "65Gi", dry_run=True)
    assert (cluster.store.writes, cluster.status()) == (0, {})


async def test_capacity_comes_back_as_soon_as_a_claim_is_seen_to_be_gone() -> None:
    cluster = Cluster(lag_s=0)
    uid = await cluster.create(0, "64Gi")
    assert isinstance(await cluster.tries(0, "8Gi"), QuotaExceededError)
    cluster.delete(uid)
    assert await cluster.tries(1, "8Gi") is None


async def test_a_refusal_is_decided_on_what_is_stored_now() -> None:
    cluster = Cluster(quota())
    stale = cluster.store.known(NAMESPACE)[0]
    stale["status"] = {"used": {"memory": "64Gi"}, "reservations": []}
    before = cluster.store.reads
    with pytest.raises(QuotaExceededError):
        await cluster.replicas[0].reserve(
            namespace=NAMESPACE, uid="u", name="c", claim=claim("65Gi"), dry_run=False
        )
    assert cluster.store.reads > before


async def test_a_quota_may_limit_single_claims_alone() -> None:
    alone = quota(maxPerClaim={"memory": "8Gi"})
    del alone["spec"]["hard"]
    cluster = Cluster(alone)
    assert isinstance(await cluster.tries(0, "9Gi"), QuotaPerClaimError)
    assert [await cluster.tries(number % 2) for number in range(20)] == [None] * 20
    await asyncio.sleep(1)
    status = await cluster.count()
    assert (status["hard"], status["used"]["memory"]) == ({}, "160Gi")


async def test_all_quotas_of_a_namespace_hold_and_a_refusal_leaves_nothing_in_the_others() -> None:
    cluster = Cluster(quota("a", hard={"memory": "64Gi"}), quota("b", hard={"cards": 1}))
    assert await cluster.tries(0) is None
    writes = cluster.store.writes
    refused = await cluster.tries(1)
    assert isinstance(refused, QuotaExceededError)
    assert "Quota b has not enough left: cards: asked 1, used 1 of 1, left 0" in str(refused)
    await asyncio.sleep(1)
    assert cluster.status("a")["used"]["memory"] == "8Gi"
    assert cluster.store.writes == writes


async def test_what_a_second_quota_refuses_after_all_is_given_back_to_the_first() -> None:
    cluster = Cluster(quota("a"), quota("b", hard={"cards": 1}), replicas=2, lag_s=0)
    answers = await asyncio.gather(cluster.tries(0), cluster.tries(1))
    assert sum(answer is None for answer in answers) == 1
    await asyncio.sleep(1)
    assert cluster.status("a")["used"]["memory"] == "8Gi"


async def test_a_reservation_of_a_claim_that_never_comes_is_due_within_a_minute() -> None:
    cluster = Cluster()
    await cluster.replicas[0].reserve(
        namespace=NAMESPACE, uid="never", name="c", claim=claim("64Gi"), dry_run=False
    )
    cluster.note()
    other = cluster.replicas[1]
    document = cluster.store.known(NAMESPACE)[0]
    assert isinstance(await cluster.tries(1), QuotaExceededError)
    await asyncio.sleep(45)
    assert other.overdue.due(document) == []
    await asyncio.sleep(10)
    (due,) = other.overdue.due(document)
    assert due.uid == "never"
    # The leader asks the API server for it, and it is not there.
    other.overdue.confirm(due.uid)
    await cluster.count(1)
    assert await cluster.tries(1) is None


async def test_a_new_replica_judges_what_was_there_by_the_time_that_is_written() -> None:
    cluster = Cluster()
    await cluster.replicas[0].reserve(
        namespace=NAMESPACE, uid="never", name="c", claim=claim("64Gi"), dry_run=False
    )
    await asyncio.sleep(40)
    document = cluster.store.known(NAMESPACE)[0]
    fresh = cluster.replicas[1]
    fresh.overdue.note(document)
    left = fresh.next_look_s(document)
    assert left is not None
    assert 17 < left < 19
    await asyncio.sleep(17)
    assert fresh.overdue.due(document) == []
    await asyncio.sleep(2)
    assert [one.uid for one in fresh.overdue.due(document)] == ["never"]


async def test_a_clock_that_is_ahead_ends_nothing_that_was_seen_to_begin() -> None:
    cluster = Cluster()
    ahead = SeenSince(clock=asyncio.get_running_loop().time, now=lambda: datetime(2027, 1, 1, tzinfo=UTC))
    ahead.note(cluster.store.known(NAMESPACE)[0])
    await asyncio.sleep(60)
    await cluster.replicas[0].reserve(
        namespace=NAMESPACE, uid="u", name="c", claim=claim("64Gi"), dry_run=False
    )
    document = cluster.store.known(NAMESPACE)[0]
    ahead.note(document)
    await asyncio.sleep(49)
    assert ahead.due(document) == []
    await asyncio.sleep(2)
    assert len(ahead.due(document)) == 1


async def test_claims_that_were_there_before_their_quota_count_and_stay() -> None:
    cluster = Cluster(quota(hard={"memory": "16Gi"}), lag_s=0)
    for number in range(3):
        cluster.put(claim(uid=f"old-{number}", name=f"old-{number}"))
    refused = await cluster.tries(0)
    assert isinstance(refused, QuotaExceededError)
    assert "used 24Gi of 16Gi" in str(refused)
    status = await cluster.count()
    exceeded = {one["type"]: one for one in status["conditions"]}["Exceeded"]
    assert (exceeded["status"], status["used"]["memory"]) == ("True", "24Gi")


async def test_what_is_over_the_limit_for_one_claim_is_refused_with_the_limit() -> None:
    cluster = Cluster(quota(maxPerClaim={"memory": "4Gi"}))
    with pytest.raises(QuotaPerClaimError, match="asked 8Gi, at most 4Gi"):
        await cluster.create(0)


async def test_all_devices_are_refused_with_what_they_count() -> None:
    cluster = Cluster(quota(hard={"cards": 8}))
    everything = claim("1Gi", allocationMode="All")
    with pytest.raises(QuotaExceededError, match="All counts 32 cards"):
        await cluster.replicas[0].reserve(
            namespace=NAMESPACE, uid="u", name="c", claim=everything, dry_run=False
        )


async def test_a_whole_card_is_refused_while_no_card_says_how_much_that_is() -> None:
    cluster = Cluster()
    cluster.replicas[0]._charges._stock.remove("n")
    with pytest.raises(QuotaCardsUnknownError):
        await cluster.replicas[0].reserve(
            namespace=NAMESPACE, uid="u", name="c", claim=claim(""), dry_run=False
        )


async def test_a_quota_that_cannot_be_read_refuses_claims_and_names_its_field() -> None:
    cluster = Cluster(quota(hard={"memory": "much"}))
    with pytest.raises(ConfigError) as refused:
        await cluster.create(0)
    assert refused.value.field == "spec.hard.memory"


async def test_until_claims_are_known_nothing_is_admitted_where_there_is_a_quota() -> None:
    cluster = Cluster()
    cluster.seen[0] = 0
    with pytest.raises(QuotaUnavailableError, match="the claims of team are not known"):
        await cluster.create(0)


async def test_a_claim_without_a_name_is_refused_since_nobody_could_ask_for_it_later() -> None:
    cluster = Cluster()
    with pytest.raises(QuotaUnavailableError):
        await cluster.replicas[0].reserve(namespace=NAMESPACE, uid="u", name="", claim=claim(), dry_run=False)


async def test_a_replica_whose_watch_lags_forgets_nobody_that_another_one_counted() -> None:
    cluster = Cluster(quota(hard={"memory": "16Gi"}), lag_s=0)
    await cluster.create(0)
    behind = cluster.seen[1]
    await cluster.create(0)
    await cluster.count(0)
    # Replica 1 sees the first claim only.
    cluster.books[1].note("x", next(iter(cluster.books[1]._claims[NAMESPACE].values())), None)
    cluster.seen[1] = behind
    assert isinstance(await cluster.tries(1), QuotaExceededError)
    assert (await cluster.count(1))["used"]["memory"] == "16Gi"


async def test_a_count_of_another_history_of_the_cluster_can_be_set_right() -> None:
    cluster = Cluster(lag_s=0)
    await cluster.create(0)
    document = cluster.store.known(NAMESPACE)[0]
    document["status"] |= {"countedVersion": "999999", "used": {"memory": "64Gi"}, "reservations": []}
    assert (await cluster.count())["used"]["memory"] == "64Gi"
    await cluster.replicas[0].count(namespace=NAMESPACE, name=NAME, anew=True)
    assert cluster.status()["used"]["memory"] == "8Gi"


async def test_counting_writes_only_what_changed() -> None:
    cluster = Cluster(lag_s=0)
    await cluster.create(0)
    await cluster.count()
    writes = cluster.store.writes
    await cluster.count()
    assert cluster.store.writes == writes


async def test_a_quota_that_is_deleted_meanwhile_holds_nobody_up() -> None:
    cluster = Cluster()
    asking = asyncio.create_task(cluster.tries(0))
    await asyncio.sleep(0)
    cluster.store.remove(namespace=NAMESPACE, name=NAME)
    assert await asking is None


async def test_templates_are_advised_about_what_is_left() -> None:
    cluster = Cluster(quota(hard={"memory": "20Gi"}, maxPerClaim={"memory": "16Gi"}), lag_s=0)
    await cluster.create(0)
    advise = cluster.replicas[0].advise
    assert await advise(namespace=NAMESPACE, specs=[claim("8Gi")["spec"]]) == ()
    (scarce,) = await advise(namespace=NAMESPACE, specs=[claim("8Gi")["spec"], claim("8Gi")["spec"]])
    assert scarce == (
        "Its claims will be refused while quota q has 12Gi of 20Gi memory left: they ask for 16Gi."
    )
    (never,) = await advise(namespace=NAMESPACE, specs=[claim("17Gi")["spec"]])
    assert "asked 17Gi, at most 16Gi" in never
    assert await advise(namespace="other", specs=[claim("900Gi")["spec"]]) == ()


async def test_a_fault_of_ours_admits_nobody() -> None:
    cluster = Cluster()

    def broken(_namespace: str, _scope: object) -> None:
        raise RuntimeError("a fault")

    object.__setattr__(cluster.replicas[0]._around, "seen", broken)
    with pytest.raises(QuotaUnavailableError, match="RuntimeError"):
        await cluster.create(0)


async def test_claims_of_other_drivers_take_nothing() -> None:
    cluster = Cluster()
    stock = cluster.replicas[0]._charges._stock
    stock._class_is_ours = lambda _one: False
    stock.put_class(
        {
            "metadata": {"name": "other"},
            "spec": {"selectors": [{"cel": {"expression": 'device.driver == "x"'}}]},
        }
    )
    other = claim(deviceClassName="other")
    await cluster.replicas[0].reserve(namespace=NAMESPACE, uid="u", name="c", claim=other, dry_run=False)
    assert cluster.store.writes == 0
    assert CLASS != "other"


async def test_what_one_replica_reserved_is_known_to_the_other_at_once() -> None:
    cluster = Cluster(lag_s=5)
    assert await cluster.tries(0, "64Gi") is None
    assert isinstance(await cluster.tries(1), QuotaExceededError)


async def test_every_reservation_says_for_which_claim_and_request_it_is() -> None:
    cluster = Cluster(lag_s=5)
    uid = await cluster.create(0)
    (one,) = cluster.status()["reservations"]
    assert (one["uid"], one["name"], one["request"], one["memoryMiB"]) == (
        uid,
        f"c-{uid}",
        f"r-{uid}",
        8192,
    )
    assert one["expires"] == "2026-11-21T00:00:50Z"
