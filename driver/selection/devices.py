"""The devices of an index, and the columns made of them so far.

Purpose: one place that knows which device has which number, and gives the column of a path.

Flow: `add` and `remove` keep the columns that exist up to date; `column` makes one when it is first asked
for. Names of attributes are counted from the start, so that a name that no device has costs nothing.

Limits: a column goes when the last device with its name goes, or when so many are in use that it is the one
that nobody has asked for the longest.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from driver.cel import DeviceView
from driver.selection.bitmaps import Bitmap, bits_of, without
from driver.selection.column import Column, Path
from driver.selection.limits import MAX_COLUMNS
from driver.selection.numbers import Numbers, Slots

_FIELDS: frozenset[Path] = frozenset({("driver",), ("allowMultipleAllocations",)})


class Devices:
    """Devices by number.

    Attributes:
        generation: Grows with each change; what was computed in another one may be wrong.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._numbers = Numbers()
        self._views: list[DeviceView | None] = []
        self._live = Bitmap()
        self._problems = Bitmap()
        self._readable = (0, 0)
        self._columns: dict[Path, Column] = {}
        self._names: dict[Path, int] = {}
        # By number: in which generation a device was added or removed there.
        self._changed = array("Q")

    @property
    def live(self) -> int:
        """All devices."""
        return self._live.bits

    @property
    def problems(self) -> int:
        """Devices on which every selector raises."""
        return self._problems.bits

    @property
    def readable(self) -> int:
        """Devices that selectors can be evaluated on; only these are in columns."""
        generation, bits = self._readable
        if generation != self.generation:
            bits = without(self._live.bits, self._problems.bits)
            self._readable = (self.generation, bits)
        return bits

    @property
    def paths(self) -> Iterable[Path]:
        """What readable devices have."""
        return self._names.keys()

    def view(self, number: int) -> DeviceView:
        """Give a device."""
        view = self._views[number] if number < len(self._views) else None
        if view is None:
            raise KeyError(number)
        return view

    def add(self, views: Sequence[DeviceView]) -> Slots:
        """Add devices."""
        slots = self._numbers.take(len(views))
        grown = self._numbers.end - len(self._views)
        self._views.extend([None] * grown)
        self._changed.extend([0] * grown)
        self.generation += 1
        for number, view in zip(slots.numbers, views, strict=True):
            self._views[number] = view
            self._changed[number] = self.generation
            self._live.add(number)
            if view.problem:
                self._problems.add(number)
                continue
            self._count_names(view)
            for column in self._columns.values():
                column.add(number, view, capacity=len(self._views))
        return slots

    def remove(self, slots: Slots) -> None:
        """Remove the devices of one addition.

        Raises:
            KeyError: They are not there (any more); nothing was changed.
        """
        views = [self.view(number) for number in slots.numbers]
        self.generation += 1
        for number, view in zip(slots.numbers, views, strict=True):
            self._views[number] = None
            self._changed[number] = self.generation
            self._live.remove(number)
            if view.problem:
                self._problems.remove(number)
                continue
            for column in self._columns.values():
                column.remove(number, view, capacity=len(self._views))
            self._forget_names(view)
        self._numbers.give_back(slots)
        del self._views[self._numbers.end :]
        del self._changed[self._numbers.end :]

    def changed_since(self, generation: int) -> int:
        """Give the numbers, as a bitmap, whose device came, went or became another one since."""
        return bits_of([number for number, changed in enumerate(self._changed) if changed > generation])

    def column(self, path: Path) -> Column:
        """Give a column, made now if it does not exist."""
        column = self._columns.pop(path, None)
        if column is None:
            if path not in _FIELDS and path not in self._names:
                return Column(path)
            column = Column(path, self._readable_views())
            if len(self._columns) >= MAX_COLUMNS:
                del self._columns[next(iter(self._columns))]
        # The order of the dict is that of use, the latest last.
        self._columns[path] = column
        return column

    def _readable_views(self) -> Iterator[tuple[int, DeviceView]]:
        for number, view in enumerate(self._views):
            if view is not None and not view.problem:
                yield number, view

    def _count_names(self, view: DeviceView) -> None:
        names = self._names
        for source, domains in (("attributes", view.attributes), ("capacity", view.capacity)):
            for domain, values in domains.items():
                path: Path = (source, domain)
                names[path] = names.get(path, 0) + 1
                for identifier in values:
                    path = (source, domain, identifier)
                    names[path] = names.get(path, 0) + 1

    def _forget_names(self, view: DeviceView) -> None:
        for source, domains in (("attributes", view.attributes), ("capacity", view.capacity)):
            for domain, values in domains.items():
                self._forget((source, domain))
                for identifier in values:
                    self._forget((source, domain, identifier))

    def _forget(self, path: Path) -> None:
        left = self._names[path] - 1
        if left:
            self._names[path] = left
        else:
            del self._names[path]
            self._columns.pop(path, None)
