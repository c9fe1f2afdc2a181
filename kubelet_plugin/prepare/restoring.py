"""Rounds that put back CDI files and remove what nobody owns, and that no driver can hold up.

Flow of a round: files that vanished or changed come back as they were, from memory -> of each of their claims
all is made sure of, which asks drivers -> of all others it is asked whether they still lead to what is the
claim's, and those that do not go and are made anew -> what has no record is removed.

A driver that hangs cannot be stopped. Whatever may ask one runs in a thread of its own and is waited for
`PATIENCE_S`; after that the round goes on, and until the thread comes back nothing else of that vendor's
cards is asked for. So a driver costs a round that time once, and one thread. The claim's lock is held until
its thread is back: what is undecided is not worked on twice. A driver that hangs is not replaced meanwhile:
what it said in the round before still holds.

Limits: the file of a claim with a partition is not put back from memory: what it leads to may be another
claim's by now. Nor is anything that this process has not written or checked yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from driver.cards import Card
from driver.errors import DragomanError
from kubelet_plugin.prepare.effects import Effects
from kubelet_plugin.threads import in_daemon_thread

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

PATIENCE_S = 5.0
_LEFTOVERS = "leftovers"
_THREAD = "restore"


class Restoring:
    """The rounds of one agent.

    Args:
        effects: What is done to the node.
        cards: The node's cards, from memory.
        lock: The lock of a claim, by its UID.
    """

    def __init__(
        self,
        effects: Effects,
        *,
        cards: Callable[[], Mapping[str, Card]],
        lock: Callable[[str], asyncio.Lock],
    ) -> None:
        self._effects = effects
        self._cards = cards
        self._lock = lock
        self._busy: dict[str, str] = {}
        self._at_work: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def round(self) -> tuple[str, ...]:
        """One round; sentences about what cannot be done.

        Raises:
            StateError, NodeStorageError: The state folder cannot be used.
        """
        changed = await in_daemon_thread(self._effects.changed, name=_THREAD)
        problems = [await self._spared(uid, self._put_back(uid)) for uid in changed]
        problems += [await self._spared(uid, self._restore(uid)) for uid in changed]
        intact = await in_daemon_thread(self._effects.intact, name=_THREAD)
        for vendor, uids in self._by_vendor(intact).items():
            problems += await self._renew_outdated(vendor, uids)
        for uid in sorted(await in_daemon_thread(self._effects.orphans, name=_THREAD)):
            problems.append(await self._spared(uid, self._remove(uid)))
        return tuple(problem for problem in problems if problem)

    async def close(self) -> None:
        """Gives what runs the time that it has, and then waits no longer."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE_S)

    async def _spared(self, uid: str, work: Coroutine[Any, Any, str]) -> str:
        try:
            return await work
        except Exception as unexpected:  # noqa: BLE001 - a fault of ours in one claim must not take the others
            _log.exception("restore failed", claim=uid)
            return f"Claim {uid} is not restored: the agent failed: {unexpected!r}; its log says more."

    async def _put_back(self, uid: str) -> str:
        def work() -> str:
            return self._effects.put_back(uid)

        if uid in self._at_work:
            # Its own thread holds the lock, and would write the same.
            return await in_daemon_thread(work, name=_THREAD)
        if self._is_asked_for(uid):
            return ""
        async with self._lock(uid):
            return await in_daemon_thread(work, name=_THREAD)

    async def _restore(self, uid: str) -> str:
        if self._is_asked_for(uid):
            return ""
        vendors = self._vendors(uid)
        done = await self._bounded(
            vendors | {uid}, lambda: self._with_lock(uid, self._effects.restore), what=uid
        )
        if done is None:
            busy = next((vendor for vendor in sorted(vendors) if vendor in self._busy), "")
            return f"Claim {uid} is not restored yet: {self._why(busy)}"
        return done

    def _is_asked_for(self, uid: str) -> bool:
        """Whether the kubelet asks for the claim: what is done for it then writes its file."""
        return uid not in self._at_work and self._lock(uid).locked()

    async def _renew_outdated(self, vendor: str, uids: Sequence[str]) -> list[str]:
        devices = frozenset(name for name, card in self._cards().items() if card.vendor == vendor)

        def work() -> list[str]:
            return self._effects.find_outdated(uids, devices=devices)

        found = await self._bounded({vendor}, lambda: in_daemon_thread(work, name=_THREAD), what=vendor)
        if found is not None:
            return [await self._spared(uid, self._restore(uid)) for uid in found]
        if any(map(self._effects.has_partition, uids)):
            return [f"Nobody knows whether partitions are there: {self._why(vendor)}"]
        return []

    async def _remove(self, uid: str) -> str:
        # Nobody knows whose card it was.
        done = await self._bounded(
            {_LEFTOVERS}, lambda: self._with_lock(uid, self._effects.remove_orphan), what=uid
        )
        if done is None:
            return f"What is left of claim {uid}, which has no record, is not removed yet."
        return done

    async def _with_lock(self, uid: str, work: Callable[[str], _T]) -> _T:
        async with self._lock(uid):
            self._at_work.add(uid)
            try:
                return await in_daemon_thread(lambda: work(uid), name=_THREAD)
            finally:
                self._at_work.discard(uid)

    async def _bounded(
        self, keys: set[str], work: Callable[[], Coroutine[Any, Any, _T]], *, what: str
    ) -> _T | None:
        """What the work answers; None if it is late, or something with one of its keys is."""
        if not self._busy.keys().isdisjoint(keys):
            return None
        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        if done:
            return task.result()
        _log.warning("a driver does not answer; the others are gone on with", of=sorted(keys), what=what)
        for key in keys:
            self._busy[key] = what
        task.add_done_callback(lambda ended: self._back(keys, ended))
        return None

    def _back(self, keys: set[str], task: asyncio.Task[Any]) -> None:
        for key in keys:
            self._busy.pop(key, None)
        if task.cancelled():
            return
        failed = task.exception()
        if isinstance(failed, DragomanError):
            _log.warning("what was late failed", error=str(failed))
        elif failed is not None:
            _log.error("what was late failed", error=repr(failed))

    def _by_vendor(self, claims: Mapping[str, Iterable[str]]) -> Mapping[str, list[str]]:
        cards = self._cards()
        found: dict[str, list[str]] = {}
        for uid, devices in claims.items():
            for vendor in {cards[device].vendor for device in devices if device in cards}:
                found.setdefault(vendor, []).append(uid)
        return found

    def _vendors(self, uid: str) -> set[str]:
        cards = self._cards()
        return {
            cards[device].vendor if device in cards else device for device in self._effects.devices_of(uid)
        }

    @staticmethod
    def _why(vendor: str) -> str:
        return (
            f"the driver of {vendor} does not answer." if vendor else "it is worked on for longer than usual."
        )
