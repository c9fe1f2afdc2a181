"""The watch: asks, listens, judges, and tells everybody.

Flow: every `EVERY_S`, and at once after a report about a card, all vendors are asked (`questions`); beside
that one task for each vendor that has events waits for them, in a thread. Both feed the `HealthBook`. A
verdict that changed goes to the inventory (AcceleratorNode, and so slices), to the claims that hold the card,
to the health stream, to metrics, and into the file that survives a restart.

Limits: a fault is published within `EVERY_S` and the patience for a slow vendor. Nothing here blocks the
event loop. Programs can make a driver report their own faults as fast as they like: these are counted, make
nobody be asked, and are logged once in `LOGGED_AGAIN_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from driver.cards import Card, Fault, TaintEffect
from driver.host import Host
from driver.vendors.base import CardFault, CardHealth, FaultSource
from kubelet_plugin.card_health.book import HealthBook, Verdict
from kubelet_plugin.card_health.memory import HealthFile
from kubelet_plugin.card_health.questions import HealthQuestions
from kubelet_plugin.health import HealthBoard
from kubelet_plugin.inventory import Inventory
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.threads import in_daemon_thread

log = structlog.get_logger(__name__)

EVERY_S = 2.0
WAIT_S = 5.0
"""For so long one wait for a driver's reports lasts."""

SOONEST_S = 0.5
"""However much is reported, it makes vendors be asked no more often than once in this time."""

AFTER_REPORT_S = 0.2
"""A pause after what a driver reported: it has more at once, if it has more."""

LOGGED_AGAIN_S = 60.0
_MAX_LOGGED = 1024
_NO_SOURCE_S = 10.0
_AFTER_FAILURE_S = 5.0
_MAX_MESSAGE = 512

Told = Callable[[Mapping[str, Fault], Mapping[str, Fault]], None]
"""Told of the faults of before and of now, by card."""


class HealthWatch:
    """Watches the cards of a node.

    Args:
        inventory: The cards.
        host: The node.
        board: The kubelet's stream.
        file: Where verdicts survive a restart.
        metrics: Where faults are counted.
        told: Told of each change.
        now: The time of day.
    """

    def __init__(
        self,
        inventory: Inventory,
        *,
        host: Host,
        board: HealthBoard,
        file: HealthFile,
        metrics: Metrics,
        told: Told = lambda _before, _now: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._inventory = inventory
        self._host = host
        self._board = board
        self._file = file
        self._metrics = metrics
        self._told = told
        self._now = now
        self._book = HealthBook()
        self._questions = HealthQuestions(host)
        self._faults: Mapping[str, Fault] | None = None
        self._kept: Mapping[str, Any] | None = None
        self._ask_now = asyncio.Event()
        self._logged: dict[tuple[str, str], float] = {}
        inventory.await_verdicts()

    def fault_of(self, device: str) -> Fault | None:
        """What is wrong with a card."""
        return (self._faults or {}).get(device)

    async def run(self) -> None:
        """Asks and judges until cancelled."""
        await self._inventory.ready.wait()
        if self._faults is None:
            await self._recall()
        loop = asyncio.get_running_loop()
        sooner_at = float("-inf")
        while True:
            self._ask_now.clear()
            began = loop.time()
            await self.look()
            try:
                # What a look waited for a slow vendor is not waited again.
                await asyncio.wait_for(self._ask_now.wait(), max(0.0, began + EVERY_S - loop.time()))
            except TimeoutError:
                continue
            await asyncio.sleep(max(0.0, sooner_at + SOONEST_S - loop.time()))
            sooner_at = loop.time()

    async def listen(self) -> None:
        """Waits for what drivers report, until cancelled."""
        await self._inventory.ready.wait()
        waits: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for vendor, _ in self._inventory.by_vendor():
                    if isinstance(vendor, FaultSource) and vendor.name not in waits:
                        waits[vendor.name] = asyncio.create_task(
                            self._listen_to(vendor.name), name=f"faults-{vendor.name}"
                        )
                await asyncio.sleep(_NO_SOURCE_S)
        finally:
            for task in waits.values():
                task.cancel()

    async def look(self) -> None:
        """One round of questions, and what follows from the answers."""
        snapshot = self._inventory.snapshot
        missing = snapshot.missing if snapshot is not None else frozenset()
        self._book.answered(await self._questions.ask(self._inventory.by_vendor(), missing=missing))
        await self._judge()

    async def _listen_to(self, name: str) -> None:
        while True:
            found = next((one for one in self._inventory.by_vendor() if one[0].name == name), None)
            if found is None or not isinstance(source := found[0], FaultSource):
                await asyncio.sleep(_NO_SOURCE_S)
                continue
            try:
                await self._hear(source, found[1])
            except Exception as failed:
                log.exception("a driver's reports cannot be heard", vendor=name, error=str(failed))
                await asyncio.sleep(_AFTER_FAILURE_S)

    async def _hear(self, source: FaultSource, cards: Sequence[Card]) -> None:
        reports = await in_daemon_thread(
            lambda: source.wait_for_faults(cards, host=self._host, timeout_s=WAIT_S), name="faults"
        )
        counted = [self._report(report) for report in reports or ()]
        if reports is None or any(counted):
            self._ask_now.set()
        if reports:
            await asyncio.sleep(AFTER_REPORT_S)

    def _report(self, report: CardFault) -> bool:
        """Takes a report; whether it is about the card."""
        ignored = report.xid in self._ignored().get(report.name, frozenset())
        whose = "application" if report.of_application else "ignored" if ignored else "card"
        self._metrics.count("card_faults_total", reason=report.reason, of=whose)
        now = asyncio.get_running_loop().time()
        if self._is_to_be_logged(report, now=now):
            log.warning("fault reported", card=report.name, reason=report.reason, of=whose)
        if whose != "card":
            return False
        self._book.reported(report, now=now)
        return True

    def _is_to_be_logged(self, report: CardFault, *, now: float) -> bool:
        key = report.name, report.reason
        if now - self._logged.get(key, float("-inf")) < LOGGED_AGAIN_S:
            return False
        if len(self._logged) >= _MAX_LOGGED:
            self._logged.clear()
        self._logged[key] = now
        return True

    async def _judge(self) -> None:
        at = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        verdicts = self._book.judge(
            now=asyncio.get_running_loop().time(), at=at, ignored_xids=self._ignored()
        )
        cards = self._inventory.cards()
        # Also of cards that are not listed (yet): once they are, they must not be offered for a moment.
        faults = {name: self._fault(cards.get(name), verdict) for name, verdict in verdicts.items()}
        before, self._faults = self._faults, faults
        self._board.post([self._health(name) for name in cards])
        self._inventory.judged(faults)
        if faults != before:
            self._count(faults)
            _log_changes(before or {}, faults)
            if before is not None:
                self._told(before, faults)
        kept = self._book.remembered(now=asyncio.get_running_loop().time())
        if kept != self._kept:
            self._kept = kept
            await in_daemon_thread(lambda: self._file.write(kept), name="health-file")

    def _fault(self, card: Card | None, verdict: Verdict) -> Fault:
        snapshot = self._inventory.snapshot
        effect = TaintEffect.NO_SCHEDULE
        if snapshot is not None and card is not None:
            effect = TaintEffect(str(snapshot.policy.value("unhealthyEffect", uuid=_card_uuid(card))))
        if effect is TaintEffect.NO_EXECUTE and not verdict.certain:
            # On a suspicion nobody's work is ended.
            effect = TaintEffect.NO_SCHEDULE
        return Fault(
            reason=verdict.reason,
            message=verdict.message[:_MAX_MESSAGE],
            since=verdict.since,
            effect=effect,
        )

    def _health(self, name: str) -> CardHealth:
        fault = self.fault_of(name)
        if fault is not None:
            return CardHealth(name=name, health="Unhealthy", message=f"{fault.reason}: {fault.message}")
        answer = self._book.answer(name)
        return answer or CardHealth(name=name, health="Unknown", message="Not asked yet.")

    def _ignored(self) -> dict[str, frozenset[int]]:
        snapshot = self._inventory.snapshot
        if snapshot is None:
            return {}
        found = {}
        for name, card in snapshot.cards.items():
            value = snapshot.policy.value("ignoredXids", uuid=_card_uuid(card))
            if isinstance(value, tuple) and value:
                found[name] = frozenset(value)
        return found

    def _count(self, faults: Mapping[str, Fault]) -> None:
        self._metrics.clear("cards_faulty")
        reasons = [fault.reason for fault in faults.values()]
        for reason in set(reasons):
            self._metrics.gauge("cards_faulty", reasons.count(reason), reason=reason)

    async def _recall(self) -> None:
        kept = await in_daemon_thread(self._file.read, name="health-file")
        try:
            self._book.recall(kept, now=asyncio.get_running_loop().time())
        except (KeyError, TypeError, ValueError, AttributeError) as odd:
            log.warning("the cards' faults of before are not understood", error=repr(odd))


def _card_uuid(card: Card) -> str:
    """The card whose overrides hold: of a partition, the card that it is a part of."""
    return card.uuid if card.partition is None else card.partition.card_uuid


def _log_changes(before: Mapping[str, Fault], now: Mapping[str, Fault]) -> None:
    for name in sorted({*before, *now}):
        fault = now.get(name)
        if fault == before.get(name):
            continue
        if fault is None:
            log.info("card well again", card=name)
        else:
            log.warning("card faulty", card=name, reason=fault.reason, explanation=fault.message)
