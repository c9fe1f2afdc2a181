"""CDI files whose device nodes or driver files are not the card's own any more."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from driver.cards import Card
from driver.cdi import ContainerEdits, DeviceNode, Mount
from driver.errors import DeviceGoneError
from tests.support.node_world import JSON, Cards, World, card, claim, pod, prepare, result, unprepare

pytestmark = pytest.mark.asyncio


class Reloaded(Cards):
    """NVIDIA-like cards: one node of their own by a number that changes, one that all of them need."""

    def __init__(self, *, region: Path) -> None:
        super().__init__(card("card-0"), card("card-1", pci="0000:5e:00.0"), region=region)
        self.minor: dict[str, int] = {"card-0": 3, "card-1": 4}
        self.version = "580.10"
        self.asked: list[str] = []

    def vendor_edits(self, card: Card) -> ContainerEdits:
        self.asked.append(card.name)
        if card.name not in self.minor:
            raise DeviceGoneError(f"Card {card.name} fell off the bus.")
        library = f"/usr/lib/libcuda.so.{self.version}"
        return ContainerEdits(
            device_nodes=(
                DeviceNode(path="/dev/nvidiactl"),
                DeviceNode(path=f"/dev/nvidia{self.minor[card.name]}"),
            ),
            mounts=(Mount(host_path=library, container_path=library),),
        )


@pytest.fixture
def cards(tmp_path: Path) -> Reloaded:
    return Reloaded(region=tmp_path / "region")


@pytest.fixture
def world(tmp_path: Path, cards: Reloaded) -> World:
    found = World(tmp_path)
    found.cards = cards
    return found


def add(world: World, name: str, device: str, **changes: object) -> JSON:
    found = claim(name, result(device=device, share=name, **changes), owner=name, pods=(name,))  # type: ignore[arg-type]
    world.add(found, pod(name, claims={"gpu": name}))
    return found


def nodes(world: World, found: JSON) -> set[str]:
    """Nodes of cards that the claim's file leads to; none where there is no file."""
    try:
        devices = world.spec(found)["devices"]
    except FileNotFoundError:
        return set()
    every = {node["path"] for device in devices for node in device["containerEdits"].get("deviceNodes", [])}
    return every - {"/dev/nvidiactl"}


async def test_a_file_leads_to_the_number_that_its_card_has_after_a_reload_of_the_driver(
    world: World, cards: Reloaded
) -> None:
    found = add(world, "a", "card-0")
    async with world.engine() as engine:
        await prepare(engine, found)
        cards.minor = {"card-0": 2, "card-1": 3}
        await engine.restore()
        assert nodes(world, found) == {"/dev/nvidia2"}


async def test_an_administrators_file_does_so_too(world: World, cards: Reloaded) -> None:
    found = add(world, "a", "card-0", adminAccess=True)
    async with world.engine() as engine:
        await prepare(engine, found)
        cards.minor["card-0"] = 2
        await engine.restore()
        assert nodes(world, found) == {"/dev/nvidia2"}


async def test_a_file_mounts_the_files_of_a_driver_that_was_upgraded(world: World, cards: Reloaded) -> None:
    found = add(world, "a", "card-0")
    async with world.engine() as engine:
        await prepare(engine, found)
        cards.version = "580.11"
        await engine.restore()
        (device,) = world.spec(found)["devices"]
        assert device["containerEdits"]["mounts"][0]["hostPath"] == "/usr/lib/libcuda.so.580.11"


async def test_nothing_is_written_while_nothing_changes_and_a_card_is_asked_for_once_a_round(
    world: World, cards: Reloaded
) -> None:
    claims = [add(world, name, "card-0", memory="10Mi") for name in "abc"]
    async with world.engine() as engine:
        for one in claims:
            await prepare(engine, one)
        before = [path.stat() for path in world.cdi_files]
        cards.asked.clear()
        await engine.restore()
        assert [path.stat() for path in world.cdi_files] == before
    assert cards.asked == ["card-0"]


async def test_the_file_of_a_card_that_cannot_be_reached_goes_until_it_can_be_again(
    world: World, cards: Reloaded
) -> None:
    lost, well = add(world, "a", "card-0"), add(world, "b", "card-1")
    async with world.engine() as engine:
        await prepare(engine, lost)
        await prepare(engine, well)
        minor = cards.minor.pop("card-0")
        for _ in range(3):
            await engine.restore()
            # Its number may be given to another card at any moment.
            assert (nodes(world, lost), nodes(world, well)) == (set(), {"/dev/nvidia4"})
            assert any("fell off the bus" in problem for problem in engine.problems)
        cards.minor["card-0"] = minor
        await engine.restore()
        assert nodes(world, lost) == {"/dev/nvidia3"}
        assert engine.problems == ()
        assert engine.use("card-0").memory_mib == 100


async def test_a_card_that_is_prepared_takes_its_nodes_from_a_file_that_still_leads_to_them(
    world: World, cards: Reloaded
) -> None:
    former, later = add(world, "a", "card-0"), add(world, "b", "card-1")
    async with world.engine() as engine:
        await prepare(engine, former)
        cards.minor = {"card-0": 2, "card-1": 3}
        # Before any round looked.
        await prepare(engine, later)
        assert (nodes(world, former), nodes(world, later)) == (set(), {"/dev/nvidia3"})
        await engine.restore()
        assert nodes(world, former) == {"/dev/nvidia2"}


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
async def test_so_does_one_that_is_found_by_an_agent_that_has_just_started(
    world: World, cards: Reloaded, names: tuple[str, str]
) -> None:
    lost, well = add(world, names[0], "card-0"), add(world, names[1], "card-1")
    async with world.engine() as engine:
        await prepare(engine, lost)
        await prepare(engine, well)
    cards.minor = {"card-1": 3}
    async with world.engine():
        assert (nodes(world, lost), nodes(world, well)) == (set(), {"/dev/nvidia3"})


async def test_a_file_of_before_stays_while_an_agent_that_has_just_started_cannot_reach_the_card(
    world: World, cards: Reloaded
) -> None:
    found = add(world, "a", "card-0")
    async with world.engine() as engine:
        await prepare(engine, found)
    cards.minor = {}
    async with world.engine() as engine:
        await engine.restore()
        assert nodes(world, found) == {"/dev/nvidia3"}


async def test_cards_that_have_the_same_nodes_keep_each_other_from_nothing(
    world: World, cards: Reloaded
) -> None:
    cards.minor = {"card-0": 0, "card-1": 0}
    first, second = add(world, "a", "card-0"), add(world, "b", "card-1")
    async with world.engine() as engine:
        await prepare(engine, first)
        await prepare(engine, second)
        await engine.restore()
        assert nodes(world, first) == nodes(world, second) == {"/dev/nvidia0"}


@pytest.mark.parametrize("change", ["version", "none"])
async def test_a_file_that_vanished_comes_back_from_memory_only_under_the_same_driver(
    world: World, cards: Reloaded, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    cards.found["card-0"] = replace(cards.found["card-0"], driver_version="580.10")
    found = add(world, "a", "card-0")
    async with world.engine() as engine:
        await prepare(engine, found)
        shutil.rmtree(world.folder / "cdi")
        if change == "version":
            cards.found["card-0"] = replace(cards.found["card-0"], driver_version="580.11")
        seen: list[set[str]] = []
        asked = cards.vendor_edits

        def vendor_edits(card: Card) -> ContainerEdits:
            seen.append(nodes(world, found))
            return asked(card)

        monkeypatch.setattr(cards, "vendor_edits", vendor_edits)
        await engine.restore()
        assert seen[0] == (set() if change == "version" else {"/dev/nvidia3"})
        assert nodes(world, found) == {"/dev/nvidia3"}


async def test_what_came_back_from_memory_goes_where_the_card_cannot_be_reached(
    world: World, cards: Reloaded
) -> None:
    found = add(world, "a", "card-0")
    async with world.engine() as engine:
        await prepare(engine, found)
        shutil.rmtree(world.folder / "cdi")
        cards.minor = {}
        await engine.restore()
        assert nodes(world, found) == set()


async def test_a_claim_that_went_is_nobodys_rival(world: World, cards: Reloaded) -> None:
    former, later = add(world, "a", "card-0"), add(world, "b", "card-1")
    async with world.engine() as engine, world.engine() as other:
        await prepare(engine, former)
        await unprepare(other, former)
        await engine.restore()
        cards.minor = {"card-1": 3}
        cards.asked.clear()
        await prepare(engine, later)
        assert cards.asked == ["card-1"]
