"""Arithmetic, comparison, membership and `size`.

Purpose: CEL's operators on numbers, strings, bytes, lists, maps and times.

Flow: overloads of `_+_` and the like; equality and order are in `driver.cel.values`.

Limits: integers are 64 bit and raise on overflow; division cuts towards zero, as in Go, not as in Python.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import overload
from driver.cel.values import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    DomainMap,
    Duration,
    JoinedList,
    UInt,
    compare,
    equal,
    find_key,
    holds,
    no_overload,
    not_equal,
)

_NUMBERS = ("int", "uint", "double")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "_<_": operator.lt,
    "_<=_": operator.le,
    "_>_": operator.gt,
    "_>=_": operator.ge,
}


def to_int(value: int) -> int:
    """Give an int, or raise EvaluationError where it does not fit into 64 bits."""
    if not INT_MIN <= value <= INT_MAX:
        raise EvaluationError("integer overflow")
    return value


def to_uint(value: int) -> UInt:
    """Give a uint, or raise EvaluationError where it does not fit into 64 bits."""
    if not 0 <= value <= UINT_MAX:
        raise EvaluationError("unsigned integer overflow")
    return UInt(value)


def quotient(left: int, right: int) -> int:
    """Divide, cutting towards zero."""
    if right == 0:
        raise EvaluationError("division by zero")
    magnitude = abs(left) // abs(right)
    return magnitude if (left < 0) == (right < 0) else -magnitude


def _remainder(left: int, right: int) -> int:
    if right == 0:
        raise EvaluationError("modulus by zero")
    if left == INT_MIN and right == -1:
        raise EvaluationError("integer overflow")
    return int(left) - int(right) * quotient(left, right)


def _uint_remainder(left: int, right: int) -> int:
    if right == 0:
        raise EvaluationError("modulus by zero")
    return left % right


def _float_quotient(left: float, right: float) -> float:
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1, right)


def _negated(value: Any) -> Any:
    # The type check knows no negation of durations, but one that it takes for `dyn` can be negated.
    if type(value) is float:
        return -value
    if type(value) is int:
        return to_int(-value)
    if type(value) is Duration:
        return Duration(to_int(-value.nanos))
    raise no_overload("-_", value)


def _joined(left: list[Any], right: list[Any]) -> list[Any]:
    if not left or not right:
        return left or right
    return JoinedList(left + right)


def _ordered(decide: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: decide(compare(left, right), 0)


def _register_comparisons() -> None:
    for name, decide in _COMPARISONS.items():
        overload(f"{name}(bool, bool) -> bool")(decide)
        for left in _NUMBERS:
            for right in _NUMBERS:
                exact = left == right != "double"
                overload(f"{name}({left}, {right}) -> bool")(decide if exact else _ordered(decide))
        for kind in ("string", "bytes"):
            overload(f"{name}({kind}, {kind}) -> bool", cost=costs.smaller)(decide)
        for kind in ("timestamp", "duration"):
            overload(f"{name}({kind}, {kind}) -> bool")(_ordered(decide))


def _register_arithmetic() -> None:
    whole: dict[str, Callable[[int, int], int]] = {
        "_+_": operator.add,
        "_-_": operator.sub,
        "_*_": operator.mul,
        "_/_": quotient,
    }
    for name, compute in whole.items():
        overload(f"{name}(int, int) -> int")(
            lambda left, right, compute=compute: to_int(compute(left, right))
        )
        overload(f"{name}(uint, uint) -> uint")(
            lambda left, right, compute=compute: to_uint(compute(int(left), int(right)))
        )
    overload("_%_(int, int) -> int")(_remainder)
    overload("_%_(uint, uint) -> uint")(lambda left, right: to_uint(_uint_remainder(int(left), int(right))))
    overload("_+_(double, double) -> double")(operator.add)
    overload("_-_(double, double) -> double")(operator.sub)
    overload("_*_(double, double) -> double")(operator.mul)
    overload("_/_(double, double) -> double")(_float_quotient)
    overload("-_(int) -> int", guarded=False)(_negated)
    overload("-_(double) -> double", guarded=False)(_negated)
    overload("_+_(string, string) -> string", cost=costs.both)(operator.add)
    overload("_+_(bytes, bytes) -> bytes", cost=costs.both)(operator.add)
    overload("_+_(list(A), list(A)) -> list(A)", cost=costs.lists_joined)(_joined)


def _register_equality() -> None:
    overload("_==_(A, A) -> bool", cost=costs.smaller)(equal)
    overload("_!=_(A, A) -> bool", cost=costs.smaller)(not_equal)
    for kind in ("string", "bytes", "list(A)", "map(A, B)"):
        overload(f"size({kind}) -> int")(len)
        overload(f"size({kind}) -> int", method=True)(len)


_register_comparisons()
_register_arithmetic()
_register_equality()


@overload("!_(bool) -> bool")
def _negate(value: bool) -> bool:  # noqa: FBT001 - CEL passes its operand by position
    return not value


@overload("_in_(A, list(A)) -> bool", cost=costs.searched)
def _in_list(value: Any, elements: list[Any]) -> bool:
    return holds(elements, value)


@overload("_in_(A, map(A, B)) -> bool")
def _in_map(key: Any, mapping: dict[Any, Any]) -> bool:
    # Not through the default of a missing domain: `in` tells the truth.
    if type(key) is str:
        return key in mapping
    return type(mapping) is not DomainMap and find_key(mapping, key).present
