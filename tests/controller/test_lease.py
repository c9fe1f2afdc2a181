"""At every instant at most one replica leads."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.lease import LeaderElection, LeaseSettings
from driver.kube.client import ApiError, ForbiddenError, UnreachableError, error_for
from tests.support.scripted_api import Request, scripted_client

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class OneLease:
    """A Lease with optimistic locking; `away` makes the server silent."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.version = 0
        self.away: set[str] = set()

    def client(self, identity: str) -> Any:
        return scripted_client(lambda request: self._answer(identity, request))[0]

    def _answer(self, identity: str, request: Request) -> dict[str, Any] | ApiError:
        if identity in self.away:
            return UnreachableError("no route", status=0)
        if request.method == "GET":
            return self.stored or error_for(404, message="none")
        if request.method == "POST":
            if self.stored:
                return error_for(409, message="exists")
            return self._store(request.body)
        sent = request.body["metadata"].get("resourceVersion")
        if sent != (self.stored or {}).get("metadata", {}).get("resourceVersion"):
            return error_for(409, message="changed")
        return self._store(request.body)

    def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.stored = {
            **body,
            "metadata": {**body["metadata"], "uid": "u", "resourceVersion": str(self.version)},
        }
        return self.stored


class Replica:
    def __init__(self, lease: OneLease, identity: str, log: list[str]) -> None:
        settings = LeaseSettings(name="dragoman", namespace="ns", identity=identity)
        self.identity = identity
        self.log = log
        self.asleep_s = 0.0
        self.election = LeaderElection(
            lease.client(identity),
            settings,
            wall_clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            sleepless_clock=lambda: asyncio.get_running_loop().time() + self.asleep_s,
        )
        self.task = asyncio.create_task(self.election.run(self._lead))

    async def _lead(self) -> None:
        self.log.append(f"+{self.identity}")
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append(f"-{self.identity}")

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_of_two_replicas_exactly_one_leads() -> None:
    lease, log = OneLease(), list[str]()
    one, two = Replica(lease, "one", log), Replica(lease, "two", log)
    await asyncio.sleep(300)
    assert len(log) == 1
    assert [one.election.held, two.election.held].count(True) == 1
    await one.stop()
    await two.stop()


async def test_a_leader_that_stops_hands_over_at_once() -> None:
    lease, log = OneLease(), list[str]()
    one = Replica(lease, "one", log)
    await asyncio.sleep(1)
    two = Replica(lease, "two", log)
    await asyncio.sleep(10)
    await one.stop()
    await asyncio.sleep(3)
    assert log == ["+one", "-one", "+two"]
    await two.stop()


async def test_a_leader_that_vanishes_is_followed_after_the_duration_and_not_before() -> None:
    lease, log = OneLease(), list[str]()
    one = Replica(lease, "one", log)
    await asyncio.sleep(1)
    two = Replica(lease, "two", log)
    await asyncio.sleep(10)
    lease.away.add("one")
    await asyncio.sleep(9)
    assert log == ["+one"]
    await asyncio.sleep(4)
    assert log == ["+one", "-one"]
    await asyncio.sleep(6)
    assert log == ["+one", "-one", "+two"]
    await one.stop()
    await two.stop()


async def test_a_leader_cut_off_stops_before_another_can_begin() -> None:
    lease, log = OneLease(), list[str]()
    one, two = Replica(lease, "one", log), Replica(lease, "two", log)
    await asyncio.sleep(5)
    for _ in range(5):
        leader = lease.stored["spec"]["holderIdentity"] if lease.stored else ""
        lease.away = {leader}
        for _ in range(200):
            await asyncio.sleep(0.1)
            assert not (one.election.held and two.election.held)
        lease.away = set()
        await asyncio.sleep(10)
    depth = 0
    for entry in log:
        depth += 1 if entry.startswith("+") else -1
        assert depth in (0, 1)
    assert len(log) > 5
    await one.stop()
    await two.stop()


async def test_a_renewal_that_fails_now_and_then_does_not_end_leadership() -> None:
    lease, log = OneLease(), list[str]()
    one = Replica(lease, "one", log)
    await asyncio.sleep(1)
    for _ in range(10):
        lease.away.add("one")
        await asyncio.sleep(6)
        lease.away.clear()
        await asyncio.sleep(6)
    assert log == ["+one"]
    await one.stop()


async def test_a_process_that_was_stopped_and_resumed_does_not_hold_the_lease_any_more() -> None:
    lease, log = OneLease(), list[str]()
    one = Replica(lease, "one", log)
    await asyncio.sleep(5)
    assert one.election.held
    # As after SIGSTOP: time has passed and none of our code has run.
    one.election._held_until -= 60
    assert not one.election.held
    await one.stop()


async def test_a_restarted_process_waits_for_the_lease_of_the_one_before_it() -> None:
    lease, log = OneLease(), list[str]()
    lease._store(
        {
            "metadata": {"name": "dragoman"},
            "spec": {"holderIdentity": "pod_old-process", "leaseDurationSeconds": 15},
        }
    )
    two = Replica(lease, "pod_new-process", log)
    await asyncio.sleep(14)
    assert log == []
    await asyncio.sleep(3)
    assert log == ["+pod_new-process"]
    await two.stop()


async def test_somebody_elses_takeover_by_hand_ends_leadership_at_the_next_renewal() -> None:
    lease, log = OneLease(), list[str]()
    one = Replica(lease, "one", log)
    await asyncio.sleep(1)
    assert lease.stored is not None
    lease._store({**lease.stored, "spec": {**lease.stored["spec"], "holderIdentity": "admin"}})
    await asyncio.sleep(3)
    assert log == ["+one", "-one"]
    await one.stop()


async def test_times_are_written_as_the_api_wants_them() -> None:
    lease = OneLease()
    one = Replica(lease, "one", [])
    await asyncio.sleep(1)
    assert lease.stored is not None
    assert lease.stored["spec"]["renewTime"] == "2026-01-01T00:00:00.000000Z"
    await one.stop()


async def test_missing_rights_are_waited_out_and_not_fatal() -> None:
    client, transport = scripted_client(lambda _: ForbiddenError("leases are forbidden", status=403))
    election = LeaderElection(client, LeaseSettings(name="l", namespace="n", identity="i"))

    async def lead() -> None:
        raise AssertionError

    task = asyncio.create_task(election.run(lead))
    await asyncio.sleep(20)
    assert not task.done()
    assert len(transport.requests) > 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_error_of_the_work_itself_is_not_hidden() -> None:
    async def lead() -> None:
        raise ZeroDivisionError

    lease = OneLease()
    election = LeaderElection(lease.client("one"), LeaseSettings(name="l", namespace="n", identity="one"))
    with pytest.raises(ZeroDivisionError):
        await election.run(lead)
    assert lease.stored is not None
    assert lease.stored["spec"]["holderIdentity"] == ""


async def test_a_machine_that_was_asleep_does_not_hold_the_lease_any_more_and_its_work_begins_anew() -> None:
    lease, log = OneLease(), list[str]()
    one = Replica(lease, "one", log)
    await asyncio.sleep(5)
    assert one.election.held
    one.asleep_s = 60
    assert not one.election.held
    await asyncio.sleep(30)
    assert log == ["+one", "-one", "+one"]
    await one.stop()


async def test_whoever_finds_the_lease_free_while_it_leads_begins_anew() -> None:
    lease, log = OneLease(), list[str]()
    one = Replica(lease, "one", log)
    await asyncio.sleep(5)
    assert lease.stored is not None
    lease._store({**lease.stored, "spec": {**lease.stored["spec"], "holderIdentity": ""}})
    await asyncio.sleep(30)
    assert log == ["+one", "-one", "+one"]
    await one.stop()


async def test_a_broken_number_of_seconds_is_promised_in_full() -> None:
    lease = OneLease()
    settings = LeaseSettings(name="d", namespace="n", identity="i", duration_s=1.9, renew_deadline_s=1.5)
    election = LeaderElection(lease.client("i"), settings)
    await election._attempt()
    assert lease.stored is not None
    assert lease.stored["spec"]["leaseDurationSeconds"] == 2


async def test_a_write_has_time_until_another_replica_can_lead_and_none_without_the_lease() -> None:
    lease, log = OneLease(), list[str]()
    one = Replica(lease, "one", log)
    await asyncio.sleep(1)
    lease.away.add("one")
    await asyncio.sleep(3)
    left = one.election.left_s
    assert 10 <= left <= 13
    await asyncio.sleep(2)
    assert one.election.left_s == pytest.approx(left - 2)
    # The machine was asleep, which the event loop's clock does not know.
    one.asleep_s = 1
    assert one.election.left_s == pytest.approx(left - 3)
    one.asleep_s = 60
    assert one.election.left_s == 0
    await one.stop()
