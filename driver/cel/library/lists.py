"""Functions of lists: Kubernetes' own, and version 3 of CEL's lists extension.

Purpose: `isSorted`, `sum`, `min`, `max`, `indexOf`, `includes`; `slice`, `flatten`, `distinct`, `sort`,
`reverse`, `lists.range`, and what `sortBy` needs.

Flow: overloads; where a list's elements are of no known type, its first element picks the overload.

Limits: comparisons that fail are passed over by `isSorted`, `min` and `max`, as there. Sorting is stable; the
reference's is not beyond twelve elements. Up to 1.36 `includes` looks at 48 elements at most.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import Release, overload
from driver.cel.library.operators import to_int, to_uint
from driver.cel.values import COMPARABLE, Duration, UInt, compare, kind_of, no_overload, same

_NEWER: Release = (1, 37)
_MOST_INCLUDED = 48
_LONGEST_RANGE = 1_000_000
_INSERTION_SORTED = 12
# In this order an empty list of no known type is taken for one of ints.
_KINDS = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_PLAIN = frozenset({bool, int, UInt, str, bytes})
_ZEROS: dict[str, Any] = {"int": 0, "uint": UInt(0), "double": 0.0, "duration": Duration(0)}
_ADDITIONS: dict[str, Callable[[Any, Any], Any]] = {
    "int": lambda left, right: to_int(left + right),
    "uint": lambda left, right: to_uint(int(left) + int(right)),
    "double": lambda left, right: left + right,
    "duration": lambda left, right: Duration(to_int(left.nanos + right.nanos)),
}


def _compared(left: Any, right: Any) -> int | None:
    try:
        return compare(left, right)
    except EvaluationError:
        return None


def _require_order(value: Any) -> None:
    if kind_of(value) not in COMPARABLE:
        raise no_overload("compare", value)


def _plain(elements: list[Any]) -> bool:
    # Of one type that Python orders as CEL does.
    return len(kinds := set(map(type, elements))) == 1 and kinds <= _PLAIN


def _is_sorted(elements: list[Any]) -> bool:
    if _plain(elements):
        return all(map(operator.le, elements, elements[1:]))
    for place, element in enumerate(elements):
        _require_order(element)
        if place and _compared(elements[place - 1], element) == 1:
            return False
    return True


def _extreme(name: str, preferred: int) -> Callable[[list[Any]], Any]:
    def find(elements: list[Any]) -> Any:
        if not elements:
            raise EvaluationError(f"{name} called on an empty list")
        if _plain(elements):
            return min(elements) if preferred > 0 else max(elements)
        result = elements[0]
        for element in elements:
            _require_order(element)
            if _compared(result, element) == preferred:
                result = element
        return result

    return find


def _summed(kind: str) -> Callable[[list[Any]], Any]:
    zero, add = _ZEROS[kind], _ADDITIONS[kind]

    def total(elements: list[Any]) -> Any:
        result = zero
        for element in elements:
            if kind_of(element) != kind:
                raise no_overload("_+_", result, element)
            result = add(result, element)
        return result

    return total


def _register_by_kind() -> None:
    for kind in _KINDS:
        overload(f"isSorted(list({kind})) -> bool", method=True, cost=costs.walked)(_is_sorted)
        overload(f"min(list({kind})) -> {kind}", method=True, cost=costs.walked)(_extreme("min", 1))
        overload(f"max(list({kind})) -> {kind}", method=True, cost=costs.walked)(_extreme("max", -1))
        overload(f"sort(list({kind})) -> list({kind})", method=True, cost=_self_compared, guarded=False)(
            _sort
        )
        overload(
            f"@sortByAssociatedKeys(list(A), list({kind})) -> list(A)",
            method=True,
            cost=lambda _, keys: _self_compared(keys),
            guarded=False,
        )(sorted_by)
    for kind in _ZEROS:
        overload(f"sum(list({kind})) -> {kind}", method=True, cost=costs.walked)(_summed(kind))


@overload("indexOf(list(A), A) -> int", method=True, cost=costs.walked)
def _index_of(elements: list[Any], value: Any) -> int:
    if type(value) is str:
        # Nothing but a string equals a string, in Python too.
        return elements.index(value) if value in elements else -1
    return next((place for place, element in enumerate(elements) if same(element, value)), -1)


@overload("lastIndexOf(list(A), A) -> int", method=True, cost=costs.walked)
def _last_index_of(elements: list[Any], value: Any) -> int:
    places = range(len(elements) - 1, -1, -1)
    return next((place for place in places if same(elements[place], value)), -1)


def _included(elements: list[Any], value: Any) -> bool:
    if type(value) is str:
        return value in elements
    return any(same(element, value) for element in elements)


def _includes_some(target: Any, value: Any) -> bool:
    if not isinstance(target, list):
        return same(target, value)
    if _included(target[:_MOST_INCLUDED], value):
        return True
    if len(target) > _MOST_INCLUDED:
        raise EvaluationError(f"includes does not look at lists of more than {_MOST_INCLUDED} elements")
    return False


def _includes(target: Any, value: Any) -> bool:
    if not isinstance(target, list):
        return same(target, value)
    return _included(target, value)


def _looked_at(target: Any, _value: Any) -> int:
    return 1 + (min(len(target), _MOST_INCLUDED) // 2 if isinstance(target, list) else 0)


overload("includes(dyn, dyn) -> bool", method=True, cost=_looked_at, since=(1, 36), until=_NEWER)(
    _includes_some
)
overload("includes(dyn, dyn) -> bool", method=True, cost=costs.walked, since=_NEWER)(_includes)


def _made(length: float) -> int:
    return int(length) + 1 + costs.LIST


def _self_compared(elements: Any) -> int:
    if not isinstance(elements, list):
        return 1
    factor = 2.0 + (costs.TRAVERSAL if elements and isinstance(elements[0], (str, bytes)) else 0)
    return _made(len(elements) ** 2 * factor)


def _sliced(elements: list[Any], start: int, end: int) -> int:
    return _made(max(0, min(end, len(elements)) - max(start, 0)))


@overload("slice(list(A), int, int) -> list(A)", method=True, cost=_sliced)
def _slice(elements: list[Any], start: int, end: int) -> list[Any]:
    if not 0 <= start <= end <= len(elements):
        raise EvaluationError(f"cannot slice({start}, {end}) a list of {len(elements)} elements")
    return elements[start:end]


def _flattened(elements: Any, depth: Any = 1) -> int:
    if not isinstance(elements, list) or type(depth) is not int:
        return 1
    if depth < 0:
        return _made(len(elements))
    units = _made(len(elements) * depth)
    # Lists may be shared, so the result can be far longer than what it is made of.
    if units <= costs.LIMIT:
        units += costs.large(_flat_length(elements, depth))
    return units


def _flat_length(elements: list[Any], depth: int) -> int:
    length = 0
    rest = [(elements, depth)]
    while rest and length <= costs.MANY:
        within, left = rest.pop()
        length += len(within)
        if left > 0:
            rest.extend((element, left - 1) for element in within if isinstance(element, list))
    return length if length <= costs.MANY else 10 * costs.LIMIT


@overload("flatten(list(list(A))) -> list(A)", method=True, cost=_flattened, guarded=False)
@overload("flatten(list(dyn), int) -> list(dyn)", method=True, cost=_flattened, guarded=False)
def _flatten(elements: Any, depth: Any = 1) -> list[Any]:
    if not isinstance(elements, list) or type(depth) is not int:
        raise no_overload("flatten", elements, depth)
    if depth < 0:
        raise EvaluationError("flatten takes no negative depth")
    result: list[Any] = []
    rest = [(iter(elements), depth)]
    while rest:
        within, left = rest[-1]
        for element in within:
            if left > 0 and isinstance(element, list):
                rest.append((iter(element), left - 1))
                break
            result.append(element)
        else:
            rest.pop()
    return result


@overload("distinct(list(A)) -> list(A)", method=True, cost=_self_compared)
def _distinct(elements: list[Any]) -> list[Any]:
    result: list[Any] = []
    for element in elements:
        if not any(same(element, other) for other in result):
            result.append(element)
    return result


@overload("reverse(list(A)) -> list(A)", method=True, cost=lambda elements: _made(len(elements)))
def _reverse(elements: list[Any]) -> list[Any]:
    return elements[::-1]


@overload("lists.range(int) -> list(int)", cost=lambda length: _made(max(0, length)), until=_NEWER)
def _range(length: int) -> list[int]:
    return list(range(length))


@overload("lists.range(int) -> list(int)", cost=lambda length: _made(max(0, length)), since=_NEWER)
def _bounded_range(length: int) -> list[int]:
    if not 0 <= length <= _LONGEST_RANGE:
        raise EvaluationError(f"lists.range makes 0 to {_LONGEST_RANGE} elements, not {length}")
    return list(range(length))


def _sort(elements: Any) -> list[Any]:
    return sorted_by(elements, elements)


def sorted_by(elements: Any, keys: Any) -> list[Any]:
    """Sort a list by keys, one for each element.

    Raises:
        EvaluationError: The keys have no order, or are of several types.
    """
    if not isinstance(elements, list) or not isinstance(keys, list):
        raise no_overload("sort", elements, keys)
    if not elements:
        return elements
    kind = kind_of(keys[0])
    if kind not in COMPARABLE:
        raise EvaluationError(f"a list with a {kind} cannot be sorted")
    if len(keys) > 1 and any(kind_of(key) != kind for key in keys):
        raise EvaluationError("a list with elements of several types cannot be sorted")

    def order(left: int, right: int) -> int:
        return _compared(keys[left], keys[right]) or 0

    places = list(range(len(elements)))
    if len(places) <= _INSERTION_SORTED:
        _insertion_sort(places, order)
    else:
        places.sort(key=functools.cmp_to_key(order))
    return [elements[place] for place in places]


def _insertion_sort(places: list[int], order: Callable[[int, int], int]) -> None:
    # What the reference does with short lists; it shows where NaN has no order.
    for end in range(1, len(places)):
        for place in range(end, 0, -1):
            if order(places[place], places[place - 1]) >= 0:
                break
            places[place], places[place - 1] = places[place - 1], places[place]


_register_by_kind()
