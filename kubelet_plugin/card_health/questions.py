"""Asking the vendors for their cards' health, each in a thread of its own.

Limits: a vendor that hangs holds the others up once, for `PATIENCE_S`. It is not asked again while it hangs,
and nobody waits for it any more. What it said last holds for `SLOW_S`, so that a driver that is slow every
time does not come and go; then its cards are of unknown health, and after `HANGS_AFTER_S` they have a fault,
because a driver that answers no question will hardly run programs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from driver.cards import Card
from driver.host import Host
from driver.vendors.base import CARD_MISSING, UNREADABLE, CardHealth, Vendor
from kubelet_plugin.threads import in_daemon_thread

log = structlog.get_logger(__name__)

PATIENCE_S = 2.0
"""For so long a round waits for a slow vendor; its answer counts in a later one."""

SLOW_S = 20.0
HANGS_AFTER_S = 60.0


_UNASKED = CardHealth(name="", health="Unknown", message="Not asked yet.", reason=UNREADABLE)


@dataclass
class _Question:
    since: float
    task: asyncio.Task[tuple[CardHealth, ...]]


class HealthQuestions:
    """Asks vendors.

    Args:
        host: The node.
        clock: Monotonic seconds; by default the event loop's.
    """

    def __init__(self, host: Host, *, clock: Callable[[], float] | None = None) -> None:
        self._host = host
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._open: dict[str, _Question] = {}
        self._failing: set[str] = set()
        self._last: dict[str, Mapping[str, CardHealth]] = {}

    async def ask(
        self, cards: Sequence[tuple[Vendor, Sequence[Card]]], *, missing: frozenset[str]
    ) -> list[CardHealth]:
        """The health of all cards now.

        Args:
            cards: The vendors and their cards.
            missing: Cards that no vendor lists any more.
        """
        fresh = []
        for vendor, some in cards:
            if vendor.name not in self._open:
                task = asyncio.create_task(self._answer(vendor, some), name=f"health-{vendor.name}")
                self._open[vendor.name] = _Question(self._clock(), task)
                fresh.append(task)
        if fresh:
            await asyncio.wait(fresh, timeout=PATIENCE_S)
        found: list[CardHealth] = []
        for vendor, some in cards:
            found += self._collect(vendor, some)
        return [_missing(one) if one.name in missing else one for one in found]

    def _collect(self, vendor: Vendor, cards: Sequence[Card]) -> Iterable[CardHealth]:
        question = self._open[vendor.name]
        if question.task.done():
            del self._open[vendor.name]
            answers: Mapping[str, CardHealth] = {one.name: one for one in question.task.result()}
            self._last[vendor.name] = answers
            return [answers.get(card.name) or _named(_UNASKED, card) for card in cards]
        waited = self._clock() - question.since
        if waited < SLOW_S and vendor.name in self._last:
            answers = self._last[vendor.name]
            return [answers.get(card.name) or _named(_UNASKED, card) for card in cards]
        slow = CardHealth(
            name="",
            health="Unhealthy" if waited >= HANGS_AFTER_S else "Unknown",
            message=f"The driver does not answer when asked for the health of {vendor.name}'s cards.",
            reason="DriverHangs" if waited >= HANGS_AFTER_S else UNREADABLE,
        )
        return [_named(slow, card) for card in cards]

    async def _answer(self, vendor: Vendor, cards: Sequence[Card]) -> tuple[CardHealth, ...]:
        try:
            found = await in_daemon_thread(
                lambda: vendor.health(cards, host=self._host), name=f"health-{vendor.name}"
            )
            self._failing.discard(vendor.name)
        except Exception as failed:
            # A bug of ours is no fault of the cards.
            if vendor.name not in self._failing:
                log.exception("a vendor's health check failed", vendor=vendor.name, error=str(failed))
            self._failing.add(vendor.name)
            return tuple(
                CardHealth(name=card.name, health="Unknown", message=repr(failed), reason=UNREADABLE)
                for card in cards
            )
        return found


def _named(health: CardHealth, card: Card) -> CardHealth:
    return CardHealth(name=card.name, health=health.health, message=health.message, reason=health.reason)


def _missing(health: CardHealth) -> CardHealth:
    if health.health == "Unhealthy":
        return health
    return CardHealth(
        name=health.name,
        health="Unhealthy",
        message="The driver does not list the card any more.",
        reason=CARD_MISSING,
        certain=True,
    )
