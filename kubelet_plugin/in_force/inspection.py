"""One look at one container: what its processes say about the shares that it can use.

Flow: which region of the preload library it uses -> for some of its processes the verb *in_force?* of each
method that holds a dimension of a share -> answers, and proofs that are taken for granted for a while.

Limits: blocks, in a thread that may be given up at any read (`kubelet_plugin.in_force.looks`): what is known
between looks is changed only after `Look.goes_on`. Asks no driver; device nodes are asked for beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
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
from kubelet_plugin.in_force.containers import RunningContainer
from kubelet_plugin.in_force.looks import Look
from kubelet_plugin.in_force.processes import Process, ProcessTable
from kubelet_plugin.in_force.proofs import MAX_PROCESSES, Proofs
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.records import ShareRecord

log = structlog.get_logger(__name__)

DEVICES_KEPT_S = 300.0


class Cards(Protocol):
    """The part of `kubelet_plugin.inventory.Inventory` that is needed here."""

    def cards(self) -> Mapping[str, Card]:
        """The cards by device name."""

    def vendor_edits(self, card: Card) -> ContainerEdits:
        """What a container gets to reach a card; asks its driver."""


@dataclass(frozen=True, kw_only=True)
class Limited:
    """A share with a limit, and its claim."""

    claim: ClaimRef
    record: ShareRecord

    @property
    def levels(self) -> tuple[IsolationLevel, ...]:
        """What stands for its limits, each once: methods, or none by somebody's decision."""
        share, record = self.record.share, self.record
        if record.memory_level is IsolationLevel.HARDWARE:
            # Of a partition its claim has all, so no limit is asked for: the card holds it all the same.
            return (IsolationLevel.HARDWARE,)
        found = (
            record.memory_level if share.limits_memory else None,
            record.cores_level if share.limits_cores else None,
        )
        return tuple(dict.fromkeys(level for level in found if level is not None))

    @property
    def held_by(self) -> tuple[IsolationLevel, ...]:
        """Which methods hold its limits."""
        return tuple(level for level in self.levels if level is not IsolationLevel.NONE)

    def holding(self, level: IsolationLevel) -> str:
        """The sentence that what a method holds of it was seen."""
        share, record = self.record.share, self.record
        if level is IsolationLevel.HARDWARE:
            return f"Seen in force by {level}: a partition of {share.memory_mib} MiB."
        told = []
        if share.limits_memory and record.memory_level is level:
            told.append(f"{share.memory_mib} MiB of memory")
        if share.limits_cores and record.cores_level is level:
            told.append(f"{share.cores_percent} percent of compute")
        return f"Seen in force by {level}: {' and '.join(told)}."


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What a look at a container found.

    Attributes:
        answers: What its processes said, by share.
        region: File of the region that it uses; "" for none.
        has_processes: Whether it has any.
    """

    answers: Mapping[ShareKey, tuple[InForce, ...]]
    region: str
    has_processes: bool


class Inspection:
    """Looks at containers, and remembers what need not be looked up again.

    Args:
        cards: The node's cards.
        methods: The isolation methods.
        host: The node, with its /proc.
        table: Its processes.
    """

    def __init__(
        self,
        *,
        cards: Cards,
        methods: Mapping[IsolationLevel, IsolationMethod],
        host: Host,
        table: ProcessTable,
    ) -> None:
        self._cards = cards
        self._methods = methods
        self._host = host
        self._table = table
        self._proofs = Proofs()
        self._regions: dict[str, str] = {}
        self._devices: dict[str, tuple[float, tuple[str, ...]]] = {}

    def forget(self, *, containers: Collection[str], now: float) -> None:
        """Forgets other containers, and what is too old to count."""
        self._proofs.forget(now=now)
        self._regions = {one: path for one, path in self._regions.items() if one in containers}

    def lacks_devices(self, names: Iterable[str]) -> bool:
        """Whether device nodes of one of these cards have to be asked for (again)."""
        return any(self._is_due(name) for name in names)

    def ask_devices(self, look: Look, names: Iterable[str]) -> None:
        """Asks drivers for the device nodes of cards."""
        cards = self._cards.cards()
        for name in sorted(names):
            card = cards.get(name)
            if card is None or not self._is_due(name):
                continue
            devices: tuple[str, ...] = ()
            try:
                devices = tuple(node.path for node in self._cards.vendor_edits(card).device_nodes)
            except (DragomanError, OSError) as unknown:
                log.debug("device nodes not known", card=name, error=str(unknown))
                devices = self._devices.get(name, (0.0, ()))[1]
            look.goes_on()
            self._devices[name] = (time.monotonic(), devices)

    def look_at(
        self,
        look: Look,
        container: RunningContainer,
        *,
        processes: tuple[Process, ...],
        limited: Mapping[ShareKey, Limited],
        now: float,
    ) -> Inspected:
        """Looks at a container and its shares."""
        shares = sorted(container.uses & limited.keys())
        region = self._region(look, container, processes, [limited[key] for key in shares])
        answers = {}
        for key in shares:
            one = limited[key]
            beside = tuple(limited[other].record.share for other in shares if other != key)
            answers[key] = tuple(
                answer
                for process in self._proofs.next(processes, key, levels=one.held_by)
                for answer in self._verb(look, process, key, one, beside=beside, now=now)
            )
        return Inspected(answers=answers, region=region, has_processes=bool(processes))

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
            lives = bool(path) and self._table.lives(process)
            look.goes_on()
            if lives:
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
        for level in one.held_by:
            method = self._methods.get(level)
            if method is None:
                continue
            if self._proofs.holds(process, key, level):
                answers.append(InForce(holds=True, message=one.holding(level)))
                continue
            answer = method.in_force(
                one.record.share,
                context=self._context(one, card, level=level, beside=beside),
                host=self._host,
                pid=process.pid,
            )
            look.goes_on()
            if answer.holds:
                proved.append(level)
                answer = InForce(holds=True, message=one.holding(level))
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
            devices=self._devices.get(card.name, (0.0, ()))[1],
            beside=beside,
        )

    def _is_due(self, name: str) -> bool:
        return time.monotonic() - self._devices.get(name, (float("-inf"), ()))[0] >= DEVICES_KEPT_S
