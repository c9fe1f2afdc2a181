"""Frees what dead claims hold, and finds out what damaged records held.

Purpose: a kubelet that was wiped, a node that was declared out of service or an agent that was away for long
may never see an Unprepare. An entry goes when its claim is gone or released *and* the kubelet says that none
of its pods uses it.

Damaged records: the kubelet's list leads from names to claims and so to UIDs. A claim of that UID that is in
use is prepared again, which writes its record anew; if no claim in use has the UID, no container runs on it
and the reservation is given back.

Limits: where the kubelet does not answer, or the API server does not, everything is kept. The list is read
before the claims are: a claim that is gone when it is looked for cannot come into use any more. And since a
kubelet that was just restarted lists pods only as it learns of them, what is found dead once is freed when it
is found dead again, a round later.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from driver.errors import DragomanError, KubeError
from kubelet_plugin.prepare.claims import ClaimMissingError, ClaimRef, ClaimSource, PodResources
from kubelet_plugin.prepare.engine import PrepareEngine

_log = structlog.get_logger(__name__)


async def collect_garbage(
    engine: PrepareEngine, *, claims: ClaimSource, pod_resources: PodResources
) -> frozenset[str]:
    """One round.

    Returns:
        UIDs of the claims that were freed.
    """
    in_use = await pod_resources.claims_in_use()
    if in_use is None:
        return frozenset()
    try:
        dead = [
            ClaimRef(namespace=record.namespace, name=record.name, uid=record.uid)
            for record in engine.records.values()
            if (record.namespace, record.name) not in in_use and await engine.is_dead(record)
        ]
        dead += await _resolve_doubts(engine, in_use, claims=claims)
    except KubeError as away:
        # The next claim would wait for the same time-out.
        _log.warning("dead claims are looked for later", error=str(away))
        return frozenset()
    dead_again = [ref for ref in dead if ref.uid in engine.suspects]
    engine.suspects = frozenset(ref.uid for ref in dead)
    freed = await engine.unprepare(dead_again)
    for ref in dead_again:
        _log.info("dead claim", claim=ref.uid, name=ref.name, freed=freed[ref.uid] is None)
    return frozenset(uid for uid, refused in freed.items() if refused is None)


async def _resolve_doubts(
    engine: PrepareEngine, in_use: Iterable[tuple[str, str]], *, claims: ClaimSource
) -> list[ClaimRef]:
    # A newer version's record is not ours to judge.
    doubtful = {doubt.uid for doubt in engine.doubts if not doubt.newer}
    if not doubtful:
        return []
    for namespace, name in sorted(in_use):
        try:
            claim = await claims.get_claim(namespace=namespace, name=name)
        except ClaimMissingError:
            continue
        uid = str((claim.get("metadata") or {}).get("uid"))
        if uid in doubtful:
            doubtful.discard(uid)
            answer = (await engine.prepare([ClaimRef(namespace=namespace, name=name, uid=uid)]))[uid]
            if isinstance(answer, DragomanError):
                _log.warning("damaged record not restored", claim=uid, error=str(answer))
    return [ClaimRef(namespace="", name="", uid=uid) for uid in sorted(doubtful)]
