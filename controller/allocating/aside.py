"""Long work beside the event loop.

Purpose: selectors are anybody's, and may take seconds to decide about on many cards. In the event loop, that
would be long enough for the Lease to be lost, and for the next leader to lose it in the same way.

Flow: `aside` runs work in a thread of its own while the loop goes on. One piece at a time.

Limits: Python runs one thread at a time, so the loop is slower meanwhile, but never stands still. Work cannot
be cut off: where its caller is cancelled it runs to its end, and `done` is called only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Run(Protocol):
    """Runs work, and calls `done` in the event loop when it is over, whatever became of the caller."""

    async def __call__(self, work: Callable[[], T], *, done: Callable[[], None]) -> T:
        """What the work gives."""


async def at_once(work: Callable[[], T], *, done: Callable[[], None]) -> T:
    """Runs work in the event loop itself."""
    try:
        return work()
    finally:
        done()


def aside() -> Run:
    """Runs work in a thread of its own."""
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decide")

    async def run(work: Callable[[], T], *, done: Callable[[], None]) -> T:
        loop = asyncio.get_running_loop()

        def over(_: Future[Any]) -> None:
            # The loop is closed by now where the process ends meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(done)

        future = executor.submit(work)
        # Added before the loop's own, so that it is called before the caller goes on.
        future.add_done_callback(over)
        return await asyncio.wrap_future(future)

    return run
