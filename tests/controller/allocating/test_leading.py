"""A replica that does not lead any more changes nothing, however late it finds out."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from controller.allocating.errors import AllocationHeldUpError
from controller.allocating.writing import FINALIZER
from controller.lease import LeaderElection, LeadershipLostError, LeaseSettings
from driver.kube.client import ApiError, ConflictError, error_for
from tests.controller.allocating.world import World
from tests.controller.test_lease import OneLease
from tests.support.scripted_api import Request, ScriptedTransport

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def is_status(request: Request) -> bool:
    return request.method == "PUT" and request.path.endswith("/status")


class Stopping(ScriptedTransport):
    """Stands still before it sends a status, as the process above it does under SIGSTOP."""

    def __init__(self, answer: Any) -> None:
        super().__init__(answer)
        self.resumed = asyncio.Event()

    async def request(self, method: str, path: str, **more: Any) -> Any:
        if path.endswith("/status"):
            await self.resumed.wait()
        return await super().request(method, path, **more)


class StoppingWorld(World):
    transport_of = Stopping


def follower_of(first: World) -> World:
    """Another replica of the same cluster, that has seen what is stored."""
    second = World()
    second.stored, second.versions = first.stored, first.versions
    for claim in first.stored.values():
        second.claims.observe(copy.deepcopy(claim))
    return second


def loses_after(world: World, write: int) -> None:
    """Lets leadership end when the server has answered so many writes."""
    answered = iter(range(1, 100))

    def after(request: Request) -> None:
        if request.method == "PUT" and next(answered) == write:
            world.leading = False

    world.after = after


async def test_after_the_finalizer_no_allocation_is_sent_where_the_lease_ended_meanwhile() -> None:
    world = World()
    world.ask("a", "600Mi")
    loses_after(world, 1)
    with pytest.raises(LeadershipLostError):
        await world.reconcile("a")
    assert [is_status(request) for request in world.transport.writes()] == [False]
    world.leading = True
    world.ask("b", "1000Mi")
    await world.reconcile("b")
    assert world.allocation("b"), "what was not sent is not booked"


async def test_a_release_sends_nothing_more_where_the_lease_ended_after_its_first_write() -> None:
    world = World()
    world.ask("a", "600Mi")
    await world.reconcile("a")
    del world.stored_pods["a"]
    world.pods._take_over({}, 10_000)
    assert await world.part.reconcile("claim/default/a") == 60
    await asyncio.sleep(60)
    before = len(world.transport.writes())
    loses_after(world, 1)
    with pytest.raises(LeadershipLostError):
        await world.part.reconcile("claim/default/a")
    assert [is_status(request) for request in world.transport.writes()[before:]] == [True]


async def test_what_was_lost_on_the_way_stays_booked_where_the_lease_ended_before_it_was_taken_back() -> None:
    world = World()
    world.ask("a", "600Mi")

    def lose(claim: Any) -> None:
        allocation = (claim.get("status") or {}).get("allocation")
        if allocation:
            allocation["devices"].pop("config")
            world.leading = False

    world.mangle = lose
    with pytest.raises(ApiError):
        await world.reconcile("a")
    assert world.part.books.assumed("uid-a")


async def test_each_write_is_given_no_more_time_than_is_left_of_the_lease() -> None:
    world = World()
    world.ask("a", "600Mi")
    await world.reconcile("a")
    assert [request.query for request in world.transport.writes()] == [{"timeout": "10000ms"}] * 2


async def stopped_before_it_sends() -> tuple[StoppingWorld, World, asyncio.Task[object]]:
    """A leader that is giving a card to x, the next one, which is to give it to y, and the write.

    Nothing of the write has gone out.
    """
    first = StoppingWorld()
    first.ask("x", "1000Mi")
    first.ask("y", "1000Mi")
    second = follower_of(first)
    second.pod("y", "y")
    writing = asyncio.create_task(first.reconcile("x"))
    # Leadership was asked for; then the process is stopped, before anything goes out.
    await asyncio.sleep(1)
    return first, second, writing


async def the_late_write_is_refused(first: World, second: World, writing: asyncio.Task[object]) -> None:
    """The second begins to lead and gives its card to y; what the first one sends then is a conflict."""
    second.part.begin()
    await second.reconcile("y")
    assert second.allocation("y")
    assert isinstance(first.transport, Stopping)
    first.transport.resumed.set()
    with pytest.raises((ConflictError, LeadershipLostError)):
        await writing
    assert first.allocation("x") is None


async def test_an_allocation_that_is_sent_after_the_next_leader_has_begun_is_refused() -> None:
    first, second, writing = await stopped_before_it_sends()
    first.leading = False
    await the_late_write_is_refused(first, second, writing)


async def test_an_allocation_that_arrives_while_the_next_leader_begins_is_in_its_books() -> None:
    first, second, writing = await stopped_before_it_sends()
    (late,) = (one for one in first.part.books._assumed.values())
    first.leading = False

    def arrives(request: Request) -> None:
        second.refuse = lambda _request: None
        stored = first.stored["x"]
        second.stored["x"] = second._versioned({**stored, "status": late["status"]})

    # It is stored between the next leader's list and what that does about it.
    second.refuse = lambda request: arrives(request) if request.method == "PUT" else None
    second.part.begin()
    await second.reconcile("y")
    assert second.allocation("x")
    assert second.allocation("y") is None
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_claims_of_other_drivers_are_left_alone_by_whoever_begins_to_lead() -> None:
    world = World()
    world.claim("nic", device_class="nic.example")
    world.stored["nic"]["metadata"]["finalizers"] = [FINALIZER]
    world.ask("a")
    world.part.begin()
    await world.reconcile("a")
    assert world.stored["nic"]["metadata"]["finalizers"] == [FINALIZER]


async def test_a_claim_that_somebody_changes_all_the_time_does_not_keep_a_leader_from_beginning() -> None:
    world = World()
    world.claim("busy", "1Mi")
    world.stored["busy"]["metadata"]["finalizers"] = [FINALIZER]
    world.ask("a")
    tried: list[Request] = []

    def changed(request: Request) -> ApiError | None:
        if request.method == "PUT" and request.path.endswith("/busy"):
            tried.append(request)
            world.stored["busy"] = world._versioned(world.stored["busy"])
            return error_for(409, message="changed")
        return None

    world.refuse = changed
    world.part.begin()
    await world.reconcile("a")
    assert len(tried) == 1
    assert world.allocation("a")


async def test_a_conflict_about_a_claim_that_nobody_changed_is_no_reason_to_begin() -> None:
    world = World()
    world.claim("left", "1Mi")
    world.stored["left"]["metadata"]["finalizers"] = [FINALIZER]
    world.ask("a")
    world.refuse = lambda request: error_for(409, message="no") if request.method == "PUT" else None
    world.part.begin()
    with pytest.raises(AllocationHeldUpError):
        await world.reconcile("a")
    assert {request.path.split("/")[7] for request in world.transport.writes()} == {"left"}


async def test_nothing_is_decided_before_it_is_known_that_nothing_older_can_be_stored() -> None:
    world = World()
    world.claim("left", "1Mi")
    world.stored["left"]["metadata"]["finalizers"] = [FINALIZER]
    world.ask("a")
    world.refuse = lambda request: error_for(500, message="no") if request.method == "PUT" else None
    world.part.begin()
    with pytest.raises(ApiError):
        await world.reconcile("a")
    world.refuse = lambda _request: None
    await asyncio.sleep(20)
    await world.reconcile("a")
    assert FINALIZER not in world.stored["left"]["metadata"]["finalizers"]
    assert world.allocation("a")


class Stalling(ScriptedTransport):
    """A status is stored three seconds after it was sent, as where etcd stalls, unless it is cut off."""

    async def request(self, method: str, path: str, **more: Any) -> Any:
        if path.endswith("/status"):
            await asyncio.sleep(3)
        return await super().request(method, path, **more)


class StallingWorld(World):
    transport_of = Stalling


async def test_a_leader_that_is_stopped_in_good_order_gives_the_lease_back_after_what_it_has_sent() -> None:
    world, lease = StallingWorld(), OneLease()
    world.claim("a")
    world.claim("b")
    world.pod("p", "a", "b")
    election = LeaderElection(
        lease.client("first"), LeaseSettings(name="dragoman", namespace="ns", identity="first")
    )
    running = asyncio.create_task(election.run(lambda: world.part.work(workers=1)))
    await asyncio.sleep(2)
    running.cancel()
    await asyncio.sleep(0.5)
    assert lease.stored is not None
    assert lease.stored["spec"]["holderIdentity"] == "first"
    assert world.allocation("a") is None
    await asyncio.gather(running, return_exceptions=True)
    assert world.allocation("a")
    assert lease.stored["spec"]["holderIdentity"] == ""
    writes = len(world.transport.requests)
    await asyncio.sleep(60)
    assert len(world.transport.requests) == writes, "nothing is begun after the stop"
    assert world.allocation("b") is None


async def test_an_allocation_that_ended_after_its_sender_is_found_when_this_replica_leads_again() -> None:
    world = StallingWorld()
    world.ask("a", "600Mi")
    working = asyncio.create_task(world.part.work(workers=1))
    await asyncio.sleep(2)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert world.part.books.all_doubted() == ["default/a"]
    for key in world.part.begin():
        await world.part.reconcile(key)
    assert world.part.books.all_doubted() == []
    assert world.node_of("a") == "n1"


async def world_with_a_useless_claim() -> World:
    """A world with an allocated claim that nobody has needed for a minute."""
    world = World()
    world.ask("a")
    await world.reconcile("a")
    world.pods._take_over({}, 10_000)
    assert await world.part.reconcile("claim/default/a") == 60
    await asyncio.sleep(60)
    return world


async def test_how_long_nobody_needed_a_claim_is_counted_anew_by_whoever_begins_to_lead() -> None:
    world = await world_with_a_useless_claim()
    world.part.begin()
    assert await world.part.reconcile("claim/default/a") == 60
    assert world.allocation("a")


@pytest.mark.parametrize("change", ["made anew", "given back"])
async def test_a_useless_claim_that_is_another_one_by_now_is_left_alone(change: str) -> None:
    world = await world_with_a_useless_claim()
    if change == "made anew":
        # And allocated again, for a pod that is not seen yet.
        world.stored["a"]["metadata"]["uid"] = "another"
    else:
        world.stored["a"]["status"] = {}
    before = len(world.transport.writes())
    await world.part.reconcile("claim/default/a")
    assert len(world.transport.writes()) == before


async def test_what_others_allocated_is_never_released_by_us() -> None:
    world = World()
    world.claim("a")
    world.store({**world.stored["a"], "status": {"allocation": {"devices": {"results": []}}}})
    assert await world.part.reconcile("claim/default/a") is None
    await asyncio.sleep(60)
    assert await world.part.reconcile("claim/default/a") is None
    assert world.allocation("a")


async def test_an_allocated_claim_keeps_its_finalizer_when_a_leader_begins() -> None:
    world = World()
    world.ask("a")
    await world.reconcile("a")
    before = world.stored["a"]
    world.part.begin()
    world.ask("b")
    await world.reconcile("b")
    assert world.stored["a"] == before


@pytest.mark.parametrize("asked", ["alternatives", "a class that is gone"])
async def test_whatever_may_have_been_allocated_by_us_is_changed_by_whoever_begins_to_lead(
    asked: str,
) -> None:
    world = World()
    world.claim("left", device_class="gone.example")
    if asked == "alternatives":
        option = {"name": "small", "deviceClassName": "accelerator.dragoman.dev", "count": 1}
        requests = [{"name": "gpu", "firstAvailable": [option]}]
        world.store({**world.stored["left"], "spec": {"devices": {"requests": requests}}})
    world.stored["left"]["metadata"]["finalizers"] = [FINALIZER]
    world.part.begin()
    world.ask("a")
    await world.reconcile("a")
    assert FINALIZER not in world.stored["left"]["metadata"]["finalizers"]
