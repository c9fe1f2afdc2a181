"""Prepare and unprepare, as the kubelet asks for them.

Purpose: what NodePrepareResources and NodeUnprepareResources answer for each claim. One bad claim fails
alone; claims of one call run at the same time; one claim is never worked on twice at a time.

Flow: where the API server can be asked from any thread, a call for one claim goes the way of `quick`. All
else: fetch and plan on the event loop (`planning`), everything that touches the disk in one job of a thread
pool (`effects`). How many are at work on a card is bounded (`lanes`), and nothing else bounds their threads
(`workers`); what unprepares has threads of its own.

Repeats: the claim is read to notice another allocation. Where the API server is away, what the record says is
answered. A record is never changed by a repeat: limits of running containers stay what they were told, also
under a policy that became stricter.

Limits: a call that the kubelet gives up is finished all the same, since the thread cannot be stopped, and the
claim's lock is held until then. What hangs when the agent ends is left behind (`close`).
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from driver.cards import pool_name
from driver.errors import ClaimError, DragomanError, KubeError, PrepareError
from driver.kube.client import JSON
from kubelet_plugin.prepare.cards import CardSource
from kubelet_plugin.prepare.claims import ClaimMissingError, ClaimRef, ClaimSource, PodResources
from kubelet_plugin.prepare.effects import Effects, FormerAllocationError
from kubelet_plugin.prepare.lanes import Lanes
from kubelet_plugin.prepare.ledger import CardFullError, CardUse
from kubelet_plugin.prepare.phases import Phases, Recorder
from kubelet_plugin.prepare.planning import ClaimReader, Place, Plan, read
from kubelet_plugin.prepare.prepared import PreparedClaim, prepared_as
from kubelet_plugin.prepare.quick import QuickPath
from kubelet_plugin.prepare.records import CLAIM_UID, ClaimRecord
from kubelet_plugin.prepare.restoring import Restoring
from kubelet_plugin.prepare.shares_of import check_claim, devices_here, fingerprint, has_results_here
from kubelet_plugin.prepare.state import Doubt, StateFolder
from kubelet_plugin.prepare.workers import Workers
from kubelet_plugin.threads import in_daemon_thread

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

CLOSE_S = 5.0
"""For so long what still runs is waited for at the end: the kubelet's calls have had `app.DRAIN_S` before,
and the kubelet kills the agent after 30 s (the chart's terminationGracePeriodSeconds)."""
_QUICK_THREADS = 32
"""How many ask the API server, or wait a moment for a seat, at once; who has a seat counts no more."""
_MAX_LOOK_UPS = 16
"""How many holders of a full card are looked up to find out whether waiting helps."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Where the engine works.

    Attributes:
        node: Name of the node.
        state_folder: Folder of records; durable over reboots.
        cdi_folder: Folder of CDI specs that the runtime reads.
        lock_wait_s: How long to wait for another agent's lock.
    """

    node: str
    state_folder: Path
    cdi_folder: Path
    lock_wait_s: float = 5.0


class PrepareEngine:
    """Prepares and unprepares claims on one node."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        claims: ClaimSource,
        cards: CardSource,
        recorder: Recorder | None = None,
        claims_here: ClaimSource | None = None,
        pod_resources: PodResources | None = None,
    ) -> None:
        self._place = Place(node=settings.node, pool=pool_name(settings.node))
        self._claims = claims
        self._pod_resources = pod_resources
        self._cards = cards
        self._phases = Phases(recorder)
        self._state = StateFolder(
            settings.state_folder, phases=self._phases, lock_wait_s=settings.lock_wait_s
        )
        self._effects = Effects(
            state=self._state, cdi_folder=settings.cdi_folder, source=cards, phases=self._phases
        )
        # Seats alone bound what prepares and unprepares: no number of drivers that hang takes all threads.
        self._pool = Workers("prepare")
        self._undo_pool = Workers("unprepare")
        self._quick_pool = Workers("quick", most=_QUICK_THREADS)
        self._lanes = Lanes(cards.cards, threads=self._quick_pool)
        # Seats of their own: what is prepared must not keep an unprepare waiting.
        self._undo_lanes = Lanes(cards.cards)
        self._quick: QuickPath | None = None
        if claims_here is not None:
            self._quick = QuickPath(
                claims_here,
                state=self._state,
                effects=self._effects,
                cards=cards,
                place=self._place,
                lanes=self._lanes,
                phases=self._phases,
            )
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._restoring = Restoring(self._effects, cards=cards.cards, lock=self._lock)
        self._running: set[asyncio.Task[Any]] = set()
        self._unrestored: tuple[str, ...] = ()

    async def start(self) -> None:
        """Reads the records; needed before anything else. CDI files follow with `restore`.

        Raises:
            StateError, NodeStorageError: The state folder cannot be used.
        """
        await asyncio.get_running_loop().run_in_executor(self._pool, self._effects.start)

    async def restore(self) -> None:
        """Puts back CDI files that vanished and removes those of nobody; to be called every few seconds.

        Raises:
            StateError, NodeStorageError: The state folder cannot be used.
        """
        self._unrestored = await self._restoring.round()

    async def close(self, *, timeout_s: float = CLOSE_S) -> None:
        """Finishes what runs, as far as it is not late, and gives files back.

        What hangs is left behind, and ends with the process as if that were killed, which every step of it
        bears: a claim that was being prepared has its record, or nothing; one that was being unprepared has
        its record until all of it is gone. Nobody was answered, so the kubelet asks the next agent again,
        which finds what is there by the record and finishes it. What is lost is the answer, and for its wait
        the time that the driver hangs.

        Args:
            timeout_s: How long to wait for all of it together.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        restoring = asyncio.create_task(self._restoring.close())
        while self._running and loop.time() < deadline:
            await asyncio.wait(self._running, timeout=deadline - loop.time())
        await asyncio.wait({restoring}, timeout=max(0.0, deadline - loop.time()))
        pools = (self._quick_pool, self._pool, self._undo_pool)
        ended = (
            in_daemon_thread(partial(one.end, timeout_s=max(0.0, deadline - loop.time())), name="close")
            for one in pools
        )
        left = sum(await asyncio.gather(*ended))
        if left or self._running:
            _log.error("work that hangs is left behind", claims=len(self._running), threads=left)
            # The lock goes with the process: what a thread that comes back does is done under it until then.
            return
        self._state.close()

    @property
    def records(self) -> Mapping[str, ClaimRecord]:
        """What is prepared, by claim UID."""
        return self._state.records

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Records that cannot be read."""
        return self._state.doubts

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences about what an administrator should know."""
        return (*self._state.problems, *self._unrestored)

    @property
    def place(self) -> Place:
        """Which node this is."""
        return self._place

    def use(self, device: str) -> CardUse:
        """What is held of a card."""
        return self._state.use(device)

    async def prepare(self, refs: Sequence[ClaimRef]) -> Mapping[str, PreparedClaim | DragomanError]:
        """Prepares claims; the answer has one entry for each, by UID."""
        reader = ClaimReader(self._claims)
        # Several claims of a call share what is read of pods and claims.
        quick = self._quick if len(refs) == 1 else None
        answers = await asyncio.gather(
            *(
                self._guarded(self._prepare(ref, reader=reader, quick=quick), ref=ref, verb="prepare")
                for ref in refs
            )
        )
        return {ref.uid: answer for ref, answer in zip(refs, answers, strict=True)}

    async def unprepare(self, refs: Sequence[ClaimRef]) -> Mapping[str, DragomanError | None]:
        """Unprepares claims; None for success, also for claims that nobody knows."""
        answers = await asyncio.gather(
            *(self._guarded(self._unprepare(ref), ref=ref, verb="unprepare") for ref in refs)
        )
        return {ref.uid: answer for ref, answer in zip(refs, answers, strict=True)}

    async def _guarded(
        self, work: Coroutine[Any, Any, _T], *, ref: ClaimRef, verb: str
    ) -> _T | DragomanError:
        """One claim's work, whose failure is its own, and which goes on if the caller goes away."""
        task = asyncio.create_task(self._caught(work, ref=ref, verb=verb))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _caught(self, work: Coroutine[Any, Any, _T], *, ref: ClaimRef, verb: str) -> _T | DragomanError:
        try:
            return await work
        except DragomanError as refused:
            _log.warning(f"{verb} refused", claim=ref.uid, reason=refused.reason, error=str(refused))
            return refused
        except Exception as unexpected:  # noqa: BLE001 - a fault of ours in one claim must not take the others
            _log.exception(f"{verb} failed", claim=ref.uid)
            return PrepareError(f"The agent failed: {unexpected!r}.", remedy="Report it with the agent's log")

    async def _prepare(self, ref: ClaimRef, *, reader: ClaimReader, quick: QuickPath | None) -> PreparedClaim:
        _check_uid(ref)
        async with self._lock(ref.uid):
            if quick is not None:
                loop = asyncio.get_running_loop()
                done = await loop.run_in_executor(self._quick_pool, quick.attempt, ref)
                if done is not None:
                    return prepared_as(done)
            try:
                with self._phases.time("fetch"):
                    claim = await reader.claim(namespace=ref.namespace, name=ref.name)
            except KubeError:
                known = await self._in_thread(
                    lambda: self._effects.repeat(ref.uid, allocation=None),
                    devices=self._effects.devices_of(ref.uid),
                )
                if known is None:
                    raise
                return prepared_as(known)
            check_claim(claim, ref)
            looked_for = self._state.find(ref.uid) is not None
            if looked_for:
                known = await self._repeat(claim, ref)
                if known is not None:
                    return prepared_as(known)
            try:
                with self._phases.time("fetch"):
                    plan = await read(claim, ref, place=self._place, cards=self._cards.cards(), reader=reader)
                return prepared_as(await self._commit(plan)) if plan.given else PreparedClaim()
            except DragomanError:
                if looked_for:
                    raise
                # The other agent on this node may have prepared it, when it was not to be refused yet.
                known = await self._repeat(claim, ref)
                if known is None:
                    raise
                return prepared_as(known)

    async def _repeat(self, claim: JSON, ref: ClaimRef) -> ClaimRecord | None:
        allocation = fingerprint(claim, pool=self._place.pool)
        return await self._in_thread(
            lambda: self._effects.repeat(ref.uid, allocation=allocation),
            devices=devices_here(claim, pool=self._place.pool),
        )

    async def _commit(self, plan: Plan) -> ClaimRecord:
        try:
            return await self._commit_once(plan)
        except FormerAllocationError as held:
            former = held.record
        await self._check_replaceable(former, plan=plan)
        return await self._commit_once(plan, replacing=former)

    async def _commit_once(self, plan: Plan, *, replacing: ClaimRecord | None = None) -> ClaimRecord:
        devices = frozenset(item.share.device for item in plan.given)
        commit = partial(self._effects.commit, plan, replacing=replacing)
        try:
            return await self._in_thread(commit, devices=devices)
        except CardFullError as full:
            if not await self._find_releasing(full.holders):
                raise
        # Says now that waiting helps, or succeeds, if the release is through by now.
        return await self._in_thread(commit, devices=devices)

    async def _check_replaceable(self, former: ClaimRecord, *, plan: Plan) -> None:
        """Whether what is prepared of a claim by another allocation may go for this one.

        Raises:
            FormerAllocationError: It was allocated anew since it was read for the plan, or one of the
                kubelet's pods uses what is prepared: as after etcd was restored to an older state.
            KubeError: The API server does not say.
        """
        ref = plan.ref
        now = await self._claims.get_claim(namespace=ref.namespace, name=ref.name)
        check_claim(now, ref)
        if fingerprint(now, pool=self._place.pool) != plan.allocation:
            raise FormerAllocationError(former, "It was allocated anew while it was prepared.")
        in_use = frozenset() if self._pod_resources is None else await self._pod_resources.claims_in_use()
        if in_use is None:
            raise FormerAllocationError(former, "The kubelet does not say whether a pod uses it.")
        # Of a claim of which the kubelet knows nothing that is prepared, it does not know the UID.
        if ref.uid in {one.uid for one in in_use}:
            raise FormerAllocationError(former, "The kubelet says that a pod uses it.")

    async def _find_releasing(self, holders: frozenset[str]) -> bool:
        """Marks those holders whose claims are gone or released; whether there are any."""
        known = [self._state.find(uid) for uid in sorted(holders)[:_MAX_LOOK_UPS]]
        records = [record for record in known if record is not None]
        dead = await asyncio.gather(*map(self.is_dead, records), return_exceptions=True)
        found = [record for record, answer in zip(records, dead, strict=True) if answer is True]
        for record in found:
            self._state.mark_releasing(record.uid)
        return bool(found)

    async def is_dead(self, record: ClaimRecord) -> bool:
        """Whether a record's claim is gone, replaced, or names no card of this node any more.

        Raises:
            KubeError: Nobody can say now.
        """
        try:
            claim = await self._claims.get_claim(namespace=record.namespace, name=record.name)
        except ClaimMissingError:
            return True
        if (claim.get("metadata") or {}).get("uid") != record.uid:
            return True
        return not has_results_here(claim, pool=self._place.pool)

    async def free(self, ref: ClaimRef, *, judged: ClaimRecord | None) -> bool:
        """Frees what a claim that was found dead holds, if it is still what was judged.

        Args:
            ref: The claim.
            judged: Its record when it was found dead; None for one that could not be read.

        Returns:
            Whether it was freed: not where it was allocated or prepared anew meanwhile, where nobody can say
            so now, or where something cannot be removed.
        """
        return await self._guarded(self._free(ref, judged=judged), ref=ref, verb="free") is True

    async def _free(self, ref: ClaimRef, *, judged: ClaimRecord | None) -> bool:
        _check_uid(ref)
        async with self._lock(ref.uid):
            # A prepare waits for the lock from here on, so what is dead now stays so until it is freed.
            if judged is not None and not await self.is_dead(judged):
                return False
            return await self._undone(ref.uid, lambda: self._effects.withdraw_judged(ref.uid, judged=judged))

    async def _unprepare(self, ref: ClaimRef) -> None:
        _check_uid(ref)
        async with self._lock(ref.uid):
            if self._state.find(ref.uid) is not None:
                self._state.mark_releasing(ref.uid)
            await self._undone(ref.uid, lambda: self._effects.withdraw(ref.uid))

    def _lock(self, uid: str) -> asyncio.Lock:
        lock = self._locks.get(uid)
        if lock is None:
            lock = self._locks[uid] = asyncio.Lock()
        return lock

    async def _in_thread(self, work: Callable[[], _T], *, devices: frozenset[str]) -> _T:
        with await self._lanes.enter(devices):
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _undone(self, uid: str, work: Callable[[], _T]) -> _T:
        with await self._undo_lanes.enter(self._effects.devices_of(uid)):
            return await asyncio.get_running_loop().run_in_executor(self._undo_pool, work)


def _check_uid(ref: ClaimRef) -> None:
    if not CLAIM_UID.fullmatch(ref.uid):
        raise ClaimError(f"{ref.uid!r} cannot be the UID of a claim.", field="metadata.uid")
