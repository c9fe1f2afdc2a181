"""What the allocator decides, writes and remembers."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from controller.allocating.errors import AllocationLostError
from controller.allocating.writing import FINALIZER
from controller.lease import LeadershipLostError
from driver.api.asked import STAMP, carry_over
from driver.api.share_allocation import GivenShare, config_entry
from driver.kube.client import ApiError, ConflictError, UnreachableError, error_for
from tests.controller.allocating.world import World, card, without_shares

CLASS = "accelerator.dragoman.dev"


def asks(memory: str, cores: str) -> Any:
    return {"capacity": {"requests": {"memory": memory, "cores": cores}}}


pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def puts(world: World) -> list[str]:
    return [request.path.rpartition("/")[2] for request in world.transport.writes()]


async def test_a_share_is_written_with_node_time_finalizer_and_what_was_given() -> None:
    world = World()
    world.ask("p")
    await world.reconcile("p")
    stored = world.stored["p"]
    assert stored["metadata"]["finalizers"] == [FINALIZER]
    allocation = stored["status"]["allocation"]
    (result,) = allocation["devices"]["results"]
    assert (result["device"], result["consumedCapacity"]) == ("card-0", {"cores": "30", "memory": "400Mi"})
    assert result["shareID"]
    assert world.node_of("p") == "n1"
    assert allocation["allocationTimestamp"] == "2026-01-01T00:00:00Z"
    (given,) = allocation["devices"]["config"][-1]["opaque"]["parameters"]["shares"]
    assert (given["request"], given["memory"], given["cores"]) == ("gpu", "400Mi", "30")


@pytest.mark.parametrize("drops", [False, True], ids=["shares are kept", "shares are dropped"])
async def test_a_card_is_given_out_up_to_what_it_has_and_not_beyond(drops: bool) -> None:
    world = World()
    if drops:
        world.mangle = without_shares
    for name in ("a", "b", "c"):
        world.ask(name)
    await world.reconcile("a", "b", "c")
    assert [bool(world.allocation(name)) for name in "abc"] == [True, True, False]
    assert world.reason() == "NoDevice"


async def test_what_was_decided_counts_before_it_is_written() -> None:
    world = World()
    for name in ("a", "b", "c"):
        world.ask(name)
    await asyncio.gather(*(world.reconcile(name) for name in ("a", "b", "c")))
    assert sum(bool(world.allocation(name)) for name in "abc") == 2


async def test_a_released_claim_makes_room() -> None:
    world = World()
    for name in ("a", "b", "c"):
        world.ask(name)
    await world.reconcile("a", "b", "c")
    world.take_back("a")
    await world.reconcile("c")
    assert world.allocation("c")


async def test_claims_of_one_pod_are_decided_together_or_not_at_all() -> None:
    world = World()
    world.claim("a", "600Mi")
    world.claim("b", "600Mi")
    world.pod("p", "a", "b")
    await world.reconcile("p")
    assert world.allocation("a") is None
    assert world.allocation("b") is None


async def test_a_second_claim_goes_where_the_first_one_is() -> None:
    world = World(nodes=("n1", "n2"))
    world.claim("a")
    world.pod("first", "a", nodeSelector={"kubernetes.io/hostname": "n2"})
    await world.reconcile("first")
    world.claim("b")
    world.pod("second", "a", "b")
    await world.reconcile("second")
    assert world.node_of("b") == "n2"


async def test_a_node_that_the_pod_cannot_use_is_not_chosen() -> None:
    world = World(nodes=("n1", "n2"))
    world.node("n1", unschedulable=True)
    world.ask("p")
    await world.reconcile("p")
    assert world.node_of("p") == "n2"


async def test_pods_that_are_on_their_way_to_a_node_count_there() -> None:
    world = World(nodes=("n1", "n2"))
    cpu = [{"resources": {"requests": {"cpu": "3"}}}]
    world.ask("a", containers=cpu)
    world.ask("b", containers=cpu)
    await world.reconcile("a", "b")
    assert [world.node_of(name) for name in "ab"] == ["n1", "n2"]


async def test_cards_of_a_node_that_is_not_offered_are_not_given_out() -> None:
    world = World()
    world.offered.clear()
    world.ask("p")
    await world.reconcile("p")
    assert world.allocation("p") is None
    assert world.reason() == "NoNode"


async def test_a_policy_chooses_among_nodes() -> None:
    world = World(nodes=("n1", "n2"), policy={"nodes": "spread"})
    world.ask("a")
    world.ask("b")
    await world.reconcile("a", "b")
    assert {world.node_of("a"), world.node_of("b")} == {"n1", "n2"}


async def test_a_claim_for_a_whole_card_says_so_and_blocks_it() -> None:
    world = World()
    world.ask("a", memory="")
    world.ask("b", "1Mi", "0")
    await world.reconcile("a", "b")
    (given,) = world.allocation("a")["devices"]["config"][-1]["opaque"]["parameters"]["shares"]
    assert (given["memory"], given["cores"]) == ("1000Mi", "0")
    assert world.allocation("b") is None


async def test_a_conflict_is_tried_again_and_books_nothing() -> None:
    world = World()
    world.ask("p", "600Mi")
    world.refuse = lambda request: error_for(409, message="changed") if request.method == "PUT" else None
    with pytest.raises(ConflictError):
        await world.reconcile("p")
    world.refuse = lambda _request: None
    await world.reconcile("p")
    assert world.allocation("p")


def no_answer(request: Any) -> ApiError | None:
    return UnreachableError("timed out", status=0) if request.method == "PUT" else None


async def test_a_write_without_an_answer_stays_in_the_books_until_it_is_known_to_be_stored() -> None:
    world = World()
    world.ask("a", "600Mi")
    world.after = lambda request: no_answer(request) if request.path.endswith("/status") else None
    with pytest.raises(UnreachableError):
        await world.reconcile("a")
    world.ask("b", "600Mi")
    await world.reconcile("b")
    assert world.allocation("b") is None
    world.after = lambda _request: None
    await world.part.reconcile("claim/default/a")
    await world.reconcile("b")
    assert world.allocation("a")
    assert world.allocation("b") is None


async def test_a_write_without_an_answer_that_was_not_stored_is_forgotten_once_that_is_known() -> None:
    world = World()
    world.ask("a", "600Mi")
    world.refuse = no_answer
    with pytest.raises(UnreachableError):
        await world.reconcile("a")
    world.refuse = lambda _request: None
    await world.part.reconcile("claim/default/a")
    world.ask("b", "600Mi")
    await world.reconcile("b")
    assert world.allocation("b")


async def test_while_nobody_knows_what_became_of_a_claim_it_is_not_decided_again() -> None:
    world = World()
    world.ask("a", "600Mi")
    world.refuse = no_answer
    with pytest.raises(UnreachableError):
        await world.reconcile("a")
    assert await world.reconcile("a") == pytest.approx(0.5)


async def test_a_claim_that_was_made_anew_meanwhile_is_left_alone() -> None:
    world = World()
    await world.reconcile("all claims are read now")
    world.ask("p")
    changed = copy.deepcopy(world.stored["p"])
    changed["metadata"]["uid"] = "another"
    world.stored["p"] = changed
    await world.reconcile("p")
    assert puts(world) == []
    world.ask("q", "1000Mi")
    await world.reconcile("q")
    assert world.allocation("q"), "what was booked for the old claim is free again"


async def test_an_allocation_that_lost_its_amounts_is_taken_back() -> None:
    world = World()
    world.ask("p")

    def lose(claim: Any) -> None:
        without_shares(claim)
        allocation = (claim.get("status") or {}).get("allocation")
        if allocation:
            allocation["devices"].pop("config")

    world.mangle = lose
    with pytest.raises(AllocationLostError):
        await world.reconcile("p")
    assert world.allocation("p") is None
    assert world.stored["p"]["metadata"]["finalizers"] == []


async def test_a_node_that_kube_scheduler_refused_is_left_out_for_a_while_and_then_tried_again() -> None:
    world = World(nodes=("n1", "n2"))
    world.ask("p")
    await refused_twice(world, "p", node="n1")
    await refused_twice(world, "p", node="n2")
    wait = await world.reconcile("p")
    assert world.node_of("p") == ""
    assert wait is not None
    assert 0 < wait <= 30
    await asyncio.sleep(wait)
    await world.reconcile("p")
    assert world.node_of("p") == "n1"


async def refused_twice(world: World, pod: str, *, node: str) -> None:
    """A node is tried once more at once: kube-scheduler may be ending pods there that were in the way."""
    for _ in range(2):
        await world.reconcile(pod)
        assert world.node_of(pod) == node
        world.take_back(pod)


async def test_a_claim_goes_where_pods_are_ended_for_it_and_not_elsewhere_when_it_is_taken_back_there() -> (
    None
):
    world = World(nodes=("n1", "n2"))
    world.ask("p", status={"nominatedNodeName": "n2"})
    for _ in range(10):
        await world.reconcile("p")
        assert world.node_of("p") == "n2"
        world.take_back("p")
    await world.reconcile("p")
    assert world.node_of("p") == "n2"


@pytest.mark.parametrize("late", [False, True])
async def test_where_pods_were_ended_in_vain_none_are_for_a_long_time(late: bool) -> None:
    """kube-scheduler nominates for a moment, and finds no cards when the pods that it ended are gone."""
    world = World()
    world.ask("p")
    await world.reconcile("p")
    world.take_back("p")
    if not late:
        world.pod("p", "p", status={"nominatedNodeName": "n1"})
        world.pod("p", "p")
    await world.reconcile("p")
    world.take_back("p")
    if late:
        world.pod("p", "p", status={"nominatedNodeName": "n1"})
        world.pod("p", "p")
    await asyncio.sleep(800)
    await world.reconcile("p")
    assert not world.node_of("p")
    await asyncio.sleep(110)
    await world.reconcile("p")
    assert world.node_of("p") == "n1"


async def test_pods_that_are_still_to_end_do_not_keep_a_claim_from_the_node_where_they_are_ended() -> None:
    world = World(nodes=("n1", "n2"))
    world.pod("victim", containers=[{"resources": {"requests": {"cpu": "4"}}}], nodeName="n2")
    one = {"resources": {"requests": {"cpu": "1"}}}
    world.ask("p", containers=[one], status={"nominatedNodeName": "n2"})
    await world.reconcile("p")
    assert world.node_of("p") == "n2"


@pytest.mark.parametrize("status", [{"conditions": []}, {"allocatable": {"cpu": "0", "pods": "10"}}])
async def test_a_nominated_node_that_is_not_ready_or_too_small_is_not_used(status: Any) -> None:
    world = World(nodes=("n1", "n2"))
    world.node("n2", status=status)
    one = {"resources": {"requests": {"cpu": "1"}}}
    world.ask("p", containers=[one], status={"nominatedNodeName": "n2"})
    await world.reconcile("p")
    assert world.node_of("p") == "n1"


async def test_where_the_nominated_node_has_no_card_left_another_one_is_taken() -> None:
    world = World(nodes=("n1", "n2"))
    world.ask("q", nodeSelector={"kubernetes.io/hostname": "n2"})
    await world.reconcile("q")
    world.ask("p", "800Mi", status={"nominatedNodeName": "n2"})
    await world.reconcile("p")
    assert world.node_of("p") == "n1"


async def test_a_nominated_node_other_than_that_of_the_pods_other_claim_is_not_used() -> None:
    world = World(nodes=("n1", "n2"))
    world.ask("other", nodeSelector={"kubernetes.io/hostname": "n1"})
    await world.reconcile("other")
    world.claim("p")
    world.pod("p", "other", "p", status={"nominatedNodeName": "n2"})
    await world.reconcile("p")
    assert world.node_of("p") == "n1"


async def test_a_nominated_node_whose_cards_are_not_offered_is_not_used() -> None:
    world = World(nodes=("n1", "n2"))
    world.offered.discard("n2")
    world.ask("p", status={"nominatedNodeName": "n2"})
    await world.reconcile("p")
    assert world.node_of("p") == "n1"


async def test_a_nominated_node_that_is_gone_is_not_used() -> None:
    world = World(nodes=("n1",))
    world.ask("p", status={"nominatedNodeName": "n2"})
    world.offered.add("n2")
    await world.reconcile("p")
    assert world.node_of("p") == "n1"


async def test_a_claim_for_two_drivers_at_once_is_refused_with_the_remedy() -> None:
    world = World()
    other = {"name": "nic", "exactly": {"deviceClassName": "nic.example", "count": 1}}
    world.claim("p", more=(other,))
    world.pod("p", "p")
    await world.reconcile("p")
    assert world.reason() == "MixedDrivers"


async def test_a_claim_of_another_driver_alone_is_none_of_ours() -> None:
    world = World()
    world.claim("p", "", device_class="nic.example")
    world.pod("p", "p")
    await world.reconcile("p")
    assert world.answers == []
    assert puts(world) == []


async def test_a_claim_that_brings_its_own_allocation_is_refused() -> None:
    world = World()
    share = GivenShare(request="gpu", pool="n1/dragoman", device="card-0", memory="1000Mi", cores="0")
    entry = {name: value for name, value in config_entry([share]).items() if name != "source"}
    world.claim("p", "1Mi", config=(entry,))
    world.pod("p", "p")
    await world.reconcile("p")
    assert world.allocation("p") is None
    assert world.answers[-1].error is not None
    assert "spec.devices.config[0]" in str(world.answers[-1].error)


async def test_nothing_is_given_while_it_is_not_known_whether_amounts_are_kept() -> None:
    world = World()
    world.kept = None
    world.ask("p")
    await world.reconcile("p")
    assert world.allocation("p") is None
    assert world.reason() == "AmountsUnknown"


async def test_where_amounts_are_dropped_a_claim_without_a_stamp_is_never_given_a_card() -> None:
    world = World()
    world.kept = False
    world.ask("p", memory="")
    await world.reconcile("p")
    assert world.allocation("p") is None
    assert world.reason() == "ClaimNotStamped"


async def test_where_amounts_are_dropped_those_that_the_webhook_saw_are_given() -> None:
    world = World()
    world.kept = False
    world.mangle = without_shares
    asked = {"requests": [{"name": "gpu", "exactly": {"deviceClassName": CLASS, **asks("400Mi", "30")}}]}
    entries, stamp = carry_over(asked, is_ours=lambda name: name == CLASS)
    world.claim("p", memory="", config=tuple(entries), annotations={STAMP: stamp})
    world.pod("p", "p")
    await world.reconcile("p")
    (given,) = world.allocation("p")["devices"]["config"][-1]["opaque"]["parameters"]["shares"]
    assert (given["memory"], given["cores"]) == ("400Mi", "30")


async def test_a_replica_that_does_not_lead_decides_nothing() -> None:
    world = World()
    world.ask("p")
    world.leading = False
    with pytest.raises(LeadershipLostError):
        await world.reconcile("p")
    assert world.transport.requests == []


async def test_a_new_leader_counts_with_what_the_last_one_wrote_though_the_watch_is_late() -> None:
    world = World()
    world.ask("a", "600Mi")
    await world.reconcile("a")
    late = World()
    late.stored = copy.deepcopy(world.stored)
    late.versions = world.versions
    late.part.begin()
    late.ask("b", "600Mi")
    await late.reconcile("b")
    assert late.allocation("b") is None


async def test_an_allocation_that_no_pod_holds_or_wants_is_released_after_a_while() -> None:
    world = World()
    world.ask("p")
    await world.reconcile("p")
    world.pod("p")
    assert await world.part.reconcile("claim/default/p") == pytest.approx(60)
    await asyncio.sleep(60)
    assert await world.part.reconcile("claim/default/p") is None
    assert world.allocation("p") is None
    assert world.stored["p"]["metadata"]["finalizers"] == []


async def test_an_allocation_that_a_pod_holds_is_never_released_by_us() -> None:
    world = World()
    world.ask("p")
    await world.reconcile("p")
    held = copy.deepcopy(world.stored["p"])
    held["status"]["reservedFor"] = [{"resource": "pods", "name": "p", "uid": "pod-p"}]
    world.store(held)
    world.pod("p")
    assert await world.part.reconcile("claim/default/p") is None
    await asyncio.sleep(100)
    assert await world.part.reconcile("claim/default/p") is None
    assert world.allocation("p")


async def test_pods_that_were_refused_are_tried_in_the_order_of_priority_and_age() -> None:
    world = World()
    world.cards("n1", card(mib=100))
    for name, priority in (("low", 0), ("high", 10), ("middle", 5)):
        world.ask(name, priority=priority)
    await world.reconcile("low", "high", "middle")
    assert world.part.allocator.waiting.refused_pods() == [
        f"pod/default/{name}" for name in ("high", "middle", "low")
    ]


async def test_amounts_that_were_carried_over_count_on_a_server_that_keeps_amounts_by_now() -> None:
    devices = {"requests": [{"name": "gpu", "exactly": {"deviceClassName": CLASS, **asks("400Mi", "30")}}]}
    entries, stamp = carry_over(devices, is_ours=lambda _name: True)
    world = World()
    world.claim("p", memory="", config=tuple(entries), annotations={STAMP: stamp})
    world.pod("p", "p")
    await world.reconcile("p")
    (result,) = world.allocation("p")["devices"]["results"]
    assert result["consumedCapacity"] == {"memory": "400Mi", "cores": "30"}


async def test_what_an_older_server_stored_without_its_amounts_never_gets_a_whole_card() -> None:
    devices = {"requests": [{"name": "gpu", "exactly": {"deviceClassName": CLASS, **asks("400Mi", "30")}}]}
    _, stamp = carry_over(devices, is_ours=lambda _name: True, kept=True)
    world = World()
    world.claim("p", memory="", annotations={STAMP: stamp})
    world.pod("p", "p")
    await world.reconcile("p")
    assert world.allocation("p") is None
    assert world.reason() == "ClaimNotStamped"


async def test_amounts_that_stand_in_a_claim_twice_count_once() -> None:
    devices = {"requests": [{"name": "gpu", "exactly": {"deviceClassName": CLASS, **asks("400Mi", "30")}}]}
    entries, stamp = carry_over(devices, is_ours=lambda _name: True, kept=True)
    world = World()
    world.claim("p", memory="400Mi", cores="30", config=tuple(entries), annotations={STAMP: stamp})
    world.pod("p", "p")
    await world.reconcile("p")
    (result,) = world.allocation("p")["devices"]["results"]
    assert result["consumedCapacity"] == {"memory": "400Mi", "cores": "30"}


async def test_a_pod_whose_class_is_made_after_it_gets_its_turn() -> None:
    world = World()
    world.claim("p", device_class="later")
    world.pod("p", "p")
    worker = asyncio.create_task(
        world.part.queue.run(world.part.reconcile, workers=1, first=world.part.begin)
    )
    await asyncio.sleep(1)
    world._put(
        world.classes,
        {
            "metadata": {"name": "later"},
            "spec": {"selectors": [{"cel": {"expression": 'device.driver == "dragoman.dev"'}}]},
        },
    )
    await asyncio.sleep(1)
    worker.cancel()
    assert world.allocation("p")


async def test_pods_on_their_way_count_for_a_replica_that_begins_to_lead() -> None:
    world = World(nodes=("n1", "n2"))
    cpu = [{"resources": {"requests": {"cpu": "3"}}}]
    world.ask("a", containers=cpu)
    world.ask("b", containers=cpu)
    await world.reconcile("a")
    other = World(nodes=("n1", "n2"))
    for name in "ab":
        other.store(world.stored[name])
        other.pod(name, name, containers=cpu)
    other.part.begin()
    await other.reconcile("b")
    assert (other.node_of("a"), other.node_of("b")) == ("n1", "n2")


@pytest.mark.parametrize("status", [403, 422])
async def test_a_pod_is_told_that_the_server_refuses_its_allocation(status: int) -> None:
    world = World()
    world.ask("p")
    world.refuse = lambda request: error_for(status, message="no") if request.method == "PUT" else None
    with pytest.raises(ApiError):
        await world.reconcile("p")
    assert world.reason() == ApiError.reason


async def test_a_pod_is_told_that_its_allocation_is_lost_on_the_way() -> None:
    world = World()
    world.ask("p")

    def lose(claim: Any) -> None:
        allocation = (claim.get("status") or {}).get("allocation")
        if allocation:
            allocation["devices"].pop("config")

    world.mangle = lose
    with pytest.raises(AllocationLostError):
        await world.reconcile("p")
    assert world.reason() == AllocationLostError.reason


async def test_claims_are_read_anew_in_pages_that_fit_into_memory() -> None:
    world = World()
    world.ask("p")
    await world.reconcile("p")
    limits = {sent.query["limit"] for sent in world.transport.requests if "limit" in sent.query}
    assert limits == {"10"}


async def test_a_claim_that_a_pod_names_twice_is_decided_once() -> None:
    world = World()
    world.claim("c", "600Mi")
    world.pod("p", "c", "c")
    await world.reconcile("p")
    assert world.allocation("c")
