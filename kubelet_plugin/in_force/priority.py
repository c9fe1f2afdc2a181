"""Which shares wait while one of high priority computes on their card, and that none of them waits for ever.

Purpose: HAMi's monitor makes containers of low priority wait by a number in their region
(`recent_kernel` below 0), at which HAMi-core sleeps before each launch. That wait has no end of its own, so
everything here is made to end it: whoever is not found to have to wait in a round is let go in that round.

Flow of a round: uses with their regions -> `waits`, pure: which regions have to wait now -> `Turns`, pure:
which of them are let through all the same -> the numbers that differ are written; all other regions of the
node are let go.

Rules:
* What a share's priority is stands in the agent's record, and whether that counts in the card's policy. A
  container can say what it likes in its environment and its region.
* Active is what has launched a kernel within `usage.ACTIVE_S`, by its region's clock. A launch in the future
  is none: a clock that was put forward would else be active for ever.
* A share that is not seen makes nobody wait, and does not wait.
* A region has one number for all its cards: it waits if one of them has an active share of high priority,
  and never if one of its own shares has it.
* However busy a share of high priority is, those of low priority compute for `lowPriorityPercent` of the
  time: what they are owed grows while they wait, and once it is `THROUGH_S` they are let through for as long.

Limits: HAMi-core looks at the number only where a cap on compute holds, before launches of single kernels and
neither of graphs nor of cooperative ones; one that is under way runs on; it looks again once a second. Graphs
it does not note as launches either. What a container writes into its own region ends its own wait at most.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from driver.api.share_config import Priority
from driver.cards import Card, IsolationLevel
from driver.host import Host
from driver.isolation.preload import Preload
from driver.isolation.region import make_wait
from kubelet_plugin.in_force.usage import Use
from kubelet_plugin.prepare.records import ShareRecord

THROUGH_S = 10.0
"""For so long a share of low priority is let through at a time: two rounds, and ten looks of the library."""

_LOCK_S = 0.1
"""A round holds the lock while it writes a few bytes into memory."""


def goes_first(record: ShareRecord, card: Card | None) -> bool:
    """Whether a share has high priority on its card, by its author's word and the card's policy."""
    return record.priority == Priority.HIGH and _allows(card)


def can_wait(record: ShareRecord) -> bool:
    """Whether the preload library looks at all whether it has to wait."""
    return record.cores_level is IsolationLevel.PRELOAD and record.share.limits_cores


def waits(uses: Iterable[Use], *, cards: Mapping[str, Card], now: float) -> dict[str, int]:
    """Which regions have to wait.

    Args:
        uses: All shares of the node with a region.
        cards: The node's cards under the policy in force.
        now: Seconds since 1970.

    Returns:
        By the region's file the percent of the time in which it computes all the same: the most that one of
        the cards for which it waits has.
    """
    first: set[str] = set()
    busy: set[str] = set()
    able: set[str] = set()
    on: dict[str, set[str]] = {}
    for use in uses:
        device = use.record.share.device
        on.setdefault(use.path, set()).add(device)
        if can_wait(use.record):
            able.add(use.path)
        if goes_first(use.record, cards.get(device)):
            first.add(use.path)
            if use.computes(now=now):
                busy.add(device)
    return {
        path: max(cards[device].low_priority_percent for device in devices & busy)
        for path, devices in on.items()
        if path in able and path not in first and devices & busy
    }


class Turns:
    """Lets those that wait through now and then, so that nobody waits for ever."""

    def __init__(self) -> None:
        self._owed: dict[str, float] = {}
        self._through: set[str] = set()
        self._held: dict[str, int] = {}
        self._last = 0.0

    def step(self, waiting: Mapping[str, int], *, now: float) -> frozenset[str]:
        """Who has to wait until the next step.

        Args:
            waiting: See `waits`.
            now: Seconds of a clock that only goes forward.
        """
        passed, self._last = now - self._last, now
        for path in {*self._owed, *self._held}:
            percent = self._held.get(path)
            before = self._owed.get(path, 0.0)
            after = before - passed if percent is None else before + passed * percent / (100 - percent)
            self._owed[path] = max(0.0, after)
        # By tenths: what rounding leaves of many amounts would let through for one step more.
        through = {path for path in self._through if self._owed.get(path, 0.0) >= 0.1}
        through |= {path for path in self._held if self._owed[path] >= THROUGH_S - 0.1}
        self._through = through & waiting.keys()
        self._held = {path: percent for path, percent in waiting.items() if path not in self._through}
        self._owed = {path: owed for path, owed in self._owed.items() if owed > 0.0}
        return frozenset(self._held)


class Waiting:
    """Makes shares wait, and ends their wait.

    Args:
        preload: Who knows where regions are; None where no share has one.
        cards: The node's cards under the policy in force.
        host: The node.
    """

    def __init__(
        self, preload: Preload | None, *, cards: Callable[[], Mapping[str, Card]], host: Host
    ) -> None:
        self._preload = preload
        self._cards = cards
        self._host = host
        self._turns = Turns()
        # A thread whose look was given up, or that the agent's end overtook, must not write after that.
        self._lock = threading.Lock()
        self._over = False

    def round(
        self, uses: list[Use], *, now: float, clock: float, goes_on: Callable[[], None] = lambda: None
    ) -> dict[str, bool]:
        """Sets the numbers of all regions.

        Args:
            uses: All shares of the node with a region.
            now: Seconds since 1970.
            clock: Seconds of a clock that only goes forward.
            goes_on: Raises if nobody waits for this round any more; then nothing is written.

        Returns:
            Whether it waits, for the file of each region that could be made to under the policy in force.
        """
        with self._lock:
            goes_on()
            if self._over:
                return {}
            cards = self._cards()
            held = self._turns.step(waits(uses, cards=cards, now=now), now=clock)
            self._free(but=held)
            through = False
            try:
                # A process that had just looked and is about to note its launch writes over the number once.
                for path in (*held, *held):
                    goes_on()
                    make_wait(path, host=self._host)
                goes_on()
                through = not self._over
            finally:
                # Who did not get the lock in time may have let go of everybody meanwhile.
                if not through:
                    self._free()
            if not through:
                return {}
        return {
            use.path: use.path in held
            for use in uses
            if use.path in held or (can_wait(use.record) and _allows(cards.get(use.record.share.device)))
        }

    def let_go(self, *, clock: float) -> None:
        """Ends the wait of everybody, until the next round."""
        with self._taken() as taken:
            if taken:
                self._turns.step({}, now=clock)
            self._free()

    def end(self) -> None:
        """Ends the wait of everybody, for good: no round does anything any more."""
        self._over = True
        with self._taken():
            self._free()

    @contextmanager
    def _taken(self) -> Iterator[bool]:
        """The lock, if it can be had: a round that hangs must not keep anybody from being let go."""
        taken = self._lock.acquire(timeout=_LOCK_S)
        try:
            yield taken
        finally:
            if taken:
                self._lock.release()

    def _free(self, *, but: Collection[str] = ()) -> None:
        if self._preload is not None:
            self._preload.let_go(host=self._host, but=but)


def _allows(card: Card | None) -> bool:
    return card is not None and card.allow_high_priority
