"""What happens while a decision is worked out beside the event loop."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from controller.allocating.aside import aside
from controller.lease import LeadershipLostError
from tests.controller.allocating.world import World, card

T = TypeVar("T")

pytestmark = [pytest.mark.asyncio]


class Slow:
    """Begins work at once, and goes on to its answer when told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, work: Callable[[], T], *, done: Callable[[], None]) -> T:
        self.begun.set()
        answer = work()
        try:
            await asyncio.shield(self.go_on.wait())
        finally:
            done()
        return answer


class Late(Slow):
    """Begins work when told to."""

    async def __call__(self, work: Callable[[], T], *, done: Callable[[], None]) -> T:
        self.begun.set()
        try:
            await asyncio.shield(self.go_on.wait())
            return work()
        finally:
            done()


def meta(document: Any, **changes: str) -> Any:
    return {**document, "metadata": {**document["metadata"], **changes}}


class Stuck:
    """The first piece of work goes on although its asker was cut off."""

    def __init__(self) -> None:
        self.ends: list[Callable[[], None]] = []

    async def __call__(self, work: Callable[[], T], *, done: Callable[[], None]) -> T:
        self.ends.append(done)
        if len(self.ends) == 1:
            await asyncio.Event().wait()
        answer = work()
        done()
        return answer


def allocated(world: World, name: str, memory: str) -> Any:
    """A claim that somebody else allocated."""
    world.claim(name, memory)
    document = copy.deepcopy(world.stored[name])
    result = {
        "request": "gpu",
        "driver": "dragoman.dev",
        "pool": "n1/dragoman",
        "device": "card-0",
        "shareID": "5c1ef0a9-93ee-4b5b-a8a0-4d3ba0c6ba25",
        "consumedCapacity": {"memory": memory, "cores": "10"},
    }
    document["status"] = {"allocation": {"devices": {"results": [result]}}}
    return document


async def test_an_allocation_that_is_seen_meanwhile_counts() -> None:
    slow = Slow()
    world = World(run=slow)
    world.ask("p", "600Mi")
    asking = asyncio.create_task(world.reconcile("p"))
    await slow.begun.wait()
    world.store(allocated(world, "other", "600Mi"))
    slow.go_on.set()
    assert await asking == pytest.approx(0.5)
    await world.reconcile("p")
    assert world.allocation("p") is None


async def test_an_allocation_that_is_seen_before_the_first_cluster_is_made_counts() -> None:
    late = Late()
    world = World(run=late)
    world.ask("p", "600Mi")
    asking = asyncio.create_task(world.reconcile("p"))
    await late.begun.wait()
    world.store(allocated(world, "other", "600Mi"))
    late.go_on.set()
    assert await asking == pytest.approx(0.5)
    await world.reconcile("p")
    assert world.allocation("p") is None


async def test_a_card_that_shrinks_meanwhile_is_not_given_out_as_it_was() -> None:
    slow = Slow()
    world = World(run=slow)
    world.ask("p", "600Mi")
    asking = asyncio.create_task(world.reconcile("p"))
    await slow.begun.wait()
    world.cards("n1", card(mib=500))
    slow.go_on.set()
    await asking
    await world.reconcile("p")
    assert world.allocation("p") is None


async def test_what_is_released_meanwhile_is_free_afterwards() -> None:
    slow = Slow()
    world = World(run=slow)
    world.store(allocated(world, "other", "600Mi"))
    world.ask("p", "600Mi")
    asking = asyncio.create_task(world.reconcile("p"))
    await slow.begun.wait()
    world.take_back("other")
    slow.go_on.set()
    await asking
    await world.reconcile("p")
    assert world.allocation("p")


@pytest.mark.parametrize("change", ["pod", "pod anew", "pod ends", "claim", "claim anew", "node", "leader"])
async def test_a_decision_is_dropped_if_what_it_is_about_has_changed_meanwhile(change: str) -> None:
    slow = Slow()
    world = World(run=slow)
    world.ask("p")
    asking = asyncio.create_task(world.reconcile("p"))
    await slow.begun.wait()
    if change == "pod":
        world.pod("p", "p", nodeName="n2")
    elif change == "pod anew":
        world.pods.observe(world._versioned(meta(world.stored_pods["p"], uid="another")))
    elif change == "pod ends":
        world.pods.observe(world._versioned(meta(world.stored_pods["p"], deletionTimestamp="now")))
    elif change == "claim anew":
        world.store(meta(world.stored["p"], uid="another"))
    elif change == "claim":
        world.store(allocated(world, "p", "100Mi"))
    elif change == "node":
        world.offered.clear()
    else:
        world.leading = False
    slow.go_on.set()
    (found,) = await asyncio.gather(asking, return_exceptions=True)
    assert isinstance(found, LeadershipLostError) if change == "leader" else found == pytest.approx(0.5)
    assert not world.transport.writes()


async def test_two_pods_that_name_one_claim_do_not_both_decide_about_it() -> None:
    slow = Slow()
    world = World(run=slow)
    world.claim("c", "600Mi")
    world.pod("a", "c")
    world.pod("b", "c")
    both = asyncio.gather(world.reconcile("a"), world.reconcile("b"))
    await asyncio.sleep(0)
    slow.go_on.set()
    await both
    assert sum(request.path.endswith("/status") for request in world.transport.writes()) == 1


async def test_who_is_decided_about_meanwhile_is_counted_on_its_node_by_the_next_decision() -> None:
    slow = Slow()
    world = World(run=slow)
    for name in ("a", "b"):
        world.ask(name, containers=[{"resources": {"requests": {"cpu": "3"}}}])
    both = asyncio.gather(world.reconcile("a"), world.reconcile("b"))
    await slow.begun.wait()
    slow.go_on.set()
    await both
    assert sum(bool(world.allocation(name)) for name in "ab") == 1


async def test_one_whose_asker_was_cut_off_is_waited_for() -> None:
    go_on = threading.Event()
    run = aside()
    over: list[str] = []

    def work() -> str:
        go_on.wait(10)
        over.append("work")
        return "answer"

    asking = asyncio.create_task(run(work, done=lambda: over.append("done")))
    await asyncio.sleep(0.05)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert not over
    go_on.set()
    assert await run(lambda: "next", done=lambda: None) == "next"
    assert over == ["work", "done"]


async def test_nobody_is_asked_while_one_whose_asker_was_cut_off_is_worked_on() -> None:
    stuck = Stuck()
    world = World(run=stuck)
    world.ask("p")
    asking = asyncio.create_task(world.reconcile("p"))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    world.ask("q")
    waits = asyncio.create_task(world.reconcile("q"))
    await asyncio.sleep(0.01)
    assert len(stuck.ends) == 1
    stuck.ends[0]()
    await waits
    assert world.allocation("q")


async def test_decisions_are_made_in_a_thread() -> None:
    world = World(run=aside())
    for name in ("a", "b", "c"):
        world.ask(name)
    await asyncio.gather(*(world.reconcile(name) for name in ("a", "b", "c")))
    assert sum(bool(world.allocation(name)) for name in "abc") == 2


async def test_a_pod_whose_decision_took_long_waits_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.ask("p", "9999Mi")
    monkeypatch.setattr("controller.allocating.allocator._COSTLY_S", 0.0)
    monkeypatch.setattr("controller.allocating.allocator._COSTLY_FACTOR", 1e6)
    await world.reconcile("p")
    answers = len(world.answers)
    assert await world.reconcile("p")
    assert len(world.answers) == answers
