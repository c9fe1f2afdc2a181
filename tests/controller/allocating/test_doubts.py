"""Writes of which nobody knows at first what became of them, and decisions that are written in part."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from controller.allocating.errors import AllocationLostError
from controller.allocating.refused import RefusedNodes
from controller.allocating.views import ClaimView
from controller.allocating.waiting import WAKE
from controller.allocating.writing import FINALIZER, difference
from controller.lease import LeadershipLostError
from driver.errors import ConfigError
from driver.kube.client import ApiError, ConflictError, UnreachableError, error_for
from tests.controller.allocating.world import World, without_shares

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def refuses_puts(status: int) -> Any:
    return lambda request: error_for(status, message="no") if request.method == "PUT" else None


def is_status(request: Any) -> bool:
    return bool(request.method == "PUT" and request.path.endswith("/status"))


async def world_with_a_doubt() -> World:
    """A world where a claim was decided about, and the write of its allocation got no answer."""
    world = World()
    world.ask("a", "600Mi")
    world.refuse = lambda request: UnreachableError("timed out", status=0) if is_status(request) else None
    with pytest.raises(UnreachableError):
        await world.reconcile("a")
    world.refuse = lambda _request: None
    return world


@pytest.mark.parametrize("status", [403, 409])
async def test_of_claims_decided_together_those_never_tried_do_not_stay_booked(status: int) -> None:
    world = World()
    world.claim("a")
    world.claim("b")
    world.pod("p", "a", "b")
    world.refuse = refuses_puts(status)
    with pytest.raises(ApiError):
        await world.reconcile("p")
    world.refuse = lambda _request: None
    await asyncio.sleep(60)
    await world.reconcile("p")
    assert world.allocation("a")
    assert world.allocation("b")


async def test_where_leadership_ends_between_two_writes_the_second_does_not_stay_booked() -> None:
    world = World()
    world.claim("a")
    world.claim("b")
    world.pod("p", "a", "b")

    def lose(request: Any) -> None:
        if is_status(request):
            world.leading = False

    world.after = lose
    with pytest.raises(LeadershipLostError):
        await world.reconcile("p")
    world.leading = True
    await world.reconcile("p")
    assert world.allocation("b")


@pytest.mark.parametrize("stored", [False, True], ids=["was not stored", "was stored"])
async def test_a_write_that_was_cut_off_is_asked_for_when_this_replica_leads_again(stored: bool) -> None:
    world = World()
    world.ask("a", "600Mi")

    def cut_off(request: Any) -> None:
        if is_status(request):
            raise asyncio.CancelledError

    if stored:
        world.after = cut_off
    else:
        world.refuse = cut_off
    with pytest.raises(asyncio.CancelledError):
        await world.reconcile("a")
    world.refuse = world.after = lambda _request: None
    world.ask("b", "600Mi")
    await world.reconcile("b")
    assert world.allocation("b") is None
    for key in world.part.begin():
        await world.part.reconcile(key)
    await world.reconcile("a")
    assert world.allocation("a")


async def test_a_doubt_about_a_claim_that_is_gone_ends_when_this_replica_leads_again() -> None:
    world = await world_with_a_doubt()
    world.claims._take_over({}, 10_000)  # a list without it
    del world.stored["a"]
    for key in world.part.begin():
        await world.part.reconcile(key)
    world.ask("b", "600Mi")
    await world.reconcile("b")
    assert world.allocation("b")


async def test_a_write_that_arrives_after_it_was_given_up_finds_another_version() -> None:
    world = World()
    world.ask("a", "600Mi")
    late: list[Any] = []

    def delay(request: Any) -> ApiError | None:
        if is_status(request):
            late.append(request)
            return UnreachableError("timed out", status=0)
        return None

    world.refuse = delay
    with pytest.raises(UnreachableError):
        await world.reconcile("a")
    world.refuse = lambda _request: None
    await world.part.reconcile("claim/default/a")
    answer = world._answer(late[0])
    assert isinstance(answer, ConflictError)
    assert FINALIZER not in world.stored["a"]["metadata"]["finalizers"]


async def test_a_conflict_with_a_first_try_of_the_same_write_counts_as_stored() -> None:
    world = World()
    world.ask("a", "600Mi")
    # The connection breaks after the first try was stored, and the client sends it again.
    first = iter([True])
    world.after = lambda request: (
        world._answer(request) if is_status(request) and next(first, False) else None
    )
    with pytest.raises(ConflictError):
        await world.reconcile("a")
    world.ask("b", "600Mi")
    await world.reconcile("b")
    assert world.allocation("a")
    assert world.allocation("b") is None


async def test_an_allocation_that_lost_something_and_cannot_be_taken_back_stays_booked() -> None:
    world = World()
    world.ask("a", "600Mi")

    def lose(claim: Any) -> None:
        without_shares(claim)
        allocation = (claim.get("status") or {}).get("allocation")
        if allocation:
            allocation["devices"].pop("config")
            world.refuse = refuses_puts(403)

    world.mangle = lose
    with pytest.raises(ApiError):
        await world.reconcile("a")
    world.mangle, world.refuse = lambda _claim: None, lambda _request: None
    world.ask("b", "600Mi")
    await world.reconcile("b")
    assert world.allocation("b") is None


async def test_what_was_refused_because_of_a_write_that_failed_gets_its_turn_soon() -> None:
    world = World()
    world.ask("a", "600Mi")
    handled: list[str] = []

    async def note(key: str) -> None:
        handled.append(key)

    worker = asyncio.create_task(world.part.queue.run(note, workers=1, first=list))
    await asyncio.sleep(0)
    world.refuse = refuses_puts(404)
    with pytest.raises(ApiError):
        await world.reconcile("a")
    await asyncio.sleep(2)
    worker.cancel()
    assert WAKE in handled


async def test_a_doubt_about_a_claim_made_anew_under_its_name_ends_the_older_one() -> None:
    world = World()
    world.ask("a", "600Mi")
    world.refuse = lambda request: UnreachableError("timed out", status=0) if is_status(request) else None
    with pytest.raises(UnreachableError):
        await world.reconcile("a")
    anew = copy.deepcopy(world.stored["a"])
    anew["metadata"]["uid"] = "another"
    anew["spec"]["devices"]["requests"][0]["exactly"]["capacity"]["requests"]["memory"] = "300Mi"
    world.store(anew)
    with pytest.raises(UnreachableError):
        await world.reconcile("a")
    world.refuse = lambda _request: None
    world.ask("b", "600Mi")
    await world.reconcile("b")
    assert world.allocation("b")


async def test_what_kube_scheduler_refused_is_forgotten_in_the_end_for_pods_that_are_gone() -> None:
    refused = RefusedNodes(first_s=30, cap_s=900)
    assert [refused.note("gone", "n1", now=0) for _ in range(4)] == [0, 30, 0, 60]
    refused.note("other", "n1", now=1000)
    assert [refused.note("gone", "n1", now=1000) for _ in range(2)] == [0, 30]


async def test_an_allocation_that_is_lost_on_the_way_is_not_tried_again_at_once() -> None:
    world = World()

    def lose(claim: Any) -> None:
        allocation = (claim.get("status") or {}).get("allocation")
        if allocation:
            allocation["devices"].pop("config")

    world.mangle = lose

    def show(_request: Any) -> None:
        """What the watch does with each of our writes."""
        asyncio.get_running_loop().call_soon(world.claims.observe, copy.deepcopy(world.stored["p"]))

    world.after = show
    worker = asyncio.create_task(
        world.part.queue.run(world.part.reconcile, workers=1, first=world.part.begin)
    )
    await asyncio.sleep(0)
    world.ask("p")
    await asyncio.sleep(10)
    worker.cancel()
    assert sum(is_status(request) for request in world.transport.writes()) == 2
    assert world.reason() == AllocationLostError.reason


async def test_what_we_take_back_because_it_was_lost_is_no_node_that_kube_scheduler_refused() -> None:
    world = World()

    def lose(claim: Any) -> None:
        allocation = (claim.get("status") or {}).get("allocation")
        if allocation:
            allocation["devices"].pop("config")

    world.mangle = lose
    world.after = lambda _request: world.claims.observe(copy.deepcopy(world.stored["p"]))
    world.ask("p")
    with pytest.raises(AllocationLostError):
        await world.reconcile("p")
    assert world.part.allocator._refused_nodes.first("pod-p", now=0.0) == ""


@pytest.mark.parametrize("taken_back", [False, True], ids=["first allocation", "finalizer is there"])
async def test_nothing_is_allocated_by_a_history_that_is_gone(taken_back: bool) -> None:
    world = World()
    world.ask("a", "600Mi")
    if taken_back:
        await world.reconcile("a")
        world.take_back("a")
        assert world.stored["a"]["metadata"]["finalizers"] == [FINALIZER]
    # The claims are known up to a version that the restored store has not reached.
    world.claims._version = "5000"
    world.listed = lambda: {"resourceVersion": "400"}  # type: ignore[method-assign]
    with pytest.raises(ApiError, match="history was set back"):
        await world.reconcile("a")
    assert world.allocation("a") is None
    # Then the informer has listed.
    world.claims._version = "400"
    world.claims._store.clear()
    world.claims.observe(newer(world, "a"))
    await world.part.reconcile("claim/default/a")
    await world.reconcile("a")
    assert world.allocation("a")
    assert world.part.books.all_doubted() == []


def newer(world: World, name: str) -> Any:
    """Counts on from where the restored store is."""
    world.versions = iter(range(401, 10_000))
    world.stored[name] = world._versioned(world.stored[name])
    return world.stored[name]


async def test_a_claim_that_was_taken_back_is_allocated_again_where_the_history_goes_on() -> None:
    world = World()
    world.ask("a", "600Mi")
    await world.reconcile("a")
    world.take_back("a")
    world.claims._version = "5000"
    world.listed = lambda: {"resourceVersion": "5000"}  # type: ignore[method-assign]
    await world.reconcile("a")
    assert world.allocation("a")


async def test_what_is_not_known_to_be_stored_counts_also_where_the_books_are_made_anew() -> None:
    world = await world_with_a_doubt()

    def unreadable(_cluster: Any) -> Any:
        raise ConfigError("A change that cannot be read.")

    world.part.books._change(unreadable)
    assert world.part.books._cluster is None, "it would not count what changed from now on"
    world.ask("b", "600Mi")
    await world.reconcile("b")
    assert world.allocation("b") is None


async def test_what_a_claim_held_that_was_made_anew_is_free() -> None:
    world = World()
    world.ask("a", "600Mi")
    await world.reconcile("a")
    books, view = world.part.books, world.claims.get("default/a")
    assert view is not None
    books.observed("default/a", ClaimView(uid="another"))
    world.ask("b", "600Mi")
    await world.reconcile("b")
    assert world.allocation("b")


async def test_a_claim_is_kept_for_a_pod_whose_other_claim_fits_beside_it_at_last() -> None:
    world = World()
    world.ask("other", "600Mi")
    await world.reconcile("other")
    world.claim("a", "300Mi")
    world.pod("p", "a")
    await world.reconcile("p")
    world.claim("b", "600Mi")
    world.pod("p", "a", "b")
    await world.reconcile("p")
    assert world.allocation("b") is None
    await asyncio.sleep(30)
    world.take_back("other")
    await world.reconcile("p")
    assert world.allocation("b")
    await asyncio.sleep(60)
    await world.part.reconcile("claim/default/a")
    assert world.allocation("a")


@pytest.mark.parametrize("status", [0, 409, 429, 500, 503, 504])
async def test_what_was_stored_although_the_server_said_otherwise_stays_booked(status: int) -> None:
    world = World()
    world.ask("a", "600Mi")
    world.after = lambda request: error_for(status, message="no") if is_status(request) else None
    with pytest.raises(ApiError):
        await world.reconcile("a")
    world.after = lambda _request: None
    assert world.allocation("a")
    world.ask("b", "600Mi")
    await world.reconcile("b")
    assert world.allocation("b") is None


@pytest.mark.parametrize("change", ["allocated", "being deleted"])
async def test_a_claim_that_changed_in_the_api_server_alone_is_not_written_to(change: str) -> None:
    world = World()
    world.ask("a")
    if change == "allocated":
        world.stored["a"]["status"] = {"allocation": {"devices": {"results": []}}}
    else:
        world.stored["a"]["metadata"]["deletionTimestamp"] = "now"
    await world.reconcile("a")
    assert not world.transport.writes()
    assert not world.part.books.assumed("uid-a")


async def test_whatever_a_limit_depends_on_is_looked_for_in_what_was_stored() -> None:
    world = World()
    world.ask("a")
    await world.reconcile("a")
    sent = world.allocation("a")
    assert difference(sent, copy.deepcopy(sent)) == ""
    (result,) = sent["devices"]["results"]
    less = {**result, "consumedCapacity": {"memory": "1Mi", "cores": "1"}}
    admin = {**result, "adminAccess": True}
    for stored in (
        {**sent, "nodeSelector": None},
        {**sent, "devices": {**sent["devices"], "results": [less]}},
        {**sent, "devices": {**sent["devices"], "results": [admin]}},
        {**sent, "devices": {**sent["devices"], "config": []}},
    ):
        assert difference(sent, stored)
