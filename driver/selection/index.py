"""The index: which devices does a selector select?

Purpose: the answer for all devices of a cluster at once, the same as that of evaluating the selector on each.

Flow: `add` devices; `select` plans a selector once, answers its parts from columns and joins the answers. A
plan and its last answer are kept for as long as nothing changes.

Limits: mutable, for one owner. Where the cost limit of a single evaluation or another error that nothing
absorbs could play a part, the whole selector is evaluated on each device concerned. A selection that costs
too much in all (`limits.MAX_UNITS`) ends with every device raising: a selector like that is not allowed to
hold up everything else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from driver.cel import DeviceView, Selector
from driver.cel.budget import MAX_COST
from driver.selection.bitmaps import without
from driver.selection.devices import Devices
from driver.selection.leaves import each
from driver.selection.limits import MAX_LOOKUP_COST, MAX_PLANS
from driver.selection.numbers import Slots
from driver.selection.operators import Run, Sets
from driver.selection.part import ExhaustedError, Meter, Part
from driver.selection.plan import Parts, Plan, plan


@dataclass(frozen=True, slots=True)
class Selection:
    """What a selector gives, as bitmaps over device numbers; it is false for all other devices.

    Attributes:
        true: The devices it selects.
        raises: The devices it fails on.
    """

    true: int
    raises: int


class Index:
    """An inverted index over the attributes and capacities of devices."""

    def __init__(self) -> None:
        self._devices = Devices()
        self._parts = Parts()
        self._plans: OrderedDict[Selector, _Kept] = OrderedDict()

    @property
    def live(self) -> int:
        """The numbers of all devices, as a bitmap."""
        return self._devices.live

    def add(self, views: Sequence[DeviceView]) -> Slots:
        """Add devices, usually those of a ResourceSlice.

        Returns:
            Their numbers, adjacent and in the order of the devices; numbers of removed devices are used
            again.
        """
        return self._devices.add(views)

    def remove(self, slots: Slots) -> None:
        """Remove devices that were added together.

        Raises:
            KeyError: They are not there.
        """
        self._devices.remove(slots)

    def view(self, number: int) -> DeviceView:
        """Give a device.

        Raises:
            KeyError: There is none with this number.
        """
        return self._devices.view(number)

    def select(self, selector: Selector) -> Selection:
        """Say for which devices a selector is true, and on which it raises."""
        kept = self._plans.get(selector)
        if kept is None:
            kept = self._plans[selector] = _Kept(plan(selector, self._parts))
            if len(self._plans) > MAX_PLANS:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(selector)
        generation = self._devices.generation
        if kept.selection is None or kept.generation != generation:
            true, raises = self._answer(selector, kept.plan)
            kept.selection = Selection(true, raises | self._devices.problems)
            kept.generation = generation
        return kept.selection

    def _answer(self, selector: Selector, chosen: Plan) -> Sets:
        readable = self._devices.readable
        if not readable:
            return 0, 0
        run = Run(self._devices, Meter(), readable)
        try:
            true, raises = chosen.root.answer(run, None)
            cost = sum(part.highest_cost for part in chosen.evaluated)
            doubtful = run.doubtful if cost + MAX_LOOKUP_COST <= MAX_COST else readable
            if doubtful:
                yes, wrong = each(Part(selector.checked, selector.checked.tree, whole=True), run, doubtful)
                true, raises = without(true, doubtful) | yes, without(raises, doubtful) | wrong
        except ExhaustedError:
            return 0, readable
        return true, raises


@dataclass(slots=True)
class _Kept:
    plan: Plan
    generation: int = -1
    selection: Selection | None = None
