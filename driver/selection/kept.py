"""A selector whose answer is kept.

Purpose: what was answered once costs little after a change of the devices.

Flow: an answer that cost little is worked out anew, since columns do the same for it. One that cost much,
because it was evaluated on many devices, is mended: the selector is evaluated on the devices that changed.

Limits: a selector that cost too much over all devices is not tried again for as long as it is kept, unless
somebody allows it to cost more.
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
    """A selector's plan and its last answer."""

    __slots__ = ("_generation", "_plan", "_selector", "_sets", "_too_few", "_units", "_whole")

    def __init__(self, selector: Selector, parts: Parts) -> None:
        self._plan = plan(selector, parts)
        self._selector = selector
        self._whole: Part | None = None
        self._sets: Sets = (0, 0)
        self._generation = -1
        self._units = 0
        self._too_few = -1

    def answer(self, devices: Devices, *, units: int = MAX_UNITS) -> Sets | None:
        """Give the devices for which the selector is true, and those for which it raises.

        Args:
            devices: All devices.
            units: What all evaluations may cost together.

        Returns:
            None if that is too little.
        """
        if self._generation == devices.generation:
            return self._sets
        if units <= self._too_few:
            return None
        readable = devices.readable
        sets: Sets = (0, 0)
        if readable:
            run = Run(devices, Meter(units), readable)
            try:
                changed = self._to_mend(devices)
                sets = self._planned(run, units) if changed is None else self._mended(run, changed)
            except ExhaustedError:
                self._too_few = units
                return None
        self._sets, self._generation = sets, devices.generation
        return sets

    def _to_mend(self, devices: Devices) -> int | None:
        if self._units <= MUCH:
            return None
        changed = devices.changed_since(self._generation)
        each_cost = self._units // max(1, devices.live.bit_count())
        return changed if changed.bit_count() * (each_cost + 1) < self._units // 2 else None

    def _planned(self, run: Run, units: int) -> Sets:
        true, raises = self._plan.root.answer(run, None)
        cost = sum(part.highest_cost for part in self._plan.evaluated)
        doubtful = run.doubtful if cost + MAX_LOOKUP_COST <= MAX_COST else run.readable
        if doubtful:
            yes, wrong = self._each(run, doubtful)
            true, raises = without(true, doubtful) | yes, without(raises, doubtful) | wrong
        self._units = units - run.meter.left
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
