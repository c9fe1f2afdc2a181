"""Prepare of shares whose memory the kernel holds: who may not have them is told before any start."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.cards import IsolationLevel
from driver.errors import IsolationError
from kubelet_plugin.prepare.planning import PodUnknownError
from tests.support.node_world import World, claim, container, pod, prepare, result

pytestmark = pytest.mark.asyncio


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.cards.level = IsolationLevel.KERNEL
    return found


async def test_two_containers_at_the_same_time_are_refused(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod(containers=(container("a", ("gpu", "")), container("b", ("gpu", "")))))
    async with world.engine() as engine:
        with pytest.raises(IsolationError, match="the kernel would give each of them all of it") as refused:
            await prepare(engine, found)
    assert refused.value.reason == "ConcurrentContainers"
    assert (world.records, world.cdi_files, world.regions) == ([], [], [])


async def test_containers_one_after_the_other_may_use_a_share(world: World) -> None:
    found = claim("claim", result())
    containers = (container("app", ("gpu", "")),)
    world.add(found, pod(containers=containers, init=(container("first", ("gpu", "")),)))
    async with world.engine() as engine:
        await prepare(engine, found)
    assert world.records


async def test_a_share_of_another_claim_on_the_same_card_and_in_the_same_container_is_refused(
    world: World,
) -> None:
    ours, other = claim("claim", result()), claim("other", result(share="b"))
    both = container("app", ("gpu", ""), ("more", ""))
    world.add(ours, other, pod(claims={"gpu": "claim", "more": "other"}, containers=(both,)))
    async with world.engine() as engine:
        with pytest.raises(IsolationError, match="the kernel holds one limit for each card") as refused:
            await prepare(engine, ours)
    assert refused.value.reason == "SameCardTwice"


async def test_a_limit_is_refused_while_no_pod_of_the_claim_can_be_read(world: World) -> None:
    found = claim("claim", result())
    world.add(found)
    async with world.engine() as engine:
        with pytest.raises(PodUnknownError):
            await prepare(engine, found)
