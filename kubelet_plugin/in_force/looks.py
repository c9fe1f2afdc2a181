"""Looks at containers, bounded in time.

Purpose: what processes have mapped and run may lie on a file system that their container brought (NFS, FUSE),
and it decides when a read of it ends, if ever. Nothing ends such a read from without, so it is left behind in
its thread, and the others are looked at without it.

Flow: `Looks.look` runs the work in a thread and waits for it; the work tells `Look` with which container it
begins, and asks after each read whether it is still waited for. Too long at one container, or in all: the
look is given up, and the container that took longest is passed over from then on, for `PASSED_OVER_S`, and
for as long as the thread is there.

Limits: `MAX_LEFT_BEHIND` threads may be left behind; with so many nobody is looked at until one of them ends.
Only who can start as many containers with shares on one node, each with a file system that does not answer,
comes to that. The agent's own files are not taken for slow, but a look that waits for them ends all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from driver.isolation.base import InForce
from kubelet_plugin.threads import in_daemon_thread

log = structlog.get_logger(__name__)

T = TypeVar("T")

CONTAINER_S = 10.0
"""So long a look may stay at one container; between this and twice as long it is given up."""

LOOK_S = 30.0
"""So long a look may take in all."""

NOT_ANSWERING = InForce(
    holds=False,
    known=False,
    reason="ProcessesDoNotAnswer",
    message="The container's processes could not be looked at in time.",
    remedy="See whether a file system that the container brought (NFS, FUSE) answers.",
)
"""What is said of the processes of a container that is passed over."""

PASSED_OVER_S = 300.0
MAX_LEFT_BEHIND = 16


class LookGivenUpError(Exception):
    """Nobody waits for the look any more; its thread has to end, and to change nothing before that."""


class Look:
    """One look, as the thread that takes it knows it.

    Attributes:
        passed_over: IDs of the containers that are not to be looked at.
        begun: With how many containers it began.
    """

    def __init__(self, *, passed_over: frozenset[str]) -> None:
        self.passed_over = passed_over
        self.begun = 0
        self._container = ""
        self._since = time.monotonic()
        self._slowest = (0.0, "")
        self._given_up = False

    def begins(self, container_id: str) -> None:
        """The look comes to a container; "" for what is no container's."""
        self.goes_on()
        self._slowest = self._slowest_yet()
        self._since = time.monotonic()
        self._container = container_id
        self.begun += 1

    def goes_on(self) -> None:
        """To be asked after each read, before anything is changed that other looks know of.

        Raises:
            LookGivenUpError: The look was given up.
        """
        if self._given_up:
            raise LookGivenUpError

    def give_up(self) -> str:
        """Ends the look; the container that took longest, "" for none."""
        self._given_up = True
        return self._slowest_yet()[1]

    def _slowest_yet(self) -> tuple[float, str]:
        return max(self._slowest, (time.monotonic() - self._since, self._container))


@dataclass(frozen=True)
class _LeftBehind:
    thread: threading.Thread
    container_id: str
    at: float


class _Outcome(Generic[T]):
    value: T
    error: Exception | None = None


class Looks:
    """Takes looks one after the other."""

    def __init__(self) -> None:
        self._left: list[_LeftBehind] = []

    async def look(self, work: Callable[[Look], T]) -> T | None:
        """What the work found; None if it took too long, or too many threads are left behind."""
        now = time.monotonic()
        self._left = [one for one in self._left if one.thread.is_alive() or now - one.at < PASSED_OVER_S]
        if sum(one.thread.is_alive() for one in self._left) >= MAX_LEFT_BEHIND:
            return None
        return await in_daemon_thread(lambda: self._wait(work), name="limits in force, waiting")

    def _wait(self, work: Callable[[Look], T]) -> T | None:
        look = Look(passed_over=frozenset(one.container_id for one in self._left))
        outcome = _Outcome[T]()

        def run() -> None:
            try:
                outcome.value = work(look)
            except Exception as failed:  # noqa: BLE001 - whatever it is, it belongs to who asked
                outcome.error = failed

        thread = threading.Thread(target=run, name="limits in force", daemon=True)
        until = time.monotonic() + LOOK_S
        thread.start()
        while thread.is_alive():
            before = look.begun
            thread.join(max(0.0, min(CONTAINER_S, until - time.monotonic())))
            if thread.is_alive() and (look.begun == before or time.monotonic() >= until):
                slowest = look.give_up()
                self._left.append(_LeftBehind(thread, slowest, time.monotonic()))
                log.warning(
                    "processes of a container do not answer, which is passed over", container_id=slowest
                )
                return None
        if outcome.error is not None:
            raise outcome.error
        return outcome.value
