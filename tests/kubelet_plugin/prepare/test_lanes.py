"""Claims on a card whose driver hangs: whom they hold up, and whom not."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driver.cards import Card, Partition
from driver.errors import DragomanError
from kubelet_plugin.app import DRAIN_S
from kubelet_plugin.prepare import lanes
from kubelet_plugin.prepare.engine import CLOSE_S
from kubelet_plugin.prepare.lanes import EACH_CARD, DriverHangsError, Lanes
from tests.support.node_world import JSON, World, card, claim, pod, prepare, result, uid_of, unprepare

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).parents[3]

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
            assert self.over.wait(120)

    async def until_inside(self, threads: int) -> None:
        for _ in range(threads):
            assert await asyncio.to_thread(self.inside.acquire, timeout=60)


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
    return await asyncio.wait_for(work, 60)


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


VENDORS = 5
"""So many vendors hang at once, each with as many claims as may be at work on its cards."""


@pytest.mark.parametrize("verb", ["prepare", "unprepare"])
async def test_however_many_vendors_drivers_hang_another_vendor_is_not_held_up(
    world: World, hang: Hang, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(lanes, "EACH_VENDOR", 8)
    names = [f"sick-{vendor}-{number}" for vendor in range(VENDORS) for number in range(2)]
    for number, name in enumerate(names):
        sick = card(name, mib=10000, pci=f"0000:{number + 80:x}:00.0")
        world.cards.found[name] = replace(sick, vendor=f"vendor-{name.split('-')[1]}")
    stuck = [add(world, f"stuck-{number}-{name}", name) for name in names for number in range(6)]
    held, well = add(world, "held", "other"), add(world, "well", "other")
    work = {"prepare": prepare, "unprepare": unprepare}[verb]
    async with world.engine() as engine:
        for one in [*stuck, held] if verb == "unprepare" else [held]:
            await prepare(engine, one)
        hang.cards = set(names)
        async with begun((work(engine, one) for one in stuck), hang):
            await hang.until_inside(8 * VENDORS)
            assert (await within_time(prepare(engine, well))).devices
            await within_time(unprepare(engine, held))


async def test_cards_that_hang_hold_up_no_other_card_of_their_vendor(world: World, hang: Hang) -> None:
    stuck = [add(world, f"stuck-{number}", f"card-{number % 3}") for number in range(40)]
    well = add(world, "well", "card-3")
    async with world.engine() as engine:
        hang.cards = {f"card-{number}" for number in range(3)}
        async with begun((prepare(engine, one) for one in stuck), hang):
            await hang.until_inside(3 * EACH_CARD)
            assert (await within_time(prepare(engine, well))).devices


async def test_cards_that_nobody_knows_share_their_vendors_seats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "EACH_VENDOR", 2)
    unknown = Lanes(dict)
    seats = [unknown.try_enter([name], wait_s=0) for name in ("amd-1", "amd-2", "amd-3", "nvidia-1")]
    assert [seat is None for seat in seats] == [False, False, True, False]


async def test_a_thread_waits_for_a_seat_only_where_those_who_have_them_do_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_card = Lanes(lambda: {"card": card("card")})
    for _ in range(EACH_CARD):
        assert of_card.try_enter(["card"], wait_s=0)
    monkeypatch.setattr(lanes, "HANGS_S", 0.0)
    began = time.monotonic()
    # It would wait for longer than a test may take.
    assert of_card.try_enter(["card"], wait_s=3600) is None
    assert time.monotonic() - began < 60


async def test_an_agent_that_ends_leaves_behind_what_hangs_and_its_successor_finishes_it(
    world: World, hang: Hang
) -> None:
    stuck, leaving = add(world, "stuck", "card-0"), add(world, "leaving", "card-0")
    async with world.engine() as engine:
        await prepare(engine, leaving)
        hang.cards = {"card-0"}
        tasks = [asyncio.create_task(prepare(engine, stuck)), asyncio.create_task(unprepare(engine, leaving))]
        await hang.until_inside(2)
        await within_time(engine.close(timeout_s=0.1))
        assert not any(task.done() for task in tasks)
        assert engine.records.keys() == {uid_of("stuck"), uid_of("leaving")}
        hang.cards = set()
        async with world.engine() as successor:
            assert successor.records.keys() == engine.records.keys()
            assert (await within_time(prepare(successor, stuck))).devices
            await within_time(unprepare(successor, leaving))
            assert successor.records.keys() == {uid_of("stuck")}
            # What comes back meanwhile undoes nothing of it.
            hang.over.set()
            await asyncio.wait(tasks, timeout=60)
            await successor.restore()
            assert (await within_time(prepare(successor, stuck))).devices
            assert successor.records.keys() == {uid_of("stuck")}


async def test_the_end_of_an_agent_waits_for_what_does_not_hang(world: World, hang: Hang) -> None:
    slow = add(world, "slow", "card-0")
    async with world.engine() as engine:
        hang.cards = {"card-0"}
        task = asyncio.create_task(prepare(engine, slow))
        await hang.until_inside(1)
        ending = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        hang.over.set()
        await within_time(ending)
        assert (await within_time(task)).devices


async def test_all_that_an_agents_end_waits_for_fits_into_the_time_that_the_kubelet_gives_it() -> None:
    text = (ROOT / "manifests/chart/templates/agent/daemonset.yaml").read_text()
    (given,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", text)
    registration_s, margin_s = 0.5, 2.0
    assert registration_s + DRAIN_S + CLOSE_S + margin_s < int(given)


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
