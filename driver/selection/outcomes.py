"""From the outcomes for samples to sets of devices.

Purpose: what several kinds of parts do with the outcomes of an evaluation.

Flow: `sort_out` sorts samples by outcome and makes a set of each pile; `noted` keeps the devices on which the
evaluation may end for a closer look.

Limits: what a sample stands for (a value, a combination, a device) is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from driver.selection.operators import Run, Sets
from driver.selection.part import ENDED, Outcome

Piles = tuple[int, int, int]
LOOKUP_RANK = 1
_T = TypeVar("_T")


def sort_out(samples: Iterable[_T], outcomes: Iterable[Outcome], union: Callable[[list[_T]], int]) -> Piles:
    """Give the devices for which it is true, those for which it fails, and those for which it ends."""
    true: list[_T] = []
    failing: list[_T] = []
    ended: list[_T] = []
    for sample, outcome in zip(samples, outcomes, strict=True):
        if outcome is True:
            true.append(sample)
        elif outcome is None:
            failing.append(sample)
        elif outcome is ENDED:
            ended.append(sample)
    return union(true), union(failing), union(ended) if ended else 0


def noted(run: Run, piles: Piles) -> Sets:
    """Note the devices on which the evaluation may end, and give the other sets."""
    true, raises, ended = piles
    if ended:
        run.doubtful |= ended
    return true, raises
