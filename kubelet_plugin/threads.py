"""Blocking work of vendors, in threads that nobody has to wait for.

`asyncio.to_thread` will not do: its threads are joined when the process ends, so a driver that hangs in the
kernel would hold up the agent's stop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T], *, name: str) -> T:
    """Runs `work` in a thread of its own that does not outlive the process."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value: T | None = None
        error: BaseException | None = None
        try:
            value = work()
        except Exception as failed:  # noqa: BLE001 - whatever it is, it belongs to who asked
            error = failed
        with suppress(RuntimeError):  # the loop is closed: nobody is there to hear
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await outcome
