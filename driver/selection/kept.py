"""A selector whose answer is kept.

Purpose: what was answered once costs little after a change of the devices.

Flow: an answer that cost little is worked out anew, since columns do the same for it. One that cost much,
because it was evaluated on many devices, is mended: the selector is evaluated on the devices that changed.

Limits: a selector that cost too much over all devices is not tried again for as long as it is kept.
"""

from __future__ import annotations

from driver.cel import Selector
from driver.cel.budget import MAX_COST
from driver.selection.bitmaps import without
from driver.selection.devices import Devices
from driver.selection.leaves import each
from driver.selection.limits import MAX_LOOKUP_COST, MAX_UNITS, MUCH
from driver.selection.operators import Run, Sets
from driver.selection.part import ExhaustedError, Meter, Part
from driver.selection.plan import Parts, plan


class Kept:
    """A selector's plan and its last answer.

    Attributes:
        exhausted: Whether it cost too much to be answered.
    """

    __slots__ = ("_generation", "_limit", "_plan", "_selector", "_sets", "_units", "_whole", "exhausted")

    def __init__(self, selector: Selector, parts: Parts, *, units: int = MAX_UNITS) -> None:
        self._plan = plan(selector, parts)
        self._selector = selector
        self._limit = units
        self._whole: Part | None = None
        self._sets: Sets = (0, 0)
        self._generation = -1
        self._units = 0
        self.exhausted = False

    def answer(self, devices: Devices) -> Sets:
        """Give the devices for which the selector is true, and those for which it raises."""
        if self._generation == devices.generation:
            return self._sets
        readable = devices.readable
        if self.exhausted:
            self._sets = (0, readable)
        elif readable:
            run = Run(devices, Meter(self._limit), readable)
            try:
                changed = self._to_mend(devices)
                self._sets = self._planned(run) if changed is None else self._mended(run, changed)
            except ExhaustedError:
                self.exhausted = True
                self._sets = (0, readable)
        else:
            self._sets = (0, 0)
        self._generation = devices.generation
        return self._sets

    def _to_mend(self, devices: Devices) -> int | None:
        if self._units <= MUCH:
            return None
        changed = devices.changed_since(self._generation)
        each_cost = self._units // max(1, devices.live.bit_count())
        return changed if changed.bit_count() * (each_cost + 1) < self._units // 2 else None

    def _planned(self, run: Run) -> Sets:
        true, raises = self._plan.root.answer(run, None)
        cost = sum(part.highest_cost for part in self._plan.evaluated)
        doubtful = run.doubtful if cost + MAX_LOOKUP_COST <= MAX_COST else run.readable
        if doubtful:
            yes, wrong = self._each(run, doubtful)
            true, raises = without(true, doubtful) | yes, without(raises, doubtful) | wrong
        self._units = self._limit - run.meter.left
        return true, raises

    def _mended(self, run: Run, changed: int) -> Sets:
        yes, wrong = self._each(run, changed & run.readable)
        # Numbers at the end may have gone altogether.
        unchanged = without(run.readable, changed)
        true, raises = self._sets
        return true & unchanged | yes, raises & unchanged | wrong

    def _each(self, run: Run, devices: int) -> Sets:
        if self._whole is None:
            checked = self._selector.checked
            self._whole = Part(checked, checked.tree, whole=True)
        return each(self._whole, run, devices)
