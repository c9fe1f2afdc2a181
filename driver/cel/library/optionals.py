"""Optional values: `device.attributes["d"].?model.orValue("")`.

Purpose: reading what may be absent without `has()`.

Flow: overloads on `OptionalValue`; `or` and `orValue` take their argument lazily, since its error must
not show where the value is present.

Limits: up to 1.36 `or` and `orValue` give a value that is no optional as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from driver.cel.errors import EvaluationError
from driver.cel.library.entry import Release, overload
from driver.cel.library.times import FIRST_SECOND, SECOND
from driver.cel.values import NONE, Duration, OptionalValue, Timestamp, no_overload

_NEWER: Release = (1, 37)


@overload("optional.of(A) -> optional(A)")
def _of(value: Any) -> OptionalValue:
    return OptionalValue(present=True, value=value)


@overload("optional.ofNonZeroValue(A) -> optional(A)")
def _of_non_zero(value: Any) -> OptionalValue:
    return NONE if _is_zero(value) else OptionalValue(present=True, value=value)


def _is_zero(value: Any) -> bool:
    if isinstance(value, Timestamp):
        return value.nanos == FIRST_SECOND * SECOND
    if isinstance(value, Duration):
        return value.nanos == 0
    return value is None or (isinstance(value, (bool, int, float, str, bytes, list, dict)) and not value)


@overload("optional.none() -> optional(A)")
def _none() -> OptionalValue:
    return NONE


@overload("hasValue(optional(A)) -> bool", method=True)
def _has_value(value: OptionalValue) -> bool:
    return value.present


@overload("value(optional(A)) -> A", method=True)
def _value(value: OptionalValue) -> Any:
    if not value.present:
        raise EvaluationError("optional.none() has no value")
    return value.value


@overload("orValue(optional(A), A) -> A", method=True, lazy=True, until=_NEWER)
def _or_value_lenient(value: Any, other: Callable[[], Any]) -> Any:
    return _or_value(value, other) if type(value) is OptionalValue else value


@overload("orValue(optional(A), A) -> A", method=True, lazy=True, since=_NEWER)
def _or_value(value: Any, other: Callable[[], Any]) -> Any:
    if type(value) is not OptionalValue:
        raise no_overload("orValue", value)
    return value.value if value.present else other()


@overload("or(optional(A), optional(A)) -> optional(A)", method=True, lazy=True, until=_NEWER)
def _or_lenient(value: Any, other: Callable[[], Any]) -> Any:
    return _or(value, other) if type(value) is OptionalValue else value


@overload("or(optional(A), optional(A)) -> optional(A)", method=True, lazy=True, since=_NEWER)
def _or(value: Any, other: Callable[[], Any]) -> Any:
    if type(value) is not OptionalValue:
        raise no_overload("or", value)
    return value if value.present else other()


@overload("first(list(A)) -> optional(A)", method=True)
def _first(elements: list[Any]) -> OptionalValue:
    return OptionalValue(present=True, value=elements[0]) if elements else NONE


@overload("last(list(A)) -> optional(A)", method=True)
def _last(elements: list[Any]) -> OptionalValue:
    return OptionalValue(present=True, value=elements[-1]) if elements else NONE


def _unwrapped(elements: list[Any]) -> int:
    return 1 + len(elements) // 4


@overload("optional.unwrap(list(optional(A))) -> list(A)", cost=_unwrapped)
@overload("unwrapOpt(list(optional(A))) -> list(A)", method=True, cost=_unwrapped)
def _unwrap(elements: list[Any]) -> list[Any]:
    for element in elements:
        if type(element) is not OptionalValue:
            raise no_overload("optional.unwrap", element)
    return [element.value for element in elements if element.present]
