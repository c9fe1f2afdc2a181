"""Arithmetic, comparison, membership and `size`.

Purpose: CEL's operators on numbers, strings, bytes, lists and maps.

Flow: overloads of `_+_` and the like; equality is in `driver.cel.values`.

Limits: integers are 64 bit and raise on overflow; division cuts towards zero, as in Go, not as in Python.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from driver.cel.errors import EvaluationError
from driver.cel.library.entry import overload, sizes
from driver.cel.values import INT_MAX, INT_MIN, UINT_MAX, UInt, equal, find_key, not_equal

_ORDERED = ("bool", "int", "uint", "double", "string", "bytes")
_NUMBERS = ("int", "uint", "double")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "_<_": operator.lt,
    "_<=_": operator.le,
    "_>_": operator.gt,
    "_>=_": operator.ge,
}
# Nothing makes a time yet, but these signatures decide what compiles beside `dyn` and `null`.
_TIMES = (
    "_+_(timestamp, duration) -> timestamp",
    "_+_(duration, timestamp) -> timestamp",
    "_+_(duration, duration) -> duration",
    "_-_(timestamp, timestamp) -> duration",
    "_-_(timestamp, duration) -> timestamp",
    "_-_(duration, duration) -> duration",
)


def _no_times(*_: Any) -> Any:
    raise EvaluationError("times are not supported yet")


def _int(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise EvaluationError("integer overflow")
    return value


def _uint(value: int) -> UInt:
    if not 0 <= value <= UINT_MAX:
        raise EvaluationError("unsigned integer overflow")
    return UInt(value)


def _quotient(left: int, right: int) -> int:
    if right == 0:
        raise EvaluationError("division by zero")
    magnitude = abs(left) // abs(right)
    return magnitude if (left < 0) == (right < 0) else -magnitude


def _remainder(left: int, right: int) -> int:
    if right == 0:
        raise EvaluationError("modulus by zero")
    return int(left) - int(right) * _quotient(left, right)


def _float_quotient(left: float, right: float) -> float:
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1, right)


def _register() -> None:
    for name, compare in _COMPARISONS.items():
        for kind in ("timestamp", "duration"):
            overload(f"{name}({kind}, {kind}) -> bool")(_no_times)
        for kind in _ORDERED:
            overload(f"{name}({kind}, {kind}) -> bool", cost=sizes)(compare)
        for left in _NUMBERS:
            for right in _NUMBERS:
                if left != right:
                    overload(f"{name}({left}, {right}) -> bool")(compare)
    whole: dict[str, Callable[[int, int], int]] = {
        "_+_": operator.add,
        "_-_": operator.sub,
        "_*_": operator.mul,
        "_/_": _quotient,
        "_%_": _remainder,
    }
    for name, compute in whole.items():
        overload(f"{name}(int, int) -> int")(lambda left, right, compute=compute: _int(compute(left, right)))
        overload(f"{name}(uint, uint) -> uint")(
            lambda left, right, compute=compute: _uint(compute(int(left), int(right)))
        )
    overload("_+_(double, double) -> double")(operator.add)
    overload("_-_(double, double) -> double")(operator.sub)
    overload("_*_(double, double) -> double")(operator.mul)
    overload("_/_(double, double) -> double")(_float_quotient)
    overload("-_(int) -> int")(lambda value: _int(-value))
    overload("-_(double) -> double")(operator.neg)
    overload("_+_(string, string) -> string", cost=sizes)(operator.add)
    overload("_+_(bytes, bytes) -> bytes", cost=sizes)(operator.add)
    overload("_+_(list(A), list(A)) -> list(A)", cost=sizes)(operator.add)
    overload("_==_(A, A) -> bool", cost=sizes)(equal)
    overload("_!=_(A, A) -> bool", cost=sizes)(not_equal)
    for signature in _TIMES:
        overload(signature)(_no_times)
    for kind in ("string", "bytes", "list(A)", "map(A, B)"):
        overload(f"size({kind}) -> int")(len)
        overload(f"size({kind}) -> int", method=True)(len)


_register()


@overload("!_(bool) -> bool")
def _negate(value: bool) -> bool:  # noqa: FBT001 - CEL passes its operand by position
    return not value


@overload("_in_(A, list(A)) -> bool", cost=sizes)
def _in_list(value: Any, elements: list[Any]) -> bool:
    for element in elements:
        try:
            if equal(element, value):
                return True
        except EvaluationError:
            continue
    return False


@overload("_in_(A, map(A, B)) -> bool")
def _in_map(key: Any, mapping: dict[Any, Any]) -> bool:
    # Not through the default of a missing domain: `in` tells the truth.
    return key in mapping if type(key) is str else find_key(mapping, key).present
