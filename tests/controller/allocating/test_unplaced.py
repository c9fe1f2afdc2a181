"""Pods that have their cards and are not placed: who gives them back, when, and who has his turn then."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controller.allocating.errors import CardsGivenBackError
from controller.allocating.unplaced import Unplaced
from controller.allocating.views import PodView, group_of, pod_view
from tests.controller.allocating.world import World

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

AFTER_S = 900


@asynccontextmanager
async def working(world: World) -> AsyncIterator[None]:
    worker = asyncio.create_task(
        world.part.queue.run(world.part.reconcile, workers=1, first=world.part.begin)
    )
    try:
        await asyncio.sleep(1)
        yield
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def ask(world: World, *names: str) -> None:
    """Pods of 400 MiB each, of which the one card of 1000 MiB has room for two; `a-0` is of gang `a`."""
    for name in names:
        group: Any = {"schedulingGroup": {"podGroupName": name[0]}} if "-" in name else {}
        world.ask(name, **group)
        await asyncio.sleep(1)


def holders(world: World) -> list[str]:
    return [name for name in world.stored if world.allocation(name)]


def placed(world: World, name: str) -> None:
    """What kube-scheduler does."""
    held = copy.deepcopy(world.stored[name])
    held["status"]["reservedFor"] = [{"resource": "pods", "name": name, "uid": f"pod-{name}"}]
    world.store(held)
    world.pod(name, name, nodeName="n1", status={"phase": "Running"})


async def test_of_two_gangs_that_hold_half_each_the_younger_gives_way_and_the_older_is_complete() -> None:
    world = World()
    async with working(world):
        await ask(world, "a-0", "b-0", "a-1", "b-1")
        assert holders(world) == ["a-0", "b-0"]
        await asyncio.sleep(AFTER_S - 60)
        assert holders(world) == ["a-0", "b-0"]
        await asyncio.sleep(120)
        assert holders(world) == ["a-0", "a-1"]
        told = [one for one in world.answers if isinstance(one.error, CardsGivenBackError)]
        assert [one.pod for one in told] == ["default/b-0"]


async def test_who_gave_back_has_his_turn_when_there_is_room_and_his_rest_is_over() -> None:
    world = World()
    async with working(world):
        await ask(world, "a-0", "b-0", "a-1", "b-1")
        await asyncio.sleep(AFTER_S + 60)
        for name in ("a-0", "a-1"):
            placed(world, name)
        await asyncio.sleep(3 * AFTER_S)
        assert holders(world) == ["a-0", "a-1"]
        for name in ("a-0", "a-1"):
            world.take_back(name)
            world.pod(name, name, nodeName="n1", status={"phase": "Succeeded"})
        await asyncio.sleep(120)
        assert holders(world) == ["b-0", "b-1"]


async def test_while_nobody_else_waits_nobody_gives_anything_back() -> None:
    world = World()
    async with working(world):
        await ask(world, "a-0", "a-1", "a-2")
        await asyncio.sleep(3 * AFTER_S)
        assert holders(world) == ["a-0", "a-1"]


async def test_for_a_pod_that_no_card_would_help_nobody_gives_anything_back() -> None:
    world = World()
    async with working(world):
        await ask(world, "p", "q")
        world.claim("r", more=({"name": "nic", "exactly": {"deviceClassName": "nic.example"}},))
        world.pod("r", "r")
        await asyncio.sleep(3 * AFTER_S)
        assert world.reason() == "MixedDrivers"
        assert holders(world) == ["p", "q"]


async def test_a_pod_that_is_being_bound_keeps_what_is_reserved_for_it() -> None:
    world = World()
    async with working(world):
        await ask(world, "p", "q", "r")
        for name in ("p", "q"):
            placed(world, name)
        await asyncio.sleep(3 * AFTER_S)
        assert holders(world) == ["p", "q"]


async def test_what_is_reserved_in_the_last_moment_is_not_taken_back() -> None:
    world = World()
    async with working(world):
        await ask(world, "p", "q", "r")
        await asyncio.sleep(AFTER_S - 60)
        # The watch is late: the allocator does not know of it yet.
        for name in ("p", "q"):
            world.stored[name]["status"]["reservedFor"] = [
                {"resource": "pods", "name": name, "uid": f"pod-{name}"}
            ]
        await asyncio.sleep(120)
        assert holders(world) == ["p", "q"]


async def test_pods_that_are_never_placed_take_turns() -> None:
    world = World()
    async with working(world):
        await ask(world, "p", "q", "r")
        await asyncio.sleep(AFTER_S + 60)
        assert holders(world) == ["p", "r"]
        # The oldest keeps what it has; the two others follow each other.
        await asyncio.sleep(AFTER_S)
        assert holders(world) == ["p", "q"]


# Who is next.


def pod(group: str, *, uid: str = "u", priority: int = 0, created: str = "1") -> PodView:
    view = pod_view({"metadata": {"uid": uid}, "spec": {"resourceClaims": [{"name": "c"}]}})
    return PodView(
        **{
            **{name: getattr(view, name) for name in PodView.__slots__},
            "group": group,
            "priority": priority,
            "created": created,
        }
    )


class Claim:
    """A claim of ours that nobody holds."""

    ours, reserved = True, False


def unplaced(**pods: PodView) -> Unplaced:
    found = Unplaced(after_s=AFTER_S)
    for name, view in pods.items():
        assert found.note(f"n/{name}", view, [Claim()], now=0)  # type: ignore[list-item]
    return found


NEEDING = [("n/x", pod("x", priority=1))]


async def test_the_lowest_priority_gives_way_before_the_youngest() -> None:
    found = unplaced(a=pod("a", priority=1, created="3"), b=pod("b", created="1"), c=pod("c", created="2"))
    assert found.look(NEEDING, now=AFTER_S) == ["n/c"]
    assert found.look(NEEDING, now=AFTER_S) == ["n/b"]
    assert found.look(NEEDING, now=AFTER_S) == ["n/a"]
    assert found.next_look_s(now=AFTER_S) is None


async def test_nobody_gives_way_to_a_lower_priority() -> None:
    found = unplaced(a=pod("a", priority=1))
    assert found.look([("n/x", pod("x", priority=0))], now=AFTER_S) == []
    assert found.look([("n/x", pod("x", priority=1))], now=AFTER_S) == ["n/a"]


async def test_a_group_is_of_the_highest_priority_that_a_pod_of_it_has() -> None:
    found = unplaced(a=pod("a", priority=1), b=pod("a", priority=5))
    needing = [("n/x-0", pod("x", priority=5)), ("n/x-1", pod("x", priority=0))]
    assert found.look(needing[1:], now=AFTER_S) == []
    assert found.look(needing, now=AFTER_S) == ["n/a", "n/b"]


async def test_who_has_hardly_had_his_cards_is_not_the_one_to_give_way() -> None:
    found = unplaced(a=pod("a"))
    found.note("n/b", pod("b", created="2"), [Claim()], now=AFTER_S * 0.6)  # type: ignore[list-item]
    assert found.look(NEEDING, now=AFTER_S) == ["n/a"]


async def test_a_group_gives_back_as_a_whole_also_what_it_has_not_had_for_long() -> None:
    found = unplaced(a=pod("a"))
    found.note("n/later", pod("a"), [Claim()], now=AFTER_S - 1)  # type: ignore[list-item]
    assert sorted(found.look(NEEDING, now=AFTER_S)) == ["n/a", "n/later"]


async def test_who_rests_is_nobody_for_whom_others_have_to_give_way() -> None:
    found = unplaced(a=pod("a"), b=pod("b", created="2"))
    assert found.look([("n/a-1", pod("a"))], now=AFTER_S) == ["n/b"]
    assert found.look([("n/b-1", pod("b"))], now=AFTER_S) == []
    assert found.look([("n/b-1", pod("b"))], now=2 * AFTER_S) == ["n/a"]


async def test_each_further_rest_is_twice_as_long_up_to_a_limit() -> None:
    found, now, rests = Unplaced(after_s=AFTER_S), 0.0, []
    for _ in range(8):
        found.note("n/a", pod("a"), [Claim()], now=now)  # type: ignore[list-item]
        now += AFTER_S
        assert found.look(NEEDING, now=now) == ["n/a"]
        rests.append(found.rest_s("n/a", pod("a"), now=now) / AFTER_S)
        now += rests[-1] * AFTER_S
    assert rests == [1, 2, 4, 8, 16, 16, 16, 16]


async def test_a_pod_that_was_made_anew_under_its_name_counts_anew() -> None:
    found = unplaced(a=pod("", uid="old"))
    found.note("n/a", pod("", uid="new"), [Claim()], now=AFTER_S)  # type: ignore[list-item]
    assert found.look(NEEDING, now=AFTER_S) == []


@pytest.mark.parametrize(
    ("metadata", "spec", "group"),
    [
        ({}, {"schedulingGroup": {"podGroupName": "g"}}, "group g"),
        ({}, {"workloadRef": {"name": "w", "podGroup": "g", "podGroupReplicaKey": "0"}}, "group w/g/0"),
        ({"annotations": {"scheduling.k8s.io/group-name": "g"}}, {}, "group g"),
        ({"labels": {"scheduling.x-k8s.io/pod-group": "g"}}, {}, "group g"),
        ({"ownerReferences": [{"uid": "x"}, {"uid": "u", "controller": True}]}, {}, "u"),
        ({"ownerReferences": [{"uid": "x"}]}, {}, ""),
        ({}, {}, ""),
    ],
)
async def test_pods_belong_together_by_their_group_or_by_whoever_controls_them(
    metadata: Any, spec: Any, group: str
) -> None:
    assert group_of({"metadata": metadata, "spec": spec}) == group
