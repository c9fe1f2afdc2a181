"""The watch on a virtual clock: from what a vendor says to what everybody is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from driver.api.base import decode
from driver.api.policy import AcceleratorPolicySpec, NamedPolicy, effective_policy
from driver.cards import Card, Fault, IsolationLevel, TaintEffect
from driver.cdi import ContainerEdits
from driver.host import Host
from driver.isolation.none import NoIsolation
from driver.vendors.base import CardFault, CardHealth, Discovery
from kubelet_plugin import inventory as inventories
from kubelet_plugin.card_health import questions, watch
from kubelet_plugin.card_health.book import HOLD_OFF_S
from kubelet_plugin.card_health.memory import HealthFile
from kubelet_plugin.card_health.questions import PATIENCE_S
from kubelet_plugin.card_health.watch import AFTER_REPORT_S, EVERY_S, SOONEST_S, HealthWatch
from kubelet_plugin.health import HealthBoard
from kubelet_plugin.inventory import Inventory
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.policy_source import PolicyView
from tests.support.memory_host import MemoryHost
from tests.support.node_world import card

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

GOOD = ("Healthy", "", False)
LOST = ("Unhealthy", "CardLost", True)
PENDING = ("Unhealthy", "RowRemapPending", False)


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def here(work: Callable[[], Any], *, name: str) -> Any:
        # Waiting for reports takes its time; what else is done in threads is quick.
        await asyncio.sleep(0.01 if name == "faults" else 0)
        return work()

    for module in (inventories, questions, watch):
        monkeypatch.setattr(module, "in_daemon_thread", here)


class Vendor:
    """Cards `a` and `b`; says of each what a test puts in `now`, and reports what it puts in `reports`."""

    name = "nvidia"

    def __init__(self) -> None:
        self.cards = [card("a", uuid="GPU-a"), card("b", uuid="GPU-b")]
        self.now: dict[str, tuple[str, str, bool]] = {"a": GOOD, "b": GOOD}
        self.reports: list[CardFault] = []

    def discover(self, host: Host) -> Discovery:
        return Discovery(cards=tuple(self.cards))

    def edits(self, card: Card, *, host: Host) -> ContainerEdits:
        return ContainerEdits()

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        return tuple(
            CardHealth(
                name=one.name,
                health=self.now[one.name][0],
                reason=self.now[one.name][1],
                certain=self.now[one.name][2],
                message="So it is.",
            )
            for one in cards
        )


class Reporting(Vendor):
    def wait_for_faults(
        self, cards: Sequence[Card], *, host: Host, timeout_s: float
    ) -> tuple[CardFault, ...] | None:
        found, self.reports = tuple(self.reports), []
        return found


class Policies:
    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}

    def view(self, **_: object) -> PolicyView:
        spec = decode(AcceleratorPolicySpec, {"isolation": ["none"], **self.settings})
        return PolicyView(policy=effective_policy([NamedPolicy(name="p", spec=spec)], node_labels={}))

    async def run(self, changed: Callable[[], None]) -> None:
        changed()


class World:
    def __init__(self, folder: Path, *, vendor: Vendor | None = None) -> None:
        self.folder = folder
        self.vendor = vendor or Vendor()
        self.policies = Policies()
        self.told: list[tuple[set[str], set[str]]] = []
        self.states: list[dict[str, Fault]] = []
        self.metrics = Metrics()
        self.began = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        host = MemoryHost({})
        self.inventory = Inventory(
            vendors=lambda: [self.vendor],
            methods={IsolationLevel.NONE: NoIsolation()},
            host=host,
            policies=self.policies,
            metrics=self.metrics,
        )
        self.board = HealthBoard(pool="worker/dragoman", clock=lambda: 0.0)
        self.watch = HealthWatch(
            self.inventory,
            host=host,
            board=self.board,
            file=HealthFile(self.folder / "health.json", host=host),
            metrics=self.metrics,
            told=self._tell,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=loop.time() - self.began),
        )
        self.inventory.subscribe(lambda snapshot: self.states.append(_faults(snapshot.cards)))
        await self.inventory.refresh()
        tasks = [asyncio.create_task(self.watch.run()), asyncio.create_task(self.watch.listen())]
        await asyncio.sleep(0.1)
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self, before: Mapping[str, Fault], now: Mapping[str, Fault]) -> None:
        self.told.append((set(before), set(now)))

    @property
    def faults(self) -> dict[str, Fault]:
        return _faults(self.inventory.cards())

    async def streamed(self) -> dict[str, int]:
        found = await anext(self.board.messages())
        return {one["device"]["device_name"]: one["health"] for one in found}


def _faults(cards: Mapping[str, Card]) -> dict[str, Fault]:
    return {name: one.fault for name, one in cards.items() if one.fault is not None}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_nothing_is_complete_before_the_first_answer_and_then_it_is(world: World) -> None:
    async with world.running():
        assert world.inventory.snapshot is not None
        assert world.inventory.snapshot.complete
        assert world.faults == {}
        assert await world.streamed() == {"a": 1, "b": 1}


async def test_a_fault_is_on_the_card_within_one_round(world: World) -> None:
    async with world.running():
        world.vendor.now["a"] = LOST
        await asyncio.sleep(EVERY_S)
        assert set(world.faults) == {"a"}
        fault = world.faults["a"]
        assert (fault.reason, fault.since, fault.effect) == (
            "CardLost",
            "2026-01-01T00:00:02Z",
            TaintEffect.NO_SCHEDULE,
        )
        assert await world.streamed() == {"a": 2, "b": 1}
        assert world.told == [(set(), {"a"})]
        assert world.watch.fault_of("a") == fault


async def test_the_fault_goes_after_the_hold_off_and_everybody_is_told_once(world: World) -> None:
    async with world.running():
        world.vendor.now["a"] = LOST
        await asyncio.sleep(EVERY_S)
        world.vendor.now["a"] = GOOD
        await asyncio.sleep(HOLD_OFF_S - EVERY_S)
        assert set(world.faults) == {"a"}
        await asyncio.sleep(2 * EVERY_S)
        assert world.faults == {}
        assert world.told == [(set(), {"a"}), ({"a"}, set())]
        assert await world.streamed() == {"a": 1, "b": 1}


async def test_a_card_that_flaps_changes_the_inventory_once(world: World) -> None:
    async with world.running():
        before = len(world.states)
        for _ in range(20):
            world.vendor.now["a"] = LOST
            await asyncio.sleep(3)
            world.vendor.now["a"] = GOOD
            await asyncio.sleep(9)
        assert len(world.states) == before + 1


async def test_a_report_is_a_fault_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, vendor=Reporting())
    async with world.running():
        world.vendor.reports.append(CardFault(name="b", reason="Xid74", message="NVLink.", xid=74))
        await asyncio.sleep(0.1)
        assert world.faults["b"].reason == "Xid74"


async def test_an_applications_own_xid_is_counted_and_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path, vendor=Reporting())
    async with world.running():
        world.vendor.reports.append(
            CardFault(name="b", reason="Xid13", message="", xid=13, of_application=True)
        )
        await asyncio.sleep(EVERY_S)
        assert world.faults == {}
        assert 'card_faults_total{of="application",reason="Xid13"} 1.0' in world.metrics.render().decode()


async def test_an_xid_that_the_policy_ignores_is_counted_and_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path, vendor=Reporting())
    world.policies.settings = {"cards": [{"uuid": "GPU-b", "ignoredXids": [74]}]}
    async with world.running():
        for name in ("a", "b"):
            world.vendor.reports.append(CardFault(name=name, reason="Xid74", message="", xid=74))
        await asyncio.sleep(EVERY_S)
        assert set(world.faults) == {"a"}
        assert 'card_faults_total{of="ignored",reason="Xid74"} 1.0' in world.metrics.render().decode()


@pytest.mark.parametrize(
    ("asked", "state", "effect"),
    [
        ("NoExecute", LOST, TaintEffect.NO_EXECUTE),
        ("NoExecute", PENDING, TaintEffect.NO_SCHEDULE),
        ("NoSchedule", LOST, TaintEffect.NO_SCHEDULE),
        ("None", LOST, TaintEffect.NONE),
    ],
)
async def test_pods_are_ended_only_where_a_policy_says_so_and_the_fault_is_certain(
    world: World, asked: str, state: tuple[str, str, bool], effect: TaintEffect
) -> None:
    world.policies.settings = {"unhealthyEffect": asked}
    async with world.running():
        world.vendor.now["a"] = state
        await asyncio.sleep(EVERY_S)
        assert world.faults["a"].effect is effect


async def test_a_card_that_vanishes_from_the_list_has_a_fault_and_recovers_when_it_is_back(
    world: World,
) -> None:
    async with world.running():
        kept = world.vendor.cards.pop()
        await world.inventory.refresh()
        await asyncio.sleep(EVERY_S)
        assert (world.faults["b"].reason, "b" in world.inventory.cards()) == ("CardMissing", True)
        world.vendor.cards.append(kept)
        await world.inventory.refresh()
        await asyncio.sleep(HOLD_OFF_S + 2 * EVERY_S)
        assert world.faults == {}


async def test_an_agent_that_starts_again_knows_the_fault_and_tells_nobody_anew(tmp_path: Path) -> None:
    first = World(tmp_path, vendor=Reporting())
    async with first.running():
        first.vendor.reports.append(CardFault(name="b", reason="Xid79", message="", xid=79, certain=True))
        await asyncio.sleep(EVERY_S)
        fault = first.faults["b"]
    again = World(tmp_path)
    async with again.running():
        assert again.faults == {"b": fault}
        assert again.told == []
        # No snapshot that was told to anybody as complete lacked the fault.
        assert again.states[-1] == {"b": fault}


async def test_faulty_cards_are_counted_by_reason(world: World) -> None:
    async with world.running():
        world.vendor.now = {"a": LOST, "b": LOST}
        await asyncio.sleep(EVERY_S)
        assert 'cards_faulty{reason="CardLost"} 2.0' in world.metrics.render().decode()


async def test_a_vendor_whose_reports_fail_is_listened_to_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = Reporting()
    answers: list[Exception | None] = [RuntimeError("bug"), None]
    good = vendor.wait_for_faults

    def wait(cards: Sequence[Card], *, host: Host, timeout_s: float) -> tuple[CardFault, ...] | None:
        answer = answers.pop(0) if answers else None
        if answer is not None:
            raise answer
        return good(cards, host=host, timeout_s=timeout_s)

    monkeypatch.setattr(vendor, "wait_for_faults", wait)
    world = World(tmp_path, vendor=vendor)
    async with world.running():
        vendor.reports.append(CardFault(name="a", reason="Xid79", message="", xid=79))
        await asyncio.sleep(10)
        assert set(world.faults) == {"a"}


class Storm(Reporting):
    """Reports the same fault of `a` whenever it is asked, and counts how often its cards are asked for."""

    def __init__(self, fault: CardFault) -> None:
        super().__init__()
        self.fault, self.asked, self.waited = fault, 0, 0

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        self.asked += 1
        return super().health(cards, host=host)

    def wait_for_faults(
        self, cards: Sequence[Card], *, host: Host, timeout_s: float
    ) -> tuple[CardFault, ...] | None:
        self.waited += 1
        found, self.reports = tuple(self.reports), []
        return (self.fault, *found)


OF_PROGRAM = CardFault(name="a", reason="Xid13", message="", xid=13, of_application=True)
OF_CARD = CardFault(name="a", reason="Xid79", message="", xid=79, certain=True)


async def test_a_program_that_is_at_fault_again_and_again_makes_nobody_be_asked_for_the_card(
    tmp_path: Path,
) -> None:
    vendor = Storm(OF_PROGRAM)
    world = World(tmp_path, vendor=vendor)
    with capture_logs() as logs:
        async with world.running():
            await asyncio.sleep(50)
            assert vendor.asked <= 50 / EVERY_S + 2
            assert vendor.waited <= 50 / AFTER_REPORT_S + 2
            assert world.faults == {}
            # What the card reports meanwhile is heard all the same.
            vendor.reports.append(CardFault(name="b", reason="Xid79", message="", xid=79))
            await asyncio.sleep(1)
            assert set(world.faults) == {"b"}
    assert len([one for one in logs if one.get("reason") == "Xid13"]) == 1


async def test_however_fast_a_card_reports_faults_drivers_are_asked_no_faster_than_they_should_be(
    tmp_path: Path,
) -> None:
    vendor = Storm(OF_CARD)
    world = World(tmp_path, vendor=vendor)
    async with world.running():
        await asyncio.sleep(50)
        assert set(world.faults) == {"a"}
        assert vendor.asked <= 50 / SOONEST_S + 2


async def test_a_look_that_waited_for_a_slow_vendor_is_followed_by_the_next_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running():
        loop, looked = asyncio.get_running_loop(), []
        look = world.watch.look

        async def slow() -> None:
            looked.append(loop.time())
            await asyncio.sleep(PATIENCE_S)
            await look()

        monkeypatch.setattr(world.watch, "look", slow)
        await asyncio.sleep(60)
        assert {round(later - former, 3) for former, later in pairwise(looked)} == {max(EVERY_S, PATIENCE_S)}
