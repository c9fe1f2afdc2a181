"""The index: which devices does a selector select?

Purpose: the answer for all devices of a cluster at once, the same as that of evaluating the selector on each.

Flow: `add` devices; `select` plans a selector once, answers its parts from columns and joins the answers.
Plans and answers of the selectors used last are kept (`driver.selection.kept`).

Limits: mutable, for one owner. Where the cost limit of a single evaluation or another error that nothing
absorbs could play a part, the whole selector is evaluated on each device concerned. A selection that costs
too much in all (`limits.MAX_UNITS`) ends with every device raising: a selector like that is not allowed to
hold up everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driver.cel import DeviceView, Selector
from driver.selection.devices import Devices
from driver.selection.kept import Kept
from driver.selection.limits import MAX_KEPT, MAX_TEXT
from driver.selection.numbers import Slots
from driver.selection.plan import Parts
from driver.selection.recent import Recent


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
        self._kept: Recent[Selector, Kept] = Recent(count=MAX_KEPT, weight=MAX_TEXT)

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
        kept = self._kept.find(selector)
        if kept is None:
            kept = Kept(selector, self._parts)
            self._kept.keep(selector, kept, weight=len(selector.expression))
        true, raises = kept.answer(self._devices)
        return Selection(true, raises | self._devices.problems)
