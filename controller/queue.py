"""A work queue of keys: each key at most once in it, and at most one worker on each key.

Flow: informers and timers `add` keys; workers take them in order and call the handler, which looks at the
state of the world (never at the event that brought the key). A handler that fails is called again, ever more
rarely; one that returns seconds is called again after them.

Limits: lives in one event loop. While nobody works (this replica does not lead) keys are not collected:
whoever begins to work adds all keys first.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from driver.errors import DragomanError
from driver.kube.backoff import Backoff

Handler = Callable[[str], Awaitable[float | None]]
"""Handles a key; returns seconds after which to look again, or None."""

_LEAST_S = 0.001

_log = structlog.get_logger("queue")


class WorkQueue:
    """Keys that wait for a worker."""

    def __init__(
        self,
        *,
        name: str,
        base_s: float = 0.5,
        cap_s: float = 60.0,
        source: random.Random | None = None,
    ) -> None:
        """Makes an idle queue.

        Args:
            name: Names the queue in logs and metrics.
            base_s: First delay after a failure.
            cap_s: Longest delay after failures.
            source: Where jitter comes from.
        """
        self.name = name
        self.handled = 0
        self.failed = 0
        self._base_s = base_s
        self._cap_s = cap_s
        self._source = source or random.Random()  # noqa: S311 - jitter, no secret
        self._working = False
        self._progress = float("-inf")
        self._line: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: dict[str, float] = {}
        self._active: dict[str, float] = {}
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._backoffs: dict[str, Backoff] = {}

    def add(self, key: str, *, after_s: float = 0.0) -> None:
        """Asks for a key to be handled, now or later; of several wishes the earliest counts."""
        if not self._working:
            return
        if after_s <= 0:
            self._now(key)
            return
        loop = asyncio.get_running_loop()
        # What is left of a wait may be too short for the clock: the key would come back before it is over.
        due = loop.time() + max(after_s, _LEAST_S)
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._now, key)

    async def run(
        self,
        handle: Handler,
        *,
        workers: int,
        first: Callable[[], list[str]],
        rest: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Works until cancelled.

        Args:
            handle: Called with each key.
            workers: How many keys at the same time.
            first: All keys there are, asked once at the beginning.
            rest: Awaited by a worker between two keys; the time it takes is no key's.
        """
        self._working = True
        try:
            for key in first():
                self.add(key)
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(handle, rest))
        finally:
            self._clear()

    @property
    def depth(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._waiting)

    @property
    def stalled_s(self) -> float:
        """Seconds without progress although there is work: a long line that moves is not stalled."""
        since = min((*self._waiting.values(), *self._active.values()), default=None)
        if since is None:
            return 0.0
        return asyncio.get_running_loop().time() - max(since, self._progress)

    def _now(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().time()
            self._line.put_nowait(key)

    async def _work(self, handle: Handler, rest: Callable[[], Awaitable[None]] | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            key = await self._line.get()
            del self._waiting[key]
            self._active[key] = loop.time()
            delay: float | None = None
            try:
                with structlog.contextvars.bound_contextvars(queue=self.name, key=key):
                    delay = await self._once(handle, key)
            finally:
                del self._active[key]
                self._progress = loop.time()
            if key in self._again:
                self._again.discard(key)
                self._now(key)
            elif delay is not None:
                self.add(key, after_s=delay)
            # A handler that never has to wait would keep the loop, and the Lease be lost over a long line.
            await asyncio.sleep(0)
            if rest is not None:
                await rest()
                self._progress = loop.time()

    async def _once(self, handle: Handler, key: str) -> float | None:
        try:
            delay = await handle(key)
        except DragomanError as refused:
            delay = self._failure(key)
            _log.warning(
                "will be tried again", error=str(refused), reason=refused.reason, after_s=round(delay, 1)
            )
        except Exception:  # noqa: BLE001
            # A fault in one node's data must not stop the work on all others.
            delay = self._failure(key)
            _log.exception("failed; will be tried again", after_s=round(delay, 1))
        else:
            self.handled += 1
            self._backoffs.pop(key, None)
        return delay

    def _failure(self, key: str) -> float:
        self.failed += 1
        backoff = self._backoffs.setdefault(
            key, Backoff(base_s=self._base_s, cap_s=self._cap_s, source=self._source)
        )
        return backoff.next_delay()

    def _clear(self) -> None:
        self._working = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        self._active.clear()
        self._again.clear()
        self._backoffs.clear()
        self._line = asyncio.Queue()
