"""Mode controller: cards that are partitioned on demand, whatever the API server knows of counters."""

from __future__ import annotations

from typing import Any

import pytest

from driver.cards import Card, Partition
from driver.places import Place, exclude
from tests.controller.allocating.world import World, card, without_shares

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

CARD = "accelerator.dragoman.dev"
PARTITION = "partition.dragoman.dev"
PROFILE = 'has(device.attributes["dragoman.dev"].profile)'


def part(start: int, size: int) -> Card:
    place = Place(card="card-0", kind="mig", profile=size, start=start, size=size)
    return card(
        place.name,
        mib=size * 100,
        cores=size * 10,
        shareable=False,
        partition=Partition(card_uuid="GPU-0", profile=f"{size}g"),
        counters={f"slot-{slot}": 1 for slot in place.slots},
    )


PARTS = (part(7, 1), part(4, 4), part(0, 4))


def selecting(expression: str) -> list[Any]:
    return [{"cel": {"expression": f'device.driver == "dragoman.dev" && {expression}'}}]


@pytest.fixture(params=[False, True], ids=["fields are kept", "fields are dropped"])
def world(request: pytest.FixtureRequest) -> World:
    found = World()
    if request.param:
        found.mangle = without_shares
    found.device_class(CARD, selectors=selecting(f"!{PROFILE}"))
    found.device_class(PARTITION, selectors=selecting(PROFILE))
    whole = card(uuid="GPU-0", counters={f"slot-{slot}": 1 for slot in range(8)})
    found.cards("n1", whole, *PARTS)
    return found


def ask(world: World, name: str, of: str, memory: str) -> None:
    world.claim(name, memory, "10", device_class=of)
    world.pod(name, name)


def devices(world: World, *names: str) -> list[str]:
    return [
        result["device"]
        for name in names
        if world.allocation(name)
        for result in world.allocation(name)["devices"]["results"]
    ]


async def test_shares_and_partitions_of_one_card_exclude_each_other(world: World) -> None:
    ask(world, "part", PARTITION, "300Mi")
    await world.reconcile("part")
    ask(world, "share", CARD, "100Mi")
    await world.reconcile("share")
    assert devices(world, "part", "share") == [part(4, 4).name]
    assert world.reason() == "NoDevice"
    world.take_back("part")
    await world.reconcile("share")
    assert devices(world, "share") == ["card-0"]
    ask(world, "late", PARTITION, "100Mi")
    await world.reconcile("late")
    assert not devices(world, "late")


async def test_no_slot_is_given_twice(world: World) -> None:
    for name in ("a", "b", "c"):
        ask(world, name, PARTITION, "300Mi")
        await world.reconcile(name)
    found = devices(world, "a", "b", "c")
    assert len(found) == 2
    assert not exclude(*found)
