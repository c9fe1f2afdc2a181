"""In which order what is compared is measured. Pure.

Rule: what is compared alternates within one run and takes turns at going first, so that whatever else happens
on the machine, or drifts, meets all of them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measurement.

    Attributes:
        level: What is varied: how much is prepared already.
        round: Number of the round at this level, from 0.
        name: Who is measured.
    """

    level: int
    round: int
    name: str


def alternating(names: Sequence[str], *, levels: Sequence[int], rounds: int) -> tuple[Step, ...]:
    """All measurements in their order; levels ascend, since one is reached by adding to the one before."""
    return tuple(
        Step(level=level, round=number, name=name)
        for level in sorted(levels)
        for number in range(rounds)
        for name in _turned(names, by=number)
    )


def _turned(names: Sequence[str], *, by: int) -> Sequence[str]:
    start = by % len(names)
    return [*names[start:], *names[:start]]
