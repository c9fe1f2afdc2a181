"""The devices that one request gets, where nothing is left to search for.

Purpose: most pods ask for one or a few devices in one request. With the devices that fit known, and the
values that a constraint compares numbered, the allocator's answer can be read off.

Flow: `take` gives the first devices in the allocator's order that do together; whoever calls it asks the
judge about each of them again.

Limits: at most one kind of constraint over more than one device; for anything else it gives None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from driver.allocation.cluster.values import Pattern
from driver.allocation.constraints import Constraint


def take(
    places: Sequence[int], count: int, *, constraints: Sequence[Constraint], pattern: Callable[[str], Pattern]
) -> Sequence[int] | None:
    """Choose devices.

    Args:
        places: Places of the devices that fit by themselves, in order.
        count: How many are wanted, at least one.
        constraints: What binds them.
        pattern: Gives for an attribute what value each place has, negative if none that can be compared.

    Returns:
        The first places, in the order of combinations, that do together; None if there are none, or if that
        has to be searched for.
    """
    if any(one.lists for one in constraints):
        return None
    values = [pattern(one.attribute) for one in constraints]
    able = [place for place in places if all(some[place] >= 0 for some in values)]
    if any(some[place] < -1 for some in values for place in places):
        # What cannot be compared may stand alone; that is for the allocator to say.
        return None
    if count == 1 or not constraints:
        return able[:count] if len(able) >= count else None
    if len(constraints) > 1:
        return None
    return (_distinct if constraints[0].distinct else _equal)(able, count, values[0])


def _equal(able: Sequence[int], count: int, values: Pattern) -> Sequence[int] | None:
    for start, place in enumerate(able):
        alike = [other for other in able[start:] if values[other] == values[place]]
        if len(alike) >= count:
            return alike[:count]
    return None


def _distinct(able: Sequence[int], count: int, values: Pattern) -> Sequence[int] | None:
    chosen: list[int] = []
    used: set[int] = set()
    for start, place in enumerate(able):
        missing = count - len(chosen)
        if not missing:
            break
        if values[place] in used:
            continue
        # The rest must be able to bring as many other values as are missing then.
        if len({values[other] for other in able[start:]} - used) >= missing:
            chosen.append(place)
            used.add(values[place])
    return chosen if len(chosen) == count else None
