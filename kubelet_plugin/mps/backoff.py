"""When a daemon that ended may be started again: at once the first time, then after growing pauses."""

from __future__ import annotations

FIRST_S = 1.0
CAP_S = 60.0
WELL_AFTER_S = 60.0
"""A daemon that ran for so long is well: what comes after counts from the beginning."""


class Restarts:
    """Counts a daemon's ends and says when the next start is due; times are monotonic seconds."""

    def __init__(self) -> None:
        self.ends = 0
        self.total = 0
        self._started_at: float | None = None
        self._due = float("-inf")

    @property
    def due(self) -> float:
        """No start before this time."""
        return self._due

    @property
    def pause(self) -> float:
        """Seconds between the daemon's last end and the next start."""
        return 0.0 if self.ends <= 1 else min(CAP_S, FIRST_S * 2.0 ** (self.ends - 2))

    def started(self, *, now: float) -> None:
        """A start was tried."""
        self._started_at = now

    def ended(self, *, now: float) -> None:
        """The daemon ended, or its start failed."""
        if self._started_at is not None and now - self._started_at >= WELL_AFTER_S:
            self.ends = 0
        self.ends += 1
        self.total += 1
        self._started_at = None
        self._due = now + self.pause
