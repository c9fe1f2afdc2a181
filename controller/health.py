"""Whether the controller does its work, for probes that run in another thread.

Flow: the event loop reports every few seconds what is wrong; probes read the last report: `/healthz` what a
restart may mend, `/readyz` everything. A report that is too old is itself what is wrong: the loop hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Report:
    at: float
    problems: tuple[str, ...]
    not_ready: tuple[str, ...]


class Health:
    """The last report."""

    def __init__(self, *, max_age_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins as if "starting" had been reported now."""
        self._clock = clock
        self._max_age_s = max_age_s
        self._report = _Report(clock(), (), ("The controller is starting.",))

    def report(self, problems: Sequence[str], *, not_ready: Sequence[str] = ()) -> None:
        """Stores what is wrong now; nothing if all is well.

        Args:
            problems: What a restart may mend.
            not_ready: What is not as it should be, whether or not a restart may mend it.
        """
        self._report = _Report(self._clock(), tuple(problems), tuple(not_ready))

    def problems(self) -> tuple[str, ...]:
        """Why the process should be restarted, as sentences; empty if it works."""
        return (*self._hanging(), *self._report.problems)

    def not_ready(self) -> tuple[str, ...]:
        """What is not as it should be, as sentences; empty if all is well."""
        report = self._report
        return (*self._hanging(), *dict.fromkeys((*report.problems, *report.not_ready)))

    def _hanging(self) -> tuple[str, ...]:
        age = self._clock() - self._report.at
        return (f"The event loop has not reported for {age:.0f} s.",) if age > self._max_age_s else ()
