"""Rounds that put back CDI files: what a driver that hangs holds up, and what not."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from kubelet_plugin.prepare import restoring
from tests.support.node_world import Cards, World, card, claim, pod, prepare, ref, result, unprepare

pytestmark = pytest.mark.asyncio

OTHER = Card(name="card-1", vendor="amd", model="Test", memory_bytes=1000 << 20, pci_bus_id="0000:41:00.0")


class Hangs(Cards):
    """Cards of which NVIDIA's driver answers only while it is well."""

    def __init__(self, *, region: Path, well: threading.Event) -> None:
        super().__init__(card(), OTHER, region=region)
        self.well = well
        self.asked: list[str] = []
        self.stuck = 0

    def vendor_edits(self, card: Card) -> ContainerEdits:
        if card.vendor == "nvidia":
            self.asked.append(card.name)
            self.stuck += not self.well.is_set()
            self.well.wait()
        return super().vendor_edits(card)

    def stands(self, card: Card, edits: ContainerEdits) -> bool:
        self.vendor_edits(card)
        return True


@pytest.fixture
def well() -> Iterator[threading.Event]:
    """Set while NVIDIA's driver answers."""
    found = threading.Event()
    found.set()
    yield found
    found.set()


@pytest.fixture
def world(tmp_path: Path, well: threading.Event, monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(tmp_path)
    cards = found.cards = Hangs(region=tmp_path / "region", well=well)

    async def patient(tasks: set[asyncio.Task[Any]], *, timeout: float) -> tuple[set[Any], set[Any]]:  # noqa: ASYNC109
        """The time is over when a driver hangs that was asked since then, and not because a disk is slow."""
        before, until = cards.stuck, time.monotonic() + timeout
        while True:
            done, late = await asyncio.wait(tasks, timeout=0.002)
            if not late or cards.stuck > before or time.monotonic() > until:
                return done, late

    # Work is waited for one piece after the other, so that whoever gets stuck is who is waited for.
    monkeypatch.setattr(restoring, "PATIENCE_S", 60.0)
    monkeypatch.setattr(restoring, "asyncio", SimpleNamespace(create_task=asyncio.create_task, wait=patient))
    return found


def claims(world: World, *, nvidia: int = 1) -> list[dict[str, Any]]:
    """Claims of NVIDIA's card, and one of another vendor's."""
    names = [f"n{number}" for number in range(nvidia)]
    found = [claim(name, result(share=name, memory="10Mi"), owner=name, pods=(name,)) for name in names]
    found.append(claim("other", result(device="card-1", share="o"), owner="o", pods=("o",)))
    world.add(*found)
    world.add(*(pod(name, claims={"gpu": name}) for name in names), pod("o", claims={"gpu": "other"}))
    return found


def files(world: World) -> set[str]:
    return {path.name.removeprefix("dragoman.dev-share-").removesuffix(".json") for path in world.cdi_files}


def uid(found: dict[str, Any]) -> str:
    return str(found["metadata"]["uid"])


async def test_files_of_other_vendors_cards_come_back_while_a_driver_hangs(
    world: World, well: threading.Event
) -> None:
    nvidia, other = claims(world)
    async with world.engine() as engine:
        await prepare(engine, nvidia)
        await prepare(engine, other)
    shutil.rmtree(world.folder / "cdi")
    well.clear()
    # Another life of the agent, which remembers nothing.
    async with world.engine() as engine:
        assert files(world) == {uid(other)}
        assert engine.problems == (
            f"Claim {uid(nvidia)} is not restored yet: the driver of nvidia does not answer.",
        )
        well.set()
        await settled(engine)
        assert files(world) == {uid(nvidia), uid(other)}
        await engine.restore()
        assert not engine.problems


async def settled(engine: Any) -> None:
    """Rounds until nothing is late."""
    for _ in range(3000):
        await engine.restore()
        if not engine.problems:
            return
        await asyncio.sleep(0.01)


async def test_files_come_back_as_they_were_again_and_again_while_their_driver_hangs(
    world: World, well: threading.Event
) -> None:
    nvidia, _ = claims(world)
    async with world.engine() as engine:
        await prepare(engine, nvidia)
        (before,) = (path.read_bytes() for path in world.cdi_files)
        well.clear()
        for _ in range(3):
            shutil.rmtree(world.folder / "cdi")
            await engine.restore()
            assert [path.read_bytes() for path in world.cdi_files] == [before]
        well.set()


async def test_a_driver_that_hangs_costs_one_thread_however_many_claims_it_has(
    world: World, well: threading.Event
) -> None:
    *nvidia, _ = claims(world, nvidia=4)
    async with world.engine() as engine:
        for one in nvidia:
            await prepare(engine, one)
        world.cards.asked.clear()  # type: ignore[attr-defined]
        well.clear()
        shutil.rmtree(world.folder / "cdi")
        for _ in range(3):
            await engine.restore()
        assert world.cards.asked == ["card-0"]  # type: ignore[attr-defined]
        assert len(engine.problems) == 4
        well.set()


async def test_a_partition_whose_driver_hangs_keeps_nobody_elses_file_away(
    world: World, well: threading.Event
) -> None:
    nvidia, other = claims(world)
    world.cards.level = IsolationLevel.HARDWARE
    async with world.engine() as engine:
        await prepare(engine, nvidia)
        world.cards.level = IsolationLevel.PRELOAD
        await prepare(engine, other)
        well.clear()
        await engine.restore()
        assert any("partitions are there" in problem for problem in engine.problems)
        shutil.rmtree(world.folder / "cdi")
        for _ in range(2):
            await engine.restore()
            # What a partition's file leads to may be another claim's by now.
            assert files(world) == {uid(other)}
        assert any("is not restored yet" in problem for problem in engine.problems)
        well.set()


async def test_a_claim_that_is_unprepared_while_its_driver_hangs_leaves_nothing(
    world: World, well: threading.Event
) -> None:
    nvidia, _ = claims(world)
    async with world.engine() as engine:
        await prepare(engine, nvidia)
        well.clear()
        shutil.rmtree(world.folder / "cdi")
        await engine.restore()
        leaving = asyncio.create_task(unprepare(engine, nvidia))
        await asyncio.sleep(0)
        well.set()
        await leaving
        await engine.restore()
        assert (world.records, world.cdi_files, world.regions) == ([], [], [])


async def test_a_file_of_a_former_allocation_does_not_come_back(world: World, well: threading.Event) -> None:
    nvidia, _ = claims(world)
    async with world.engine() as first, world.engine() as second:
        await prepare(first, nvidia)
        await unprepare(second, nvidia)
        world.add(claim("n0", result(share="anew", memory="20Mi"), owner="n0", pods=("n0",)))
        assert (await second.prepare([ref(nvidia)]))[uid(nvidia)]
        shutil.rmtree(world.folder / "cdi")
        well.clear()
        await first.restore()
        assert world.cdi_files == []
        well.set()


async def test_a_claim_that_is_being_prepared_for_long_is_no_problem_and_holds_up_nobody(
    world: World, well: threading.Event
) -> None:
    first, second, _ = claims(world, nvidia=2)
    async with world.engine() as engine:
        await prepare(engine, second)
        well.clear()
        preparing = asyncio.create_task(prepare(engine, first))
        for _ in range(6000):
            if len(world.cards.asked) == 2:  # type: ignore[attr-defined]
                break
            await asyncio.sleep(0.01)
        await engine.restore()
        assert engine.problems == ()
        well.set()
        await preparing
        assert files(world) == {uid(first), uid(second)}


@pytest.mark.parametrize("verb", ["isolation_edits", "vendor_edits", "stands"])
async def test_a_fault_of_ours_in_one_claim_keeps_no_other_from_being_restored(
    world: World, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    world.cards.level = IsolationLevel.HARDWARE
    nvidia, other = claims(world)
    async with world.engine() as engine:
        await prepare(engine, nvidia)
        await prepare(engine, other)
        asked = getattr(world.cards, verb)

        def fails(*what: Any, **more: Any) -> Any:
            card = more.get("card") or what[0]
            if card.vendor == "nvidia":
                raise ValueError("environment variables set twice with different values")
            return asked(*what, **more)

        monkeypatch.setattr(world.cards, verb, fails)
        if verb != "stands":
            shutil.rmtree(world.folder / "cdi")
        (world.folder / "cdi" / f"dragoman.dev-share-{uid(other)}.json").unlink(missing_ok=True)
        (world.cards.region / f"{'d' * 8}.gpu").mkdir(parents=True)
        await engine.restore()
        assert uid(other) in files(world)
        assert len(world.regions) == 2
        failed = [problem for problem in engine.problems if "the agent failed: ValueError" in problem]
        assert len(failed) == (0 if verb == "stands" else 1)
