"""The rounds: who runs, what is seen of it, who is told.

Flow of a round, every `EVERY_S`: limited shares of the records -> pods that the kubelet lists ->
containers -> (in threads) processes, one look at each container (`kubelet_plugin.in_force.inspection`),
regions -> verdicts -> claims' status and Events where a verdict changed, metrics.

Limits: a container's processes are looked at some at a time (`kubelet_plugin.in_force.proofs`). A round in
which the kubelet does not answer changes nothing; neither does one for the shares of containers to which
nobody came in time (`kubelet_plugin.in_force.looks`). Of containers that do not answer nothing is known, and
their caps are given back and they are let go. Whatever keeps a round from knowing who computes lets go of all
shares that wait (`kubelet_plugin.in_force.priority`) and puts on all caps that are off
(`kubelet_plugin.in_force.relief`), and so does the end of the rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from driver.cards import IsolationLevel
from driver.host import Host
from driver.isolation.base import IsolationMethod
from driver.isolation.preload import Preload
from driver.isolation.rules import ShareKey
from kubelet_plugin.in_force import relief, usage
from kubelet_plugin.in_force.book import NOT_HELD, Book, Observation, Verdict
from kubelet_plugin.in_force.containers import Containers, PodName, RunningContainer
from kubelet_plugin.in_force.inspection import Cards, Inspected, Inspection, Limited
from kubelet_plugin.in_force.looks import HELD_BACK, NOT_ANSWERING, Look, Looks, Seen
from kubelet_plugin.in_force.priority import Waiting
from kubelet_plugin.in_force.processes import ProcessTable
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.pods import share_key
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord

log = structlog.get_logger(__name__)

EVERY_S = 5.0

Told = Callable[[ClaimRef, ShareRecord, Verdict], None]
"""Told of each verdict that differs from the one before."""


@dataclass
class _Round:
    """What a round saw.

    Attributes:
        observations: Of processes, by share.
        not_come_to: Shares of containers to which nobody came.
        without_processes: Containers that should have some.
        places: The shares that are used now, each with its region.
        waiting: Whether it waits, for the file of each region that can be made to.
        silent: How many containers do not answer, or are not looked at because of them.
    """

    observations: dict[ShareKey, list[Observation]] = field(default_factory=dict)
    not_come_to: set[ShareKey] = field(default_factory=set)
    without_processes: list[RunningContainer] = field(default_factory=list)
    places: list[tuple[usage.Place, ShareRecord, str]] = field(default_factory=list)
    waiting: dict[str, bool] = field(default_factory=dict)
    silent: int = 0


class InForceWatch:
    """Watches the shares of a node.

    Args:
        records: What is prepared now.
        pods: Asks the kubelet which pods use claims; None where it does not say.
        containers: Who runs in them.
        cards: The node's cards.
        methods: The isolation methods.
        host: The node, with its /proc.
        metrics: Where verdicts and use are posted.
        deadline_s: For how long a failure has to last before it is told.
        told: Told of verdicts.
    """

    def __init__(
        self,
        *,
        records: Callable[[], Iterable[ClaimRecord]],
        pods: Callable[[], Awaitable[Iterable[PodName] | None]],
        containers: Containers,
        cards: Cards,
        methods: Mapping[IsolationLevel, IsolationMethod],
        host: Host,
        metrics: Metrics,
        deadline_s: float,
        told: Told,
    ) -> None:
        self._records = records
        self._pods = pods
        self._containers = containers
        self._host = host
        self._metrics = metrics
        self._told = told
        self._book = Book(deadline_s=deadline_s)
        self._table = ProcessTable(host)
        self._looks = Looks()
        self._inspection = Inspection(cards=cards, methods=methods, host=host, table=self._table)
        self._relief = relief.Relief(host=host)
        preload = methods.get(IsolationLevel.PRELOAD)
        self._waiting = Waiting(
            preload if isinstance(preload, Preload) else None, cards=cards.cards, host=host
        )

    def verdict_of(self, record: ShareRecord) -> Verdict | None:
        """What is to be said of a share; None where it is too early for a word."""
        return self._book.verdict(share_key(record.share))

    async def run(self) -> None:
        """Goes round until cancelled."""
        try:
            while True:
                await self.round()
                await asyncio.sleep(EVERY_S)
        finally:
            self._relief.end()
            self._waiting.end()

    async def round(self) -> None:
        """Looks once at everything."""
        now = asyncio.get_running_loop().time()
        records = list(self._records())
        limited = _limited(records)
        self._book.keep(limited)
        found, uses = _Round(), list[usage.Use]()
        if limited:
            pods = await self._pods()
            if pods is None:
                # Who computes is not known either, and the kubelet may be away for long.
                await self._let_go(now=now)
                return
            running = await self._containers.running(pods, records=records, now=now)
            seen = await self._look([one for one in running if one.uses & limited.keys()], limited, now=now)
            if seen is not None:
                found = seen
                self._containers.without_processes(found.without_processes)
                uses = await self._use(found, limited, now=now)
            else:
                await self._let_go(now=now)
                found.not_come_to |= limited.keys()
        else:
            await self._let_go(now=now)
        self._judge(limited, found, now=now)
        self._post(found, uses, limited)

    async def _let_go(self, *, now: float) -> None:
        """For when nobody knows who computes: no cap is off, and nobody waits."""
        await self._looks.once("waiting", lambda _: self._waiting.let_go(clock=now))
        await self._looks.once("caps", lambda _: self._relief.give_back())

    async def _look(
        self, ours: list[RunningContainer], limited: Mapping[ShareKey, Limited], *, now: float
    ) -> _Round | None:
        ids = frozenset(one.container_id for one in ours)
        processes = await self._looks.once("processes", lambda _: self._table.of(ids, now=now))
        if processes is None:
            return None
        cards = {one.record.share.device for one in limited.values()}
        if self._inspection.lacks_devices(cards):
            # Not asked for on the way: a driver that hangs is no container's fault.
            await self._looks.once("device nodes", lambda look: self._inspection.ask_devices(look, cards))

        def look_at(look: Look, container: RunningContainer) -> Inspected:
            here = processes.get(container.container_id, ())
            return self._inspection.look_at(look, container, processes=here, limited=limited, now=now)

        self._inspection.forget(containers=ids, now=now)
        return _round_of(ours, await self._looks.each(ours, look_at), limited)

    async def _use(
        self, found: _Round, limited: Mapping[ShareKey, Limited], *, now: float
    ) -> list[usage.Use]:
        def read(look: Look) -> list[usage.Use]:
            uses = usage.read_uses(found.places, host=self._host)
            look.goes_on()
            self._relief.round(uses, holders=_holders(limited), now=time.time(), goes_on=look.goes_on)
            found.waiting = self._waiting.round(uses, now=time.time(), clock=now, goes_on=look.goes_on)
            return uses

        uses = await self._looks.once("regions", read)
        if uses is None:
            await self._let_go(now=now)
        return uses or []

    # On the event loop

    def _judge(self, limited: Mapping[ShareKey, Limited], found: _Round, *, now: float) -> None:
        for key, one in limited.items():
            before = self._book.verdict(key)
            if one.levels == (IsolationLevel.NONE,):
                continue
            if key in found.not_come_to and key not in found.observations:
                continue
            after = self._book.round(key, found.observations.get(key, ()), now=now)
            if after is None or (before is not None and after.says_the_same(before)):
                continue
            log.info(
                "limits of a share",
                claim=one.claim.uid,
                request=one.record.share.request,
                in_force=after.status,
                reason=after.reason,
                container=after.container,
            )
            if after.status == "False":
                self._metrics.count("in_force_failures_total", reason=after.reason)
            self._told(one.claim, one.record, after)

    def _post(self, found: _Round, uses: Iterable[usage.Use], limited: Mapping[ShareKey, Limited]) -> None:
        counts: dict[str, int] = {}
        for verdict in self._book.verdicts().values():
            counts[verdict.status] = counts.get(verdict.status, 0) + 1
        waiting = sum(1 for one in limited.values() if one.levels != (IsolationLevel.NONE,)) - sum(
            counts.values()
        )
        self._metrics.clear("shares_in_force")
        for state, status in (("yes", "True"), ("no", "False"), ("unknown", "Unknown")):
            more = waiting if state == "unknown" else 0
            self._metrics.gauge("shares_in_force", counts.get(status, 0) + more, in_force=state)
        self._metrics.gauge("containers_not_answering", found.silent)
        usage.post(uses, waiting=found.waiting, metrics=self._metrics)


def _limited(records: Iterable[ClaimRecord]) -> dict[ShareKey, Limited]:
    found = {}
    for record in records:
        claim = ClaimRef(namespace=record.namespace, name=record.name, uid=record.uid)
        for share in record.shares:
            one = Limited(claim=claim, record=share)
            if one.levels:
                found[share_key(share.share)] = one
    return found


def _holders(limited: Mapping[ShareKey, Limited]) -> dict[str, set[relief.Holder]]:
    found: dict[str, set[relief.Holder]] = {}
    for one in limited.values():
        found.setdefault(one.record.share.device, set()).add(relief.holder_of(one.record))
    return found


def _round_of(
    ours: Iterable[RunningContainer], seen: Seen[Inspected], limited: Mapping[ShareKey, Limited]
) -> _Round:
    found = _Round()
    for container in ours:
        shares = sorted(container.uses & limited.keys())
        inspected = seen.answers.get(container.container_id)
        if inspected is None:
            unseen = _unseen(container, seen)
            if unseen is None:
                found.not_come_to.update(shares)
                continue
            found.silent += 1
            for key in shares:
                found.observations.setdefault(key, []).append(unseen)
            continue
        if not inspected.has_processes:
            found.without_processes.append(container)
        for key in shares:
            found.observations.setdefault(key, []).extend(
                Observation(container=container.name, found=answer) for answer in inspected.answers[key]
            )
            if inspected.region:
                place = _place(container, limited[key])
                found.places.append((place, limited[key].record, inspected.region))
    return found


def _unseen(container: RunningContainer, seen: Seen[Inspected]) -> Observation | None:
    if container.container_id in seen.hanging:
        return Observation(container=container.name, found=NOT_ANSWERING, unseen=True)
    if container.container_id in seen.held_back:
        return Observation(container=container.name, found=HELD_BACK, unseen=True)
    return None


def _place(container: RunningContainer, one: Limited) -> usage.Place:
    return usage.Place(
        namespace=container.namespace,
        pod=container.pod,
        container=container.name,
        claim=one.claim.name,
        device=one.record.share.device,
    )


__all__ = ["EVERY_S", "NOT_HELD", "InForceWatch", "Limited"]
