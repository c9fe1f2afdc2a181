"""The rounds: who runs, what is seen of it, who is told.

Flow of a round, every `EVERY_S`: limited shares of the records -> pods that the kubelet lists ->
containers -> (in a thread) processes, the verb *in_force?* of each method for each process, regions ->
verdicts -> claims' status and Events where a verdict changed, metrics.

Limits: a container's processes are looked at some at a time (`kubelet_plugin.in_force.proofs`). A round in
which the kubelet does not answer changes nothing. One that takes too long (`kubelet_plugin.in_force.looks`)
changes no verdict and gives back the caps that were let go; from the next on the container that took the time
is passed over, of which then nothing is known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from driver.errors import DragomanError
from driver.host import Host
from driver.isolation.base import InForce, IsolationMethod, ShareContext
from driver.isolation.preload import Preload
from driver.isolation.rules import ShareKey
from driver.shares import Share
from kubelet_plugin.in_force import usage
from kubelet_plugin.in_force.book import NOT_HELD, Book, Observation, Verdict
from kubelet_plugin.in_force.containers import Containers, PodName, RunningContainer
from kubelet_plugin.in_force.looks import NOT_ANSWERING, Look, Looks
from kubelet_plugin.in_force.processes import Process, ProcessTable
from kubelet_plugin.in_force.proofs import MAX_PROCESSES, Proofs
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.pods import share_key
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord

log = structlog.get_logger(__name__)

EVERY_S = 5.0
DEVICES_KEPT_S = 300.0

Told = Callable[[ClaimRef, ShareRecord, Verdict], None]
"""Told of each verdict that differs from the one before."""


class Cards(Protocol):
    """The part of `kubelet_plugin.inventory.Inventory` that is needed here."""

    def cards(self) -> Mapping[str, Card]:
        """The cards by device name."""

    def vendor_edits(self, card: Card) -> ContainerEdits:
        """What a container gets to reach a card."""


@dataclass(frozen=True, kw_only=True)
class Limited:
    """A share with a limit, and its claim."""

    claim: ClaimRef
    record: ShareRecord

    @property
    def levels(self) -> tuple[IsolationLevel, ...]:
        """Which methods hold its limits, each once."""
        share, record = self.record.share, self.record
        found = (
            record.memory_level if share.limits_memory else None,
            record.cores_level if share.limits_cores else None,
        )
        return tuple(dict.fromkeys(level for level in found if level is not None))


@dataclass
class _Round:
    observations: dict[ShareKey, list[Observation]] = field(default_factory=dict)
    without_processes: list[RunningContainer] = field(default_factory=list)
    uses: list[usage.Use] = field(default_factory=list)


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
        self._cards = cards
        self._methods = methods
        self._host = host
        self._metrics = metrics
        self._told = told
        self._book = Book(deadline_s=deadline_s)
        self._table = ProcessTable(host)
        self._looks = Looks()
        self._proofs = Proofs()
        self._wanted: dict[str, int] = {}
        self._regions: dict[str, str] = {}
        self._devices: dict[str, tuple[float, tuple[str, ...]]] = {}

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
            self._give_caps_back()

    async def round(self) -> None:
        """Looks once at everything."""
        now = asyncio.get_running_loop().time()
        records = list(self._records())
        limited = _limited(records)
        self._book.keep(limited)
        found = _Round()
        if limited:
            pods = await self._pods()
            if pods is None:
                return
            running = await self._containers.running(pods, records=records, now=now)
            seen = await self._looks.look(lambda look: self._look(look, running, limited, now=now))
            if seen is None:
                self._give_caps_back()
                usage.post((), metrics=self._metrics)
                return
            found = seen
            self._containers.without_processes(found.without_processes)
        self._judge(limited, found, now=now)
        self._post(found, limited)

    def _give_caps_back(self) -> None:
        """For when nobody is there to do so as soon as a neighbour begins to compute."""
        usage.give_caps_back(self._wanted, host=self._host)
        self._wanted = {}

    # In a thread

    def _look(
        self,
        look: Look,
        running: list[RunningContainer],
        limited: Mapping[ShareKey, Limited],
        *,
        now: float,
    ) -> _Round:
        found = _Round()
        ours = [one for one in running if one.uses & limited.keys()]
        processes = self._table.of({one.container_id for one in ours}, now=now)
        places = []
        for container in ours:
            if container.container_id in look.passed_over:
                for key in container.uses & limited.keys():
                    unseen = Observation(container=container.name, found=NOT_ANSWERING)
                    found.observations.setdefault(key, []).append(unseen)
                continue
            look.begins(container.container_id)
            here = processes.get(container.container_id, ())
            if not here:
                found.without_processes.append(container)
            shares = sorted(container.uses & limited.keys())
            region = self._region(look, container, here, [limited[key] for key in shares])
            for key in shares:
                one = limited[key]
                beside = tuple(limited[other].record.share for other in shares if other != key)
                answers = [
                    answer
                    for process in self._proofs.next(here, key, levels=_held_by(one))
                    for answer in self._verb(look, process, key, one, beside=beside, now=now)
                ]
                found.observations.setdefault(key, []).extend(
                    Observation(container=container.name, found=answer) for answer in answers
                )
                if region:
                    places.append((_place(container, one), one.record, region))
        look.begins("")
        self._proofs.forget(now=now)
        ids = {one.container_id for one in ours}
        self._regions = {one: path for one, path in self._regions.items() if one in ids}
        found.uses = usage.read_uses(places, host=self._host)
        look.goes_on()
        self._relieve(found.uses, limited)
        return found

    def _region(
        self, look: Look, container: RunningContainer, processes: tuple[Process, ...], shares: list[Limited]
    ) -> str:
        """The region that a container uses: its mounts stay as they are, so it is looked up once."""
        known = self._regions.get(container.container_id, "")
        preload = self._methods.get(IsolationLevel.PRELOAD)
        held = [one for one in shares if IsolationLevel.PRELOAD in one.levels]
        if known or not held or not isinstance(preload, Preload):
            return known
        card = self._cards.cards().get(held[0].record.share.device)
        if card is None:
            return ""
        context = self._context(held[0], card, level=IsolationLevel.PRELOAD, beside=())
        for process in processes[:MAX_PROCESSES]:
            path = preload.region_used(
                [one.record.share for one in held], host=self._host, pid=process.pid, context=context
            )
            look.goes_on()
            if path and self._table.lives(process):
                self._regions[container.container_id] = path
                return path
        return ""

    def _verb(
        self,
        look: Look,
        process: Process,
        key: ShareKey,
        one: Limited,
        *,
        beside: tuple[Share, ...],
        now: float,
    ) -> list[InForce]:
        card = self._cards.cards().get(one.record.share.device)
        if card is None:
            return []
        answers, proved = [], []
        for level in _held_by(one):
            method = self._methods.get(level)
            if method is None:
                continue
            if self._proofs.holds(process, key, level):
                answers.append(InForce(holds=True, message=_holds(one, level)))
                continue
            answer = method.in_force(
                one.record.share,
                context=self._context(one, card, level=level, beside=beside),
                host=self._host,
                pid=process.pid,
            )
            if answer.holds:
                proved.append(level)
                answer = InForce(holds=True, message=_holds(one, level))
            answers.append(answer)
        # What was seen may be another's who got its number meanwhile.
        lives = self._table.lives(process)
        look.goes_on()
        if not lives:
            return []
        for level in proved:
            self._proofs.note_proof(process, key, level, now=now)
        failing = any(answer.known and not answer.holds for answer in answers)
        self._proofs.note_look(process, key, failing=failing, now=now)
        # A process proves a share only if all of its limits hold.
        return [answer for answer in answers if not answer.holds] or answers[:1]

    def _context(
        self, one: Limited, card: Card, *, level: IsolationLevel, beside: tuple[Share, ...]
    ) -> ShareContext:
        record = one.record
        return ShareContext(
            card=card,
            index=record.index,
            core_policy=record.core_policy,
            claim_uid=one.claim.uid,
            holds_memory=record.memory_level is level,
            holds_cores=record.cores_level is level,
            devices=self._devices_of(card),
            beside=beside,
        )

    def _devices_of(self, card: Card) -> tuple[str, ...]:
        at, devices = self._devices.get(card.name, (float("-inf"), ()))
        if time.monotonic() - at < DEVICES_KEPT_S:
            return devices
        try:
            nodes = self._cards.vendor_edits(card).device_nodes
            devices = tuple(node.path for node in nodes)
        except (DragomanError, OSError) as unknown:
            log.debug("device nodes not known", card=card.name, error=str(unknown))
        self._devices[card.name] = (time.monotonic(), devices)
        return devices

    def _relieve(self, uses: list[usage.Use], limited: Mapping[ShareKey, Limited]) -> None:
        before, self._wanted = self._wanted, {}
        if any(usage.is_relieved(use.record) for use in uses):
            holders: dict[str, set[usage.Holder]] = {}
            for one in limited.values():
                holders.setdefault(one.record.share.device, set()).add(usage.holder_of(one.record))
            self._wanted = usage.wanted_switches(uses, holders=holders, now=time.time())
            usage.write_switches(uses, self._wanted, host=self._host)
        # Of a container that is not seen any more, but may run and have its cap off.
        usage.give_caps_back(before, host=self._host, but=self._wanted)

    # On the event loop

    def _judge(self, limited: Mapping[ShareKey, Limited], found: _Round, *, now: float) -> None:
        for key, one in limited.items():
            before = self._book.verdict(key)
            if one.levels == (IsolationLevel.NONE,):
                continue
            after = self._book.round(key, found.observations.get(key, ()), now=now)
            if after is None or after == before:
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

    def _post(self, found: _Round, limited: Mapping[ShareKey, Limited]) -> None:
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
        usage.post(found.uses, metrics=self._metrics)


def _limited(records: Iterable[ClaimRecord]) -> dict[ShareKey, Limited]:
    found = {}
    for record in records:
        claim = ClaimRef(namespace=record.namespace, name=record.name, uid=record.uid)
        for share in record.shares:
            one = Limited(claim=claim, record=share)
            if one.levels:
                found[share_key(share.share)] = one
    return found


def _held_by(one: Limited) -> tuple[IsolationLevel, ...]:
    return tuple(level for level in one.levels if level is not IsolationLevel.NONE)


def _place(container: RunningContainer, one: Limited) -> usage.Place:
    return usage.Place(
        namespace=container.namespace,
        pod=container.pod,
        container=container.name,
        claim=one.claim.name,
        device=one.record.share.device,
    )


def _holds(one: Limited, level: IsolationLevel) -> str:
    share, record = one.record.share, one.record
    told = []
    if share.limits_memory and record.memory_level is level:
        told.append(f"{share.memory_mib} MiB of memory")
    if share.limits_cores and record.cores_level is level:
        told.append(f"{share.cores_percent} percent of compute")
    return f"Seen in force by {level}: {' and '.join(told)}."


__all__ = ["EVERY_S", "NOT_HELD", "InForceWatch", "Limited"]
