"""Each key once, one worker a key, and failures tried again."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controller.queue import WorkQueue
from driver.errors import KubeError

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


@asynccontextmanager
async def working(
    handle: Callable[[str], Any], *, workers: int = 1, first: list[str] | None = None
) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue(name="test", source=random.Random(1))
    task = asyncio.create_task(queue.run(handle, workers=workers, first=lambda: first or []))
    await asyncio.sleep(0)
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_keys_added_many_times_before_their_turn_are_handled_once() -> None:
    seen: list[str] = []

    async def handle(key: str) -> None:
        seen.append(key)

    async with working(handle) as queue:
        for key in ("a", "b", "a", "a"):
            queue.add(key)
        await asyncio.sleep(1)
    assert seen == ["a", "b"]


async def test_a_key_added_while_it_is_handled_is_handled_once_more_and_never_twice_at_a_time() -> None:
    active, most, count = 0, 0, 0

    async def handle(key: str) -> None:
        nonlocal active, most, count
        active += 1
        most = max(most, active)
        await asyncio.sleep(1)
        active -= 1
        count += 1

    async with working(handle, workers=4) as queue:
        queue.add("a")
        await asyncio.sleep(0.5)
        queue.add("a")
        queue.add("a")
        await asyncio.sleep(10)
    assert (count, most) == (2, 1)


async def test_no_more_keys_are_worked_on_than_there_are_workers() -> None:
    active, most = 0, 0

    async def handle(key: str) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(1)
        active -= 1

    async with working(handle, workers=3) as queue:
        for number in range(20):
            queue.add(str(number))
        await asyncio.sleep(30)
    assert most == 3


@pytest.mark.parametrize("error", [KubeError("away"), RuntimeError("a fault of ours")])
async def test_a_failure_is_tried_again_ever_more_rarely_and_stops_nobody_else(error: Exception) -> None:
    times: list[float] = []
    others: list[str] = []

    async def handle(key: str) -> None:
        if key != "bad":
            others.append(key)
            return
        times.append(asyncio.get_running_loop().time())
        raise error

    async with working(handle) as queue:
        queue.add("bad")
        queue.add("good")
        await asyncio.sleep(120)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert others == ["good"]
    assert 5 <= len(gaps) <= 12
    assert all(later > earlier for earlier, later in itertools.pairwise(gaps))
    assert max(gaps) <= 60


async def test_a_success_forgets_the_failures_before_it() -> None:
    times: list[float] = []
    fail = True

    async def handle(key: str) -> None:
        nonlocal fail
        times.append(asyncio.get_running_loop().time())
        if fail and len(times) % 5:
            raise KubeError("away")

    async with working(handle) as queue:
        queue.add("a")
        await asyncio.sleep(20)
        queue.add("a")
        await asyncio.sleep(0.6)
    assert times[6] - times[5] < 0.6


async def test_a_handler_may_ask_to_be_called_again() -> None:
    times: list[float] = []

    async def handle(key: str) -> float:
        times.append(asyncio.get_running_loop().time())
        return 5.0

    async with working(handle) as queue:
        queue.add("a")
        await asyncio.sleep(11)
    assert [round(time - times[0]) for time in times] == [0, 5, 10]


async def test_of_several_later_wishes_the_earliest_counts() -> None:
    times: list[float] = []

    async def handle(key: str) -> None:
        times.append(asyncio.get_running_loop().time())

    async with working(handle) as queue:
        began = asyncio.get_running_loop().time()
        queue.add("a", after_s=10)
        queue.add("a", after_s=3)
        queue.add("a", after_s=7)
        await asyncio.sleep(20)
    assert [round(time - began) for time in times] == [3]


async def test_a_wish_for_now_replaces_one_for_later() -> None:
    count = 0

    async def handle(key: str) -> None:
        nonlocal count
        count += 1

    async with working(handle) as queue:
        queue.add("a", after_s=10)
        queue.add("a")
        await asyncio.sleep(20)
    assert count == 1


async def test_work_begins_with_all_keys_there_are_and_nothing_is_collected_before() -> None:
    seen: list[str] = []

    async def handle(key: str) -> None:
        seen.append(key)

    idle = WorkQueue(name="idle")
    idle.add("lost")
    assert idle.depth == 0
    async with working(handle, first=["a", "b"]):
        await asyncio.sleep(1)
    assert seen == ["a", "b"]


async def test_a_worker_that_hangs_shows_as_time_without_progress() -> None:
    async def handle(key: str) -> None:
        await asyncio.Event().wait()

    async with working(handle) as queue:
        assert queue.stalled_s == 0
        queue.add("a")
        await asyncio.sleep(30)
        queue.add("b")
        assert 29 < queue.stalled_s < 31
        assert queue.depth == 1


async def test_a_long_line_that_moves_is_not_stalled() -> None:
    async def handle(key: str) -> None:
        await asyncio.sleep(5)

    async with working(handle) as queue:
        for number in range(1000):
            queue.add(str(number))
        await asyncio.sleep(1001)
        assert queue.depth > 700
        assert queue.stalled_s < 6


async def test_a_queue_can_be_worked_again_after_it_was_stopped() -> None:
    queue = WorkQueue(name="test")
    seen: list[str] = []

    async def handle(key: str) -> None:
        seen.append(key)

    for _ in range(2):
        task = asyncio.create_task(queue.run(handle, workers=2, first=lambda: ["a"]))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert seen == ["a", "a"]


async def test_a_worker_rests_between_two_keys_while_no_key_is_its() -> None:
    at: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()
    queue = WorkQueue(name="test", source=random.Random(1))

    async def handle(key: str) -> None:
        at.append((key, loop.time()))

    async def rest() -> None:
        assert not queue._active
        await asyncio.sleep(10)

    task = asyncio.create_task(queue.run(handle, workers=1, first=lambda: ["a", "b", "c"], rest=rest))
    await asyncio.sleep(25)
    assert [(key, round(when - at[0][1])) for key, when in at] == [("a", 0), ("b", 10), ("c", 20)]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_others_have_their_turn_between_keys_whose_handler_never_waits() -> None:
    queue = WorkQueue(name="test")
    handled: list[str] = []
    seen: list[int] = []

    async def handle(key: str) -> None:
        handled.append(key)

    worker = asyncio.create_task(queue.run(handle, workers=1, first=lambda: [str(n) for n in range(100)]))
    for _ in range(50):
        await asyncio.sleep(0)
        seen.append(len(handled))
    worker.cancel()
    assert 0 < seen[-1] < 100


async def test_a_wait_that_is_too_short_for_the_clock_is_waited_for_all_the_same() -> None:
    queue = WorkQueue(name="test")
    loop = asyncio.get_running_loop()
    began, times = loop.time(), list[float]()

    async def handle(_key: str) -> float | None:
        times.append(loop.time() - began)
        return 1e-300 if len(times) < 3 else None

    task = asyncio.create_task(queue.run(handle, workers=1, first=lambda: ["key"]))
    await asyncio.sleep(1)
    task.cancel()
    assert len(times) == 3
    assert times[0] < times[1] < times[2]
