"""Looks at containers, bounded in time.

Purpose: what processes have mapped and run may lie on a file system that their container brought (NFS, FUSE),
and it decides when a read of it ends, if ever. Nothing ends such a read from without, so it is left behind in
its thread, and the others are looked at by another one.

Flow: `Looks.each` goes over containers in one thread. Who stays at one for longer than `CONTAINER_S` is left
behind with it, and a new thread goes on with the next; the container is passed over from then on, for
`PASSED_OVER_S`, and for as long as its thread is there. After `LOOK_S` no further one is begun: those that
nobody came to are the first of the next look. `Looks.once` is for reads that belong to no container.

Fairness is that of namespaces, since whoever starts containers with such file systems has one: first come the
containers of those whose looks took the least time; beside a container of its namespace that does not answer
another one has `NEXT_S`.

Limits: a container leaves one thread behind at most. One that has never answered is looked at only while
fewer than `MAX_OF_NAMESPACE` threads are left behind in its namespace and fewer than `MAX_LEFT_BEHIND` in
all; so there are never more than these and one for each container that answered before. Where all of them are
taken, new containers are told to be looked at by nobody.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from driver.isolation.base import InForce
from kubelet_plugin.in_force.containers import RunningContainer
from kubelet_plugin.threads import in_daemon_thread

log = structlog.get_logger(__name__)

T = TypeVar("T")

CONTAINER_S = 10.0
"""So long a look may stay at one container."""

NEXT_S = 1.0
"""So long it may where another container of its namespace does not answer."""

LOOK_S = 30.0
"""After so long a look begins with no further container."""

ONCE_S = 10.0
"""So long a read may take that belongs to no container."""

NOT_ANSWERING = InForce(
    holds=False,
    known=False,
    reason="ProcessesDoNotAnswer",
    message="The container's processes could not be looked at in time.",
    remedy="See whether a file system that the container brought (NFS, FUSE) answers.",
)
"""What is said of the processes of a container that is passed over."""

HELD_BACK = InForce(
    holds=False,
    known=False,
    reason="TooManyDoNotAnswer",
    message="The container's processes are not looked at, since too many containers do not answer.",
    remedy="See which containers of the namespace or node are ProcessesDoNotAnswer, and delete their pods.",
)
"""What is said of those of a container that is not looked at because of others."""

PASSED_OVER_S = 300.0
MAX_LEFT_BEHIND = 256
"""A thread that waits costs some 18 KiB (measured: 1.1 MiB for 64)."""

MAX_OF_NAMESPACE = 8
_THREAD = "limits in force"


class LookGivenUpError(Exception):
    """Nobody waits for the look any more; its thread has to end, and to change nothing before that."""


class Look:
    """One look at one container, as the thread that takes it knows it."""

    def __init__(self) -> None:
        self._given_up = False

    def goes_on(self) -> None:
        """To be asked after each read, before anything is changed that other looks know of.

        Raises:
            LookGivenUpError: The look was given up.
        """
        if self._given_up:
            raise LookGivenUpError

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._given_up = True


@dataclass(frozen=True, kw_only=True)
class Seen(Generic[T]):
    """What a look at containers found; nobody came to those that are in none of these.

    Attributes:
        answers: By the container's ID.
        hanging: IDs of those that did not answer in time, now or lately.
        held_back: IDs of those that are not looked at because of others that do not answer.
    """

    answers: Mapping[str, T] = field(default_factory=dict)
    hanging: frozenset[str] = frozenset()
    held_back: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _LeftBehind:
    thread: threading.Thread
    container: RunningContainer
    at: float


class _Worker(Generic[T]):
    """A thread that goes over containers until it is given up, or none is left."""

    def __init__(
        self,
        next_one: Callable[[], RunningContainer | None],
        work: Callable[[Look, RunningContainer], T],
        done: Callable[[RunningContainer, T, float], None],
    ) -> None:
        self._next = next_one
        self._work = work
        self._done = done
        self._look = Look()
        self._step = threading.Lock()
        self.error: Exception | None = None
        self.at: tuple[RunningContainer, float] | None = None
        """With which container it began last, and when."""
        self.thread = threading.Thread(target=self._run, name=_THREAD, daemon=True)
        self._begin()

    def give_up(self, at: tuple[RunningContainer, float]) -> bool:
        """Lets it change nothing any more, if it is still there; whether it is."""
        with self._step:
            if self.at is not at:
                return False
            self._look.give_up()
            return True

    def _run(self) -> None:
        try:
            while self.at is not None:
                container, began = self.at
                answer = self._work(self._look, container)
                with self._step:
                    self._look.goes_on()
                    self._done(container, answer, time.monotonic() - began)
                    self._begin()
        except Exception as failed:  # noqa: BLE001 - whatever it is, it belongs to who asked
            self.error = failed

    def _begin(self) -> None:
        container = self._next()
        self.at = None if container is None else (container, time.monotonic())


class Looks:
    """Takes looks one after the other."""

    def __init__(self) -> None:
        self._left: list[_LeftBehind] = []
        self._once: dict[str, threading.Thread] = {}
        self._took: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._answered: set[str] = set()

    async def once(self, name: str, work: Callable[[Look], T]) -> T | None:
        """What work of this name found; None if it takes too long, or still does from before."""
        former = self._once.get(name)
        if former is not None and former.is_alive():
            return None
        return await in_daemon_thread(lambda: self._wait(name, work), name=f"{_THREAD}, waiting")

    async def each(
        self, containers: Sequence[RunningContainer], work: Callable[[Look, RunningContainer], T]
    ) -> Seen[T]:
        """Looks at each container that may be looked at, as far as time allows."""
        return await in_daemon_thread(lambda: self._go_over(containers, work), name=f"{_THREAD}, waiting")

    def _wait(self, name: str, work: Callable[[Look], T]) -> T | None:
        look = Look()
        found: list[T] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                found.append(work(look))
            except Exception as failed:  # noqa: BLE001 - as above
                errors.append(failed)

        thread = self._once[name] = threading.Thread(target=run, name=_THREAD, daemon=True)
        thread.start()
        thread.join(ONCE_S)
        if thread.is_alive():
            look.give_up()
            log.warning("a look at the node takes too long and is given up", what=name)
            return None
        if errors:
            raise errors[0]
        return found[0]

    def _go_over(
        self, containers: Sequence[RunningContainer], work: Callable[[Look, RunningContainer], T]
    ) -> Seen[T]:
        now = time.monotonic()
        self._left = [one for one in self._left if one.thread.is_alive() or now - one.at < PASSED_OVER_S]
        self._forget_others(containers)
        over = {one.container.container_id for one in self._left}
        queue = self._in_turn([one for one in containers if one.container_id not in over])
        held_back: set[str] = set()
        answers: dict[str, T] = {}
        until = now + LOOK_S

        def next_one() -> RunningContainer | None:
            while queue and time.monotonic() < until:
                container = queue.pop(0)
                if self._may(container):
                    return container
                held_back.add(container.container_id)
            return None

        def done(container: RunningContainer, answer: T, took: float) -> None:
            answers[container.container_id] = answer
            self._answered.add(container.container_id)
            self._note(container, took)

        while queue and time.monotonic() < until:
            worker = _Worker(next_one, work, done)
            worker.thread.start()
            self._watch(worker)
            if worker.error is not None:
                raise worker.error
        over = {one.container.container_id for one in self._left}
        return Seen(
            answers=dict(answers),
            hanging=frozenset(one.container_id for one in containers if one.container_id in over),
            held_back=frozenset(held_back),
        )

    def _watch(self, worker: _Worker[T]) -> None:
        """Waits until a worker is done, or stays at a container for too long."""
        while worker.thread.is_alive():
            at = worker.at
            if at is None:
                worker.thread.join(CONTAINER_S)
                continue
            container, began = at
            due = began + self._patience(container)
            worker.thread.join(max(0.0, due - time.monotonic()))
            if worker.thread.is_alive() and time.monotonic() >= due and worker.give_up(at):
                self._leave(worker.thread, container, took=time.monotonic() - began)
                return

    def _leave(self, thread: threading.Thread, container: RunningContainer, *, took: float) -> None:
        self._left.append(_LeftBehind(thread, container, time.monotonic()))
        self._answered.discard(container.container_id)
        self._note(container, took)
        log.warning(
            "processes of a container do not answer, which is passed over",
            namespace=container.namespace,
            pod=container.pod,
            container=container.name,
            container_id=container.container_id,
        )

    def _note(self, container: RunningContainer, took: float) -> None:
        self._took[container.container_id] = took
        self._last[container.container_id] = time.monotonic()

    def _forget_others(self, containers: Sequence[RunningContainer]) -> None:
        here = {one.container_id for one in containers}
        self._took = {one: took for one, took in self._took.items() if one in here}
        self._last = {one: at for one, at in self._last.items() if one in here}
        self._answered &= here

    def _in_turn(self, containers: Sequence[RunningContainer]) -> list[RunningContainer]:
        """Those of namespaces that cost little first; of each the one that waited longest."""
        cost: Counter[str] = Counter()
        for one in containers:
            # Milliseconds are what anybody costs, and no reason to come behind others.
            cost[one.namespace] += int(self._took.get(one.container_id, 0.0) / CONTAINER_S * 100)
        for left in self._left:
            cost[left.container.namespace] += 100
        return sorted(
            containers,
            key=lambda one: (cost[one.namespace], self._last.get(one.container_id, float("-inf"))),
        )

    def _may(self, container: RunningContainer) -> bool:
        if container.container_id in self._answered:
            return True
        alive = self._alive()
        return alive[container.namespace] < MAX_OF_NAMESPACE and alive.total() < MAX_LEFT_BEHIND

    def _alive(self) -> Counter[str]:
        return Counter(one.container.namespace for one in self._left if one.thread.is_alive())

    def _patience(self, container: RunningContainer) -> float:
        return NEXT_S if self._alive()[container.namespace] else CONTAINER_S
