"""Frees what dead claims hold, and finds out what lost and damaged records held.

Purpose: a kubelet that was wiped, a node that was declared out of service or an agent that was away for long
may never see an Unprepare. An entry goes when its claim is gone or released *and* the kubelet says that none
of its pods uses it, both in two rounds one after the other: a kubelet that has just started lists nothing
until it knows its pods, and the containers of a pod that was deleted by force may outlive it for a while.
Before it is freed it is looked at once more, alone: it may have been allocated and prepared anew meanwhile.

Lost and damaged records: the kubelet's list says which claims are in use, mostly with their UIDs. One of them
whose record is damaged, or missing for two rounds, is prepared again, which writes its record anew; a damaged
record whose claim is not in use is given back. A name in use that leads to no claim that we know (the claim
was removed by force, or made anew) may stand for any damaged record, so all of them are kept.

Limits: where the kubelet does not answer, or the API server does not, everything is kept. The list is read
before the claims are: a claim that is gone when it is looked for cannot come into use any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from driver.errors import DragomanError
from driver.kube.client import UnreachableError
from kubelet_plugin.prepare.claims import ClaimRef, ClaimSource, PodResources
from kubelet_plugin.prepare.engine import PrepareEngine
from kubelet_plugin.prepare.records import ClaimRecord

_log = structlog.get_logger(__name__)


class Collector:
    """What was seen in the last round, so that nothing is judged by one look."""

    def __init__(self, engine: PrepareEngine, *, claims: ClaimSource, pod_resources: PodResources) -> None:
        self._engine = engine
        self._claims = claims
        self._pod_resources = pod_resources
        self._dead: frozenset[str] = frozenset()
        self._lost: frozenset[str] = frozenset()

    async def collect(self) -> frozenset[str]:
        """One round.

        Returns:
            UIDs of the claims that were freed.
        """
        suspects, self._dead = self._dead, frozenset()
        in_use = await self._pod_resources.claims_in_use()
        if in_use is None:
            return frozenset()
        try:
            dead: dict[ClaimRef, ClaimRecord | None] = {**await self._dead_records(in_use)}
            dead |= dict.fromkeys(await self._resolve_doubts(in_use))
        except UnreachableError as away:
            # The next claim would wait for the same time-out.
            _log.warning("dead claims are looked for later", error=str(away))
            return frozenset()
        await self._prepare_lost(in_use)
        self._dead = frozenset(ref.uid for ref in dead)
        freed = set()
        for ref, judged in dead.items():
            if ref.uid not in suspects:
                continue
            # The round takes as long as the API server does, and a claim can be prepared anew meanwhile.
            if await self._engine.free(ref, judged=judged):
                freed.add(ref.uid)
            _log.info("dead claim", claim=ref.uid, name=ref.name, freed=ref.uid in freed)
        return frozenset(freed)

    async def _dead_records(self, in_use: Iterable[ClaimRef]) -> Mapping[ClaimRef, ClaimRecord]:
        names = {(ref.namespace, ref.name) for ref in in_use}
        dead = {}
        for record in self._engine.records.values():
            if (record.namespace, record.name) in names:
                continue
            try:
                if await self._engine.is_dead(record):
                    ref = ClaimRef(namespace=record.namespace, name=record.name, uid=record.uid)
                    dead[ref] = record
            except UnreachableError:
                raise
            except Exception as unknown:  # noqa: BLE001 - one claim that cannot be read must not keep the others
                _log.warning("not known whether a claim is dead", claim=record.uid, error=repr(unknown))
        return dead

    async def _resolve_doubts(self, in_use: Iterable[ClaimRef]) -> list[ClaimRef]:
        # A newer version's record is not ours to judge.
        doubtful = {doubt.uid for doubt in self._engine.doubts if not doubt.newer}
        if not doubtful:
            return []
        unknown = False
        for ref in sorted(in_use, key=lambda ref: (ref.namespace, ref.name, ref.uid)):
            uid = ref.uid or await self._uid_of(ref)
            if uid in doubtful:
                doubtful.discard(uid)
                await self._prepare(ClaimRef(namespace=ref.namespace, name=ref.name, uid=uid))
            elif not ref.uid and uid not in self._engine.records:
                unknown = True
        return [] if unknown else [ClaimRef(namespace="", name="", uid=uid) for uid in sorted(doubtful)]

    async def _uid_of(self, ref: ClaimRef) -> str:
        """UID of the claim that has the name now; "" where nobody can say."""
        try:
            claim = await self._claims.get_claim(namespace=ref.namespace, name=ref.name)
        except UnreachableError:
            raise
        except Exception as unknown:  # noqa: BLE001 - what cannot be read leaves the doubts as they are
            _log.warning("claim in use cannot be read", name=ref.name, error=repr(unknown))
            return ""
        return str((claim.get("metadata") or {}).get("uid"))

    async def _prepare_lost(self, in_use: Iterable[ClaimRef]) -> None:
        known = self._engine.records.keys() | {doubt.uid for doubt in self._engine.doubts}
        lost = {ref.uid: ref for ref in in_use if ref.uid and ref.uid not in known}
        # In one round alone it may be between the kubelet's word and ours.
        for uid in sorted(lost.keys() & self._lost):
            _log.warning("a claim in use has no record", claim=uid)
            await self._prepare(lost[uid])
        self._lost = frozenset(lost)

    async def _prepare(self, ref: ClaimRef) -> None:
        answer = (await self._engine.prepare([ref]))[ref.uid]
        if isinstance(answer, DragomanError):
            _log.warning("record not restored", claim=ref.uid, error=str(answer))
