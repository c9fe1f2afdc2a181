"""The index: which devices does a selector select?

Purpose: the answer for all devices of a cluster at once, the same as that of evaluating the selector on each.

Flow: `add` devices; `select` plans a selector once, answers its parts from columns and joins the answers.
Plans and answers of the selectors used last are kept (`driver.selection.kept`).

Limits: mutable, for one owner. Where the cost limit of a single evaluation or another error that nothing
absorbs could play a part, the whole selector is evaluated on each device concerned. A selection that costs
too much in all (`limits.MAX_UNITS`, or what the index was given) ends with every device raising: a selector
like that is not allowed to hold up everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from driver.cel import DeviceView, Selector
from driver.selection.column import Path
from driver.selection.devices import Devices
from driver.selection.kept import Kept
from driver.selection.limits import MAX_KEPT, MAX_TEXT, MAX_UNITS
from driver.selection.numbers import Slots
from driver.selection.plan import Parts
from driver.selection.recent import Recent


@dataclass(frozen=True, slots=True)
class Selection:
    """What a selector gives, as bitmaps over device numbers; it is false for all other devices.

    Attributes:
        true: The devices it selects.
        raises: The devices it fails on.
        exhausted: Whether it costs so much that it was not answered: it fails on all devices then.
    """

    true: int
    raises: int
    exhausted: bool = field(default=False, compare=False)


class Index:
    """An inverted index over the attributes and capacities of devices.

    Args:
        units: What all evaluations of one selection may cost together.
    """

    def __init__(self, *, units: int = MAX_UNITS) -> None:
        self._units = units
        self._devices = Devices()
        self._parts = Parts()
        self._kept: Recent[Selector, Kept] = Recent(count=MAX_KEPT, weight=MAX_TEXT)

    @property
    def live(self) -> int:
        """The numbers of all devices, as a bitmap."""
        return self._devices.live

    @property
    def paths(self) -> Iterable[Path]:
        """What the devices have: (`attributes` or `capacity`, domain) and (…, domain, name)."""
        return self._devices.paths

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

    def select(self, selector: Selector, *, units: int | None = None) -> Selection:
        """Say for which devices a selector is true, and on which it raises.

        Args:
            selector: The selector.
            units: What all evaluations may cost together, if not what the index was given.
        """
        kept = self._kept.find(selector)
        if kept is None:
            kept = Kept(selector, self._parts)
            self._kept.keep(selector, kept, weight=len(selector.expression))
        found = kept.answer(self._devices, units=self._units if units is None else units)
        true, raises = (0, self._devices.readable) if found is None else found
        return Selection(true, raises | self._devices.problems, found is None)
