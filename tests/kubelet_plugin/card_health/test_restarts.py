"""What an agent knew of cards' faults, over restarts of it at bad moments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driver.cards import TaintEffect
from driver.host import Host
from driver.vendors.base import CardFault, Discovery
from kubelet_plugin import inventory as inventories
from kubelet_plugin.card_health import questions, watch
from kubelet_plugin.card_health.book import HOLD_OFF_S, REPORT_HOLDS_S
from kubelet_plugin.card_health.missing import KEPT_FOR_S
from kubelet_plugin.card_health.watch import EVERY_S
from tests.kubelet_plugin.card_health.test_watch import LOST, Reporting, World

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

GRAVE = CardFault(name="a", reason="Xid79", message="Off the bus.", certain=True, xid=79)


class Slow(Reporting):
    """A driver that may not list its cards yet."""

    listed = True

    def discover(self, host: Host) -> Discovery:
        return super().discover(host) if self.listed else Discovery(cards=(), problems=("Not yet.",))


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def here(work: Callable[[], Any], *, name: str) -> Any:
        await asyncio.sleep(1 if name == "faults" else 0)
        return work()

    for module in (inventories, questions, watch):
        monkeypatch.setattr(module, "in_daemon_thread", here)


@pytest.fixture
def vendor() -> Slow:
    return Slow()


@pytest.fixture
def world(tmp_path: Path, vendor: Slow) -> World:
    return World(tmp_path, vendor=vendor)


async def faulty(world: World) -> None:
    """One life of an agent, in which a card gets a fault."""
    async with world.running():
        world.vendor.reports.append(GRAVE)
        await asyncio.sleep(EVERY_S + 1)
        assert set(world.faults) == {"a"}


async def test_a_fault_outlives_a_restart_also_where_the_driver_lists_its_cards_late(
    world: World, vendor: Slow
) -> None:
    await faulty(world)
    vendor.listed = False
    world.told.clear()
    async with world.running():
        await asyncio.sleep(KEPT_FOR_S / 2)
    async with world.running():
        await asyncio.sleep(KEPT_FOR_S / 2)
        world.states.clear()
        vendor.listed = True
        await world.inventory.refresh()
        await asyncio.sleep(3 * EVERY_S)
        # Not even the first state with the card lacked its fault.
        assert [set(state) for state in world.states] == [{"a"}]
    assert world.told == []


async def test_a_card_that_never_comes_back_is_forgotten_in_the_end(world: World, vendor: Slow) -> None:
    await faulty(world)
    vendor.listed = False
    async with world.running():
        await asyncio.sleep(KEPT_FOR_S + 2 * EVERY_S)
    vendor.listed = True
    async with world.running():
        assert world.faults == {}


async def test_before_a_card_is_listed_its_fault_ends_nobodys_work(world: World, vendor: Slow) -> None:
    world.policies.settings = {"cards": [{"uuid": "GPU-b", "unhealthyEffect": "NoExecute"}]}
    world.policies.settings["unhealthyEffect"] = "NoExecute"
    world.policies.settings["cards"].append({"uuid": "GPU-a", "unhealthyEffect": "None"})
    await faulty(world)
    vendor.listed = False
    async with world.running():
        await asyncio.sleep(EVERY_S)
        world.states.clear()
        vendor.listed = True
        await world.inventory.refresh()
        await asyncio.sleep(EVERY_S)
        assert [state["a"].effect for state in world.states] == [TaintEffect.NO_SCHEDULE, TaintEffect.NONE]


async def test_a_report_is_over_in_time_however_often_the_agent_is_restarted(world: World) -> None:
    await faulty(world)
    lives = 4
    for _ in range(lives):
        async with world.running():
            await asyncio.sleep(REPORT_HOLDS_S / lives)
    async with world.running():
        await asyncio.sleep(HOLD_OFF_S + 2 * EVERY_S)
        assert world.faults == {}


async def test_a_card_that_flaps_is_damped_over_restarts(world: World) -> None:
    recoveries = 0
    for _ in range(30):
        async with world.running():
            world.vendor.now["a"] = LOST
            await asyncio.sleep(EVERY_S)
            world.vendor.now["a"] = ("Healthy", "", False)
            await asyncio.sleep(110)
            recoveries += not world.faults
    # An hour of it.
    assert recoveries <= 7
