"""A claim that is deleted under its running pod: what the pod holds is given to nobody else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.allocating.waiting import WAKE
from tests.controller.allocating.world import World

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def in_use(**status: Any) -> World:
    """A pod that runs with all of the only card."""
    world = World()
    world.ask("first", "1000Mi")
    await world.reconcile("first")
    claim = copy.deepcopy(world.stored["first"])
    claim["status"]["reservedFor"] = [{"resource": "pods", "name": "first", "uid": "pod-first"}]
    world.store(claim)
    world.pod("first", "first", status=status or {"phase": "Running"}, nodeName="n1")
    return world


def deleted(informer: Any, document: Any, world: World) -> None:
    informer._apply({"type": "DELETED", "object": world._versioned(document)})


def take_the_claim_away(world: World) -> None:
    """What a tenant can do: `metadata.finalizers` is his, and then the claim."""
    deleted(world.claims, world.stored.pop("first"), world)


async def second_gets_it(world: World) -> bool:
    world.ask("second", "1000Mi")
    await world.reconcile("second")
    return bool(world.allocation("second"))


async def test_what_a_running_pod_holds_is_kept_where_its_claim_is_gone() -> None:
    world = await in_use()
    take_the_claim_away(world)
    assert not await second_gets_it(world)


async def test_that_holds_for_a_process_that_makes_its_books_anew_and_for_the_next_leader() -> None:
    world = await in_use()
    take_the_claim_away(world)
    world.part.books._cluster = None
    world.part.begin()
    assert not await second_gets_it(world)


async def test_a_claim_made_anew_under_the_name_is_another_one() -> None:
    world = await in_use()
    take_the_claim_away(world)
    world.claim("first", "1000Mi")
    world.stored["first"]["metadata"]["uid"] = "another"
    world.store(world.stored["first"])
    assert not await second_gets_it(world)


async def test_a_pod_that_is_being_deleted_may_still_run() -> None:
    world = await in_use()
    take_the_claim_away(world)
    pod = copy.deepcopy(world.stored_pods["first"])
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world._put(world.pods, pod)
    assert not await second_gets_it(world)


@pytest.mark.parametrize("end", ["ended", "deleted", "made anew"])
async def test_it_is_free_when_the_pod_has_ended(end: str) -> None:
    world = await in_use()
    take_the_claim_away(world)
    pod = copy.deepcopy(world.stored_pods["first"])
    if end == "ended":
        world._put(world.pods, {**pod, "status": {"phase": "Succeeded"}})
    elif end == "deleted":
        deleted(world.pods, pod, world)
    else:
        world._put(world.pods, {**pod, "metadata": {**pod["metadata"], "uid": "another"}})
    assert await second_gets_it(world)
    assert not world.part.vanished._held_by


async def test_of_two_pods_the_last_one_frees_it() -> None:
    world = await in_use()
    world.pod("other", "first", status={"phase": "Running"}, nodeName="n1")
    take_the_claim_away(world)
    deleted(world.pods, world.stored_pods["first"], world)
    assert not await second_gets_it(world)
    deleted(world.pods, world.stored_pods["other"], world)
    await world.reconcile("second")
    assert world.allocation("second")


async def test_others_who_count_claims_are_told_as_well() -> None:
    world = await in_use()
    freed: list[str] = []
    world.part.vanished.subscribe(freed.append)
    assert not world.part.vanished.in_use("uid-first")
    take_the_claim_away(world)
    assert world.part.vanished.in_use("uid-first")
    assert not freed
    deleted(world.pods, world.stored_pods["first"], world)
    assert not world.part.vanished.in_use("uid-first")
    assert freed == ["uid-first"]


async def test_who_waits_is_woken_up_when_the_pod_has_ended() -> None:
    world = await in_use()
    take_the_claim_away(world)
    woken: list[str] = []

    def add(key: str, *, after_s: float = 0.0) -> None:
        woken.append(key)

    world.part.queue.add = add  # type: ignore[method-assign]
    deleted(world.pods, world.stored_pods["first"], world)
    assert WAKE in woken


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_nothing_is_kept_for_a_pod_that_had_ended_before(phase: str) -> None:
    world = await in_use(phase=phase)
    take_the_claim_away(world)
    assert await second_gets_it(world)


async def test_nothing_is_kept_of_a_claim_that_nobody_had_reserved() -> None:
    world = await in_use()
    claim = copy.deepcopy(world.stored["first"])
    claim["status"].pop("reservedFor")
    world.store(claim)
    take_the_claim_away(world)
    assert await second_gets_it(world)


async def test_a_process_that_starts_afterwards_knows_nothing_of_it_and_leaves_it_to_the_node() -> None:
    world = await in_use()
    take_the_claim_away(world)
    afterwards = World()
    afterwards.pod("first", "first", status={"phase": "Running"}, nodeName="n1")
    afterwards.part.begin()
    assert not afterwards.part.vanished.in_use("uid-first")
    assert await second_gets_it(afterwards)
