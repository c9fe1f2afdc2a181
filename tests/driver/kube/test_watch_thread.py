"""The thread behind a watch of the blocking transport."""

from __future__ import annotations

import asyncio
import http.client

import pytest

from driver.kube.client import UnreachableError
from driver.kube.watch_thread import Opened, WatchThread


@pytest.mark.parametrize(
    "failure",
    [ZeroDivisionError("a mistake"), RecursionError(), MemoryError(), http.client.BadStatusLine("?")],
    ids=lambda one: type(one).__name__,
)
def test_whatever_the_thread_fails_with_reaches_the_one_who_waits(failure: Exception) -> None:
    def fail() -> Opened:
        raise failure

    async def watch() -> object:
        thread = WatchThread(loop=asyncio.get_running_loop(), idle_timeout_s=1)
        await asyncio.to_thread(thread.run, fail)
        return await asyncio.wait_for(thread.queue.get(), 60)

    item = asyncio.run(watch())

    assert isinstance(item, UnreachableError)
    assert type(failure).__name__ in str(item)
