"""What calls cost.

Purpose: the units of the reference, so that the limit trips alike; and on top, for large values, units for
work that the reference does not count or does lazily (`+` on lists, results of `replace`), so that time and
memory are bounded before they are spent.

Flow: the functions here are `cost=` of entries: they are given a call's arguments.

Limits: a million units must end within a second, so about a microsecond's work is worth one. The added
units start where work grows beyond what a call costs anyway; what is typical costs exactly, or within a few
units, what it costs there.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from driver.cel.values import DomainMap, JoinedList, OptionalValue, key_value, kind_of

TRAVERSAL = 0.1
PATTERN = 0.25
LIST = 10
_FREE = 256
_FEW = 4
MANY = 1 << 18
_CONTAINERS = (list, dict, OptionalValue)
_DEEP = frozenset({list, JoinedList, dict, DomainMap, OptionalValue})
# Comparing an entry of a map takes as long as comparing so many elements of a list.
_ENTRY = 3
# What it takes to write a timestamp; to read an address or find a time zone; to look for a time zone that
# does not exist, or to compile a pattern.
WRITTEN = 4
READ = 8
LOOKED_UP = 150
# More than any budget.
LIMIT = 1 << 24
# Values that are looked at for what they hold; looking takes time too.
_VISITED = 1 << 17


def size(value: Any) -> int:
    """Give what the reference takes for a value's size: 1 where it has none."""
    return len(value) if isinstance(value, (str, bytes, list, dict)) else 1


def traversed(length: float) -> int:
    """Give the units for walking over so many characters."""
    return math.ceil(length * TRAVERSAL)


def large(length: float) -> int:
    """Give the units for work or memory that the reference does not count."""
    return 0 if length <= _FREE else int(length // 8)


def first(value: Any, *_: Any) -> int:
    """Charge a traversal of the first argument."""
    return traversed(size(value))


def read(text: str, *_: Any) -> int:
    """Charge the reading of a text that the reference takes for a unit however long it is."""
    return 1 if len(text) <= _FREE // 8 else 1 + len(text)


def second(_: Any, value: Any) -> int:
    """Charge a traversal of the second argument."""
    return traversed(size(value))


def smaller(left: Any, right: Any) -> int:
    """Charge a traversal of the smaller argument, and what containers hold within."""
    units = traversed(min(size(left), size(right)))
    if isinstance(left, _CONTAINERS) and kind_of(left) == kind_of(right):
        elements = _elements(left) * (_ENTRY if isinstance(left, dict) else 1)
        return units + (elements if elements > _FEW else 0)
    return units


def nested(*values: Any) -> int:
    """Charge what lists and maps hold below their first level: a search may compare all of it."""
    units = 0
    for value in values:
        for one in _within(value):
            if isinstance(one, _CONTAINERS):
                units += _elements(one)
                if units > LIMIT:
                    return units
    return units


def both(left: Any, right: Any) -> int:
    """Charge a traversal of both arguments."""
    return traversed(size(left) + size(right))


def lists_joined(left: list[Any], right: list[Any]) -> int:
    """Charge `+` on lists: a unit there, a copy here."""
    return 1 + large(len(left) + len(right))


def searched(_: Any, elements: Any) -> int:
    """Charge a search through a list."""
    return size(elements)


def matched(text: str, pattern: str, *_: Any) -> int:
    """Charge the match of a regular expression."""
    return traversed(1 + len(text)) * math.ceil(len(pattern) * PATTERN)


def product(text: str, part: str) -> int:
    """Charge a search that may compare each place with each character of the part."""
    return traversed(len(text)) * traversed(len(part))


def walked(value: Any, *_: Any) -> int:
    """Charge a walk over a value and all that it contains."""
    if not isinstance(value, _CONTAINERS):
        return int(len(value) * TRAVERSAL) if isinstance(value, (str, bytes)) else 1
    units = visited = 0
    if isinstance(value, list) and len(kinds := set(map(type, value))) == 1 and not kinds & _DEEP:
        # The most usual lists are counted without looking at each element.
        lengths = map(len, value) if kinds & {str, bytes} else ()
        longest = max(lengths, default=0)
        return 2 * large(len(value)) + (
            sum(int(len(one) * TRAVERSAL) for one in value)
            if longest >= 10
            else 0
            if kinds & {str, bytes}
            else len(value)
        )
    rest: list[Any] = [value]
    while rest:
        visited += 1
        if visited > _VISITED:
            return LIMIT
        one = rest.pop()
        if isinstance(one, list):
            units += large(len(one))
            rest.extend(one[:MANY])
        elif isinstance(one, dict):
            rest.extend(map(key_value, one))
            rest.extend(one.values())
        elif isinstance(one, OptionalValue):
            units += 1
            rest.extend(within for within in _within(one) if isinstance(within, _CONTAINERS))
        else:
            units += int(len(one) * TRAVERSAL) if isinstance(one, (str, bytes)) else 1
    return units


def _elements(value: Any) -> int:
    # Lists that contain a list many times over are exponentially larger than they look.
    total = 0
    rest = [value]
    while rest and total < MANY:
        within = _within(rest.pop())
        total += len(within)
        rest.extend(element for element in within if isinstance(element, _CONTAINERS))
    return total if total < MANY else 10 * LIMIT


def _within(value: Any) -> Collection[Any]:
    if isinstance(value, list):
        return value if len(value) <= MANY else value[:MANY]
    if isinstance(value, dict):
        return value.values()
    return (value.value,) if isinstance(value, OptionalValue) else ()
