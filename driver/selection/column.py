"""A column: which devices have which value of one attribute or capacity.

Purpose: what an expression that reads one attribute needs to see of 80,000 devices: their few distinct
values.

Flow: class of the value -> `Group` -> key of the value -> the numbers of its devices. A value of one device
is held as that number, a rare one as an array, a common one as a bitmap; the bitmap of a rare one is made
when somebody asks for it.

Limits: an array becomes a bitmap when the bitmap would take about as much memory as the column has anyway;
so a column takes at most about 40 bytes a device, and 100 bytes more for each distinct value.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeAlias

from driver.cel import DeviceView
from driver.selection.bitmaps import Bitmap, bits_of, numbers_of
from driver.selection.values import key_of

Path: TypeAlias = tuple[str, ...]
# A value's class and its key.
Value: TypeAlias = tuple[type, Hashable]
Posting: TypeAlias = "int | array[int] | Bitmap"

ABSENT: Any = object()
SPARSE_AT_LEAST = 32
_SPARSE_SHARE = 320


def reader_of(path: Path) -> Callable[[DeviceView], Any]:
    """Give the function that reads a column's value from a device, or `ABSENT`.

    Paths are `driver`, `allowMultipleAllocations`, or `attributes` or `capacity` followed by a domain (then
    the value is True where the device has the domain) or by a domain and an identifier.
    """
    match path:
        case ("driver",):
            return lambda view: view.driver
        case ("allowMultipleAllocations",):
            return lambda view: view.allow_multiple_allocations
        case (source, domain):
            if source == "attributes":
                return lambda view: True if domain in view.attributes else ABSENT
            return lambda view: True if domain in view.capacity else ABSENT
        case (source, domain, identifier):
            # `.get` of a domain map is that of a dict: it does not make up missing domains.
            if source == "attributes":
                return lambda view: view.attributes.get(domain, _NOTHING).get(identifier, ABSENT)
            return lambda view: view.capacity.get(domain, _NOTHING).get(identifier, ABSENT)
    raise ValueError(path)


_NOTHING: dict[str, Any] = {}


class Group:
    """The values of one class in a column.

    Attributes:
        postings: Devices by key of the value.
        present: All devices that have a value of this class.
    """

    __slots__ = ("postings", "present")

    def __init__(self) -> None:
        self.postings: dict[Hashable, Posting] = {}
        self.present = Bitmap()

    def bits(self, key: Hashable) -> int:
        """Give the devices that have a value."""
        posting = self.postings.get(key)
        if posting is None:
            return 0
        return posting.bits if isinstance(posting, Bitmap) else union((posting,))

    def union(self, keys: Iterable[Hashable]) -> int:
        """Give the devices that have any of some values."""
        return union(self.postings[key] for key in keys if key in self.postings)

    def sample(self) -> int:
        """Give any device with a value of this class."""
        return self.present.sample

    def samples(self) -> Iterator[tuple[Hashable, int]]:
        """Give, for the key of each distinct value, any device that has it."""
        for key, posting in self.postings.items():
            yield key, _sample(posting)


class Column:
    """One attribute or capacity of all readable devices.

    Attributes:
        path: What it is the column of.
        read: Reads the value from a device.
        groups: The values by class.
        distinct: How many values there are.
    """

    __slots__ = ("distinct", "groups", "path", "read")

    def __init__(self, path: Path, devices: Iterable[tuple[int, DeviceView]] = ()) -> None:
        self.path = path
        self.read = reader_of(path)
        self.groups: dict[type, Group] = {}
        self.distinct = 0
        self._build(devices)

    def _build(self, devices: Iterable[tuple[int, DeviceView]]) -> None:
        # Makes no container for a value of one device: 80,000 of them would set off the garbage collector,
        # which takes longer than everything else here.
        read = self.read
        by_kind: dict[type, dict[Hashable, int | list[int]]] = {}
        highest = 0
        for number, view in devices:
            value = read(view)
            if value is ABSENT:
                continue
            kind = type(value)
            key = value if kind is str else key_of(value)
            keys = by_kind.get(kind)
            if keys is None:
                keys = by_kind[kind] = {}
            numbers = keys.get(key)
            if numbers is None:
                keys[key] = number
            elif isinstance(numbers, list):
                numbers.append(number)
            else:
                keys[key] = [numbers, number]
            highest = number
        limit = _sparse_limit(highest + 1)
        for kind, keys in by_kind.items():
            group = self.groups[kind] = Group()
            present: list[int] = []
            for key, numbers in keys.items():
                if isinstance(numbers, list):
                    present += numbers
                    group.postings[key] = _posting(numbers, limit)
                else:
                    present.append(numbers)
                    group.postings[key] = numbers
            group.present = Bitmap(present)
            self.distinct += len(keys)

    def add(self, number: int, view: DeviceView, *, capacity: int) -> None:
        """Add a device.

        Args:
            number: Its number.
            view: The device.
            capacity: How many numbers there are, taken or not.
        """
        value = self.read(view)
        if value is ABSENT:
            return
        group = self.groups.get(type(value))
        if group is None:
            group = self.groups[type(value)] = Group()
        group.present.add(number)
        key = key_of(value)
        posting = group.postings.get(key)
        if posting is None:
            group.postings[key] = number
            self.distinct += 1
        elif isinstance(posting, Bitmap):
            posting.add(number)
        elif isinstance(posting, int):
            group.postings[key] = array("I", (posting, number))
        else:
            posting.append(number)
            if len(posting) > _sparse_limit(capacity):
                group.postings[key] = Bitmap(posting)

    def remove(self, number: int, view: DeviceView, *, capacity: int) -> None:
        """Remove a device that was added with the same number and view."""
        value = self.read(view)
        if value is ABSENT:
            return
        group = self.groups[type(value)]
        group.present.remove(number)
        key = key_of(value)
        posting = group.postings[key]
        if isinstance(posting, int) or _count(posting) == 1:
            del group.postings[key]
            self.distinct -= 1
            if not group.postings:
                del self.groups[type(value)]
        else:
            posting.remove(number)
            if isinstance(posting, Bitmap) and posting.count < _sparse_limit(capacity) // 4:
                group.postings[key] = _posting(list(numbers_of(posting.bits)), _sparse_limit(capacity))

    def union(self, found: Iterable[Value]) -> int:
        """Give the devices that have any of some values, which must exist."""
        return union(self.groups[kind].postings[key] for kind, key in found)

    @property
    def present(self) -> int:
        """The devices that have a value at all."""
        bits = 0
        for group in self.groups.values():
            bits |= group.present.bits
        return bits


def union(postings: Iterable[Posting]) -> int:
    """Give the devices of several postings."""
    bits = 0
    rare: list[int] = []
    for posting in postings:
        if isinstance(posting, Bitmap):
            bits |= posting.bits
        elif isinstance(posting, int):
            rare.append(posting)
        else:
            rare.extend(posting)
    return bits | bits_of(rare) if rare else bits


def _posting(numbers: list[int], limit: int) -> Posting:
    if len(numbers) == 1:
        return numbers[0]
    return Bitmap(numbers) if len(numbers) > limit else array("I", numbers)


def _count(posting: Posting) -> int:
    if isinstance(posting, int):
        return 1
    return posting.count if isinstance(posting, Bitmap) else len(posting)


def _sample(posting: Posting) -> int:
    if isinstance(posting, int):
        return posting
    return posting.sample if isinstance(posting, Bitmap) else posting[0]


def _sparse_limit(capacity: int) -> int:
    return max(SPARSE_AT_LEAST, capacity // _SPARSE_SHARE)
