"""Work beside the event loop: one namespace's does not hold up that of others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from controller import by_turns
from controller.by_turns import AtOnce, Bounds, ByTurns, NamespaceBusyError

pytestmark = pytest.mark.asyncio


class Blocked:
    """Work that is under way until it is let go, so that everything else waits."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self) -> None:
        assert self.go.wait(60)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What each piece says that it took, by what it gives."""
    said: dict[str, float] = {}

    def timed(work: Callable[[], Any]) -> tuple[Any, BaseException | None, float]:
        found = work()
        return found, None, said.get(found, 0.0)

    monkeypatch.setattr(by_turns, "_timed", timed)
    return said


async def begun(turns: ByTurns) -> tuple[Blocked, asyncio.Task[None]]:
    blocked = Blocked()
    task = asyncio.create_task(turns.run("first", blocked))
    await asyncio.sleep(0)
    return blocked, task


async def test_the_event_loop_goes_on_while_work_is_under_way() -> None:
    turns = ByTurns()
    blocked, task = await begun(turns)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    blocked.go.set()
    await task


async def test_what_work_gives_or_raises_reaches_who_waits_for_it() -> None:
    async def both(beside: AtOnce | ByTurns) -> None:
        assert await beside.run("ns", lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await beside.run("ns", lambda: 1 // 0)
        assert await beside.run("ns", lambda: 8) == 8

    await both(ByTurns())
    await both(AtOnce())


async def test_the_namespace_that_used_least_comes_first(seconds: dict[str, float]) -> None:
    turns, order = ByTurns(), []

    def work(name: str) -> Callable[[], str]:
        def done() -> str:
            order.append(name)
            return name

        return done

    seconds["costly"] = 0.1
    await turns.run("greedy", work("costly"))
    order.clear()
    blocked, first = await begun(turns)
    waiting = [asyncio.create_task(turns.run("greedy", work("costly"))) for _ in range(5)]
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(turns.run("modest", work("cheap"))) for _ in range(3)]
    await asyncio.sleep(0)
    blocked.go.set()
    await asyncio.gather(first, *waiting)
    assert order == ["cheap"] * 3 + ["costly"] * 5


async def test_a_namespace_with_too_much_that_waits_is_refused_at_once_and_others_are_not(
    seconds: dict[str, float],
) -> None:
    turns = ByTurns(Bounds(seconds=1.0))
    seconds["costly"] = 2.0
    await turns.run("greedy", lambda: "costly")
    blocked, first = await begun(turns)
    waiting = [asyncio.create_task(turns.run("greedy", lambda: "costly")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(NamespaceBusyError) as refused:
        await turns.run("greedy", lambda: "costly")
    assert refused.value.reason == "NamespaceBusy"
    assert refused.value.retriable
    modest = asyncio.create_task(turns.run("modest", lambda: "cheap"))
    await asyncio.sleep(0)
    blocked.go.set()
    assert await modest == "cheap"
    await asyncio.gather(first, *waiting)


async def test_so_many_pieces_wait_and_no_more_however_cheap() -> None:
    turns = ByTurns(Bounds(pieces=3))
    blocked, first = await begun(turns)
    waiting = [asyncio.create_task(turns.run("ns", lambda: None)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(NamespaceBusyError):
        await turns.run("ns", lambda: None)
    blocked.go.set()
    await asyncio.gather(first, *waiting)


async def test_nobody_waits_for_long() -> None:
    turns = ByTurns()
    blocked, first = await begun(turns)
    turns._bounds = Bounds(patience_s=0.0)
    late = asyncio.create_task(turns.run("ns", lambda: None))
    await asyncio.sleep(0.001)
    blocked.go.set()
    with pytest.raises(NamespaceBusyError):
        await late
    await first


async def test_work_that_nobody_waits_for_any_more_is_not_done() -> None:
    turns, done = ByTurns(), []
    blocked, first = await begun(turns)
    given_up = asyncio.create_task(turns.run("ns", lambda: done.append(1)))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.sleep(0)
    blocked.go.set()
    await first
    await turns.run("ns", lambda: None)
    assert done == []


async def test_what_work_reads_changes_only_between_two_pieces_and_in_order() -> None:
    turns, seen = ByTurns(), []
    turns.change(lambda: seen.append("at once"))
    blocked, first = await begun(turns)
    turns.change(lambda: seen.append("a"))
    turns.change(lambda: seen.remove("missing"))
    turns.change(lambda: seen.append("b"))
    second = asyncio.create_task(turns.run("ns", lambda: list(seen)))
    await asyncio.sleep(0)
    assert seen == ["at once"]
    blocked.go.set()
    await first
    assert await second == ["at once", "a", "b"]


async def test_what_a_namespace_used_is_forgotten_by_and_by() -> None:
    account = by_turns._Account()
    account.add(8.0, 0.0)
    assert account.left(3 * by_turns._FORGET_S) == pytest.approx(1.0)


async def test_time_is_that_of_the_processor() -> None:
    _, failed, took = by_turns._timed(lambda: time.sleep(0.05))
    assert failed is None
    assert took < 0.04
