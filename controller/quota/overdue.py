"""Which reservations are over: their claims are not stored, and can never be any more.

Purpose: capacity that nobody uses comes back, and never that of a claim which is only seen late.

Flow: `note` is told each state of a quota that this replica reads or watches. The leader asks for what is
`due`, looks each of those claims up in the API server, and tells by `confirm` which are not there; `over`
answers by that alone.

Limits: clocks of replicas differ. What counts is how long a reservation was seen by this replica's own clock;
only what was there when this replica began is judged by the time written in it as well, since all replicas
may be new. A reservation that was seen is forgotten after ten minutes, and would then be seen anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from driver.kube.client import JSON
from driver.quota.ledger import HOLD_S, Reservation, read_ledger, written_left_s

_FORGET_S = 600.0
_BEGINNING_S = 10.0


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
        self._confirmed: OrderedDict[str, float] = OrderedDict()
        self._began: float | None = None

    def note(self, document: JSON) -> None:
        """Takes note of the reservations of a quota."""
        now = self._clock()
        if self._began is None:
            self._began = now
        for one in (document.get("status") or {}).get("reservations") or []:
            self._since.setdefault(str(one.get("uid") or ""), now)
        for kept in (self._since, self._confirmed):
            while kept:
                oldest = next(iter(kept))
                if kept[oldest] + _FORGET_S > now:
                    break
                del kept[oldest]

    def due(self, document: JSON) -> list[Reservation]:
        """The reservations of a quota whose claims can never be stored any more, if they are not yet."""
        return [one for one in read_ledger(document)[1].reservations if self.left_s(one) <= 0]

    def confirm(self, uid: str) -> None:
        """Takes note that the claim of a reservation that was due is not stored."""
        self._confirmed[uid] = self._clock()

    def over(self, reservation: Reservation) -> bool:
        """Whether its claim is not stored and can never be any more."""
        return reservation.uid in self._confirmed

    def left_s(self, reservation: Reservation) -> float:
        """Seconds until it is due, at most."""
        now = self._clock()
        since = self._since.get(reservation.uid, now)
        left = since + HOLD_S - now
        if self._began is None or since < self._began + _BEGINNING_S:
            left = min(left, written_left_s(reservation, now=self._now()))
        return max(0.0, left)
