"""How far a run is, on standard error, where somebody is watching."""

from __future__ import annotations

import sys
import time

_SECONDS_BETWEEN = 0.5


class Progress:
    """Counts cases; writes one line over and over on a terminal, and nothing elsewhere."""

    def __init__(self, what: str, *, total: int = 0) -> None:
        self._what, self._total = what, total
        self._began = self._said = time.monotonic()
        self._shown = sys.stderr.isatty()
        self.count = 0

    def step(self) -> None:
        """One case is done."""
        self.count += 1
        now = time.monotonic()
        if self._shown and now - self._said >= _SECONDS_BETWEEN:
            self._said = now
            of = f" of {self._total}" if self._total else ""
            rate = self.count / (now - self._began)
            sys.stderr.write(f"\r{self._what}: {self.count}{of}, {rate:,.0f} a second\033[K")
            sys.stderr.flush()

    def end(self) -> None:
        """Leaves an empty line where progress stood."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
