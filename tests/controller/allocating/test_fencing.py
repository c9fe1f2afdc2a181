"""A leader whose first writes somebody refuses: it goes on where that is safe, and says where it is not."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.allocating.errors import AllocationHeldUpError
from controller.allocating.fencing import NOBODY, blank, is_blank
from controller.allocating.held_up import HoldUps
from controller.allocating.views import claim_view
from controller.allocating.writing import FINALIZER
from controller.events import Events, Subject
from controller.metrics import Metrics
from driver.api.asked import STAMP
from driver.kube.client import ApiError, KubeClient, UnreachableError, error_for
from driver.kube.resources import LEASES
from tests.controller.allocating.test_leading import (
    is_status,
    stopped_before_it_sends,
    the_late_write_is_refused,
)
from tests.controller.allocating.world import World
from tests.support.scripted_api import Request, ScriptedTransport

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DENIED = "admission webhook guard.example.com denied the request"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOLDER = {"resource": "pods", "name": "made-for-it", "uid": "pod"}
LEASE = Subject(resource=LEASES, name="dragoman", namespace="dragoman", uid="lease")


def guards(request: Request) -> ApiError | None:
    """A webhook that lets nobody change a claim but for its status."""
    refused = request.method == "PUT" and not is_status(request) and request.path.endswith("/left")
    return (
        error_for(403, message="admission webhook guard.example.com denied the request") if refused else None
    )


def refuses_all(request: Request) -> ApiError | None:
    """One that refuses its status as well."""
    refused = request.method == "PUT" and "/left" in request.path
    return (
        error_for(403, message="admission webhook guard.example.com denied the request") if refused else None
    )


class Told:
    """A world whose leader has a claim to change before it begins, and what it says about it."""

    def __init__(self) -> None:
        self.counts: list[float] = []
        self.sent = ScriptedTransport(lambda request: request.body)
        events = Events(KubeClient(self.sent), instance="i", metrics=Metrics())
        self.world = World()
        self.world.part.allocator._reading._hold_ups = HoldUps(
            events, lease=lambda: LEASE, counted=self.counts.append
        )
        left(self.world)
        self.world.ask("a")
        self.world.part.begin()

    @property
    def about(self) -> list[tuple[str, str]]:
        return [(one.body["regarding"]["kind"], one.body["reason"]) for one in self.sent.requests]


def left(world: World, **status: Any) -> None:
    """A claim on which an earlier leader left the finalizer."""
    world.claim("left", "1Mi")
    document = copy.deepcopy(world.stored["left"])
    document["metadata"]["finalizers"] = [FINALIZER]
    document["status"] = status
    world.store(document)


async def test_where_a_claim_may_not_be_changed_its_status_is_and_allocation_goes_on() -> None:
    world = World()
    left(world)
    world.ask("a")
    world.refuse = guards
    before = world.stored["left"]["metadata"]["resourceVersion"]
    world.part.begin()
    await world.reconcile("a")
    assert world.allocation("a")
    assert world.allocation("left") is None
    assert world.stored["left"]["metadata"]["resourceVersion"] != before


async def test_what_a_stopped_leader_sends_late_is_a_conflict_then_too() -> None:
    first, second, writing = await stopped_before_it_sends()
    first.leading = False

    def guard(request: Request) -> ApiError | None:
        changes = request.method == "PUT" and not is_status(request)
        return error_for(403, message="no") if changes and request.path.endswith("/x") else None

    second.refuse = guard
    await the_late_write_is_refused(first, second, writing)


async def test_one_that_arrives_between_counts_and_is_left_as_it_is() -> None:
    first, second, writing = await stopped_before_it_sends()
    (late,) = (one for one in first.part.books._assumed.values())
    first.leading = False

    def arrives(request: Request) -> ApiError | None:
        if request.method != "PUT" or not request.path.endswith("/x"):
            return None
        second.refuse = lambda _request: None
        second.stored["x"] = second._versioned({**first.stored["x"], "status": late["status"]})
        return error_for(403, message="no")

    second.refuse = arrives
    second.part.begin()
    await second.reconcile("y")
    assert second.allocation("x")
    assert second.allocation("y") is None
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_where_that_is_refused_as_well_everybody_who_waits_is_told_and_nothing_is_given_out() -> None:
    told = Told()
    told.world.refuse = refuses_all
    with pytest.raises(AllocationHeldUpError) as held_up:
        await told.world.reconcile("a")
    assert told.world.allocation("a") is None
    assert told.world.reason() == "AllocationHeldUp"
    assert "left" not in str(held_up.value), "another one's claim is nobody's business"
    assert told.about == [("ResourceClaim", "AllocationHeldUp"), ("Lease", "AllocationHeldUp")]
    note = told.sent.requests[1].body["note"]
    assert "ResourceClaim default/left" in note
    assert "guard.example.com" in note
    assert "or delete the claim" in note
    assert told.counts[-1] == 1


async def test_that_is_said_once_however_many_wait_and_again_only_after_a_while() -> None:
    told = Told()
    told.world.refuse = refuses_all
    told.world.ask("b")
    for pod in ("a", "b", "a", "b"):
        with pytest.raises(AllocationHeldUpError):
            await told.world.reconcile(pod)
        await asyncio.sleep(30)
    assert len(told.sent.requests) == 2
    await asyncio.sleep(300)
    with pytest.raises(AllocationHeldUpError):
        await told.world.reconcile("a")
    assert len(told.sent.requests) == 4


async def test_while_everybody_waits_only_those_claims_are_read_again() -> None:
    told = Told()
    told.world.refuse = refuses_all
    for _ in range(3):
        with pytest.raises(AllocationHeldUpError):
            await told.world.reconcile("a")
        await asyncio.sleep(30)
    read = [one.path.rpartition("/")[2] for one in told.world.transport.requests if one.method == "GET"]
    assert read == ["resourceclaims", "left", "left"]


async def test_a_claim_that_is_deleted_meanwhile_holds_nobody_up_any_more() -> None:
    told = Told()
    told.world.refuse = refuses_all
    with pytest.raises(AllocationHeldUpError):
        await told.world.reconcile("a")
    del told.world.stored["left"]
    await asyncio.sleep(30)
    await told.world.reconcile("a")
    assert told.world.allocation("a")


async def test_allocation_goes_on_as_soon_as_the_claim_may_be_changed() -> None:
    told = Told()
    told.world.refuse = refuses_all
    with pytest.raises(AllocationHeldUpError):
        await told.world.reconcile("a")
    told.world.refuse = lambda _request: None
    await asyncio.sleep(20)
    await told.world.reconcile("a")
    assert told.world.allocation("a")
    assert told.counts[-1] == 0


async def test_a_replica_that_leads_no_more_holds_nobody_up() -> None:
    told = Told()
    told.world.refuse = refuses_all
    with pytest.raises(AllocationHeldUpError):
        await told.world.reconcile("a")
    await told.world.part.allocator.ended()
    assert told.counts[-1] == 0


@pytest.mark.parametrize("status", [429, 500, 503, 504])
async def test_a_server_that_gives_no_answer_refuses_nothing(status: int) -> None:
    told = Told()
    told.world.refuse = lambda request: error_for(status, message="no") if request.method == "PUT" else None
    with pytest.raises(ApiError):
        await told.world.reconcile("a")
    assert not any(map(is_status, told.world.transport.writes()))
    assert told.about == []


async def test_a_webhook_that_does_not_answer_and_must_be_asked_is_a_refusal() -> None:
    told = Told()
    message = 'Internal error occurred: failed calling webhook "guard.example.com"'
    told.world.refuse = lambda request: (
        error_for(500, message=message) if request.method == "PUT" and "/left" in request.path else None
    )
    with pytest.raises(AllocationHeldUpError):
        await told.world.reconcile("a")
    assert told.about


@pytest.mark.parametrize("status", [0, 500, 504])
async def test_a_webhook_that_hangs_is_taken_for_one_that_refuses_after_a_few_tries(status: int) -> None:
    told = Told()
    told.world.refuse = lambda request: (
        error_for(status, message="no answer in time") if guards(request) else None
    )
    for _ in range(3):
        with pytest.raises(ApiError):
            await told.world.reconcile("a")
        await asyncio.sleep(20)
    await told.world.reconcile("a")
    assert told.world.allocation("a")
    assert told.world.allocation("left") is None


async def test_what_is_reserved_meanwhile_for_a_pod_on_its_node_is_taken_back_as_well() -> None:
    told = Told()
    told.world.pod("made-for-it", "left", nodeName="n1")
    drivers: list[set[str]] = []

    def reserves(request: Request) -> ApiError | None:
        # Between the two writes, so that the second is a conflict.
        stored = told.world.stored["left"]
        if (
            is_status(request)
            and "/left" in request.path
            and stored["status"].get("allocation")
            and not drivers
        ):
            drivers.append({one["driver"] for one in stored["status"]["allocation"]["devices"]["results"]})
            held = {**stored["status"], "reservedFor": [HOLDER]}
            told.world.stored["left"] = told.world._versioned({**stored, "status": held})
        return guards(request)

    told.world.refuse = reserves
    await told.world.reconcile("a")
    assert drivers == [{NOBODY}], "a kubelet that knew its driver would start the pod"
    assert told.world.stored["left"]["status"] == {}
    assert told.world.allocation("a")
    told.world.refuse = lambda _request: None
    await told.world.reconcile("made-for-it")
    assert told.world.node_of("left") == "n1"
    assert told.world.stored["left"]["status"]["reservedFor"] == [{**HOLDER, "uid": "pod-made-for-it"}]


async def test_one_that_stays_reserved_for_a_pod_on_its_node_is_taken_back_after_a_minute() -> None:
    world = World()
    world.pod("made-for-it", "left", nodeName="n1")
    left(world)
    stored = world.stored["left"]
    world.store({**stored, "status": {"allocation": blank(stored, now=NOW), "reservedFor": [HOLDER]}})
    world.refuse = refuses_all
    world.part.begin()
    await world.reconcile("made-for-it")
    assert is_blank(world.stored["left"])
    world.refuse = lambda _request: None
    assert await world.part.reconcile("claim/default/left") == 60
    await asyncio.sleep(60)
    await world.part.reconcile("claim/default/left")
    await world.reconcile("made-for-it")
    assert world.node_of("left") == "n1"


async def test_whoever_reserves_a_blank_allocation_brings_its_claim_back() -> None:
    world = World()
    left(world)
    stored = world.stored["left"]
    handled: list[str] = []

    async def note(key: str) -> None:
        handled.append(key)

    worker = asyncio.create_task(world.part.queue.run(note, workers=1, first=list))
    await asyncio.sleep(0)
    world.store({**stored, "status": {"allocation": blank(stored, now=NOW), "reservedFor": [HOLDER]}})
    await asyncio.sleep(1)
    worker.cancel()
    assert "claim/default/left" in handled


async def test_a_blank_allocation_that_a_leader_left_is_taken_back_by_the_next_one() -> None:
    world = World()
    left(world)
    world.store({**world.stored["left"], "status": {"allocation": blank(world.stored["left"], now=NOW)}})
    assert is_blank(world.stored["left"])
    world.pod("p", "left")
    world.part.begin()
    await world.reconcile("p")
    assert world.node_of("left") == "n1"


async def test_one_that_cannot_be_taken_back_holds_nobody_up_and_is_released_when_no_pod_names_it() -> None:
    world = World()
    left(world)
    world.store({**world.stored["left"], "status": {"allocation": blank(world.stored["left"], now=NOW)}})
    world.ask("a")
    world.refuse = refuses_all
    world.part.begin()
    await world.reconcile("a")
    assert world.allocation("a")
    world.refuse = lambda _request: None
    assert await world.part.reconcile("claim/default/left") == 60
    await asyncio.sleep(60)
    await world.part.reconcile("claim/default/left")
    assert world.allocation("left") is None


async def test_a_leader_that_hears_nothing_of_its_blank_allocation_takes_it_back_at_its_next_try() -> None:
    world = World()
    left(world)
    world.ask("a")
    world.refuse = guards

    def lost(request: Request) -> ApiError | None:
        if is_status(request) and "/left" in request.path:
            world.after = lambda _request: None
            return UnreachableError("the answer was lost", status=0)
        return None

    world.after = lost
    world.part.begin()
    with pytest.raises(UnreachableError):
        await world.reconcile("a")
    assert is_blank(world.stored["left"])
    await asyncio.sleep(20)
    await world.reconcile("a")
    assert world.allocation("left") is None
    assert world.allocation("a")


async def test_a_blank_allocation_holds_nothing_and_is_for_no_node() -> None:
    made = blanked({"exactly": {}})
    view = claim_view(made)
    assert (view.allocated, view.ours, view.held, view.node, view.blank) == (True, True, b"", "", True)
    assert not claim_view({**made, "status": {}}).blank


async def test_it_gives_nobodys_device_for_a_request_by_the_name_that_the_server_takes() -> None:
    for request, name in (
        ({"exactly": {}}, "r"),
        ({"firstAvailable": [{"name": "s"}, {"name": "t"}]}, "r/s"),
    ):
        (device,) = blanked(request)["status"]["allocation"]["devices"]["results"]
        assert (device["request"], device["driver"]) == (name, NOBODY)


async def test_one_without_a_device_is_blank_while_no_pod_may_have_been_started_with_it() -> None:
    made = blanked({"exactly": {}})
    made["status"]["allocation"]["devices"]["results"] = []
    assert is_blank(made)
    assert not is_blank({**made, "status": {**made["status"], "reservedFor": [HOLDER]}})


async def test_what_gives_a_device_is_not_blank_nor_what_others_wrote() -> None:
    made = blanked({"exactly": {}})
    assert not is_blank({**made, "status": {"allocation": {"devices": {}}}})
    made["status"]["allocation"]["devices"]["results"].append({"driver": "dragoman.dev"})
    assert not is_blank(made)


def blanked(request: dict[str, Any]) -> Any:
    metadata = {"name": "left", "namespace": "default", "uid": "u"}
    claim: Any = {"metadata": metadata, "spec": {"devices": {"requests": [{"name": "r", **request}]}}}
    return {**claim, "status": {"allocation": blank(claim, now=NOW)}}


async def unanswered(world: World) -> None:
    """An allocation of a's claim is sent, and nobody knows whether it will be stored."""
    world.ask("a")
    world.refuse = lambda request: UnreachableError("timed out", status=0) if is_status(request) else None
    with pytest.raises(UnreachableError):
        await world.reconcile("a")
    assert world.part.books.all_doubted() == ["default/a"]


async def test_a_write_without_an_answer_is_settled_by_the_status_where_the_claim_may_not_be_changed() -> (
    None
):
    world = World()
    await unanswered(world)
    world.refuse = lambda request: (
        error_for(403, message=DENIED) if request.method == "PUT" and not is_status(request) else None
    )
    await world.part.reconcile("claim/default/a")
    assert world.part.books.all_doubted() == []
    assert world.allocation("a") is None
    await world.reconcile("a")
    assert world.node_of("a") == "n1"


async def test_a_blank_allocation_that_is_taken_back_is_no_node_that_kube_scheduler_refused() -> None:
    world = World()
    await unanswered(world)
    world.refuse = lambda request: (
        error_for(403, message=DENIED) if request.method == "PUT" and not is_status(request) else None
    )
    seen: list[bool] = []

    def watched(request: Request) -> None:
        if request.method == "PUT":
            seen.append(is_blank(world.stored["a"]))
            world.claims.observe(copy.deepcopy(world.stored["a"]))

    world.after = watched
    await world.part.reconcile("claim/default/a")
    assert seen == [True, False]
    assert world.part.allocator._refused_nodes.first("pod-a", now=0.0) == ""


async def test_what_was_decided_stays_booked_whatever_the_watch_shows_before_it_is_written() -> None:
    world = World()
    await unanswered(world)
    for allocation in (blank(world.stored["a"], now=NOW), None):
        world.stored["a"]["status"] = {"allocation": allocation} if allocation else {}
        world.stored["a"] = world._versioned(world.stored["a"])
        world.claims.observe(copy.deepcopy(world.stored["a"]))
    assert world.part.books.assumed("uid-a")
    world.refuse = lambda _request: None
    world.ask("b", "700Mi")
    await world.reconcile("b")
    assert world.allocation("b") is None


async def test_a_claim_that_changes_before_its_allocation_is_stored_was_taken_back_by_nobody() -> None:
    world = World()
    await unanswered(world)
    stamped = copy.deepcopy(world.stored["a"])
    stamped["metadata"]["annotations"] = {STAMP: "another"}
    before = world.claims.get("default/a")
    world.store(stamped)
    assert world.claims.get("default/a") != before
    assert world.part._usage.expected("default/a"), "it is still on its way to its node"


async def test_the_end_of_an_earlier_decision_does_not_end_the_one_that_came_after_it() -> None:
    world = World()
    await unanswered(world)
    earlier = world.part.books.doubted("default/a")
    assert earlier is not None
    later = replace(earlier, allocation=copy.deepcopy(earlier.allocation))
    world.part.books.assume(later)
    world.part.books.doubt(later)
    world.part.books.drop(earlier)
    assert world.part.books.assumed("uid-a")
    assert world.part.books.doubted("default/a") is later
    world.part.books.drop(later)
    assert not world.part.books.assumed("uid-a")


async def test_a_claim_made_anew_under_the_name_is_left_alone_and_ends_the_doubt() -> None:
    world = World()
    await unanswered(world)
    anew = copy.deepcopy(world.stored["a"])
    anew["metadata"]["uid"] = "another"
    assert anew["metadata"]["finalizers"] == [FINALIZER]
    world.store(anew)
    world.refuse = lambda _request: None
    before = len(world.transport.writes())
    await world.part.reconcile("claim/default/a")
    assert len(world.transport.writes()) == before
    assert world.part.books.all_doubted() == []
    world.ask("b", "1000Mi")
    await world.reconcile("b")
    assert world.allocation("b")


async def test_where_that_is_refused_as_well_its_pods_are_told_and_what_it_may_get_stays_booked() -> None:
    world = World()
    await unanswered(world)
    world.refuse = lambda request: error_for(403, message=DENIED) if request.method == "PUT" else None
    with pytest.raises(AllocationHeldUpError):
        await world.part.reconcile("claim/default/a")
    assert world.answers[-1].pod == "default/a"
    assert world.reason() == "AllocationHeldUp"
    assert world.part.books.all_doubted() == ["default/a"]
    world.refuse = lambda _request: None
    world.ask("b", "1000Mi")
    await world.reconcile("b")
    assert world.allocation("b") is None
