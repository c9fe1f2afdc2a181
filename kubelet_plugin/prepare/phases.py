"""How long each phase of a prepare took, for whoever measures.

Limits: called from the event loop and from threads; a recorder has to bear that (prometheus_client does).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Literal, Protocol

Phase = Literal["fetch", "guard", "state", "isolation", "cdi"]
"""fetch: claim and pods; guard: check-and-reserve; state: record; isolation: limits; cdi: the spec file."""


class Recorder(Protocol):
    """Takes measurements."""

    def observe(self, phase: Phase, *, seconds: float) -> None:
        """Notes that a phase took so long."""


class Phases:
    """Times phases; without a recorder it measures for nobody."""

    def __init__(self, recorder: Recorder | None = None) -> None:
        self._recorder = recorder

    @contextlib.contextmanager
    def time(self, phase: Phase) -> Iterator[None]:
        """Times what runs inside, also if it fails."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            if self._recorder is not None:
                self._recorder.observe(phase, seconds=time.perf_counter() - begun)
