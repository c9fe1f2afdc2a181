"""Caps on compute that hold only while others compute (`corePolicy: default`), and that none stays off.

Flow of a round: uses with their regions -> `wanted_switches`, pure: the switch of each such region, off while
nobody else computes on the card, on otherwise -> the switches that differ are written; those of regions that
are not seen any more are put on.

Source of the switch: HAMi's monitor does the same every five seconds. What it takes for active is different:
it counts down a number in the region, which only containers with a cap ever set.

Rules:
* Active is what has launched a kernel within `usage.ACTIVE_S`, by its region's clock. A launch in the future
  is none. A container can write any time into its region, so either answer can be wrong. But who is wrongly
  taken to be idle is himself the one beside whom others go beyond their caps, and his own cap comes off only
  where the others are idle; one wrongly taken to compute would keep all his neighbours' caps on, for ever and
  without doing anything.
* A share whose activity nobody knows counts as active.
* A cap that is off is somebody's business at any time: whoever does not go on to look puts it on again.

Limits: a container can write its own switch, and is then free of a cap that it agreed to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from driver.api.share_config import CorePolicy
from driver.cards import IsolationLevel
from driver.host import Host
from driver.isolation.region import UTILIZATION_SWITCH, write_number
from kubelet_plugin.in_force.usage import Use
from kubelet_plugin.prepare.records import ShareRecord

log = structlog.get_logger(__name__)

OFF, ON = 0, 1

_LOCK_S = 0.1
"""A round holds the lock while it writes a few bytes into memory."""

Holder = tuple[str, str]
"""A claim's UID and a request of it, whose share on a card counts in one region."""


def wanted_switches(
    uses: Collection[Use], *, holders: Mapping[str, Collection[Holder]], now: float
) -> dict[str, int]:
    """What the switch of each region has to be whose author lets go of the cap while nobody else computes.

    Args:
        uses: All shares of the node with a region.
        holders: The shares of each card that are prepared, with a region or without. One whose activity
            nobody knows counts as active, however many regions others have.
        now: Seconds since 1970.

    Returns:
        `OFF` (no cap) or `ON` by the region's file, for regions of `corePolicy: default` only.
    """
    known: dict[str, dict[str, bool]] = {}
    seen: dict[str, set[Holder]] = {}
    for use in uses:
        known.setdefault(use.record.share.device, {})[use.path] = use.computes(now=now)
        seen.setdefault(use.record.share.device, set()).add(holder_of(use.record))
    wanted: dict[str, int] = {}
    for use in uses:
        if not is_relieved(use.record):
            continue
        device = use.record.share.device
        others = [active for path, active in known[device].items() if path != use.path]
        alone = not any(others) and seen[device].issuperset(holders.get(device, ()))
        # A region with several cards has one switch: it is off only if it is alone on all of them.
        wanted[use.path] = max(wanted.get(use.path, OFF), OFF if alone else ON)
    return wanted


def holder_of(record: ShareRecord) -> Holder:
    """Who holds a share, for `wanted_switches`."""
    return record.share.claim_uid, record.share.request


def is_relieved(record: ShareRecord) -> bool:
    """Whether the cap of a share holds only while others compute, and it is the region that says so."""
    return (
        record.core_policy == CorePolicy.DEFAULT
        and record.share.limits_cores
        and record.cores_level is IsolationLevel.PRELOAD
    )


class Relief:
    """Takes caps off while they relieve somebody, and puts them on again.

    Args:
        host: The node.
    """

    def __init__(self, *, host: Host) -> None:
        self._host = host
        self._off: frozenset[str] = frozenset()
        # A thread whose look was given up, or that the agent's end overtook, must leave no cap off.
        self._lock = threading.Lock()
        self._over = False

    def round(
        self,
        uses: Collection[Use],
        *,
        holders: Mapping[str, Collection[Holder]],
        now: float,
        goes_on: Callable[[], None] = lambda: None,
    ) -> None:
        """Sets the switches of all regions that are seen, and puts on those that were off and are not seen.

        Args:
            uses: See `wanted_switches`.
            holders: See `wanted_switches`.
            now: Seconds since 1970.
            goes_on: Raises if nobody waits for this round any more; then no cap stays off.
        """
        with self._lock:
            goes_on()
            if self._over:
                return
            wanted = wanted_switches(uses, holders=holders, now=now)
            present = {use.path: use.region.utilization_switch for use in uses}
            self._put_on(path for path in self._off if path not in wanted)
            # Noted before it is done: who does not get the lock in time puts on what is noted.
            self._off = frozenset(path for path, value in wanted.items() if value == OFF)
            through = False
            try:
                for path, value in wanted.items():
                    if present[path] != value:
                        goes_on()
                        self._write(path, value)
                goes_on()
                through = not self._over
            finally:
                # Who gave caps back meanwhile may have done so before one was taken off here.
                if not through:
                    self._put_on(self._off)

    def give_back(self) -> None:
        """Puts all caps on, until the next round; no round under way may take one off after that."""
        with self._taken():
            self._put_on(self._off)

    def end(self) -> None:
        """Puts all caps on, for good: no round does anything any more."""
        self._over = True
        self.give_back()

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """The lock, if it can be had: a round that hangs must not keep caps off."""
        taken = self._lock.acquire(timeout=_LOCK_S)
        try:
            yield
        finally:
            if taken:
                self._lock.release()

    def _put_on(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._write(path, ON)

    def _write(self, path: str, value: int) -> None:
        try:
            write_number(path, field=UTILIZATION_SWITCH, value=value, host=self._host)
        except OSError as failed:
            log.debug("switch of a region not written", error=str(failed))
