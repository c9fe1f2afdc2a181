"""Asking vendors, also those that hang or fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.host import Host
from driver.vendors.base import CardHealth, Discovery
from kubelet_plugin.card_health import questions
from kubelet_plugin.card_health.questions import HANGS_AFTER_S, SLOW_S, HealthQuestions
from tests.support.memory_host import MemoryHost
from tests.support.node_world import card

pytestmark = pytest.mark.asyncio


class Asked:
    """A vendor that answers when it is let."""

    def __init__(self, name: str, health: str = "Healthy") -> None:
        self._name = name
        self.health_now = health
        self.gate = threading.Event()
        self.gate.set()
        self.times = 0
        self.bug: Exception | None = None

    @property
    def name(self) -> str:
        return self._name

    def discover(self, host: Host) -> Discovery:
        return Discovery(cards=())

    def edits(self, card: Card, *, host: Host) -> ContainerEdits:
        return ContainerEdits()

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        self.times += 1
        self.gate.wait(60)
        if self.bug is not None:
            raise self.bug
        return tuple(CardHealth(name=one.name, health=self.health_now) for one in cards)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever answers does so in time, however busy the machine is.
    monkeypatch.setattr(questions, "PATIENCE_S", 60.0)


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on nobody is waited for."""
    return lambda: monkeypatch.setattr(questions, "PATIENCE_S", 0.01)


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.quick, self.slow = Asked("quick"), Asked("slow")
        self.questions = HealthQuestions(MemoryHost({}), clock=lambda: self.now)

    async def ask(self, *, missing: frozenset[str] = frozenset()) -> dict[str, CardHealth]:
        cards = [(self.quick, [card("a"), card("c")]), (self.slow, [card("b")])]
        return {one.name: one for one in await self.questions.ask(cards, missing=missing)}


async def test_all_cards_are_answered_for_by_their_vendors() -> None:
    world = World()
    world.slow.health_now = "Unhealthy"
    found = await world.ask()
    assert {name: one.health for name, one in found.items()} == {
        "a": "Healthy",
        "c": "Healthy",
        "b": "Unhealthy",
    }


async def test_a_vendor_that_hangs_holds_nobody_up_and_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.slow.gate.clear()
    # Once, the others have no longer than the one that hangs; the later looks do not wait for it.
    for patience_s in (2.0, 60.0, 60.0):
        monkeypatch.setattr(questions, "PATIENCE_S", patience_s)
        found = await world.ask()
        assert found["a"].health == "Healthy"
        assert (found["b"].health, found["b"].reason) == ("Unknown", "HealthUnreadable")
    assert (world.quick.times, world.slow.times) == (3, 1)
    world.slow.gate.set()


@pytest.mark.parametrize("said", ["Healthy", "Unhealthy"])
async def test_what_a_vendor_said_last_holds_while_it_is_slow_and_not_for_longer(
    said: str, little_patience: Callable[[], None]
) -> None:
    world = World()
    world.slow.health_now = said
    await world.ask()
    world.slow.gate.clear()
    little_patience()
    for world.now in (0.0, SLOW_S / 2, SLOW_S - 1):
        assert (await world.ask())["b"].health == said
    world.now = SLOW_S
    found = await world.ask()
    assert (found["b"].health, found["b"].reason) == ("Unknown", "HealthUnreadable")
    world.slow.gate.set()


async def test_a_vendor_that_hangs_costs_the_others_a_wait_once(
    little_patience: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    world.slow.gate.clear()
    little_patience()
    await world.ask()
    # Whoever waited for it now would wait for longer than a test may take.
    monkeypatch.setattr(questions, "PATIENCE_S", 3600.0)
    while (await asyncio.wait_for(world.ask(), 60))["a"].health != "Healthy":  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.01)
    world.quick.health_now = "Unhealthy"
    found = await asyncio.wait_for(world.ask(), 60)
    assert (found["a"].health, found["b"].health) == ("Unhealthy", "Unknown")
    world.slow.gate.set()


async def test_cards_of_a_vendor_that_hangs_for_long_have_a_fault_until_it_answers(
    little_patience: Callable[[], None],
) -> None:
    world = World()
    world.slow.gate.clear()
    little_patience()
    await world.ask()
    world.now = HANGS_AFTER_S
    found = await world.ask()
    assert (found["b"].health, found["b"].reason) == ("Unhealthy", "DriverHangs")
    world.slow.gate.set()
    for _ in range(3000):
        await asyncio.sleep(0.01)
        if (found := await world.ask())["b"].health == "Healthy":
            break
    assert found["b"].health == "Healthy"


async def test_a_bug_of_ours_is_no_fault_of_the_cards() -> None:
    world = World()
    world.quick.bug = RuntimeError("bug")
    found = await world.ask()
    assert (found["a"].health, found["a"].reason) == ("Unknown", "HealthUnreadable")
    assert found["b"].health == "Healthy"


async def test_a_card_that_is_not_listed_any_more_is_missing_whatever_its_vendor_says() -> None:
    world = World()
    found = await world.ask(missing=frozenset({"a"}))
    assert (found["a"].health, found["a"].reason, found["a"].certain) == ("Unhealthy", "CardMissing", True)
    assert found["c"].health == "Healthy"


async def test_what_is_wrong_with_a_missing_card_is_told_in_its_vendors_words() -> None:
    world = World()
    world.slow.health_now = "Unhealthy"
    found = await world.ask(missing=frozenset({"b"}))
    assert found["b"].reason == ""
