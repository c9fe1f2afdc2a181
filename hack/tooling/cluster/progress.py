"""Progress lines: what runs, for how long already, and how long it usually takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str], None]


def to_terminal(line: str) -> None:
    """Prints one line at once; to standard error, so that standard output stays what was asked for."""
    print(line, file=sys.stderr, flush=True)


def silent(line: str) -> None:
    """Says nothing; for fixtures."""


@contextmanager
def step(what: str, *, report: Report) -> Iterator[None]:
    """Reports a step when it is done, with its seconds."""
    begin = time.monotonic()
    yield
    report(f"  {what} ({time.monotonic() - begin:.1f} s)")


def elapsed(seconds: float) -> str:
    """A duration as people say it: ``48 s`` or ``3 min 12 s``."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
