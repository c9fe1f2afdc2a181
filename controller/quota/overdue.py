"""Which reservations are over: their claims can never be stored any more.

Purpose: clocks of replicas differ. What counts is how long a reservation was seen by this replica's own
clock; only what nobody saw begin, because all replicas are new, is judged by the time written in it.

Flow: `note` is told each state of a quota that this replica reads or watches; `over` answers.

Limits: a reservation that was seen is forgotten after ten minutes, and would then be seen anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from driver.kube.client import JSON
from driver.quota.ledger import HOLD_S, Reservation, expired

_FORGET_S = 600.0


class SeenSince:
    """Since when each reservation is known here; implements `controller.quota.desk.Overdue`."""

    def __init__(self, *, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        """Begins with nothing.

        Args:
            clock: Seconds that only grow.
            now: The time.
        """
        self._clock = clock
        self._now = now
        self._since: OrderedDict[str, float] = OrderedDict()

    def note(self, document: JSON) -> None:
        """Takes note of the reservations of a quota."""
        now = self._clock()
        for one in (document.get("status") or {}).get("reservations") or []:
            self._since.setdefault(str(one.get("uid") or ""), now)
        while self._since:
            oldest = next(iter(self._since))
            if self._since[oldest] + _FORGET_S > now:
                break
            del self._since[oldest]

    def over(self, reservation: Reservation) -> bool:
        """Whether its claim can never be stored any more."""
        since = self._since.get(reservation.uid)
        if since is not None and self._clock() - since >= HOLD_S:
            return True
        return expired(reservation, now=self._now())

    def left_s(self, reservation: Reservation) -> float:
        """Seconds until it is over, at most."""
        since = self._since.get(reservation.uid, self._clock())
        return max(0.0, since + HOLD_S - self._clock())
