"""Exponential back-off with jitter, for whoever has to try again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Backoff:
    """Delays that double from `base_s` up to `cap_s`.

    Attributes:
        base_s: First delay in seconds.
        cap_s: Longest delay in seconds.
        jitter: Part of a delay that is left to chance, 0 to 1, so that many do not try again at one instant.
        source: Where chance comes from.
    """

    base_s: float = 0.5
    cap_s: float = 30.0
    jitter: float = 0.2
    source: random.Random = field(default_factory=random.Random, repr=False)
    failures: int = 0

    def next_delay(self) -> float:
        """The delay before the next try, in seconds; each call counts a failure."""
        delay: float = min(self.cap_s, self.base_s * 2 ** min(self.failures, 60))
        self.failures += 1
        return delay * (1 - self.jitter * self.source.random())

    def reset(self) -> None:
        """To be called after a success."""
        self.failures = 0
