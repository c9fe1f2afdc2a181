"""Claims on a card whose driver hangs: whom they hold up, and whom not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from driver.cards import Card, Partition
from driver.errors import DragomanError
from kubelet_plugin.prepare import lanes
from kubelet_plugin.prepare.lanes import EACH_CARD, EACH_VENDOR, DriverHangsError, Lanes
from tests.support.node_world import JSON, World, card, claim, pod, prepare, result, uid_of, unprepare

pytestmark = pytest.mark.asyncio

OTHER = Card(name="other", vendor="amd", model="Test", memory_bytes=1000 << 20, pci_bus_id="0000:41:00.0")


class Hang:
    """What of cards hangs while it is set to; everything goes on at the end."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cards: set[str] = set()
        self.inside = threading.Semaphore(0)
        self.over = threading.Event()
        edits, undo = world.cards.vendor_edits, world.cards.undo

        def vendor_edits(one: Card) -> Any:
            self._wait(one.name)
            return edits(one)

        def undone(share: Any, **more: Any) -> None:
            self._wait(share.device)
            undo(share, **more)

        monkeypatch.setattr(world.cards, "vendor_edits", vendor_edits)
        monkeypatch.setattr(world.cards, "undo", undone)

    def _wait(self, device: str) -> None:
        if device in self.cards:
            self.inside.release()
            assert self.over.wait(30)

    async def until_inside(self, threads: int) -> None:
        for _ in range(threads):
            assert await asyncio.to_thread(self.inside.acquire, timeout=10)


@pytest.fixture
def hang(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    names = [f"card-{number}" for number in range(4)]
    world.cards.found = {name: card(name, mib=10000, pci=f"0000:0{n}:00.0") for n, name in enumerate(names)}
    world.cards.found["other"] = OTHER
    found = Hang(world, monkeypatch)
    yield found
    found.over.set()


def add(world: World, name: str, device: str) -> JSON:
    found = claim(name, result(device=device, share=name, memory="10Mi"), pods=(name,), owner=name)
    world.add(found, pod(name, claims={"gpu": name}))
    return found


@contextlib.asynccontextmanager
async def begun(work: Any, hang: Hang) -> AsyncIterator[list[asyncio.Task[Any]]]:
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield tasks
    finally:
        hang.over.set()
        await asyncio.gather(*tasks, return_exceptions=True)


async def within_time(work: Any) -> Any:
    return await asyncio.wait_for(work, 5)


async def test_claims_on_a_card_that_hangs_hold_up_no_claim_of_another_card(world: World, hang: Hang) -> None:
    stuck = [add(world, f"stuck-{number}", "card-0") for number in range(40)]
    well, held = add(world, "well", "card-1"), add(world, "held", "card-1")
    async with world.engine() as engine:
        await prepare(engine, held)
        hang.cards = {"card-0"}
        async with begun((prepare(engine, one) for one in stuck), hang):
            await hang.until_inside(EACH_CARD)
            assert (await within_time(prepare(engine, well))).devices
            await within_time(unprepare(engine, held))


async def test_a_vendor_whose_driver_hangs_holds_up_no_other_vendor(world: World, hang: Hang) -> None:
    stuck = [add(world, f"stuck-{number}", f"card-{number % 4}") for number in range(40)]
    well = add(world, "well", "other")
    async with world.engine() as engine:
        hang.cards = {f"card-{number}" for number in range(4)}
        async with begun((prepare(engine, one) for one in stuck), hang):
            await hang.until_inside(EACH_VENDOR)
            assert (await within_time(prepare(engine, well))).devices


async def test_releases_that_hang_hold_up_neither_others_nor_what_is_prepared(
    world: World, hang: Hang
) -> None:
    stuck = [add(world, f"stuck-{number}", "card-0") for number in range(12)]
    held, well = add(world, "held", "card-1"), add(world, "well", "card-0")
    async with world.engine() as engine:
        for one in [*stuck, held]:
            await prepare(engine, one)
        hang.cards = {"card-0"}
        async with begun((unprepare(engine, one) for one in stuck), hang):
            await hang.until_inside(EACH_CARD)
            await within_time(unprepare(engine, held))
            hang.cards = set()
            assert (await within_time(prepare(engine, well))).devices


async def test_who_would_wait_for_a_driver_that_hangs_is_refused_by_name_and_may_come_again(
    world: World, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE_S", 0.2)
    stuck = [add(world, f"stuck-{number}", "card-0") for number in range(EACH_CARD)]
    late = add(world, "late", "card-0")
    async with world.engine() as engine:
        hang.cards = {"card-0"}
        async with begun((prepare(engine, one) for one in stuck), hang):
            await hang.until_inside(EACH_CARD)
            for _ in range(2):
                with pytest.raises(DriverHangsError, match=f"{EACH_CARD} claims of card card-0") as refused:
                    await within_time(prepare(engine, late))
                assert (refused.value.reason, refused.value.retriable) == ("DriverHangs", True)
        assert (await prepare(engine, late)).devices
        assert {uid_of(f"stuck-{number}") for number in range(EACH_CARD)} < engine.records.keys()


async def test_claims_that_come_and_go_are_all_prepared(
    world: World, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    del hang
    monkeypatch.setattr(lanes, "EACH_CARD", 1)
    claims = [add(world, f"claim-{number}", "card-0") for number in range(20)]
    async with world.engine() as engine:
        await asyncio.gather(*(prepare(engine, one) for one in claims))
        assert len(engine.records) == 20
        await asyncio.gather(*(unprepare(engine, one) for one in claims))
        assert not engine.records


async def test_a_claim_that_is_refused_leaves_its_seat(world: World, hang: Hang) -> None:
    del hang
    world.cards.refuse_edits = DragomanError("not now")
    found = add(world, "claim", "card-0")
    async with world.engine() as engine:
        for _ in range(EACH_CARD + 1):
            with pytest.raises(DragomanError, match="not now"):
                await within_time(prepare(engine, found))


async def test_partitions_of_a_card_share_its_seats() -> None:
    names = [f"nvidia-1-mig-19-{number}-1" for number in range(EACH_CARD + 1)]
    part = card(names[0], partition=Partition(card_uuid="GPU-1", profile="1g.5gb"))
    of_card = Lanes(lambda: {name: replace(part, name=name) for name in names})
    seats = [of_card.try_enter([name], wait_s=0) for name in names]
    assert [seat is None for seat in seats] == [False] * EACH_CARD + [True]
