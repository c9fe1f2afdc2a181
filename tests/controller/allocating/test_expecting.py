"""Pods that are on their way to a node when a replica begins to lead."""

from __future__ import annotations

import asyncio

import pytest

from tests.controller.allocating.world import World

pytestmark = [pytest.mark.asyncio]


async def test_what_pods_on_their_way_will_take_is_counted_before_anything_is_decided() -> None:
    world = World()
    for name in ("a", "b"):
        world.ask(name, "100Mi", containers=[{"resources": {"requests": {"cpu": "3"}}}])
    await world.reconcile("a")
    world.part.begin()
    await world.reconcile("b")
    assert world.node_of("b") == "", "a will take three of the four processors"
    assert world.reason() == "NoNode"


async def test_ten_thousand_of_them_do_not_keep_the_event_loop_from_others() -> None:
    world = World()
    world.ask("shared")
    await world.reconcile("shared")
    for number in range(1000):
        world.pod(f"p{number}", "shared")
    turns, over = 0, asyncio.Event()

    async def others() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    expected = world.part.allocator._usage._expected
    await asyncio.sleep(0)
    world.part.begin()
    assert not expected, "nobody is compared with a node at once"
    before = turns
    await world.part.allocator._expecting.all_on_their_way()
    assert len(expected) == 110, "the node has room for no more"
    assert turns - before >= 1000 / 100
    over.set()
    await running
