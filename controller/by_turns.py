"""Work that objects of anybody cause, beside the event loop, and shared out between namespaces.

Purpose: looking at a claim may take a tenth of a second of processor time, where it is made for that. In the
event loop a few of them a second would hold up the answers to all others, the Lease and the probes.

Flow: `run` puts a piece of work into the line of its namespace; one thread takes piece after piece, each time
from the namespace that has used the least time of late. What the work reads is changed by `change`: between
two pieces, in the event loop.

Limits: Python runs one thread at a time, so the loop is slower meanwhile, by milliseconds each time it is
woken. A piece cannot be cut off: whoever makes one bounds it. Few pieces of a namespace wait, and none for
long: what is too much is refused at once, and that namespace alone notices. Somebody who has many namespaces
has as many parts of the time.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import structlog

from driver.errors import DragomanError

T = TypeVar("T")

_FORGET_S = 30.0
_MAX_NAMESPACES = 1024

_log = structlog.get_logger("controller")


class NamespaceBusyError(DragomanError):
    """More objects of a namespace came at once than can be looked at."""

    reason: ClassVar[str] = "NamespaceBusy"
    retriable: ClassVar[bool] = True


class Beside(Protocol):
    """Runs work."""

    async def run(self, namespace: str, work: Callable[[], T]) -> T:
        """What a piece of work of a namespace gives.

        Raises:
            NamespaceBusyError: There is too much of it.
        """

    def change(self, change: Callable[[], None]) -> None:
        """Changes something that work reads, while none is under way; in the order of the calls."""


class AtOnce:
    """Runs work in the event loop itself: where nobody else waits, as in a replay."""

    async def run(self, namespace: str, work: Callable[[], T]) -> T:  # noqa: ARG002 - all are alike here
        """See `Beside.run`."""
        return work()

    def change(self, change: Callable[[], None]) -> None:
        """See `Beside.change`."""
        change()


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much of a namespace may wait.

    Attributes:
        pieces: Pieces of work.
        seconds: What they will take together, by what the last ones took.
        patience_s: For how long each of them.
    """

    pieces: int = 128
    seconds: float = 1.0
    patience_s: float = 2.0


@dataclass(frozen=True, eq=False)
class _Piece:
    work: Callable[[], Any]
    done: asyncio.Future[Any]
    came: float


@dataclass(slots=True)
class _Account:
    """Of a namespace: the time that it used, which is forgotten by and by, and what a piece takes."""

    used: float = 0.0
    mean: float = 0.0
    at: float = 0.0

    def left(self, now: float) -> float:
        return self.used * math.exp2((self.at - now) / _FORGET_S)

    def add(self, seconds: float, now: float) -> None:
        self.used, self.at = self.left(now) + seconds, now
        self.mean += (seconds - self.mean) / 4


class ByTurns:
    """Runs work in a thread of its own."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        """Prepares; the thread starts with the first work."""
        self._bounds = bounds or Bounds()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="look")
        self._waiting: dict[str, deque[_Piece]] = {}
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._changes: deque[Callable[[], None]] = deque()
        self._busy = False

    async def run(self, namespace: str, work: Callable[[], T]) -> T:
        """See `Beside.run`."""
        loop = asyncio.get_running_loop()
        line = self._waiting.get(namespace, ())
        account = self._accounts.get(namespace)
        expected = 0.0 if account is None else len(line) * account.mean
        if len(line) >= self._bounds.pieces or expected >= self._bounds.seconds:
            raise _busy()
        piece = _Piece(work, loop.create_future(), loop.time())
        self._waiting.setdefault(namespace, deque()).append(piece)
        self._next()
        found: T = await piece.done
        return found

    def change(self, change: Callable[[], None]) -> None:
        """See `Beside.change`."""
        if self._busy:
            self._changes.append(change)
        else:
            change()

    def _next(self) -> None:
        while not self._busy and self._waiting:
            now = asyncio.get_running_loop().time()
            namespace = min(self._waiting, key=lambda one: self._used(one, now))
            line = self._waiting[namespace]
            piece = line.popleft()
            if not line:
                del self._waiting[namespace]
            if piece.done.done():
                continue
            if now - piece.came > self._bounds.patience_s:
                piece.done.set_exception(_busy())
                continue
            self._start(namespace, piece)

    def _start(self, namespace: str, piece: _Piece) -> None:
        loop = asyncio.get_running_loop()
        self._busy = True

        def over(future: Future[tuple[Any, BaseException | None, float]]) -> None:
            # The loop is closed by now where the process ends meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._over, namespace, piece, future)

        self._executor.submit(_timed, piece.work).add_done_callback(over)

    def _over(
        self, namespace: str, piece: _Piece, future: Future[tuple[Any, BaseException | None, float]]
    ) -> None:
        self._busy = False
        while self._changes:
            try:
                self._changes.popleft()()
            except Exception:  # noqa: BLE001
                # As informers do with their handlers: one that fails must not keep the others from theirs.
                _log.exception("change failed")
        found, failed, seconds = future.result()
        account = self._accounts.setdefault(namespace, _Account())
        self._accounts.move_to_end(namespace)
        account.add(seconds, asyncio.get_running_loop().time())
        if len(self._accounts) > _MAX_NAMESPACES:
            self._accounts.popitem(last=False)
        if not piece.done.done():
            if failed is None:
                piece.done.set_result(found)
            else:
                piece.done.set_exception(failed)
        self._next()

    def _used(self, namespace: str, now: float) -> float:
        account = self._accounts.get(namespace)
        return 0.0 if account is None else account.left(now)


def _timed(work: Callable[[], Any]) -> tuple[Any, BaseException | None, float]:
    began = time.thread_time()
    try:
        return work(), None, time.thread_time() - began
    except Exception as failed:  # noqa: BLE001 - whoever waits for it hears of it
        return None, failed, time.thread_time() - began


def _busy() -> NamespaceBusyError:
    return NamespaceBusyError(
        "More objects of this namespace came at once than can be looked at.",
        remedy="Try again in some seconds.",
    )
