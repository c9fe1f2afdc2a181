"""Whether the controller does its work, for probes that run in another thread.

Flow: the event loop reports every few seconds what is wrong; a probe reads the last report. A report that
is too old is itself what is wrong: the loop hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Report:
    at: float
    problems: tuple[str, ...]


class Health:
    """The last report."""

    def __init__(self, *, max_age_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins as if "starting" had been reported now."""
        self._clock = clock
        self._max_age_s = max_age_s
        self._report = _Report(clock(), ("The controller is starting.",))

    def report(self, problems: Sequence[str]) -> None:
        """Stores what is wrong now; nothing if all is well."""
        self._report = _Report(self._clock(), tuple(problems))

    def problems(self) -> tuple[str, ...]:
        """What is wrong, as sentences; empty if all is well."""
        report = self._report
        age = self._clock() - report.at
        if age > self._max_age_s:
            return (f"The event loop has not reported for {age:.0f} s.", *report.problems)
        return report.problems
