"""Threads that prepare and unprepare, and that nobody has to wait for when the agent ends.

Purpose: a thread in a driver that hangs cannot be stopped. A pool of so many threads is full once so many
hang, whatever they hang for; and the standard library's waits for all of them before the process may end.

Flow: `submit` gives work to a thread that is idle, or to a new one. Where only so many may be at work
(`most`), one that has a seat (`lanes`) steps aside and counts no more, since seats are bounded by themselves:
for each card and each vendor, so that no number of vendors that hang takes the threads of another.

Limits: threads are daemons, so one that is left behind ends with the process, wherever it is: what it does
has to bear being killed. Of those that are idle `KEPT` stay.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, TypeVar

_T = TypeVar("_T")
KEPT = 32

_Work = tuple[Future[Any], Callable[[], Any]]


class Workers(Executor):
    """Threads for work that may hang.

    Args:
        name: Of the threads.
        most: How many may be at work, without those that stepped aside; None where something else bounds it.
    """

    def __init__(self, name: str, *, most: int | None = None) -> None:
        self._name = name
        self._most = most
        self._changed = threading.Condition()
        self._queue: deque[_Work] = deque()
        self._threads = 0
        self._idle = 0
        self._working = 0
        self._aside = 0
        self._ended = False

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Has it done in a thread.

        Raises:
            RuntimeError: The workers were ended, or the system has no thread to give.
        """
        done: Future[_T] = Future()
        work: _Work = (done, lambda: fn(*args, **kwargs))
        with self._changed:
            if self._ended:
                raise RuntimeError("The workers were ended.")
            self._queue.append(work)
            try:
                self._wake()
            except RuntimeError:
                # Who is told so may ask again, and it must not be done twice at a time.
                self._queue.remove(work)
                raise
        return done

    def step_aside(self) -> None:
        """The calling thread counts no more; to be called by one that is at work."""
        with self._changed:
            self._aside += 1
            # Where there is no thread to be had, the next one that is done takes what waits.
            with suppress(RuntimeError):
                self._wake()

    def step_back(self) -> None:
        """It counts again."""
        with self._changed:
            self._aside -= 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Takes no more work; see `Executor`. Waits without end: `end` does not."""
        if cancel_futures:
            with self._changed:
                for done, _ in self._queue:
                    done.cancel()
        self.end(timeout_s=threading.TIMEOUT_MAX if wait else 0)

    def end(self, *, timeout_s: float) -> int:
        """Takes no more work, and waits for what there is; how many threads are left behind at it."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            while self._at_work and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            return self._at_work

    @property
    def _at_work(self) -> int:
        return self._threads - self._idle

    @property
    def _has_room(self) -> bool:
        return self._most is None or self._working - self._aside < self._most

    def _wake(self) -> None:
        if not self._queue or not self._has_room:
            return
        if len(self._queue) <= self._idle:
            self._changed.notify()
        elif self._most is None or self._threads - self._idle - self._aside < self._most:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
            self._threads += 1

    def _next(self) -> _Work | None:
        with self._changed:
            while not self._queue or not self._has_room:
                if (self._ended and not self._queue) or self._idle >= KEPT:
                    self._threads -= 1
                    self._changed.notify_all()
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            self._working += 1
            return self._queue.popleft()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            done, call = work
            if done.set_running_or_notify_cancel():
                try:
                    answer = call()
                except BaseException as failed:  # noqa: BLE001 - it belongs to who asked
                    done.set_exception(failed)
                else:
                    done.set_result(answer)
            # Nothing of it is held while this thread waits for more.
            del work, done, call
            with self._changed:
                self._working -= 1
